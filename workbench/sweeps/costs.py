"""What a job costs in time, disk and memory: a small model that learns from every run on this machine.

Time is work times a learnt rate. Work is counted in TFLOP of the full-size SDXL, CodeFormer and Real-ESRGAN, by fits to
counts of torch's flop counter: what a fit gets wrong, or a smaller model changes, is in the rate, which is learnt for each
device, model and stage.
"""

from __future__ import annotations

import fcntl
import json
import math
import struct
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from workbench.errors import MissingWeights
from workbench.files import home, write_json, writing
from workbench.models import weights

from ..settings import Settings

STAGES = ("base", "refine", "faces", "upscale", "scores")
KEPT = 25  # newest measurements that count, for each device, model and stage
FADE = 0.9  # weight of a measurement against the next newer one
BYTES_PER_PIXEL = 1.6  # a photograph as PNG, until the first of this stage was written
MEGA = 1024 * 1024  # pixels of a 1024 x 1024 picture: the unit of area here
GIB = 2**30

# (a, b) of TFLOP = a A + b A^2, A the area: convolutions grow with the area, attention with its square.
# Solved at 1024 and 2048 px; counted at 768 and 1536 px, off by at most 0.6 %:
# base UNet 7.28 and 34.52, refiner 7.64 and 39.27, VAE decoder 5.75 and 25.10, VAE encoder 2.61 and 12.52.
# The UNets are a pair of forwards, as guidance needs.
BASE_STEP = (12.04, 1.48)
REFINE_STEP = (12.26, 2.31)
DECODE = (9.92, 0.55)
ENCODE = (4.33, 0.55)
LARGEST_BATCH, FILL = 8, 0.85  # more rows gain nothing at 1536 px; share of the free memory that an estimate may fill
UPSCALERS = {"realesrgan-x4plus": 37.6, "realesr-animevideov3": 1.3}  # TFLOP at area 1
FACES = (0.17, 0.81)  # finding faces at area 1; CodeFormer on one face
SCORES = (1.0, 0.3)  # writing and comparing at area 1; the 512 px face

# GiB of live activations in float16 at area 1, counted on meta tensors: a guided step, the decoder, CodeFormer in float32
BASE_MEMORY, REFINE_MEMORY, DECODE_MEMORY, FACES_MEMORY = 0.31, 0.37, 1.5, 0.55
UPSCALE_MEMORY = 1.4  # x4plus on one tile, whatever the size of the picture


def work_units(stage: str, s: Settings) -> float:
    """Size of a job in the unit its time grows with: TFLOP of the full-size networks, above 0.

    From a refinement at 1024 px to one at 1536 px it grows 2.69-fold; counted are 2.70 for a UNet step and 2.45 for the VAE.
    """
    area = _area(stage, s)
    if stage == "base":
        return s.steps * _step(BASE_STEP, area, s.base_cfg) + _fit(DECODE, area)
    if stage == "refine":
        return s.refine_evaluations * _step(REFINE_STEP, area, s.refine_cfg) + _fit(DECODE, area) + _fit(ENCODE, area)
    if stage == "faces":
        return FACES[0] * area + FACES[1]
    if stage == "upscale":
        return UPSCALERS.get(s.upscaler, 37.6) * area
    return SCORES[0] * area + SCORES[1]


def auto_batch(settings: Iterable[Settings]) -> dict[str, int]:
    """{stage: pictures in a UNet batch} that fit into the device's free memory, a power of two up to `LARGEST_BATCH`.

    1 on the CPU, where a batch gains nothing (8.61 times the naive loop at batch 1, 8.61 at 3, 8.25 at 9).
    """
    free = weights.free_memory()
    size = 1
    if free is not None:
        largest = max(settings, key=lambda s: (_area("refine", s), len(s.stages)))
        while size < LARGEST_BATCH and (_estimated_memory(largest, 2 * size) or math.inf) < FILL * free:
            size *= 2
    return {"base": size, "refine": size}


def _fit(fit: tuple[float, float], area: float) -> float:
    return fit[0] * area + fit[1] * area**2


def _step(fit: tuple[float, float], area: float, cfg: float) -> float:
    return _fit(fit, area) / (1 if cfg > 1 else 2)  # without guidance the UNet runs on one picture, not on a pair


def _size(stage: str, s: Settings) -> tuple[int, int]:
    """(width, height) of the picture a stage works on; for scores, of the finished one."""
    width, height = (s.width, s.height) if stage == "base" or not s.hires else s.hires_size
    if stage == "scores" and s.upscaler != "none":
        return width * s.upscale_factor, height * s.upscale_factor
    return width, height


def _area(stage: str, s: Settings) -> float:
    width, height = _size(stage, s)
    return width * height / MEGA


def _pixels_written(stage: str, s: Settings) -> int:
    width, height = _size(stage, s)
    enlarged = stage == "upscale" or (stage == "faces" and s.stages[-2:] == ("upscale", "faces"))
    factor = s.upscale_factor if enlarged else 1
    return width * height * factor**2


class Costs:
    """The measurements of one device, kept in a JSON file that other processes may add to meanwhile.

    File: {device: {model: {stage: {"rates": [seconds per unit], "bytes": [bytes per pixel], "memory": {"1536x1536":
    bytes}}}}}, newest last. An estimate is the weighted median of the newest 25: one outlier, such as a first call that
    also loads the weights, moves it little, and newer runs count more (each 1.1 times the one before it).
    """

    def __init__(self, path: Path, device: str) -> None:
        """`path`: the JSON file, read if it is there; `device`: device and precision in words."""
        self.path, self.device = path, device
        self._known = _read(path).get(device, {})
        self._new: list[tuple[str, str, str, Any]] = []  # (model, stage, what, value), not yet saved
        self._estimates: dict[tuple[str, str, str], float | None] = {}

    @classmethod
    def at_home(cls) -> Costs:
        """Those of $WORKBENCH_HOME and of the device that torch would use now."""
        return cls(home() / "store" / "costs.json", weights.backend())

    def seconds(self, stage: str, s: Settings) -> float | None:
        """Predicted seconds of one job; None where this stage of this model was never measured on this device."""
        rate = self._estimate(s.model, stage, "rates")
        return None if rate is None else rate * work_units(stage, s)

    def bytes(self, stage: str, s: Settings) -> float:
        """Predicted size of the PNG that a stage (or "scores": the run's own copy) writes."""
        known = self._estimate(s.model, stage, "bytes")
        return (BYTES_PER_PIXEL if known is None else known) * _pixels_written(stage, s)

    def peak_memory(self, s: Settings, batch: int = 1) -> tuple[int | None, str]:
        """(bytes, "measured") where every stage was measured at this size, else (bytes, "estimated").

        The estimate is all weights in the precision used, and the activations of the hungriest stage, scaled by area,
        batch (pictures in a UNet batch) and width of the model's first block. (None, "estimated") where the weights are
        missing or in no file whose size can be read.
        """
        measured = [self._model(s.model, stage).get("memory", {}).get(_place(stage, s)) for stage in s.stages]
        if batch == 1 and all(measured):
            return max(measured), "measured"
        return _estimated_memory(s, batch), "estimated"

    def fitting(self, s: Settings, usable: int) -> Settings | None:
        """The largest picture of these settings whose peak memory stays below `usable` bytes: a smaller hires scale first,
        then a smaller base. None where none is expected to, or nothing is known of the model."""
        scales = (
            [s.hires_scale - 0.25 * i for i in range(int((s.hires_scale - 1) * 4) + 1)] if s.hires else [s.hires_scale]
        )
        for share in (1, 7 / 8, 3 / 4, 5 / 8, 1 / 2):
            sides = {side: max(64, round(getattr(s, side) * share / 64) * 64) for side in ("width", "height")}
            for scale in scales:
                smaller = s.replace(hires_scale=scale, **(sides if share < 1 else {}))
                needed, _ = self.peak_memory(smaller)
                if needed is not None and needed < usable and smaller != s:
                    return smaller
        return None

    def learn(
        self,
        stage: str,
        s: Settings,
        seconds: float | None,
        size_bytes: int | None = None,
        memory_bytes: int | None = None,
    ) -> None:
        """Add what one job took; `None`, and a time that the clock could not tell from 0, teach nothing."""
        new: dict[str, Any] = {}
        if seconds is not None and 0 < seconds < math.inf:
            new["rates"] = seconds / work_units(stage, s)
        if size_bytes:
            new["bytes"] = size_bytes / _pixels_written(stage, s)
        if memory_bytes:
            new["memory"] = (_place(stage, s), memory_bytes)
        for what, value in new.items():
            self._new.append((s.model, stage, what, value))
            _add(self._known, s.model, stage, what, value)
            self._estimates.pop((s.model, stage, what), None)

    def save(self) -> None:
        """Write what was learnt since the last save, added to what other processes wrote meanwhile; whole or not at all."""
        if not self._new:
            return
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path.with_suffix(".lock"), "w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                everything = _read(self.path)
                self._known = everything.setdefault(self.device, {})
                for model, stage, what, value in self._new:
                    _add(self._known, model, stage, what, value)
                write_json(self.path, everything)
        self._new.clear()
        self._estimates.clear()

    def _model(self, model: str, stage: str) -> dict[str, Any]:
        return self._known.get(model, {}).get(stage, {})

    def _estimate(self, model: str, stage: str, what: str) -> float | None:
        name = (model, stage, what)
        if name not in self._estimates:
            self._estimates[name] = _weighted_median(self._model(model, stage).get(what, []))
        return self._estimates[name]


def _add(known: dict[str, Any], model: str, stage: str, what: str, value: Any) -> None:
    entry = known.setdefault(model, {}).setdefault(stage, {})
    if what == "memory":
        place, size = value
        entry.setdefault("memory", {})[place] = max(size, entry.get("memory", {}).get(place, 0))
    else:
        entry[what] = [*entry.get(what, []), value][-KEPT:]


def _place(stage: str, s: Settings) -> str:
    return "{}x{}".format(*_size(stage, s))


def _read(path: Path) -> dict[str, Any]:
    """The file's content; nothing where it is missing or damaged: it only holds what the next run measures again."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _weighted_median(values: list[float]) -> float | None:
    """The value with half of the weight on either side; the last one weighs most."""
    weighed = sorted((value, FADE ** (len(values) - 1 - age)) for age, value in enumerate(values))
    half, below = sum(weight for _, weight in weighed) / 2, 0.0
    for value, weight in weighed:
        below += weight
        if below >= half:
            return value
    return None


def _estimated_memory(s: Settings, batch: int) -> int | None:
    try:
        model, vae = weights.model_path(s.model), weights.vae_path(s.vae)
        files = [weights.restorer_path(model)] if s.restorer != "none" else []
    except MissingWeights:
        return None
    item = weights.dtype().itemsize
    parts = ["base/unet", "base/vae", "base/text_encoder", "base/text_encoder_2", *["refiner/unet"] * s.hires]
    folders = [model / part if part != "base/vae" or vae is None else vae for part in parts]
    counts = [_parameters(folder) for folder in folders]
    if not all(counts):
        return None
    vae_item = (
        4 if _config(folders[1]).get("force_upcast", True) else item
    )  # diffusers decodes in float32 where asked to
    base, high = _area("base", s), _area("refine", s)
    live = [
        BASE_MEMORY * base * batch * _width(folders[0], 320) * item / 2,
        REFINE_MEMORY * high * batch * _width(folders[-1], 384) * item / 2 if s.hires else 0,
        DECODE_MEMORY * high * _width(folders[1], 128) * vae_item / 2,
        FACES_MEMORY if s.restorer != "none" else 0,
        UPSCALE_MEMORY if s.upscaler != "none" else 0,
    ]
    on_disk = sum(path.stat().st_size for path in files)
    return int(sum(counts) * item + on_disk + max(live) * GIB)


def _width(folder: Path, full: int) -> float:
    """Channels of a network's first block, as a share of the full-size one's."""
    return _config(folder).get("block_out_channels", [full])[0] / full


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _parameters(folder: Path) -> int:
    """How many numbers a diffusers folder's weights hold, from the headers of its files; 0 where there is none."""
    files = sorted(folder.glob("*.safetensors"))
    plain = [path for path in files if ".fp16." not in path.name] or files  # what is loaded where both lie there
    return sum(_parameters_of(path, path.stat().st_mtime_ns) for path in plain)


@cache
def _parameters_of(path: Path, changed: int) -> int:
    try:
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
    except (struct.error, ValueError):  # cut short: loading it says so, an estimate need not
        return 0
    return sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
