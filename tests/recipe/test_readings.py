"""What the text encoders read: chunks as in A1111, its emphasis in numbers, and the pixels of plain diffusers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support.checkpoints import pipelines_of
from support.models import SECOND, WIDTH

from workbench.errors import CorruptWeights, MissingWeights, SettingsError, WrongModel
from workbench.files import pixels_sha256
from workbench.models import models_folder, tokenizers_of
from workbench.recipe import Bench, stage_keys
from workbench.recipe.readings import read_prompt
from workbench.settings import Settings
from workbench.store import Store

LETTERS = "abcdefgh ijklmnop qrstuvwx yzabcdef ghijklmn opqrstuv wxyzabcd efghijkl mnopqrst uvwxyz"
"""Of the tiny model each letter is a token: 78."""


def lengths(model: Path, text: str) -> list[int]:
    return [len(chunk.tokens) for chunk in read_prompt(model, text, "webui").chunks["tokenizer"]]


def test_long_prompts_are_read_in_chunks(tiny_model: Path) -> None:
    assert lengths(tiny_model, "a" * 75) == [75]
    assert lengths(tiny_model, "a" * 76) == [75, 1]
    assert lengths(tiny_model, "a" * 200) == [75, 75, 50]
    assert lengths(tiny_model, "") == [0]
    assert lengths(tiny_model, "aaa BREAK bb") == [3, 2]
    assert lengths(tiny_model, "BREAK a BREAK") == [0, 1]
    assert read_prompt(tiny_model, "a" * 200, "webui").tokens == 200


def test_a_chunk_ends_at_a_comma_that_is_near(tiny_model: Path) -> None:
    """A1111's comma_padding_backtrack of 20 tokens."""
    assert lengths(tiny_model, "a" * 60 + "," + "b" * 30) == [61, 30]
    assert lengths(tiny_model, "a" * 55 + "," + "b" * 30) == [56, 30]  # the comma is 20 back
    assert lengths(tiny_model, "a" * 54 + "," + "b" * 30) == [75, 10]
    assert lengths(tiny_model, "a" * 74 + "," + "b" * 3) == [75, 3]
    assert lengths(tiny_model, "a" * 75 + "," + "b" * 74) == [
        75,
        75,
    ]  # a comma that begins a chunk is no place to break it
    assert lengths(tiny_model, "a" * 70 + "," + "b" * 80) == [71, 75, 5]


def test_weights_stay_with_their_tokens(tiny_model: Path) -> None:
    first, second = read_prompt(tiny_model, "a" * 73 + "(bcde:1.5)", "webui").chunks["tokenizer"]
    assert first.weights == (1.0,) * 73 + (1.5, 1.5) and second.weights == (1.5, 1.5)
    moved, rest = read_prompt(tiny_model, "a" * 70 + ",(b:0.5)" + "c" * 9, "webui").chunks["tokenizer"]
    assert set(moved.weights) == {1.0} and rest.weights == (0.5,) + (1.0,) * 9


def test_what_reads_alike_is_one_picture(tiny: Settings) -> None:
    keys = stage_keys(tiny.replace(prompt="a face, sharp"))
    for alike in (
        "a  face,\n sharp ",
        "A Face,sharp",
        "(a face, sharp:1.0)",
        "a face(, sharp:1)",
        "a \\face, sharp".replace("\\", ""),
    ):
        assert stage_keys(tiny.replace(prompt=alike)) == keys
    assert stage_keys(tiny.replace(prompt="a face, sharp", prompt_syntax="plain")) == keys
    for other in ("a face sharp", "(a face, sharp)", "a BREAK face, sharp", "[a] face, sharp"):
        assert stage_keys(tiny.replace(prompt=other))["base"] != keys["base"]
    unguided = tiny.replace(cfg=1.0)
    assert stage_keys(unguided) == stage_keys(unguided.replace(negative_prompt="other"))


def by_hand(pipe: Any, chunks: list[tuple[str, dict[int, float]]]) -> tuple[torch.Tensor, torch.Tensor]:
    """(embeddings, pooled) of chunks of text with {place: weight}, as somebody would write it with transformers."""
    parts, pooled = [], None
    pairs = [(pipe.tokenizer, pipe.text_encoder), (pipe.tokenizer_2, pipe.text_encoder_2)]
    for tokenizer, encoder in [pair for pair in pairs if pair[1] is not None]:
        rows = []
        for text, weights in chunks:
            ids = tokenizer(text, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
            with torch.no_grad():
                out = encoder(ids, output_hidden_states=True)
            hidden = out.hidden_states[-2]
            if weights:
                mean = hidden.mean()
                factors = torch.ones(77)
                for place, weight in weights.items():
                    factors[place + 1] = weight  # behind the mark of the beginning
                hidden = hidden * factors[None, :, None]
                hidden = hidden * (mean / hidden.mean())
            rows.append(hidden)
            pooled = out[0] if pooled is None and out[0].ndim == 2 else pooled
        parts.append(torch.cat(rows, dim=1))
    assert pooled is not None
    return torch.cat(parts, dim=-1), pooled


def test_emphasis_and_chunks_give_the_pixels_of_a_plain_script(tiny: Settings, tiny_model: Path) -> None:
    """Both passes, with the prompt in two chunks and the negative in one, which stands twice beside it."""
    s = tiny.replace(prompt="ab (cd:1.4) BREAK [e]", negative_prompt="(blur:0.7)", cfg=4.0)
    weighted = {2: 1.4, 3: 1.4}
    generator = torch.Generator("cpu").manual_seed(s.seed)
    image = None
    base, refines = pipelines_of(tiny_model)
    for pipe, steps in ((base, s.steps), (refines, s.refine_steps)):
        import diffusers

        pipe.set_progress_bar_config(disable=True)
        pipe.scheduler = diffusers.DPMSolverMultistepScheduler.from_config(
            pipe.scheduler.config, use_karras_sigmas=True
        )  # type: ignore[attr-defined]
        positive, pooled = by_hand(pipe, [("ab cd", weighted), ("e", {0: 1 / 1.1})])
        negative, negative_pooled = by_hand(pipe, [("blur", dict.fromkeys(range(4), 0.7))])
        words: dict[str, Any] = {
            "prompt_embeds": positive, "pooled_prompt_embeds": pooled, "negative_prompt_embeds": negative.repeat(1, 2, 1),
            "negative_pooled_prompt_embeds": negative_pooled, "generator": generator, "num_inference_steps": steps,
            "guidance_scale": 4.0,
        }  # fmt: skip
        if image is None:
            image = pipe(width=s.width, height=s.height, **words).images[0]
        else:
            image = pipe(image=image.resize(s.hires_size, 1), strength=s.strength, **words).images[0]
    assert image is not None and np.asarray(image).std() > 5
    assert pixels_sha256(Bench(Store(None)).generate(s).image) == pixels_sha256(image)


def test_clip_skip_is_that_of_diffusers(tiny: Settings, tiny_model: Path) -> None:
    base, _ = pipelines_of(tiny_model)
    s = tiny.replace(hires=False, clip_skip=1)
    base.set_progress_bar_config(disable=True)
    import diffusers

    made: Any = diffusers
    base.scheduler = made.DPMSolverMultistepScheduler.from_config(base.scheduler.config, use_karras_sigmas=True)
    image = base(
        s.prompt, negative_prompt=s.negative_prompt, width=64, height=64, num_inference_steps=s.steps, clip_skip=1,
        guidance_scale=s.base_cfg, generator=torch.Generator("cpu").manual_seed(s.seed),
    ).images[0]  # fmt: skip
    ours = Bench(Store(None)).generate(s).image
    assert pixels_sha256(ours) == pixels_sha256(image)
    assert pixels_sha256(ours) != pixels_sha256(Bench(Store(None)).generate(s.replace(clip_skip=0)).image)
    with pytest.raises(SettingsError, match=r"clip_skip = 2 leaves nothing .* with 2 layers; use at most 1"):
        stage_keys(s.replace(clip_skip=2))


def test_plain_cuts_where_diffusers_cuts_and_says_so(tiny: Settings, tiny_model: Path) -> None:
    s = tiny.replace(prompt=LETTERS, prompt_syntax="plain", hires=False)
    (chunk,) = read_prompt(tiny_model, LETTERS, "plain").chunks["tokenizer_2"]
    ids = tokenizers_of(tiny_model).named["tokenizer_2"](LETTERS, max_length=77, truncation=True).input_ids
    assert [*chunk.tokens] == ids[1:-1]
    from workbench.settings import stages

    (note,) = stages()["base"].notes(s)
    assert "has 78 tokens" in note and "'xyz'" in note and "prompt_syntax = webui" in note
    assert stages()["base"].notes(s.replace(prompt_syntax="webui")) == []
    assert stage_keys(s) == stage_keys(s.replace(prompt=LETTERS + " and more"))
    assert stage_keys(s.replace(prompt_syntax="webui")) != stage_keys(
        s.replace(prompt=LETTERS + "q", prompt_syntax="webui")
    )


def test_the_hires_fix_may_read_another_prompt(tiny: Settings) -> None:
    keys, own = stage_keys(tiny), stage_keys(tiny.replace(hires_prompt="a lake", hires_negative_prompt="dull"))
    assert own["base"] == keys["base"] and own["refine"] != keys["refine"]
    assert stage_keys(tiny.replace(hires_prompt=tiny.prompt, hires_negative_prompt=" ")) == keys
    ours = Bench(Store(None)).generate(tiny.replace(hires_prompt="a lake"))
    other = Bench(Store(None)).generate(tiny.replace(prompt="a lake"))
    assert pixels_sha256(ours.stages["refine"]) != pixels_sha256(other.stages["refine"])


# --- embeddings -------------------------------------------------------------------------------------------------------


def embedding(path: Path, vectors: int = 3, first: int = WIDTH, second: int = SECOND) -> dict[str, torch.Tensor]:
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(1)
    tensors = {
        "clip_l": torch.randn(vectors, first, generator=generator),
        "clip_g": torch.randn(vectors, second, generator=generator),
    }
    save_file(tensors, path)
    return tensors


def test_an_embedding_equals_diffusers(tiny: Settings, tiny_model: Path, home: Path) -> None:
    tensors = embedding(models_folder() / "embeddings" / "crisp-skin.safetensors")
    base, _ = pipelines_of(tiny_model)
    import diffusers

    made: Any = diffusers
    base.set_progress_bar_config(disable=True)
    for part, key in (("", "clip_l"), ("_2", "clip_g")):
        base.load_textual_inversion(
            tensors[key],
            token="<e>",
            text_encoder=getattr(base, f"text_encoder{part}"),
            tokenizer=getattr(base, f"tokenizer{part}"),
        )
    base.scheduler = made.DPMSolverMultistepScheduler.from_config(base.scheduler.config, use_karras_sigmas=True)
    s = tiny.replace(hires=False, prompt="a Crisp-Skin face", negative_prompt="bad")
    image = base(
        "a <e> face", negative_prompt="bad", width=64, height=64, num_inference_steps=s.steps, guidance_scale=s.base_cfg,
        generator=torch.Generator("cpu").manual_seed(s.seed),
    ).images[0]  # fmt: skip
    assert pixels_sha256(Bench(Store(None)).generate(s).image) == pixels_sha256(image)
    keys = stage_keys(s)
    assert stage_keys(s.replace(prompt="a embedding:crisp-skin face")) == keys
    assert stage_keys(s.replace(prompt="a crisp-skinned face")) != keys
    (models_folder() / "embeddings" / "sub").mkdir()
    (models_folder() / "embeddings" / "crisp-skin.safetensors").rename(
        models_folder() / "embeddings" / "sub" / "crisp-skin.safetensors"
    )
    assert stage_keys(s.replace(prompt="a embedding:sub/crisp-skin face")) == keys
    embedding(models_folder() / "embeddings" / "sub" / "crisp-skin.safetensors", vectors=2)
    assert stage_keys(s) != keys
    assert stage_keys(s.replace(prompt_syntax="plain")) != keys


def test_embeddings_that_do_not_fit_are_refused(tiny: Settings, home: Path) -> None:
    folder = models_folder() / "embeddings"
    with pytest.raises(MissingWeights, match="the embedding 'nosuch', and there is no"):
        stage_keys(tiny.replace(prompt="embedding:nosuch"))
    folder.mkdir(parents=True)
    save_file({"emb_params": torch.zeros(2, 768)}, folder / "old.safetensors")
    with pytest.raises(WrongModel, match="no embedding for SDXL"):
        stage_keys(tiny.replace(prompt="an old face"))
    (folder / "pickled.pt").write_bytes(b"x")
    with pytest.raises(WrongModel, match="pickle"):
        stage_keys(tiny.replace(prompt="pickled"))
    save_file({"clip_l": torch.zeros(2, WIDTH), "clip_g": torch.zeros(3, SECOND)}, folder / "uneven.safetensors")
    with pytest.raises(CorruptWeights, match=r"both must be \(vectors, width\)"):
        stage_keys(tiny.replace(prompt="uneven"))
    embedding(folder / "wide.safetensors", first=768, second=1280)
    with pytest.raises(WrongModel, match="made for another model"):
        stage_keys(tiny.replace(prompt="wide"))
    embedding(folder / "huge.safetensors", vectors=80)
    with pytest.raises(SettingsError, match="80 vectors, more than the 75"):
        stage_keys(tiny.replace(prompt="huge"))
