"""What a sampler of a graph of ComfyUI's is given: model, LoRAs, prompts, steps; whichever nodes say it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from workbench.settings import Weighted

from .comfy_graph import ComfyGraph, Node, is_link
from .comfy_sampling import denoise_of, read_comfy_sampler
from .file_names import each_once, read_lora
from .foreign_prompts import TAG
from .gathering import Gathering
from .json_values import as_number, shown, shown_entry
from .sampling import SamplerRead
from .weighted_texts import Part, read_comfy

SAMPLERS = ("KSampler", "KSamplerAdvanced", "SamplerCustom", "SamplerCustomAdvanced")
SCHEDULES = {
    "KarrasScheduler": "karras", "ExponentialScheduler": "exponential", "BetaSamplingScheduler": "beta",
    "AlignYourStepsScheduler": "align_your_steps", "SDTurboScheduler": "sgm_uniform",
}  # fmt: skip
"""{node that makes a schedule: ComfyUI's name of it}; BasicScheduler has the name among its inputs."""
LORA_ONLY = ("LoraLoader", "LoraLoaderModelOnly")
NO_CONTROL = "prompts are not mixed or steered here; what comes before it was read"
NO_MODEL_CHANGE = "models are not changed in that way here"
NODES = (
    "model", "positive", "negative", "conditioning", "latent_image", "guider", "noise", "sampler", "sigmas", "clip", "vae",
    "image",
)  # fmt: skip
"""Inputs that nodes give which do more than hold a value."""
FAR = 1000  # nodes in a chain


@dataclass
class Pass:
    """What a sampler is given.

    Attributes:
        inputs: of the sampler, its guider, noise and schedule, by KSampler's names, as far as they are there.
        whole, run: steps of the schedule, and how many of the last of them run; None where that is not said.
        positive, negative: what the prompts say; None where that is not known.
        clip: the link to the text encoder.
    """

    node: Node
    inputs: dict[str, Any]
    sampler: SamplerRead | None = None
    words: str = ""
    denoise: Any = None
    run: Any = None
    checkpoint: str = ""
    loras: list[Weighted] = field(default_factory=list)
    positive: list[list[Part]] | None = None
    negative: list[list[Part]] | None = None
    clip: Any = None
    refines: bool = False

    @property
    def sampling(self) -> SamplerRead:
        return self.sampler or read_comfy_sampler(self.inputs.get("sampler_name"), self.inputs.get("scheduler"))


class PassReading:
    """Reads what samplers are given, and tells what it does not understand."""

    def __init__(self, graph: ComfyGraph, gathering: Gathering) -> None:
        self.graph, self.gathering = graph, gathering

    def read(self, node: Node) -> Pass:
        """What a sampler, or FaceDetailer, is given."""
        found = Pass(
            node, {name: value if name in NODES else self._plain(value) for name, value in node.inputs.items()}
        )
        if node.kind.startswith("SamplerCustom"):
            self._custom(found)
        elif node.kind == "KSamplerAdvanced":
            self._advanced(found)
        else:
            found.run, found.denoise = found.inputs.get("steps"), found.inputs.get("denoise", 1.0)
        names = ("sampler_name", "scheduler")
        found.words = ", ".join(shown_entry(name, found.inputs.get(name)) for name in names)
        found.checkpoint, found.loras = self._model(found.inputs.get("model"))
        found.positive = self._conditioning(found, found.inputs.get("positive"))
        found.negative = self._conditioning(found, found.inputs.get("negative"))
        return found

    def _plain(self, value: Any) -> Any:
        return self.graph.value(value) if is_link(value) else value

    def tell(self, node: Node, why: str, what: str = "") -> None:
        self.gathering.cannot(f"{node}{what and f', {what}'}", why)

    # --- steps -----------------------------------------------------------------------------------------------------

    def _advanced(self, found: Pass) -> None:
        """KSamplerAdvanced runs the steps from one to another of a schedule."""
        given = found.inputs
        given["seed"] = given.get("noise_seed")
        steps, start, end = (as_number(given.get(name)) for name in ("steps", "start_at_step", "end_at_step"))
        found.run, found.denoise = steps, 1.0
        if type(steps) is int and type(start) is int and 0 < start < steps:
            found.run, found.denoise = steps - start, denoise_of(steps - start, steps)
        if type(end) is int and type(steps) is int and end < steps:
            self.tell(found.node, "all steps to the last run here", shown_entry("end_at_step", end))

    def _custom(self, found: Pass) -> None:
        """SamplerCustom and SamplerCustomAdvanced have nodes of their own for what KSampler says."""
        given = found.inputs
        given["seed"] = given.get("noise_seed")
        if guider := self.graph.at(given.get("guider")):
            self._guided(given, guider)
        if noise := self.graph.at(given.get("noise")):
            given["seed"] = self._plain(noise.inputs.get("noise_seed"))
        if chosen := self.graph.at(given.get("sampler")):
            given["sampler_name"] = self._plain(chosen.inputs.get("sampler_name", chosen.kind.removeprefix("Sampler")))
        sigmas = self.graph.at(given.get("sigmas"))
        if sigmas is None:
            return
        said = {name: self._plain(value) for name, value in sigmas.inputs.items()}
        given["scheduler"] = SCHEDULES.get(sigmas.kind, said.get("scheduler"))
        found.run, found.denoise = said.get("steps"), said.get("denoise", 1.0)
        if sigmas.kind == "AlignYourStepsScheduler":
            self._share(found)
        elif sigmas.kind != "BasicScheduler" and sigmas.kind not in SCHEDULES:
            self.tell(sigmas, "such a schedule is not known here")

    def _guided(self, given: dict[str, Any], guider: Node) -> None:
        said = {name: value if name in NODES else self._plain(value) for name, value in guider.inputs.items()}
        given |= {name: said[name] for name in ("model", "positive", "negative", "cfg") if name in said}
        if "conditioning" in said:  # BasicGuider has one prompt and no guidance
            given |= {"positive": said["conditioning"], "cfg": 1.0}
        if guider.kind not in ("CFGGuider", "BasicGuider"):
            self.tell(guider, "guidance has one scale here")

    def _share(self, found: Pass) -> None:
        """Of Align Your Steps, `denoise` is the share of the steps that run."""
        steps, share = as_number(found.run), as_number(found.denoise)
        if type(steps) is int and 0 < steps < FAR and isinstance(share, int | float) and 0 < share < 1:
            found.run = max(1, round(steps * share))
            found.denoise = denoise_of(found.run, steps)

    # --- models ----------------------------------------------------------------------------------------------------

    def _model(self, link: Any) -> tuple[str, list[Weighted]]:
        """(name of the checkpoint or "", its LoRAs from the first on)."""
        loras: list[tuple[Weighted | None, str]] = []
        for _ in range(FAR):
            node = self.graph.at(link)
            if node is None:
                return "", each_once(self.gathering, loras[::-1])
            name = self._plain(node.inputs.get("ckpt_name"))
            if isinstance(name, str):
                return name, each_once(self.gathering, loras[::-1])
            if node.kind in LORA_ONLY or "lora_name" in node.inputs:
                loras.append(self._lora(node))
            elif rows := [each for each in node.inputs.values() if isinstance(each, dict) and "lora" in each]:
                loras += [self._row(node, each) for each in reversed(rows) if each.get("on", True)]
            else:
                self.tell(node, NO_MODEL_CHANGE)
            link = node.first_link("model") if "model" in node.inputs else None
        return "", each_once(self.gathering, loras[::-1])

    def _lora(self, node: Node) -> tuple[Weighted | None, str]:
        name, weight = self._plain(node.inputs.get("lora_name")), self._plain(node.inputs.get("strength_model"))
        clip = self._plain(node.inputs.get("strength_clip", weight))
        words = f"{node}, {shown(name)}: {shown(weight)}"
        if as_number(clip) != as_number(weight):
            self.tell(node, "one weight counts for the UNet and the text encoders", shown_entry("strength_clip", clip))
        return read_lora(self.gathering, name, weight, words), words

    def _row(self, node: Node, row: dict[str, Any]) -> tuple[Weighted | None, str]:
        """A row of rgthree's Power Lora Loader."""
        words = f"{node}, {shown(row)}"
        return read_lora(self.gathering, row.get("lora"), row.get("strength"), words), words

    # --- prompts ---------------------------------------------------------------------------------------------------

    def _conditioning(self, found: Pass, link: Any, depth: int = 0) -> list[list[Part]] | None:
        node = self.graph.at(link)
        if node is None or depth > 100:
            return None
        inputs = node.inputs
        if node.kind == "ConditioningConcat":
            parts = [self._conditioning(found, inputs.get(f"conditioning_{end}"), depth + 1) for end in ("to", "from")]
            return [section for each in parts for section in each or []]
        if node.kind == "ConditioningZeroOut":
            self._conditioning(found, inputs.get("conditioning"), depth + 1)
            return [[]]
        if "text_g" in inputs or "text_l" in inputs:
            return self._both(found, node)
        if "text" in inputs or "clip" in inputs:
            found.refines = found.refines or node.kind == "CLIPTextEncodeSDXLRefiner"
            return self._encoded(found, node, inputs.get("text", inputs.get("prompt")))
        self.tell(node, NO_CONTROL)
        names = ("conditioning", "conditioning_1", "positive", "negative") if link[1] == 0 else ("negative",)
        return self._conditioning(found, node.first_link(*names), depth + 1)

    def _both(self, found: Pass, node: Node) -> list[list[Part]]:
        """SDXL's two text encoders, which read one text here."""
        first, second = (self.graph.text(node.inputs.get(name)) for name in ("text_g", "text_l"))
        if first and second and first != second:
            self.tell(
                node,
                "both text encoders read the same text here; that of text_g was read",
                shown_entry("text_l", second),
            )
        return self._encoded(found, node, first or second)

    def _encoded(self, found: Pass, node: Node, value: Any) -> list[list[Part]]:
        found.clip = found.clip or node.inputs.get("clip")
        text = self.graph.text(value)
        if text is None:
            self.tell(node, "where its text comes from is not understood; it was left empty")
        text = text or ""
        for tag in TAG.finditer(text):
            self.tell(node, "ComfyUI reads tags as words; they were left out", tag[0])
        return [read_comfy(TAG.sub("", text))]

    def clip_layer(self, link: Any) -> tuple[Any, str]:
        """(the layer at which the text encoder stops, or None; the words of that)."""
        for _ in range(FAR):
            node = self.graph.at(link)
            if node is None:
                break
            if "stop_at_clip_layer" in node.inputs:
                layer = self._plain(node.inputs["stop_at_clip_layer"])
                return layer, f"{node}, {shown_entry('stop_at_clip_layer', layer)}"
            link = node.first_link("clip") if is_link(node.inputs.get("clip")) else None
        return None, ""
