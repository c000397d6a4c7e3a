"""What the settings of a picture say to a stage that denoises: its prompts as they are read, and its LoRAs."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from workbench.errors import MissingWeights, SettingsError, WrongModel
from workbench.files import file_sha256
from workbench.models import LoraFile, checkpoint_in, licence_of, lora_file, lora_path, model_path, tokenizers_of
from workbench.settings import Weighted, parse_weighted

from .prompt_syntax import parse_prompt, syntax_in
from .readings import CHUNK, Reading, TokenChunk, read_prompt

if TYPE_CHECKING:
    from workbench.models import Sdxl
    from workbench.settings import Settings

Found = TypeVar("Found")


class Prompts(NamedTuple):
    """The texts that a stage reads, and the names of the settings that they come from."""

    prompt: str
    negative: str
    name: str = "prompt"
    negative_name: str = "negative_prompt"


def own_prompts(s: Settings, prompt: str, negative: str) -> Prompts:
    """The texts of a stage that has prompts of its own, by the settings' names: where one is empty, the picture's."""
    name = prompt if getattr(s, prompt).strip() else "prompt"
    negative_name = negative if getattr(s, negative).strip() else "negative_prompt"
    return Prompts(getattr(s, name), getattr(s, negative_name), name, negative_name)


@dataclass(frozen=True)
class Wording:
    """What the text encoders give depends on this, and on the checkpoint.

    Attributes:
        negative: None without guidance.
        loras: those that act, in the order in which they are given.
    """

    prompt: Reading
    negative: Reading | None
    clip_skip: int
    loras: tuple[LoraFile, ...]


def sdxl_of(s: Settings) -> Sdxl:
    """What these settings choose of SDXL."""
    from workbench.models import Sdxl

    return Sdxl(s.model, s.vae, s.refiner, s.dtype, s.vae_tiling)


_seen: ContextVar[dict[Hashable, Any] | None] = ContextVar("seen", default=None)


@contextmanager
def one_moment() -> Iterator[None]:
    """Inside, in this thread, what settings read is looked up once: a plan of 8,000 cells took 37 s, and takes 4.

    So inside it is not seen that a file changes. Moments may be nested.
    """
    token = _seen.set({}) if _seen.get() is None else None
    try:
        yield
    finally:
        if token:
            _seen.reset(token)


_unread: ContextVar[bool] = ContextVar("unread", default=False)


@contextmanager
def without_weights() -> Iterator[None]:
    """Inside, in this thread, prompts are told apart by their text and LoRAs by their name: nothing of a model is read, so
    that a plan can be made of what is not on this machine."""
    token = _unread.set(True)
    try:
        yield
    finally:
        _unread.reset(token)


def _once(key: Hashable, look_up: Callable[[], Found]) -> Found:
    """What `look_up` returns, which is asked once a moment."""
    seen = _seen.get()
    if seen is None:
        return look_up()
    if key not in seen:
        seen[key] = look_up()
    return seen[key]


def checkpoint_path(s: Settings, part: str) -> Path:
    """Where the checkpoint of a part, "base" or "refiner", lies. Raises `MissingWeights`."""

    if _unread.get():
        return Path(s.model, part, s.refiner)

    def look_up() -> Path:
        other = sdxl_of(s).refiner_path() if part == "refiner" else None
        return other or model_path(s.model)

    return _once((part, s.model, s.refiner), look_up)


def read_wording(s: Settings, part: str, texts: Prompts, *, guided: bool) -> Wording:
    """What a part of the model reads.

    Raises `SettingsError`, and `MissingWeights`, `CorruptWeights`, `WrongModel` of the checkpoint, a LoRA or an embedding.
    """
    if _unread.get():
        loras = tuple(LoraFile(item.name, Path(item.name), item.name, item.weight) for item in asked_loras(s, texts))
        return Wording(_as_text(texts.prompt), _as_text(texts.negative) if guided else None, s.clip_skip, loras)
    key = (part, s.model, s.refiner, s.prompt_syntax, s.clip_skip, s.loras, texts, guided)
    return _once(key, lambda: _read_wording(s, part, texts, guided=guided))


def _as_text(text: str) -> Reading:
    """A reading that is equal to another one's where their texts are."""
    return Reading({"text": (TokenChunk(tuple(text.encode()), ()),)}, 0)


def _read_wording(s: Settings, part: str, texts: Prompts, *, guided: bool) -> Wording:
    path = checkpoint_path(s, part)
    if s.clip_skip >= (layers := tokenizers_of(path).layers):
        raise SettingsError(
            f"clip_skip = {s.clip_skip} leaves nothing of a text encoder with {layers} layers; use at most {layers - 1}."
        )
    prompt = read_prompt(path, texts.prompt, s.prompt_syntax, texts.name)
    negative = read_prompt(path, texts.negative, s.prompt_syntax, texts.negative_name) if guided else None
    return Wording(prompt, negative, s.clip_skip, acting_loras(s, path, texts))


def acting_loras(s: Settings, checkpoint: Path, texts: Prompts) -> tuple[LoraFile, ...]:
    """The LoRAs that change a checkpoint's pictures: of `loras` and of the prompt's tags, without those of weight 0.

    SDXL's refiner takes none: it has another UNet. Raises as `read_wording`.
    """
    items = [item for item in asked_loras(s, texts) if item.weight]
    if not items or tokenizers_of(checkpoint).refines:
        return ()
    whole = checkpoint_in(checkpoint)
    files = tuple(lora_file(item, whole) for item in items)
    by_digest: dict[str, LoraFile] = {}
    for file in files:
        if other := by_digest.get(file.digest):
            raise SettingsError(f"the LoRAs '{other.name}' and '{file.name}' are one and the same file; name it once.")
        by_digest[file.digest] = file
    return files


def asked_loras(s: Settings, texts: Prompts) -> list[Weighted]:
    """The items of `loras` and of the prompt's tags. Raises `ValueError`, in a sentence, for one that is in both."""
    listed = parse_weighted("loras", s.loras)
    tagged = parse_prompt(texts.prompt, s.prompt_syntax, texts.name).loras
    if twice := {item.name for item in listed} & {item.name for item in tagged}:
        raise ValueError(f"'{min(twice)}' is in loras and in a tag of the {texts.name}; keep one of the two")
    return [*listed, *tagged]


def check_wording(s: Settings, texts: Prompts) -> None:
    """Raise `ValueError`, in a sentence, for what cannot be read, whatever the model is."""
    asked_loras(s, texts)
    if tags := parse_prompt(texts.negative, s.prompt_syntax, texts.negative_name).loras:
        raise ValueError(
            f"{texts.negative_name} has a tag for the LoRA '{tags[0].name}'; a LoRA acts on the whole picture: put it into "
            "the prompt or into loras"
        )


def token_count(s: Settings, name: str) -> tuple[int, int]:
    """(tokens of a prompt, `name`; tokens that its chunks hold), as the base reads it. Raises as `read_wording`."""
    reading = read_prompt(checkpoint_path(s, "base"), getattr(s, name), s.prompt_syntax, name)
    return reading.tokens, reading.length * CHUNK


def lora_digest(name: str) -> str:
    """sha256 of a LoRA's file. Raises `MissingWeights`, `WrongModel`."""
    return file_sha256(lora_path(name))


def lora_licences(s: Settings, texts: Prompts) -> list[str]:
    """Of the LoRAs that are asked for, in words, whether or not they are on this machine."""
    found = []
    for item in asked_loras(s, texts):
        try:
            path = lora_path(item.file)
        except (MissingWeights, WrongModel):
            path = None
        found.append(f"LoRA {licence_of(item.name, path)}" if item.weight else "")
    return [text for text in found if text]


def notes_on(s: Settings, part: str, texts: Prompts, *, guided: bool) -> list[str]:
    """Sentences on what of the prompts and LoRAs is cut, or has no effect. Raises as `read_wording`."""
    wording = read_wording(s, part, texts, guided=guided)
    found = []
    for name, text, reading in (
        (texts.name, texts.prompt, wording.prompt),
        (texts.negative_name, texts.negative, wording.negative),
    ):
        found += parse_prompt(text, s.prompt_syntax, name).notes
        if s.prompt_syntax == "plain" and (words := syntax_in(text)):
            found.append(
                f"{name}: with prompt_syntax = plain, '{words}' is read as words; prompt_syntax = webui applies it"
            )
        if reading and reading.cut:
            found.append(
                f"{name} has {reading.tokens} tokens, and with prompt_syntax = plain {CHUNK} are read: the end is cut, "
                f"'{_short(reading.cut)}'; shorten it, or set prompt_syntax = webui"
            )
    if part == "refiner" and not wording.loras and (idle := [i.name for i in asked_loras(s, texts) if i.weight]):
        found.append(f"the LoRAs ({', '.join(idle)}) do not act in SDXL's refiner; refiner = base refines with them")
    return found


def _short(text: str) -> str:
    text = text.strip()
    return text if len(text) <= 60 else f"{text[:57]}..."
