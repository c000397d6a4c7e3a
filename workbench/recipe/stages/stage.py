"""What a stage declares. Everything else (settings, keys, plans, the engine, panels, presets) is made from that.

A stage is one file: a class of its settings, a subclass of `PictureStage` or `DenoisingStage`, and a call of `register`.
A declaration loads no torch; what runs is imported when it runs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cache, partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated, ClassVar, Protocol

from pydantic import BaseModel, Field

from workbench.errors import WorkbenchError
from workbench.files import hash_json

from ..wording import (
    Prompts,
    Wording,
    asked_loras,
    check_wording,
    checkpoint_path,
    lora_digest,
    lora_licences,
    notes_on,
    read_wording,
    sdxl_of,
)

if TYPE_CHECKING:
    from workbench.models import DeviceUse, Report, SamplerSteps
    from workbench.settings import Settings, Value
    from workbench.store import Artefact

    from ..denoising import Diffusion
    from ..rows import Denoising

Cfg = Annotated[float, Field(ge=1, le=30, allow_inf_nan=False)]
"""A guidance scale; 1 switches guidance off."""

Models = dict[str, tuple[str, Callable[[], "str | None"]]]
"""{component: (name, what says its digest, or None of what comes inside a Python package, or raises `WorkbenchError`)}"""
# In which sliders move. Allowed is far more: a guidance scale to 30, 150 steps.
CFGS, STEPS, SIDES, STRENGTHS = (1, 15), (1, 60), (256, 2048), (0.05, 1)

Size = tuple[int, int]
"""(width, height) of a picture in px."""

# TFLOP of the full-size networks at area A, (a, b) of a A + b A^2: convolutions grow with the area, attention with its
# square. Solved for torch's flop counter at 1024 and 2048 px; at 768 and 1536 px off by at most 0.6 %. UNets: on one picture.
BASE_PASS, REFINER_PASS = (6.02, 0.74), (6.13, 1.155)
ENCODE, DECODE = (4.33, 0.55), (9.92, 0.55)  # the VAE

SPANDREL = ("spandrel", "spandrel-extra-arches")  # packages that run networks from files
PREVIEW_STEPS = 4  # that are really run of an img2img pass


def tflop(fit: tuple[float, float], megapixels: float) -> float:
    """TFLOP of a network at an area of so many times 1024 x 1024 px."""
    return fit[0] * megapixels + fit[1] * megapixels**2


class Networks(Protocol):
    """Loaded networks. They count what they run."""

    @property
    def counts(self) -> Mapping[str, int]: ...


class NoNetworks:
    """What a stage has loaded that needs no network."""

    def __init__(self) -> None:
        self.counts: Mapping[str, int] = {}


class Stage(ABC):
    """A stage as everything but its own file knows it.

    Attributes:
        name: as keys, runs and pictures' file names have it.
        title, label: of its group of controls, and of its line in a progress table.
        order: its place: pictures go through stages from the lowest to the highest. The workbench's own are at 100 (base),
            200 (refine), 250 (detail), 400 (faces) and 500 (upscale).
        version: raised by one when the stage's code changes its pixels; old results are then no longer served.
        settings: the class that declares its settings.
        networks: the settings that choose which networks it loads.
        beside: the settings that choose what it loads beside these, of which several may be loaded at once.
        kept: how many of its networks stay loaded when others are asked for.
        libraries: the packages whose code makes its pixels.
        calls: what a plan counts for it beside UNet evaluations: the names that `minimum` has.
        counters: what its networks count when they run.
        open: whether its group of controls is open at first.
        makes: whether it makes the picture; one that does not mends what was made, and fidelity is measured against that.
        named_when_off: whether its settings are part of a run's name although it is off, as the first four stages' are. A
            later stage's are not: a run that was begun before there was such a stage goes on under its name.
        together: {title: {name: values that settings are given together}}, for panels.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    label: ClassVar[str]
    order: ClassVar[int]
    version: ClassVar[int] = 1
    settings: ClassVar[type[BaseModel]]
    networks: ClassVar[tuple[str, ...]] = ()
    beside: ClassVar[tuple[str, ...]] = ()
    kept: ClassVar[int] = 1
    libraries: ClassVar[tuple[str, ...]] = ()
    calls: ClassVar[tuple[str, ...]] = ()
    counters: ClassVar[tuple[str, ...]] = ()
    open: ClassVar[bool] = False
    makes: ClassVar[bool] = False
    named_when_off: ClassVar[bool] = False
    together: ClassVar[Mapping[str, Mapping[str, Mapping[str, Value]]]] = {}

    # --- what settings mean to it ----------------------------------------------------------------------------------

    def active(self, s: Settings) -> bool:
        """Whether these settings run the stage."""
        return True

    def check(self, s: Settings) -> None:
        """Raise `ValueError`, in a sentence, where these settings cannot run together."""
        return

    def place(self, s: Settings) -> int:
        """The stage's place with these settings; see `order`."""
        return self.order

    def background(self, s: Settings) -> bool:
        """Whether the stage behind it takes this picture as background only: it looks at the picture before this one, and
        pastes into this one."""
        return False

    @abstractmethod
    def effective_settings(self, s: Settings) -> dict[str, object]:
        """The settings that act in the stage, reduced to what they do: equal dicts give equal pixels from equal input.
        JSON values."""

    def why_equal(self, name: str, value: object, s: Settings) -> str:
        """Why several values of its setting `name`, `value` among them, do the same, as " (... )"; "" where there is no more
        to say."""
        return ""

    def quicker(self, s: Settings) -> dict[str, object]:
        """Changes for a preview: few steps, or leaving the stage out. {} where it stays as it is."""
        return {}

    def smaller(self, s: Settings) -> list[dict[str, object]]:
        """Changes that need less memory, the mildest first; the first is none."""
        return [{}]

    def infotext(self, s: Settings) -> dict[str, object]:
        """Its fields in A1111's `parameters` text."""
        return {}

    def notes(self, s: Settings) -> list[str]:
        """Sentences on what of its settings is cut or read otherwise than it was written. Raises `MissingWeights`."""
        return []

    def idle(self, s: Settings) -> dict[str, str]:
        """{a setting that somebody wrote and that has no effect: why}. Raises `MissingWeights`."""
        return {}

    # --- what it takes and costs -----------------------------------------------------------------------------------

    def weights(self, s: Settings) -> object:
        """Which weights it runs with: hashes of files, versions of packages. JSON values. Raises `MissingWeights`."""
        return []

    def models(self, s: Settings) -> Models:
        """Which of these weights are files or folders of a machine, and their digests."""
        return {}

    def licences(self, s: Settings) -> list[str]:
        """The licences of these weights, in words."""
        return []

    def size(self, s: Settings, taken: Size) -> Size:
        """Of its picture, made from pictures of which the last has the size `taken`."""
        return taken

    def works_at(self, s: Settings, taken: Size) -> Size:
        """The size at which it works, by which its costs are kept; `taken`: of the picture that it looks at."""
        return taken

    def work(self, s: Settings, megapixels: float) -> float:
        """Size of its job, above 0, so that jobs can be put in order before any was timed: TFLOP, or a guess.

        `megapixels`: of 1024 x 1024 px, at the size at which it works.
        """
        return megapixels

    def unet_evaluations(self, s: Settings) -> int:
        """UNet sample-forwards; the two halves of a CFG step, with and without the prompt, count as one."""
        return 0

    def minimum(self, s: Settings, key: str, taken: Sequence[str]) -> dict[str, Hashable]:
        """{each of `calls`: what the call depends on}: jobs of which that is equal share one call.

        `key`: of its result; `taken`: of the pictures it takes.
        """
        return {}

    def memory(self, s: Settings, megapixels: float, batch: int) -> list[DeviceUse]:
        """What it does on the device and what each takes there, of the precision used here.

        `batch`: pictures in a UNet batch. A network of which nothing is known has 0 bytes.
        """
        return []

    # --- running ---------------------------------------------------------------------------------------------------

    def slot(self) -> str:
        """Where its networks are kept: stages with one slot share them."""
        return self.name

    def identity(self, s: Settings) -> Hashable:
        """Equal for settings that need the very same loaded networks."""
        return (*(getattr(s, name) for name in self.networks), hash_json(self.weights(s)))

    def renew(self, networks: Networks) -> None:
        """Called before loaded networks are used again: drop of them what `identity` does not tell and has changed."""
        return

    def load(self, s: Settings) -> Networks:
        """Its networks, on the device. Raises `MissingWeights`, `CorruptWeights`, `OutOfMemory`."""
        return NoNetworks()


class PictureStage(Stage):
    """A stage that turns pictures into a picture in one call.

    Attributes:
        shares: settings in which jobs of equal input may differ and still run in one call, like CodeFormer's weight.
    """

    shares: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def run(
        self, networks: Networks, taken: Sequence[Artefact], jobs: Sequence[Settings], report: Report, *, alone: bool
    ) -> list[Artefact]:
        """The pictures of jobs that have their input in common.

        Args:
            networks: what `load` returned.
            taken: the results it takes, the last of them the picture to go on with.
            jobs: the settings of each; they differ in `shares`, and in settings that do not act here.
            report: called as (name, done, total) within every part of the work; what it raises stops the work there.
            alone: whether a person waits for this one picture, and may ask for the next one with another value of `shares`.
        """


class DenoisingStage(Stage):
    """A stage that takes a picture through SDXL's UNet, step by step. Pictures of one shape share a UNet call.

    Attributes:
        part: the part of the model that denoises, "base" or "refiner".
    """

    part: ClassVar[str]
    networks: ClassVar[tuple[str, ...]] = ("model", "vae", "refiner", "dtype", "vae_tiling")
    libraries: ClassVar[tuple[str, ...]] = ("torch", "diffusers", "transformers", "pillow")
    counters: ClassVar[tuple[str, ...]] = ("unet_calls", "padding", "prompt_encodes", "vae_encodes", "vae_decodes")
    makes: ClassVar[bool] = True

    @abstractmethod
    def guidance(self, s: Settings) -> float:
        """The guidance scale; 1 or less evaluates the UNet for the prompt alone."""

    @abstractmethod
    def start(self, diffusion: Diffusion, s: Settings, taken: Sequence[Artefact], keys: Sequence[str]) -> Denoising:
        """The rows of a job, at their first step, and what becomes of them. `keys`: content keys of `taken`."""

    def weights(self, s: Settings) -> list[str]:
        return sdxl_of(s).identity(self.part)

    def models(self, s: Settings) -> Models:
        sdxl, items = sdxl_of(s), asked_loras(s, self.prompts_of(s))
        loras: Models = {
            f"lora:{item.name}": (item.file, partial(lora_digest, item.file)) for item in items if item.weight
        }
        vae: Models = {"vae": (s.vae, sdxl.vae_digest)} if s.vae else {}
        name = s.model if self.part == "base" or s.refiner in ("auto", "base") else s.refiner
        component = "model" if self.part == "base" else "refiner"
        return {component: (name, partial(sdxl.digest, self.part)), **vae, **loras}

    def denoising_work(self, s: Settings, megapixels: float) -> float:
        """TFLOP of img2img with the refiner: the VAE there and back, the UNet on one picture or, with guidance, on a pair."""
        passes = self.unet_evaluations(s) * (2 if self.guidance(s) > 1 else 1)
        return sum(n * tflop(fit, megapixels) for n, fit in ((passes, REFINER_PASS), (1, ENCODE), (1, DECODE)))

    def licences(self, s: Settings) -> list[str]:
        return [*sdxl_of(s).licences(self.part), *lora_licences(s, self.prompts_of(s))]

    def memory(self, s: Settings, megapixels: float, batch: int) -> list[DeviceUse]:
        from workbench.models import sdxl_uses

        return sdxl_uses(sdxl_of(s), self.part, batch, megapixels)

    def slot(self) -> str:
        return "diffusion"

    def identity(self, s: Settings) -> Hashable:
        """Of the base alone: another refiner is loaded beside the same base, and only when it runs."""
        return (s.model, s.vae, s.dtype, *sdxl_of(s).identity("base"))

    def renew(self, networks: Diffusion) -> None:
        networks.renew()  # before base pictures, too: the engine goes on to refine them without asking again

    def load(self, s: Settings) -> Diffusion:
        from ..denoising import Diffusion
        from ..idling import watch
        from ..memory_plan import make_room

        make_room(s)
        held = Diffusion(sdxl_of(s))
        watch(held)
        return held

    def prompts_of(self, s: Settings) -> Prompts:
        """The texts that it reads."""
        return Prompts(s.prompt, s.negative_prompt)

    def wording(self, s: Settings) -> Wording:
        """What it reads, and its LoRAs. The negative prompt is read only where guidance is on.

        Raises `MissingWeights`, `CorruptWeights`, `WrongModel`, `SettingsError`.
        """
        return read_wording(s, self.part, self.prompts_of(s), guided=self.guidance(s) > 1)

    def reads_plainly(self, s: Settings) -> bool:
        """Whether its prompts mean the same with either `prompt_syntax`. Raises as `wording`."""
        other = "plain" if s.prompt_syntax == "webui" else "webui"
        try:
            return self.wording(s) == self.wording(s.replace(prompt_syntax=other))
        except WorkbenchError:  # what the one reads as words, the other refuses, or does not find
            return False

    def check(self, s: Settings) -> None:
        if self.active(s):
            check_wording(s, self.prompts_of(s))
            self.sampler_steps(s)

    @abstractmethod
    def sampler_steps(self, s: Settings) -> SamplerSteps:
        """How it samples. Raises `ValueError`, in a sentence, where that cannot be."""

    def unet_evaluations(self, s: Settings) -> int:
        return self.sampler_steps(s).evaluations

    def worded(self, s: Settings) -> dict[str, object]:
        """For `effective_settings`: what of wording, sampler and guidance acts."""
        wording, steps = self.wording(s), self.sampler_steps(s)
        found: dict[str, object] = {
            "prompt": wording.prompt.digest,
            "sampler": steps.sampler,
            "schedule": steps.schedule,
        }
        found |= {"cfg": self.guidance(s)} if wording.negative else {"cfg": 1.0}
        found |= {"negative_prompt": wording.negative.digest} if wording.negative else {}
        found |= {"clip_skip": wording.clip_skip} if wording.clip_skip else {}
        found |= {"loras": [[lora.digest, lora.weight] for lora in wording.loras]} if wording.loras else {}
        used = [name for name in (steps.library, "peft" if wording.loras else "") if name]
        return found | ({"libraries": versions(*used)} if used else {})

    def notes(self, s: Settings) -> list[str]:
        return notes_on(s, self.part, self.prompts_of(s), guided=self.guidance(s) > 1) if self.active(s) else []

    def checkpoint(self, s: Settings) -> tuple[str, ...]:
        """Which checkpoint the stage runs, cheaply: equal for settings that load the very same networks."""
        tiled = ("tiled",) if s.vae_tiling else ()
        return (str(checkpoint_path(s, self.part)), s.vae, s.dtype, *tiled)

    def encoded(self, s: Settings) -> Hashable:
        """What the text encoders read for it."""
        return self.checkpoint(s), self.wording(s)

    def first_step_key(self, s: Settings, taken: Sequence[str]) -> str | None:
        """Equal for guided jobs that differ in the guidance scale alone.

        They start from the same latents, so one UNet evaluation serves as the first step of them all. None without guidance:
        such a job evaluates only the half with the prompt, in a batch of another shape.
        """
        if self.guidance(s) <= 1:
            return None
        acting = {name: value for name, value in self.effective_settings(s).items() if name != "cfg"}
        return hash_json(
            {
                "stage": self.name,
                "settings": acting,
                "input": list(taken),
                "model": list(self.checkpoint(s)),
                "beside": [getattr(s, name) for name in self.beside],  # two files may act otherwise by equal settings
            }
        )


def scheduled_steps(steps: int, strength: float, how: str) -> tuple[int, int]:
    """(steps of the whole schedule, how many of its last ones run) of an img2img pass, as `strength_steps` says.

    "scaled": diffusers' own int(steps * strength) run, 9 of 25 at 0.36 and 0.37; "fixed": all of them, the last of
    int(steps / strength), as in A1111 and ComfyUI.
    """
    if how == "fixed":
        return int(steps / strength), steps
    return steps, min(int(steps * strength), steps)


def preview_steps(steps: int, strength: float, how: str) -> int:
    """Steps of an img2img pass for a preview: so that `PREVIEW_STEPS` run."""
    return min(steps, PREVIEW_STEPS if how == "fixed" else max(1, -int(-PREVIEW_STEPS // strength)))


def versions(*packages: str) -> dict[str, str]:
    """{package: its version}, for `effective_settings`: of packages whose code acts with these settings only."""
    return {name: _version(name) for name in packages}


_version = cache(version)

Show = Callable[[str, "Artefact"], None]
"""`show(stage, its result)`, called when a stage is done."""
