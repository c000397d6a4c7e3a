"""Train the small face restorer that ships with the workbench: a narrow CodeFormer, from nothing.

    python experiments/embedded_model/restorer.py

It takes about 40 minutes of one CPU thread that has bfloat16 instructions (AMX), without them several times as long.
It learns from two public-domain portraits that come with dependencies, Rear Admiral Grace Hopper (matplotlib) and Eileen
Collins (scikit-image), so it is a stand-in that runs CodeFormer's own code anywhere, not a restorer of faces in general.
The stages are those of CodeFormer (Zhou et al., "Towards Robust Blind Face Restoration with Codebook Lookup
Transformer", 2022), on aligned 512x512 faces:

1. autoencoder: encoder, codebook and generator learn to draw sharp faces from 16x16 codes; first the trunk, its levels
   from 16 to 128 px, by itself on 128 px faces at a tenth of the cost, then the levels above it, then all together;
2. codes: a transformer learns to tell a sharp face's codes from a degraded face, and the encoder adapts to it;
3. fidelity: the feature transforms learn to follow the input; `weight` scales them from 0 to 1.

Every batch is drawn from (seed, stage, step), so a run that is stopped and started again goes on as if it had not been.
"""

from __future__ import annotations

import argparse
import copy
import json
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib import cbook
from PIL import Image
from safetensors.torch import save_file
from skimage import data
from spandrel_extra_arches.architectures.CodeFormer.__arch import codeformer
from torch import Tensor, nn

from workbench.models.codeformer import EMBEDDED_CODEFORMER, NarrowCodeFormer, load_codeformer, restore
from workbench.models.realesrgan import load_realesrgan, upscale
from workbench.models.retinaface import load_retinaface
from workbench.recipe.faces import estimate_matrix, find_faces

SEED = 20261123
SIZE = 512
TRUNK_SIZE = 128


@dataclass(frozen=True)
class Shape:
    """The numbers of `NarrowCodeFormer`: 4.0 M parameters, 8 MB in half precision."""

    nf: int = 32
    ch_mult: tuple[int, ...] = (1, 1, 2, 2, 2, 3)
    num_res_blocks: int = 1
    dim_embd: int = 128
    n_head: int = 4
    n_layers: int = 3
    codebook_size: int = 512


@dataclass(frozen=True)
class Stage:
    name: str
    steps: int
    batch: int
    rate: float
    end: int | None = None
    """Where the stage ends if not after one cycle of the learning rate, `steps` long: cycles follow one another, and over
    the last COOL steps the rate falls to nothing."""


STAGES = (
    Stage("trunk", 600, 8, 2e-3, end=900),
    Stage("levels", 130, 2, 3e-3),
    Stage("autoencoder", 120, 2, 1e-3),
    Stage("codes", 180, 4, 1e-3),
    Stage("fidelity", 150, 2, 2e-3),
)
COOL = 100
CODEBOOK_FROM = 200
"""Step of the trunk at which quantisation begins; before it the codebook has nothing to cluster."""


# --- pictures ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Portrait:
    """A sharp picture, RGB uint8, and the (2, 3) matrix that aligns its face in a 512x512 crop."""

    pixels: np.ndarray
    matrix: np.ndarray


def portraits(work: Path) -> list[Portrait]:
    """The two portraits, their faces enlarged 4x with Real-ESRGAN so that the aligned crop is sharp.

    Aligned at 512 the astronaut's face is enlarged 3.1x and Hopper's 1.5x: taken as they are, there would be nothing
    sharp to learn. About 3 minutes on one thread; the result is kept in `work`.
    """
    hopper = np.array(Image.open(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)).convert("RGB"))
    pictures = {"hopper": hopper, "collins": data.astronaut()}
    detector = load_retinaface()
    found = []
    for name, picture in pictures.items():
        matrix = estimate_matrix(find_faces(picture, detector)[0].landmarks)
        around = np.array([[[-60, -60], [572, -60], [-60, 572], [572, 572]]], np.float32)
        corners = cv2.transform(around, cv2.invertAffineTransform(matrix))[0]
        left, top = np.maximum(np.floor(corners.min(0)).astype(int), 0)
        right, bottom = np.ceil(corners.max(0)).astype(int)
        file = work / f"{name}_x4.png"
        if not file.exists():
            net, scale = load_realesrgan("realesrgan-x4plus")
            Image.fromarray(upscale(net, scale, picture[top:bottom, left:right])).save(file)
        # a pixel centre x of the enlarged cut-out is (x + 0.5) / 4 - 0.5 in the cut-out
        shrink = np.array([[0.25, 0, left - 0.375], [0, 0.25, top - 0.375], [0, 0, 1]])
        found.append(Portrait(np.array(Image.open(file)), matrix @ shrink))
    return found


def tone(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Vary light and colour: exposure, gamma, white balance; sometimes black and white or sepia. float32 0..1."""
    kind = rng.random()
    if kind < 0.2:
        picture = np.repeat(picture @ np.array([[0.299], [0.587], [0.114]], np.float32), 3, axis=2)
        if kind < 0.07:
            picture = picture * np.array([1.06, 0.93, 0.75], np.float32)
    picture = np.clip(picture, 0, 1) ** np.float32(rng.uniform(0.75, 1.35))
    picture = picture * np.float32(rng.uniform(0.9, 1.08)) * rng.uniform(0.94, 1.06, 3).astype(np.float32)
    return np.clip(picture, 0, 1)


def bend(matrix: np.ndarray, rng: np.random.Generator, amount: float) -> tuple[np.ndarray, np.ndarray]:
    """Sampling maps of an affine matrix with a smooth random displacement of about `amount` pixels."""
    inverse = cv2.invertAffineTransform(matrix)
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
    shift = cv2.resize(rng.normal(0, amount, (5, 5, 2)).astype(np.float32), (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    x, y = x + shift[..., 0], y + shift[..., 1]
    map_x = inverse[0, 0] * x + inverse[0, 1] * y + inverse[0, 2]
    map_y = inverse[1, 0] * x + inverse[1, 1] * y + inverse[1, 2]
    return map_x.astype(np.float32), map_y.astype(np.float32)


def sharp_face(portrait: Portrait, rng: np.random.Generator, jitter: float = 1.0) -> np.ndarray:
    """An aligned (512, 512, 3) float32 RGB 0..1 face, moved and bent a little, sometimes mirrored."""
    zoom = np.exp(rng.normal(0, 0.02 * jitter))
    turn = cv2.getRotationMatrix2D((256, 290), rng.normal(0, 1.5 * jitter), zoom)
    turn[:, 2] += rng.normal(0, 3 * jitter, 2)
    matrix = turn @ np.vstack([portrait.matrix, [0, 0, 1]])
    map_x, map_y = bend(matrix, rng, 1.5 * jitter)
    # the enlarged portrait is shrunk again: blur it first or its finest lines alias
    ratio = np.hypot(*matrix[0, :2])
    source = cv2.GaussianBlur(portrait.pixels, (0, 0), 0.4 / ratio) if ratio < 0.6 else portrait.pixels
    face = cv2.remap(source, map_x, map_y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT, borderValue=(135, 133, 132))
    if rng.random() < 0.3:
        face = face[:, ::-1]
    return tone(face.astype(np.float32) / 255, rng)


def degrade(face: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What a restorer meets: blur, resampling, noise, JPEG, or the softness of a small rendition enlarged."""
    kind = rng.random()
    if kind < 0.1:
        return face  # an already sharp face must survive
    if kind < 0.35:  # as diffusion leaves it: soft, no noise, nothing finer than a small rendition holds
        side = int(rng.uniform(80, 330))
        small = cv2.resize(
            cv2.GaussianBlur(face, (0, 0), 0.35 * SIZE / side), (side, side), interpolation=cv2.INTER_AREA
        )
        return np.clip(cv2.resize(small, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC), 0, 1)
    if rng.random() < 0.8:
        face = cv2.GaussianBlur(face, (0, 0), rng.uniform(0.3, 6.0))
    else:
        length = int(rng.integers(3, 21))
        kernel = np.zeros((length, length), np.float32)
        kernel[length // 2] = 1 / length
        turn = cv2.getRotationMatrix2D(((length - 1) / 2, (length - 1) / 2), rng.uniform(0, 180), 1)
        kernel = cv2.warpAffine(kernel, turn, (length, length))
        face = cv2.filter2D(face, -1, kernel / kernel.sum())
    side = int(SIZE / rng.uniform(1, 6))
    face = cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA)
    face = face + rng.normal(0, rng.uniform(0, 0.04), face.shape).astype(np.float32)
    if rng.random() < 0.6:
        pixels = (np.clip(face[..., ::-1], 0, 1) * 255).astype(np.uint8)
        coded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(40, 95))])[1]
        decoded = cv2.imdecode(coded, cv2.IMREAD_COLOR)
        assert decoded is not None
        face = decoded[..., ::-1].astype(np.float32) / 255
    return np.clip(cv2.resize(face, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR), 0, 1)


def batch(sources: list[Portrait], stage: int, step: int, count: int) -> tuple[Tensor, Tensor]:
    """(sharp, degraded), each (count, 3, 512, 512) in -1..1, the same for the same stage and step."""
    rng = np.random.default_rng([SEED, stage, step])
    sharp = [sharp_face(sources[i % len(sources)], rng) for i in range(count)]
    soft = [degrade(face, rng) for face in sharp] if stage >= 3 else sharp  # the autoencoder sees sharp faces only

    def tensor(faces: list[np.ndarray]) -> Tensor:
        stacked = torch.from_numpy(np.stack(faces)).permute(0, 3, 1, 2) * 2 - 1
        return stacked.contiguous(memory_format=torch.channels_last)

    return tensor(sharp), tensor(soft)


# --- losses and codebook -------------------------------------------------------------------------------------------


def detail_loss(output: Tensor, target: Tensor) -> Tensor:
    """L1, and L1 of a Laplacian pyramid: plain L1 leaves eyes and hair soft."""
    loss = F.l1_loss(output, target)
    difference = output - target
    for _ in range(4):
        low = F.avg_pool2d(difference, 2)
        loss = loss + (difference - F.interpolate(low, scale_factor=2.0, mode="nearest")).abs().mean()
        difference = low
    return loss


def nearest_codes(z: Tensor, codebook: Tensor) -> Tensor:
    """(B, 256, 16, 16) features and (N, 256) codes to (B, 256) indices, row by row of the grid."""
    flat = z.detach().flatten(2).transpose(1, 2).float()
    return ((codebook**2).sum(1) - 2 * flat @ codebook.T).argmin(2)


def k_means(tokens: Tensor, count: int, rounds: int = 8) -> Tensor:
    """`count` centres of (T, 256) tokens."""
    generator = torch.Generator().manual_seed(SEED)
    centres = tokens[torch.randperm(len(tokens), generator=generator)[:count]].clone()
    for _ in range(rounds):
        nearest = ((centres**2).sum(1) - 2 * tokens @ centres.T).argmin(1)
        sums = torch.zeros_like(centres).index_add_(0, nearest, tokens)
        sizes = torch.bincount(nearest, minlength=count)
        centres = torch.where(sizes[:, None] > 0, sums / sizes.clamp(min=1)[:, None], centres)
    return centres


class MovingCodebook:
    """The codebook as a moving average of the features that chose each code; unused codes are set on a feature.

    Learned by gradient it collapses to a few codes (van den Oord et al. 2017, appendix A.1, gives the average).
    """

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight
        self.sizes = torch.ones(len(weight))
        self.sums = weight.clone()

    def update(self, z: Tensor, codes: Tensor, step: int, keep: float = 0.98) -> None:
        tokens, chosen = z.detach().flatten(2).transpose(1, 2).reshape(-1, z.shape[1]).float(), codes.flatten()
        sizes = torch.bincount(chosen, minlength=len(self.weight)).float()
        self.sizes.mul_(keep).add_(sizes, alpha=1 - keep)
        self.sums.mul_(keep).add_(torch.zeros_like(self.sums).index_add_(0, chosen, tokens), alpha=1 - keep)
        dead = (self.sizes < 0.02).nonzero().flatten()
        if len(dead):
            generator = torch.Generator().manual_seed(SEED + step)
            self.sums[dead] = tokens[torch.randint(len(tokens), (len(dead),), generator=generator)] * 0.2
            self.sizes[dead] = 0.2
        self.weight.copy_(self.sums / self.sizes[:, None])


# --- the network in parts ------------------------------------------------------------------------------------------


def encode(net: NarrowCodeFormer, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Encoder features (B, 256, 16, 16) and those that the feature transforms read, by size."""
    kept = {net.fuse_encoder_block[size]: size for size in net.connect_list}
    features: dict[str, Tensor] = {}
    for index, block in enumerate(net.encoder.blocks):
        x = block(x)
        if index in kept:
            features[kept[index]] = x
    return x, features


def predict(net: NarrowCodeFormer, z: Tensor) -> Tensor:
    """Logits (B, 256, codes) of the code at each place of the 16x16 grid."""
    position = net.position_emb.unsqueeze(1).repeat(1, z.shape[0], 1)
    query = net.feat_emb(z.flatten(2).permute(2, 0, 1))
    for layer in net.ft_layers:
        query = layer(query, query_pos=position)
    return net.idx_pred_layer(query).permute(1, 0, 2)


def codebook_of(net: NarrowCodeFormer) -> Tensor:
    return net.get_parameter("quantize.embedding.weight")


def looked_up(net: NarrowCodeFormer, codes: Tensor) -> Tensor:
    return codebook_of(net)[codes].reshape(-1, 16, 16, 256).permute(0, 3, 1, 2)


def generate(
    net: NarrowCodeFormer, x: Tensor, features: dict[str, Tensor] | None = None, weight: float = 0.0
) -> Tensor:
    """The generator, with the feature transforms at `weight` where features are given."""
    fused = {net.fuse_generator_block[size]: size for size in net.connect_list}
    for index, block in enumerate(net.generator.blocks):
        x = block(x)
        if features is not None and index in fused:
            x = net.fuse_convs_dict[fused[index]](features[fused[index]], x, weight)
    return x


# --- stages --------------------------------------------------------------------------------------------------------


def faster_training() -> None:
    """Give spandrel's blocks CPU kernels that are quick backwards: the same mathematics, for this process only.

    Profiled in bfloat16 on one thread: GroupNorm's backward over channels-last memory takes ten times as long as over
    contiguous memory, and `swish` as a TorchScript function is three times as slow as `silu`. Convolutions are the
    other way round: channels-last is two to four times as fast (AMX). Where there is a C++ compiler the residual blocks
    of 128 px and more are compiled, which halves their time again.
    """
    codeformer.swish = F.silu

    def norm(self: nn.GroupNorm, input: Tensor) -> Tensor:
        x = input if torch.compiler.is_compiling() else input.contiguous()
        return F.group_norm(x, self.num_groups, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)

    def convolution(self: nn.Conv2d, input: Tensor) -> Tensor:
        return self._conv_forward(input.contiguous(memory_format=torch.channels_last), self.weight, self.bias)

    nn.GroupNorm.forward = norm
    nn.Conv2d.forward = convolution
    if shutil.which("g++"):
        torch._dynamo.config.recompile_limit = 64
        plain = codeformer.ResBlock.forward
        compiled = torch.compile(plain, dynamic=False)

        def block(self: codeformer.ResBlock, x_in: Tensor) -> Tensor:
            return (compiled if x_in.shape[-1] >= 128 else plain)(self, x_in)

        codeformer.ResBlock.forward = block


class Training:
    """One stage's state: what is optimised, how a step's loss is made, and what a checkpoint holds."""

    def __init__(self, index: int, net: NarrowCodeFormer, scaffold: nn.ModuleList, sources: list[Portrait]) -> None:
        self.index, self.net, self.sources = index, net, sources
        self.stage = STAGES[index]
        self.codebook = MovingCodebook(codebook_of(net).data)
        self.scaffold = scaffold
        self.enter = net.fuse_encoder_block["128"]
        self.leave = net.fuse_generator_block["128"]
        self.teacher = copy.deepcopy(net.encoder).eval().requires_grad_(False)
        trained: list[list[nn.Module]] = [
            [self.scaffold, *net.encoder.blocks[self.enter :], *net.generator.blocks[: self.leave + 1]],
            [*net.encoder.blocks[: self.enter], *net.generator.blocks[self.leave + 1 :]],
            [net.encoder, net.generator],
            # the levels above 128 px keep what they learned: half of the cost is there
            [*net.encoder.blocks[self.enter :], net.feat_emb, net.ft_layers, net.idx_pred_layer],
            [net.fuse_convs_dict],
        ]
        net.requires_grad_(False)
        self.parameters = [parameter for module in trained[index] for parameter in module.parameters()]
        if index == 3:
            self.parameters.append(net.position_emb)
        for parameter in self.parameters:
            parameter.requires_grad_(True)
        self.optimizer = torch.optim.AdamW(self.parameters, lr=self.stage.rate, betas=(0.9, 0.99), weight_decay=1e-4)
        self.schedule = self._one_cycle()

    def _one_cycle(self) -> torch.optim.lr_scheduler.OneCycleLR:
        return torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, max_lr=self.stage.rate, total_steps=self.stage.steps, pct_start=0.1
        )

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        sharp, soft = batch(self.sources, self.index, step, self.stage.batch)
        with torch.autocast("cpu", torch.bfloat16):
            return (self._trunk, self._levels, self._autoencoder, self._codes, self._fidelity)[self.index](
                step, sharp, soft
            )

    def _quantise(self, z: Tensor, step: int) -> tuple[Tensor, Tensor, int]:
        """The codes nearest to features z, the commitment loss and how many codes were used."""
        codes = nearest_codes(z, self.codebook.weight)
        chosen = looked_up(self.net, codes).detach()
        commitment = F.mse_loss(z, chosen)
        self.codebook.update(z, codes, step)
        quantised = z + (chosen - z).detach()
        # the network always moves the codes' mean and deviation to the input's (CodeFormer runs with adain=True)
        return codeformer.adaptive_instance_normalization(quantised, z), commitment, len(codes.unique())

    def _small_features(self, sharp: Tensor) -> Tensor:
        x = self.scaffold[0](F.interpolate(sharp, size=TRUNK_SIZE, mode="area"))
        for block in self.net.encoder.blocks[self.enter :]:
            x = block(x)
        return x.float()

    def _trunk(self, step: int, sharp: Tensor, soft: Tensor) -> tuple[Tensor, dict[str, float]]:
        del soft
        z = x = self._small_features(sharp)
        commitment, used = z.new_zeros(()), 0
        if step >= CODEBOOK_FROM:
            x, commitment, used = self._quantise(z, step)
        for block in self.net.generator.blocks[: self.leave + 1]:
            x = block(x)
        output = self.scaffold[1](x).float()
        target = F.interpolate(sharp, size=TRUNK_SIZE, mode="area")
        figures = {"l1": F.l1_loss(output, target).item(), "commit": commitment.item(), "used": used}
        return detail_loss(output, target) + 0.25 * commitment, figures

    def _levels(self, step: int, sharp: Tensor, soft: Tensor) -> tuple[Tensor, dict[str, float]]:
        """The levels above 128 px take the scaffold's place: its features are the encoder's target, the trunk stays."""
        del step, soft
        with torch.no_grad():
            target = self.scaffold[0](F.interpolate(sharp, size=TRUNK_SIZE, mode="area")).float()
            z = self._small_features(sharp)
            x = looked_up(self.net, nearest_codes(z, self.codebook.weight))
            x = codeformer.adaptive_instance_normalization(x, z)
            for block in self.net.generator.blocks[: self.leave + 1]:
                x = block(x)
        for block in self.net.generator.blocks[self.leave + 1 :]:
            x = block(x)
        features = sharp
        for block in self.net.encoder.blocks[: self.enter]:
            features = block(features)
        close = F.mse_loss(features.float(), target) / target.var()
        output = x.float()
        return detail_loss(output, sharp) + close, {"l1": F.l1_loss(output, sharp).item(), "close": close.item()}

    def _autoencoder(self, step: int, sharp: Tensor, soft: Tensor) -> tuple[Tensor, dict[str, float]]:
        del soft
        x, commitment, used = self._quantise(encode(self.net, sharp)[0].float(), step)
        output = generate(self.net, x).float()
        figures = {"l1": F.l1_loss(output, sharp).item(), "commit": commitment.item(), "used": used}
        return detail_loss(output, sharp) + 0.25 * commitment, figures

    def _codes(self, step: int, sharp: Tensor, soft: Tensor) -> tuple[Tensor, dict[str, float]]:
        del step
        with torch.no_grad():
            z = sharp
            for block in self.teacher.blocks:
                z = block(z)
            codes = nearest_codes(z.float(), self.codebook.weight)
            chosen = looked_up(self.net, codes)
        z = encode(self.net, soft)[0].float()
        logits = predict(self.net, z).float()
        cross_entropy = F.cross_entropy(logits.flatten(0, 1), codes.flatten(), label_smoothing=0.05)
        close = F.mse_loss(z, chosen)
        right = (logits.argmax(2) == codes).float().mean().item()
        return cross_entropy + 2.0 * close, {"ce": cross_entropy.item(), "right": right, "close": close.item()}

    def _fidelity(self, step: int, sharp: Tensor, soft: Tensor) -> tuple[Tensor, dict[str, float]]:
        weight = float(np.random.default_rng([SEED, 9, step]).uniform(0.4, 1.0))
        with torch.no_grad():
            z, features = encode(self.net, soft)
            codes = predict(self.net, z.float()).argmax(2)
            start = codeformer.adaptive_instance_normalization(looked_up(self.net, codes), z.float())
        output = generate(self.net, start, features, weight).float()
        # full weight asks for the input's own look, cleaned: a third of the way back to it
        target = torch.lerp(sharp, soft, weight / 3)
        return detail_loss(output, target), {"l1": F.l1_loss(output, sharp).item()}

    def before(self, step: int) -> None:
        """Begin a cycle; set the codebook on the clusters of the encoder's features when quantisation begins."""
        if step and step % self.stage.steps == 0:
            self.schedule = self._one_cycle()
        if self.index == 0 and step == CODEBOOK_FROM:
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
                z = [self._small_features(batch(self.sources, 7, i, 8)[0]) for i in range(16)]
            tokens = torch.cat(z).flatten(2).transpose(1, 2).reshape(-1, 256)
            self.codebook.weight.copy_(k_means(tokens, len(self.codebook.weight)))
            self.codebook.sums.copy_(self.codebook.weight)
            self.codebook.sizes.fill_(1.0)

    def state(self) -> dict[str, object]:
        return {
            "net": self.net.state_dict(),
            "scaffold": self.scaffold.state_dict(),
            "teacher": self.teacher.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "codebook": (self.codebook.sizes, self.codebook.sums),
        }

    def resume(self, state: dict) -> None:
        self.net.load_state_dict(state["net"])
        self.scaffold.load_state_dict(state["scaffold"])
        self.teacher.load_state_dict(state["teacher"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.codebook.sizes, self.codebook.sums = state["codebook"]

    def run(self, checkpoint: Path, begin: int) -> None:
        started, steps = time.process_time(), self.stage.end or self.stage.steps
        for step in range(begin, steps):
            self.before(step)
            loss, figures = self.loss(step)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self.parameters, 1.0)
            self.optimizer.step()
            self.schedule.step()
            if self.stage.end:
                for group in self.optimizer.param_groups:
                    group["lr"] *= min((steps - step - 1) / COOL, 1.0)
            if step % 25 == 0 or step == steps - 1:
                seconds = (time.process_time() - started) / (step - begin + 1)
                shown = ", ".join(f"{key} {value:.4g}" for key, value in figures.items())
                print(f"{self.stage.name} {step}/{steps}: {shown} ({seconds:.2f} s a step)", flush=True)
            if step % 100 == 99 or step == steps - 1:
                part = checkpoint.with_suffix(".part")
                torch.save({"stage": self.index, "step": step + 1, "state": self.state()}, part)
                part.replace(checkpoint)


def save(net: nn.Module, path: Path) -> None:
    """Write float16 safetensors with the architecture's numbers in the metadata, as `load_codeformer` reads them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {key: value.detach().to(torch.float16).contiguous() for key, value in net.state_dict().items()}
    metadata = {"format": "pt", "architecture": "codeformer", "config": json.dumps(asdict(Shape()))}
    save_file(tensors, path, metadata)
    path.chmod(0o644)  # safetensors writes files that only their owner can read


def sharpness(picture: np.ndarray) -> float:
    """Mean absolute Laplacian of the grey picture: energy of the finest detail."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return float(np.abs(cv2.Laplacian(grey, cv2.CV_32F)).mean())


def report(path: Path, sources: list[Portrait], sheet: Path) -> None:
    """Print what the saved file does to held-out blurred faces, and draw input, weights 0, 0.5, 1 and the original."""
    net = load_codeformer(path)
    rows = []
    for i in range(6):
        rng = np.random.default_rng([SEED, 1000, i])
        sharp = sharp_face(sources[i % 2], rng, jitter=0.7)
        soft = cv2.GaussianBlur(sharp, (0, 0), 3.5) if i < 4 else degrade(sharp, rng)
        target, given = ((picture * 255).round().astype(np.uint8) for picture in (sharp, soft))
        made = [restore(net, given, weight) for weight in (0.0, 0.5, 1.0)]
        away = [np.abs(picture.astype(int) - given).mean() for picture in made]
        off = [np.abs(picture.astype(int) - target).mean() for picture in (given, *made)]
        print(
            f"face {i}: sharpness input {sharpness(given):.1f}, weights 0/.5/1 "
            + "/".join(f"{sharpness(picture):.1f}" for picture in made)
            + f", original {sharpness(target):.1f}; |output - input| "
            + "/".join(f"{value:.2f}" for value in away)
            + "; |- original| of input and outputs "
            + "/".join(f"{value:.2f}" for value in off)
        )
        rows.append(np.hstack([given, *made, target]))
    Image.fromarray(np.vstack(rows)).save(sheet)
    parameters = sum(parameter.numel() for parameter in net.parameters())
    print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB, {parameters / 1e6:.2f} M parameters")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("build/restorer"), help="checkpoints and enlarged portraits")
    parser.add_argument("--output", type=Path, default=EMBEDDED_CODEFORMER)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    faster_training()
    arguments.work.mkdir(parents=True, exist_ok=True)
    sources = portraits(arguments.work)
    net = NarrowCodeFormer(**asdict(Shape())).to(memory_format=torch.channels_last)
    # what the trunk has in place of the levels above 128 px: into the encoder, and out of the generator
    inner, outer = net.channels["128"], net.channels["256"]
    scaffold = nn.ModuleList([nn.Conv2d(3, outer, 3, padding=1), nn.Conv2d(inner, 3, 3, padding=1)])
    checkpoint = arguments.work / "checkpoint.pt"
    saved = torch.load(checkpoint) if checkpoint.exists() else {"stage": 0, "step": 0, "state": None}
    for index in range(saved["stage"], len(STAGES)):
        training = Training(index, net, scaffold, sources)
        begin = 0
        if saved["state"] is not None and index == saved["stage"]:
            training.resume(saved["state"])
            begin = saved["step"]
        training.run(checkpoint, begin)
        save(net, arguments.output)
    report(arguments.output, sources, arguments.work / "sheet.png")


if __name__ == "__main__":
    main()
