"""A plain Python script that makes the pictures of some settings with diffusers, and nothing of the workbench.

It has only what acts: the base and the hires fix, each with its sampler, prompts and LoRAs. What other stages do is not
diffusers' work; the script says that it leaves them out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from typing import Any, cast

import jinja2

from workbench.errors import MissingWeights, NotUnderstood, WorkbenchError
from workbench.models import ALIGN_YOUR_STEPS, SAMPLERS, SIGMAS, SPACINGS, embeddings_in
from workbench.recipe import DenoisingStage, ParsedPrompt, asked_loras, parse_prompt
from workbench.settings import Settings, stages

from .exchange import ExchangeFormat, Exported, Imported
from .script_files import ScriptFiles, lora_file_names, script_files
from .script_literals import python, python_words

FILTERS = ("lanczos", "bicubic", "bilinear", "nearest")
CHUNK = 75  # tokens that a text encoder reads at once, of at least one byte each
HIRES = "refine"


@dataclass
class ScriptPass:
    """A call of a pipeline.

    Attributes:
        hires: whether it refines the picture before it.
        pipe: the variable that has the pipeline.
        scheduler, options: diffusers' class, and what it changes in the model's own config ("use_karras_sigmas=True").
        steps, aligned, cfg, strength: as the pipeline takes them; `aligned`: whether by Align Your Steps.
        embeds: whether its prompts need the script's own reading.
        prompt, negative, loras: the names of constants; "" for none.
    """

    hires: bool
    pipe: str
    sampler: str
    scheduler: str
    options: list[str]
    steps: int
    aligned: bool
    cfg: float
    strength: float
    embeds: bool
    prompt: str
    negative: str
    loras: str


@dataclass
class ScriptConstants:
    """The constants on top of the script: {name: Python}."""

    named: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, value: str) -> str:
        """The constant's name: that of another pass where its value is the same."""
        name = name if self.named.get(name, value) == value else f"HIRES_{name}"
        self.named[name] = value
        return name


class Script(ExchangeFormat):
    """The script; it is only written."""

    name, title, suffix = "script", "diffusers script", ".py"
    imports = False

    def write(self, s: Settings, name: str = "workbench") -> Exported:
        notes = ["the settings draw a seed, and the script has the one that was drawn now."] if s.seed == -1 else []
        s = s.resolved()
        files, constants = script_files(s), ScriptConstants()
        passes = [_pass(s, "base", files, constants)]
        if HIRES in s.stages:
            passes.append(_pass(s, HIRES, files, constants))
        unmapped = {**_embeddings(s), **_resampler(s), **_other_stages(s)}
        classes = {"StableDiffusionXLPipeline", *(each.scheduler for each in passes)}
        classes |= {"StableDiffusionXLImg2ImgPipeline"} if len(passes) > 1 else set()
        classes |= {"AutoencoderKL"} if files.vae else set()
        text = _template().render(
            name=re.sub(r"[^\w.-]", "_", name),
            s=s,
            needs=_needs(passes),
            classes=sorted(classes),
            files=files,
            constants=constants.named,
            passes=passes,
            left_out=list(unmapped.values()),
            loras=any(each.loras for each in passes),
            aligned=any(each.aligned for each in passes),
            embeds=any(each.embeds for each in passes),
            resampler=(s.resampler if s.resampler in FILTERS else FILTERS[0]).upper(),
        )
        return Exported(text, unmapped, (*notes, *files.notes))

    def read(self, text: str) -> Imported:
        raise NotUnderstood("a script is only written; read the preset or the picture that it was written from.")


def _pass(s: Settings, name: str, files: ScriptFiles, constants: ScriptConstants) -> ScriptPass:
    stage, hires = cast(DenoisingStage, stages()[name]), name == HIRES
    how, texts = stage.sampler_steps(s), stage.prompts_of(s)
    parsed = [parse_prompt(texts.prompt, s.prompt_syntax, texts.name)]
    if stage.guidance(s) > 1:
        parsed.append(parse_prompt(texts.negative, s.prompt_syntax, texts.negative_name))
    embeds = s.prompt_syntax != "plain" and not (all(map(_plain, parsed)) and _short(s, stage, parsed))
    words = [python(_sections(each)) if embeds else python_words(_text(each)) for each in parsed]
    listed = [] if hires and files.refines else asked_loras(s, texts)
    loras = [(file, item.weight) for file, item in zip(lora_file_names(listed), listed, strict=True) if item.weight]
    constants.add("SEED", str(s.seed))
    share = s.strength if min(int(how.steps * s.strength), how.steps) == how.run else (how.run + 0.5) / how.steps
    return ScriptPass(
        hires=hires,
        pipe="refiner" if hires else "base",
        sampler=how.sampler,
        scheduler=SAMPLERS[how.sampler].scheduler,
        options=_options(how.sampler, how.schedule, files.scheduler_of(hires=hires)),
        steps=how.steps,
        aligned=how.schedule == ALIGN_YOUR_STEPS,
        cfg=stage.guidance(s),
        strength=1.0 if how.run == how.steps else share,
        embeds=embeds,
        prompt=constants.add("PROMPT", words[0]),
        negative=constants.add("NEGATIVE", words[1]) if len(words) > 1 else "",
        loras=constants.add("LORAS", python(loras)) if loras else "",
    )


def _options(sampler: str, schedule: str, own: dict[str, Any]) -> list[str]:
    """`own`: the model's scheduler config, with which what is asked for is not mixed."""
    chosen = {**SAMPLERS[sampler].changes, **SPACINGS[schedule]}
    off = {name: False for name in SIGMAS if schedule != "auto" and own.get(name)}
    words = [f"{name}={python(value)}" for name, value in {**off, **chosen}.items()]
    return [*words, "noise_sampler_seed=args.seed"] if SAMPLERS[sampler].library else words


def _plain(parsed: ParsedPrompt) -> bool:
    """Whether a pipeline reads it as it is: one text without weights."""
    return len(parsed.sections) == 1 and [part.weight for part in parsed.sections[0]] in ([], [1.0])


def _text(parsed: ParsedPrompt) -> str:
    return "".join(part.text for part in parsed.sections[0])


def _sections(parsed: ParsedPrompt) -> list[list[tuple[str, float]]]:
    return [[(part.text, part.weight) for part in section] for section in parsed.sections]


def _short(s: Settings, stage: DenoisingStage, parsed: list[ParsedPrompt]) -> bool:
    """Whether the prompts are one chunk each; where the model is not here to count tokens, by their bytes."""
    try:
        wording = stage.wording(s)
    except WorkbenchError:
        return all(len(_text(each).encode()) <= CHUNK for each in parsed)
    return all(reading is None or reading.length == 1 for reading in (wording.prompt, wording.negative))


def _embeddings(s: Settings) -> dict[str, str]:
    """Prompts in which a name stands for an embedding."""
    found = {}
    for name in s.stages:
        stage = stages()[name]
        if not isinstance(stage, DenoisingStage) or s.prompt_syntax == "plain":
            continue
        texts = stage.prompts_of(s)
        for setting, text in ((texts.name, texts.prompt), (texts.negative_name, texts.negative)):
            if _names_embedding(text):
                found[setting] = f"the names of embeddings in {setting} are read as words, so the pixels are others"
    return found


def _names_embedding(text: str) -> bool:
    try:
        return any(embedding for _, embedding in embeddings_in(text))
    except MissingWeights:
        return True


def _resampler(s: Settings) -> dict[str, str]:
    if HIRES not in s.stages or s.resampler in FILTERS:
        return {}
    return {"resampler": "the base's picture is enlarged by Lanczos, and not by a network, so the pixels are others"}


def _other_stages(s: Settings) -> dict[str, str]:
    """{the first setting of a stage that is no pipeline's: that it is left out}."""
    others = [stages()[name] for name in s.stages if name not in ("base", HIRES)]
    return {
        next(iter(stage.settings.model_fields)): f"the {stage.title.lower()} is no part of diffusers"
        for stage in others
    }


def _needs(passes: list[ScriptPass]) -> str:
    packages = ["diffusers", "transformers", "accelerate"]
    packages += ["peft"] if any(each.loras for each in passes) else []
    packages += sorted({library for each in passes if (library := SAMPLERS[each.sampler].library)})
    return f"torch, {', '.join(packages[:-1])} and {packages[-1]}"


@cache
def _template() -> jinja2.Template:
    made = jinja2.Environment(  # of Python, where nothing is to be escaped as in HTML
        loader=jinja2.PackageLoader("workbench.presets.formats"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters["python"] = python
    return made.get_template("script.py.jinja")
