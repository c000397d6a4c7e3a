"""Train one of the two UNets on the VAE's latents: `python diffusion.py base`, `python diffusion.py refiner`."""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from PIL import Image
from portraits import Scene, caption, render, scene
from text import WIDTH, encode, load
from torch import Tensor

WORK = Path(__file__).parents[2] / "build" / "embedded_model"
STEPS = {"base": 2600, "refiner": 950}
LEARNING_RATE = 1.5e-3
BATCH = {"base": 10, "refiner": 10}  # of 32x32 latents, or a quarter of it of 64x64
START, POOL = {"base": 500, "refiner": 30}, {"base": 2400, "refiner": 700}  # pictures known at first, and in the end
ALPHAS = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear").alphas_cumprod


def build(kind: str) -> UNet2DConditionModel:
    """SDXL's layout in small. The base reads both text encoders and six numbers, the refiner the second and five."""
    return UNet2DConditionModel(
        sample_size={"base": 32, "refiner": 64}[kind],
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(32, 64, 112),
        layers_per_block=2,
        transformer_layers_per_block=(1, 1, 1),
        attention_head_dim=(1, 2, 4),  # the number of heads, as in SDXL's own configuration
        cross_attention_dim={"base": 2 * WIDTH, "refiner": WIDTH}[kind],
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=32,
        projection_class_embeddings_input_dim=WIDTH + 32 * {"base": 6, "refiner": 5}[kind],
        norm_num_groups=8,
    )


@dataclass(frozen=True)
class Example:
    view: Scene
    sharp: Tensor  # latents
    soft: Tensor | None  # for the refiner: the same picture as hires fix hands it over


class Pool:
    """Encoded pictures. It grows by one a step, so that training need not wait for it."""

    def __init__(self, kind: str, vae: AutoencoderKL) -> None:
        self.kind, self.vae = kind, vae
        self.rng = np.random.default_rng({"base": 10, "refiner": 11}[kind])
        self.examples: list[Example] = []

    @torch.no_grad()
    def grow(self) -> None:
        view = scene(self.rng, few=True)
        if self.kind == "base":
            self.examples.append(Example(view, self._latents(render(view, 256)), None))
            return
        # what the refiner is given in use: a 256 picture out of the VAE, enlarged
        small = self.vae.decode(self._latents(render(view, 256))[None] / self.vae.config.scaling_factor).sample[0]
        array = ((small.permute(1, 2, 0).clamp(-1, 1) + 1) * 127.5).round().numpy().astype(np.uint8)
        large = Image.fromarray(array).resize((512, 512), Image.Resampling.LANCZOS)
        self.examples.append(Example(view, self._latents(render(view)), self._latents(large)))

    def _latents(self, image: Image.Image) -> Tensor:
        pixels = torch.from_numpy(np.array(image, dtype=np.float32)).permute(2, 0, 1)[None] / 127.5 - 1
        return self.vae.encode(pixels).latent_dist.mean[0] * self.vae.config.scaling_factor


@dataclass(frozen=True)
class Batch:
    clean: Tensor  # what noise is put on
    wanted: Tensor  # what is to be seen through it
    captions: list[str]
    numbers: Tensor  # SDXL's micro-conditioning


def base_batch(pool: Pool, rng: np.random.Generator) -> Batch:
    latents, captions, numbers = [], [], []
    for _ in range(BATCH["base"]):
        example = pool.examples[rng.integers(len(pool.examples))]
        size = [256, 256] if rng.random() < 0.8 else rng.integers(192, 1025, 2).tolist()
        if "lowres" in example.view.flaws:
            size = rng.integers(48, 129, 2).tolist()
        corner = [0, 0] if rng.random() < 0.9 else rng.integers(0, 65, 2).tolist()
        latents.append(example.sharp)
        captions.append(caption(example.view, rng))
        numbers.append([*size, *corner, 256, 256])
    clean = torch.stack(latents)
    return Batch(clean, clean, captions, torch.tensor(numbers, dtype=torch.float32))


def refiner_batch(pool: Pool, rng: np.random.Generator) -> Batch:
    """Whole pictures of 64x64 latents, or four times as many crops of 32x32, told where they are from."""
    whole = rng.random() < 0.5
    side = 64 if whole else 32
    clean, wanted, captions, numbers = [], [], [], []
    for _ in range(BATCH["refiner"] // (4 if whole else 1)):
        example = pool.examples[rng.integers(len(pool.examples))]
        # more often than not from the upper middle, where the face is
        low, high = (4, 29) if rng.random() < 0.6 else (0, 33)
        top, left = (0, 0) if whole else (int(rng.integers(0, 25)), int(rng.integers(low, high)))
        window = (slice(None), slice(top, top + side), slice(left, left + side))
        # in use it starts from the soft picture and must arrive at the sharp one, so half of the time it does here
        from_soft = example.soft is not None and rng.random() < 0.5
        clean.append((example.soft if from_soft else example.sharp)[window])
        wanted.append(example.sharp[window])
        captions.append(caption(example.view, rng))
        score = rng.uniform(2, 3) if example.view.flaws else rng.uniform(5.7, 6.3)
        numbers.append([512, 512, top * 8, left * 8, score])
    return Batch(torch.stack(clean), torch.stack(wanted), captions, torch.tensor(numbers, dtype=torch.float32))


def learning_rate(progress: float) -> float:
    """As a share of the peak: a short rise, a plateau, and a fall over the second half."""
    return min(progress / 0.03, 1.0, max(2 * (1 - progress), 0.01))


def train(kind: str, work: Path) -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng({"base": 20, "refiner": 21}[kind])
    tokenizers, encoders = load(work)
    vae = AutoencoderKL.from_pretrained(work / "vae").requires_grad_(False)
    unet = build(kind)
    average = torch.optim.swa_utils.AveragedModel(unet, avg_fn=_average)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.99), weight_decay=1e-4)
    steps, first, checkpoint = STEPS[kind], 0, work / f"{kind}.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=False)
        first, rng = state["step"], state["rng"]
        for part, name in ((unet, "unet"), (average, "average"), (optimizer, "optimizer")):
            part.load_state_dict(state[name])
    pool = Pool(kind, vae)
    for _ in range(START[kind]):
        pool.grow()
    losses, started = [], time.time()
    for step in range(first, steps):
        if len(pool.examples) < POOL[kind] and (kind == "base" or step % 2 == 0):
            pool.grow()
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * learning_rate((step + 1) / steps)
        data = base_batch(pool, rng) if kind == "base" else refiner_batch(pool, rng)
        count = len(data.clean)
        # the base must know all of the noise; the refiner mostly the little that strengths up to 0.6 put on
        high = np.where(rng.random(count) < 0.94, 650, 1000)
        times = rng.random(count) * 1000 if kind == "base" else rng.random(count) ** 1.4 * high
        t = torch.from_numpy(times.astype(np.int64))
        captions, zeros = data.captions, torch.zeros(count, dtype=torch.bool)
        for i in range(count):  # unconditional: an empty prompt is zeros to the base, a text like others to the refiner
            if rng.random() < 0.12:
                captions[i], zeros[i] = "", kind == "base" and rng.random() < 0.75
        with torch.no_grad():
            first_states, second_states, pooled = encode(captions, tokenizers, encoders)
        states = torch.cat([first_states, second_states], -1) if kind == "base" else second_states
        states, pooled = states.masked_fill(zeros[:, None, None], 0), pooled.masked_fill(zeros[:, None], 0)
        alpha = ALPHAS[t][:, None, None, None]
        noisy = alpha.sqrt() * data.clean + (1 - alpha).sqrt() * torch.randn_like(data.clean)
        wanted = (noisy - alpha.sqrt() * data.wanted) / (1 - alpha).sqrt()  # plain noise, where clean is wanted
        conditions = {"text_embeds": pooled, "time_ids": data.numbers}
        guess = unet(noisy, t, states, added_cond_kwargs=conditions).sample
        ratio = (alpha / (1 - alpha)).flatten()
        weight = ratio.clamp(max=5) / ratio  # min-SNR: no effort for noise that anybody can tell
        loss = ((guess - wanted).square().mean((1, 2, 3)) * weight).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        average.update_parameters(unet)
        losses.append(loss.item())
        if (step + 1) % 50 == 0:
            seconds, known = (time.time() - started) / len(losses), len(pool.examples)
            print(f"{kind} {step + 1} loss {np.mean(losses):.4f} {seconds:.2f} s, {known} pictures", flush=True)
            losses, started = [], time.time()
        if (step + 1) % 100 == 0 or step + 1 == steps:
            state = {"step": step + 1, "rng": rng, "unet": unet.state_dict(), "average": average.state_dict()}
            torch.save(state | {"optimizer": optimizer.state_dict()}, checkpoint)
            average.module.save_pretrained(work / f"unet-{kind}")


def _average(average: Tensor, new: Tensor, count: Tensor) -> Tensor:
    """An exponential average that forgets its untrained beginning."""
    return torch.lerp(average, new, 1 - min(0.997, (1 + count.item()) / (10 + count.item())))


if __name__ == "__main__":
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=STEPS)
    parser.add_argument("--work", type=Path, default=WORK, help="where checkpoints and parts are kept")
    options = parser.parse_args()
    train(options.kind, options.work)
