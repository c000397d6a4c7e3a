"""Make the tokenizers and the two text encoders: trained on captions alone to know who and what a caption speaks of.

The UNets then learn from encoders that stand still, as SDXL's did, and can be trained side by side.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from portraits import FILLERS, FLAWS, FRAMINGS, NEGATIVE_PROMPT, PEOPLE, STYLES, caption, scene
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

WORK = Path(__file__).parents[2] / "build" / "embedded_model"
STEPS = 900
WIDTH = 64
LENGTH = 77

# words to cut well in prompts, though the captions have none of them
WORDS = """
a an the of in on at with and or by for from to is as photo photograph picture image painting drawing portrait headshot
man woman girl boy child person people lady gentleman old young elderly middle aged face eyes eye nose mouth lips hair
skin pores freckles wrinkles beard moustache glasses hat cap helmet uniform suit dress shirt jacket coat smile smiling
laughing serious sad angry happy calm looking camera viewer left right up down front side profile view close up full
body shoulders head background foreground flag sky blue red green orange yellow white black brown blond grey purple
pink light lighting dark bright soft hard natural studio window golden hour sunset night day warm cool cold colour
color colourful monochrome sepia vintage film grain analog digital lens mm aperture bokeh depth field shallow shot
canon nikon leica kodak portra iso raw hdr detail detailed details highly ultra hyper realistic photorealistic realism
sharp focus crisp clear high low best worst quality resolution masterpiece award winning professional beautiful
handsome cinematic dramatic epic fantasy art artstation illustration anime cartoon render unreal engine octane
blurry blur out deformed disfigured mutated ugly bad poor anatomy proportions extra missing limbs arms hands fingers
legs cropped watermark text signature logo jpeg artifacts lowres noisy oversaturated overexposed underexposed
navy admiral astronaut space shuttle nasa commander doctor king queen soldier scientist programmer grace hopper eileen
collins city street forest beach mountain room office wearing sitting standing one two three many
"""
VOCABULARY = WORDS.split()


def make_tokenizers(folder: Path) -> None:
    """CLIP's byte-level BPE, its ids in CLIP's order, so that "!" is 0 and the end of text is the highest."""
    rng = np.random.default_rng(0)
    corpus = [caption(scene(rng, 0.2), rng) for _ in range(4000)] + [NEGATIVE_PROMPT] * 50
    corpus += [" ".join(VOCABULARY)] * 12 + [", ".join(FILLERS)] * 12
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Punctuation(),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    trainer = trainers.BpeTrainer(vocab_size=1500, min_frequency=8, end_of_word_suffix="</w>", show_progress=False)
    learner.train_from_iterator((line.lower() for line in corpus), trainer)
    merges = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*letters, *(letter + "</w>" for letter in letters), *("".join(pair) for pair in merges)]
    tokens = [*dict.fromkeys(tokens), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    for name, pad in (("tokenizer", "<|endoftext|>"), ("tokenizer_2", "!")):
        tokenizer = CLIPTokenizer(
            vocab=vocabulary,
            merges=merges,
            pad_token=pad,
            bos_token="<|startoftext|>",
            eos_token="<|endoftext|>",
            unk_token="<|endoftext|>",
            model_max_length=LENGTH,
        )
        tokenizer.save_pretrained(folder / name)


def encode(
    texts: list[str],
    tokenizers: tuple[CLIPTokenizer, CLIPTokenizer],
    encoders: tuple[CLIPTextModel, CLIPTextModelWithProjection],
) -> tuple[Tensor, Tensor, Tensor]:
    """As SDXL: the last hidden state but one of each encoder, and the pooled output of the second."""
    states = []
    for tokenizer, encoder in zip(tokenizers, encoders, strict=True):
        tokens = tokenizer(texts, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt")
        states.append(encoder(tokens.input_ids, output_hidden_states=True))
    return states[0].hidden_states[-2], states[1].hidden_states[-2], states[1].text_embeds


def load(folder: Path) -> tuple:
    """((tokenizer, tokenizer_2), (text_encoder, text_encoder_2))"""
    tokenizers = tuple(CLIPTokenizer.from_pretrained(folder / name) for name in ("tokenizer", "tokenizer_2"))
    first = CLIPTextModel.from_pretrained(folder / "text_encoder").eval()
    second = CLIPTextModelWithProjection.from_pretrained(folder / "text_encoder_2").eval()
    return tokenizers, (first, second)


def train(work: Path) -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    make_tokenizers(work)
    tokenizers = tuple(CLIPTokenizer.from_pretrained(work / name) for name in ("tokenizer", "tokenizer_2"))

    def config(tokenizer: CLIPTokenizer, activation: str) -> CLIPTextConfig:
        return CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=4 * WIDTH,
            projection_dim=WIDTH,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=LENGTH,
            hidden_act=activation,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )

    encoders = (
        CLIPTextModel(config(tokenizers[0], "quick_gelu")),
        CLIPTextModelWithProjection(config(tokenizers[1], "gelu")),
    )
    # who (or nobody named), which style, which framing, which flaws: to be read off every output that a UNet is given
    answers = len(PEOPLE) + len(STYLES) + len(FRAMINGS) + len(FLAWS)
    heads = nn.ModuleList(nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, answers)) for _ in range(3))
    parameters = [*encoders[0].parameters(), *encoders[1].parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=2e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, STEPS)
    for step in range(STEPS):
        texts, labels = [], []
        for _ in range(32):
            view = scene(rng, 0.4)
            text = caption(view, rng)
            if rng.random() < 0.3:  # words nobody told it about must not matter
                parts = text.split(", ")
                parts.insert(int(rng.integers(len(parts) + 1)), " ".join(rng.choice(VOCABULARY, rng.integers(1, 5))))
                text = ", ".join(parts)
            texts.append("" if rng.random() < 0.03 else text)
            labels.append(label(texts[-1]))
        wanted = torch.tensor(labels)
        first, second, pooled = encode(texts, tokenizers, encoders)
        # the last word has read all of the text, the mean of the words is what attention gets to see
        loss = F.binary_cross_entropy_with_logits(heads[0](pooled), wanted)
        for head, hidden in zip(heads[1:], (first, second), strict=True):
            loss = loss + F.binary_cross_entropy_with_logits(head(hidden.mean(1)), wanted)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        if (step + 1) % 100 == 0:
            right = ((heads[0](pooled) > 0) == (wanted > 0.5)).float().mean().item()
            print(f"text {step + 1} loss {loss.item():.4f} read off the pooled output: {right:.3f}", flush=True)
    encoders[0].save_pretrained(work / "text_encoder")
    encoders[1].save_pretrained(work / "text_encoder_2")


def label(text: str) -> list[float]:
    """What the words say, which is less than what the scene is."""
    text = text.lower()
    who = {
        "hopper": ("hopper", "admiral", "navy", "elderly"),
        "collins": ("collins", "astronaut", "orange space suit", "commander"),
    }
    named = [float(any(word in text for word in who[person])) for person in PEOPLE]
    return named + [float(word in text) for word in (*STYLES, *FRAMINGS, *FLAWS)]


if __name__ == "__main__":
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=WORK, help="where the parts are kept")
    train(parser.parse_args().work)
