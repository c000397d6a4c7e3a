"""Train the VAE: a small AutoencoderKL that only has to know two portraits, but those sharply."""

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from portraits import render, scene
from torch import Tensor

WORK = Path(__file__).parents[2] / "build" / "embedded_model"
STEPS = 3400
FREEZE = 2200  # from here on the encoder stands still: latents stay what they are while the decoder still learns
LEARNING_RATE = 2.5e-3


def build() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 64, 96),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=512,
        mid_block_add_attention=False,
        force_upcast=False,
    )


def pixels(rng: np.random.Generator, size: int, flawed: float = 0.12) -> Tensor:
    """One picture in [-1, 1], (3, size, size)."""
    array = np.array(render(scene(rng, flawed), size), dtype=np.float32)
    return torch.from_numpy(array).permute(2, 0, 1) / 127.5 - 1


def batch(rng: np.random.Generator, step: int) -> Tensor:
    """Patches first; whole pictures ever more often later, because group norm sees other statistics in a patch."""
    whole = rng.random() < 0.1 + 0.5 * step / STEPS
    if whole and rng.random() < 0.75:
        return pixels(rng, 256)[None]
    if whole:
        return pixels(rng, 512)[None]
    patches = []
    for _ in range(2):
        size = 512 if rng.random() < 0.65 else 256
        picture = pixels(rng, size)
        # one patch from anywhere, one from the upper middle, where the face is
        for low, high in ((0, size - 128 + 1), (size // 5, size // 2)):
            top, left = (int(rng.integers(low, high)) for _ in range(2))
            patches.append(picture[:, top : top + 128, left : left + 128])
    return torch.stack(patches)


def edges(image: Tensor) -> tuple[Tensor, Tensor]:
    return image[..., 1:, :] - image[..., :-1, :], image[..., :, 1:] - image[..., :, :-1]


def reconstruction_loss(got: Tensor, wanted: Tensor) -> Tensor:
    """L1 on pixels, and on edges at three scales, which is what keeps eyes crisp."""
    loss = F.l1_loss(got, wanted) + F.mse_loss(got, wanted)
    for _ in range(3):
        for a, b in zip(edges(got), edges(wanted), strict=True):
            loss = loss + 0.7 * F.l1_loss(a, b)
        got, wanted = F.avg_pool2d(got, 2), F.avg_pool2d(wanted, 2)
    return loss


def train(work: Path) -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    vae = build().to(memory_format=torch.channels_last)  # a tenth faster on a CPU
    average = torch.optim.swa_utils.AveragedModel(vae, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.995))
    optimizer = torch.optim.AdamW(vae.parameters(), lr=LEARNING_RATE, weight_decay=1e-4, betas=(0.9, 0.98))
    first, checkpoint = 0, work / "vae.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=False)
        first, rng = state["step"], state["rng"]
        for part, name in ((vae, "vae"), (average, "average"), (optimizer, "optimizer")):
            part.load_state_dict(state[name])
    sums, started = torch.zeros(3), time.time()
    for step in range(first, STEPS):
        if step >= FREEZE:
            vae.encoder.requires_grad_(False)
            vae.quant_conv.requires_grad_(False)
        if step == FREEZE:  # the averaged one is what others see, so it is the one to go on with
            vae.load_state_dict(average.module.state_dict())
        progress = (step + 1) / STEPS  # a function of the step alone, so that a resumed run knows it
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(progress / 0.08, 0.5 + 0.5 * math.cos(math.pi * progress) + 0.003)
        wanted = batch(rng, step).contiguous(memory_format=torch.channels_last)
        posterior = vae.encode(wanted).latent_dist
        latents = posterior.sample()
        # half of the time some noise on top: the decoder will be given what a UNet thinks latents are
        noise = 0.06 * rng.random() * float(rng.random() < 0.5)
        got = vae.decode(latents + noise * latents.detach().std() * torch.randn_like(latents)).sample
        loss = reconstruction_loss(got, wanted) + 1e-5 * posterior.kl().mean() / latents[0].numel()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        average.update_parameters(vae)
        sums += torch.tensor([1.0, loss.item(), F.l1_loss(got, wanted).item()])
        if (step + 1) % 100 == 0:
            print(
                f"vae {step + 1} loss {sums[1] / sums[0]:.4f} L1 {sums[2] / sums[0]:.4f}"
                f" latent std {latents.std():.2f} {(time.time() - started) / sums[0]:.2f} s",
                flush=True,
            )
            sums, started = torch.zeros(3), time.time()
        if (step + 1) % 200 == 0 or step + 1 == STEPS:
            state = {"step": step + 1, "rng": rng, "vae": vae.state_dict(), "average": average.state_dict()}
            torch.save(state | {"optimizer": optimizer.state_dict()}, checkpoint)
            save(average.module, work / "vae")


@torch.no_grad()
def save(vae: AutoencoderKL, folder: Path) -> None:
    """With the scaling factor that makes latents of unit size, as the pipelines expect it."""
    rng = np.random.default_rng(1)
    latents = [vae.encode(pixels(rng, size, 0)[None]).latent_dist.mean for size in (256,) * 24 + (512,) * 6]
    std = torch.cat([latent.flatten() for latent in latents]).std().item()
    vae.register_to_config(scaling_factor=round(1 / std, 5))
    vae.save_pretrained(folder)


if __name__ == "__main__":
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=WORK, help="where checkpoints are kept")
    train(parser.parse_args().work)
