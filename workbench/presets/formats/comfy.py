"""ComfyUI's graph (its API format), as settings and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from workbench.errors import NotUnderstood
from workbench.settings import Settings

from .comfy_graph import EXPORT, ComfyGraph, Node, is_link
from .comfy_passes import SAMPLERS, Pass, PassReading
from .comfy_sampling import take_hires_sampler, take_sampler
from .comfy_writing import RESAMPLERS, GraphWriting
from .exchange import ExchangeFormat, Exported, Imported
from .file_names import take_file, without_folders
from .gathering import Gathering
from .json_values import as_number, looks_like_object, read_object, shown, shown_entry, take
from .losses import lost
from .weighted_texts import Sections, has_weights, sections_of, take_texts

UNSAID: dict[str, object] = {
    "negative_prompt": "", "hires": False, "detail": False, "restorer": "none", "upscaler": "none", "refiner": "base",
    "strength_steps": "fixed",
}  # fmt: skip
"""What ComfyUI does where no node says otherwise."""
SEED = "ComfyUI draws noise in another order; whether the seed gives the same picture was not measured."
WEIGHTS = "Weights of words count otherwise: ComfyUI does not bring the mean back to what it was."
OTHER_FACES = "FaceDetailer finds and masks faces by another network, with numbers of its own"
FACE_NUMBERS = ("detail_faces", "detail_confidence", "detail_min_ratio", "detail_padding", "detail_mask")
MOST_FACES = 32
IMAGE = ("image", "images", "pixels", "samples", "latent_image", "latent")
SCALING = ("ImageScale", "ImageScaleBy", "ImageUpscaleWithModel", "LatentUpscale", "LatentUpscaleBy")
PLAIN = ("VAEDecode", "VAEDecodeTiled", "VAEEncode", "VAEEncodeTiled")
HOLDING = ("Note", "MarkdownNote", "PrimitiveNode")


class Comfy(ExchangeFormat):
    name, title, suffix = "comfyui", "ComfyUI workflow (API)", ".json"

    def write(self, s: Settings, name: str = "workbench") -> Exported:
        text = json.dumps(GraphWriting(s).write(), ensure_ascii=False, indent=1) + "\n"
        unmapped = lost(without_folders(s), self.read(text).settings, _reasons())
        if s.detail:
            unmapped |= dict.fromkeys(FACE_NUMBERS, OTHER_FACES)
        weighted = any(has_weights(sections_of(s, each)) for each in ("prompt", "negative_prompt"))
        return Exported(text, unmapped, (SEED, *([WEIGHTS] if weighted else []), *_needs(text)))

    def find(self, texts: Mapping[str, str]) -> str | None:
        return next((texts[name] for name in ("prompt", "workflow") if self.recognises(texts.get(name, ""))), None)

    def recognises(self, text: str) -> bool:
        return looks_like_object(text) and ('"class_type"' in text or ('"nodes"' in text and '"links"' in text))

    def read(self, text: str) -> Imported:
        graph, gathering = ComfyGraph(read_object(text, "graph of ComfyUI")), Gathering(UNSAID)
        GraphReading(graph, gathering).read()
        gathering.notes.append(SEED)
        return gathering.finish("ComfyUI")


def _reasons() -> dict[str, str]:
    schedule = "the model's own schedule has no name in ComfyUI; 'normal' is the nearest"
    return {
        "sampler": "ComfyUI has no such sampler", "schedule": schedule, "hires_schedule": schedule,
        "seed": "a node has one seed, and draws none; it says 0",
        "upscale_factor": "ComfyUI is told the size in pixels, which is the same",
        "refiner": "ComfyUI needs it as one file, and which it is is not known here",
        "upscale_mode": "in ComfyUI the faces would be looked for in the enlarged picture",
        "detail_sampler": schedule,
    }  # fmt: skip


def _needs(text: str) -> list[str]:
    """Which nodes of others a graph needs."""
    packs = {
        "FaceRestoreCFWithModel": "facerestore_cf",
        "ReActorRestoreFace": "ReActor",
        "FaceDetailer": "Impact Pack and Subpack",
    }
    return [
        f"{kind} is a node of {pack}, which ComfyUI needs for it."
        for kind, pack in packs.items()
        if f'"{kind}"' in text
    ]


@dataclass
class Steps:
    """The nodes on the way of a picture, from its beginning, in three parts: before the hires fix, from its sampler on."""

    samplers: list[Node] = field(default_factory=list)
    between: list[Node] = field(default_factory=list)
    after: list[Node] = field(default_factory=list)


class GraphReading:
    """Reads a graph into settings, from the node that saves the picture backwards."""

    def __init__(self, graph: ComfyGraph, gathering: Gathering) -> None:
        self.graph, self.gathering = graph, gathering
        self.passes = PassReading(graph, gathering)
        self.tell = self.passes.tell
        self.size: tuple[int, int] | None = None
        self.vae: tuple[Node, Any] | None = None
        self.texts: dict[str, tuple[Sections, str]] = {}
        self.loras: dict[str, list[Any]] = {}

    def read(self) -> None:
        end = self._end()
        steps = self._sorted(self._way(end))
        if not steps.samplers:
            raise NotUnderstood(f"the graph of ComfyUI has no sampler before {end}, so it makes no picture; {EXPORT}.")
        base = self.passes.read(steps.samplers[0])
        self._base(base)
        last = base
        for node in steps.samplers[1:2]:
            last = self.passes.read(node)
            self._hires(last, base, steps.between)
        for node in steps.samplers[2:]:
            self.tell(node, "a picture is denoised twice at most here")
        self._mend(steps.after, base, last)
        take_texts(self.gathering, self.texts, self.loras)
        for node in self.graph.nodes.values():
            if node.number not in self.graph.used and node.kind not in HOLDING:
                self.tell(node, "it does not take part in the picture, or in a way that is not understood")

    # --- the way of the picture --------------------------------------------------------------------------------------

    def _end(self) -> Node:
        ends = self.graph.ends()
        if not ends:
            raise NotUnderstood(
                f"the graph of ComfyUI saves no picture: it has no SaveImage or PreviewImage; {EXPORT}."
            )
        way = self.graph.upstream(ends[0].number)
        for other in ends[1:]:
            self.graph.used.add(other.number)
            if not self.graph.upstream(other.number) - {other.number} <= way:
                self.tell(other, f"one picture is read, that of {ends[0]}")
        self.graph.used.add(ends[0].number)
        return ends[0]

    def _way(self, end: Node) -> list[Node]:
        """The nodes through which the picture comes, the first first."""
        way: list[Node] = []
        node: Node | None = end
        while node := self.graph.at(node.first_link(*IMAGE) if node is end else self._before(node)):
            if node in way:
                raise NotUnderstood("the graph of ComfyUI goes in a circle, which it cannot; give it as it was saved.")
            way.append(node)
            if self._begins(node):
                break
        return way[::-1]

    def _before(self, node: Node) -> Any:
        """The link by which the picture comes into a node."""
        for name in IMAGE:
            if is_link(node.inputs.get(name)):
                return node.inputs[name]
        return node.first_link("any", "input")

    def _begins(self, node: Node) -> bool:
        if node.kind.startswith("Empty") or "batch_size" in node.inputs:
            for name, setting in (("width", "width"), ("height", "height")):
                value = self.graph.value(node.inputs.get(name))
                take(self.gathering, setting, value, f"{node}, {shown_entry(name, value)}")
            if as_number(self.graph.value(node.inputs.get("batch_size", 1))) != 1:
                self.tell(node, "one picture is made at a time", shown_entry("batch_size", node.inputs["batch_size"]))
            return True
        if "Load" in node.kind:
            self.tell(node, "pictures are made from text here, not from another picture")
            return True
        return False

    def _sorted(self, way: list[Node]) -> Steps:
        found = Steps()
        for node in way:
            if node.kind in SAMPLERS:
                found.samplers.append(node)
            elif node.kind in PLAIN:
                self._decoded(node)
            elif len(found.samplers) == 1 and any(each.kind in SAMPLERS for each in way[way.index(node) :]):
                found.between.append(node)
            elif found.samplers:
                found.after.append(node)
        return found

    def _decoded(self, node: Node) -> None:
        loader = self.graph.at(node.inputs.get("vae"))
        if loader and "vae_name" in loader.inputs and self.vae is None:
            self.vae = (loader, self.graph.value(loader.inputs["vae_name"]))

    # --- passes ------------------------------------------------------------------------------------------------------

    def _base(self, base: Pass) -> None:
        node, gathering = base.node, self.gathering
        take_sampler(gathering, base.sampling, f"{node}, {base.words}")
        for setting, value, name in (("steps", base.run, "steps"), ("base_cfg", base.inputs.get("cfg"), "cfg"),
                                     ("seed", base.inputs.get("seed"), "seed")):  # fmt: skip
            take(gathering, setting, value, f"{node}, {shown_entry(name, value)}")
        gathering.values["refine_cfg"] = gathering.values.get("base_cfg", 7.0)
        if as_number(base.denoise) != 1:
            self.tell(node, "the base begins with noise here", shown_entry("denoise", base.denoise))
        words = f"{node}, ckpt_name: {shown(base.checkpoint)}"
        take_file(gathering, "model", base.checkpoint, "base", words)
        if self.vae:
            take_file(gathering, "vae", self.vae[1], "vae", f"{self.vae[0]}, vae_name: {shown(self.vae[1])}")
        self._clip_skip(base)
        self.texts["prompt"] = (base.positive or [[]], f"{node}, positive")
        self.texts["negative_prompt"] = (base.negative or [[]], f"{node}, negative")
        self.loras["prompt"] = base.loras

    def _clip_skip(self, base: Pass) -> None:
        layer, words = self.passes.clip_layer(base.clip)
        number = as_number(layer)
        if layer is None:
            return
        if type(number) is int and number < -1:
            self.gathering.take("clip_skip", -2 - number, words)
        else:
            self.gathering.cannot(words, "SDXL reads the layer before the last, -2, and none behind it here")

    def _hires(self, found: Pass, base: Pass, between: list[Node]) -> None:
        node, gathering = found.node, self.gathering
        guess = ""
        if as_number(found.denoise) == 1:
            guess = (
                f"{node} denoises all of what comes before it; as the second sampler it was taken for the hires fix."
            )
        if found.inputs.get("add_noise") in ("disable", False):
            guess = (
                f"{node} goes on with the noise of the sampler before it; here the finished picture is refined, which is "
                "another thing."
            )
        gathering.take("hires", True, str(node), guess)
        take(gathering, "refine_steps", found.run, f"{node}, {shown_entry('steps', found.run)}")
        take(gathering, "strength", found.denoise, f"{node}, {shown_entry('denoise', found.denoise)}", guess)
        take(gathering, "refine_cfg", found.inputs.get("cfg"), f"{node}, {shown_entry('cfg', found.inputs.get('cfg'))}")
        take_hires_sampler(gathering, found.sampling, base.sampling, f"{node}, {found.words}")
        seed = found.inputs.get("seed")
        if as_number(seed) != as_number(base.inputs.get("seed")):
            self.tell(node, "one seed is for the whole picture", shown_entry("seed", seed))
        self._refiner(found, base)
        self._resampled(between)
        self._own_texts("hires", found, base)

    def _refiner(self, found: Pass, base: Pass) -> None:
        if found.checkpoint and found.checkpoint != base.checkpoint:
            words = f"{found.node}, ckpt_name: {shown(found.checkpoint)}"
            take_file(self.gathering, "refiner", found.checkpoint, "refiner", words)

    def _own_texts(self, stage: str, found: Pass, base: Pass) -> None:
        """Prompts of a pass, where they are others than the base's; SDXL's refiner takes no LoRAs."""
        layer, words = self.passes.clip_layer(found.clip)
        if as_number(layer) != as_number(self.passes.clip_layer(base.clip)[0]):
            self.gathering.cannot(
                words or f"{found.node}, clip", "the text encoder stops at one layer in all passes here"
            )
        loras = base.loras if found.refines else found.loras
        if found.positive is not None and (found.positive != base.positive or loras != base.loras):
            self.texts[f"{stage}_prompt"] = (found.positive, f"{found.node}, positive")
            self.loras[f"{stage}_prompt"] = loras
        if found.negative is not None and found.negative != base.negative:
            self.texts[f"{stage}_negative_prompt"] = (found.negative, f"{found.node}, negative")

    # --- sizes -------------------------------------------------------------------------------------------------------

    def _resampled(self, between: list[Node]) -> None:
        """What enlarges the picture before the hires fix."""
        gathering = self.gathering
        gathering.take("hires_scale", 1.0, "no node enlarges the picture before its second sampler")
        network = False
        for node in between:
            if node.kind.startswith("LatentUpscale"):
                self.tell(node, "latents are not enlarged here; the picture is, by Lanczos")
                self._scale("hires_scale", node)
            elif node.kind == "ImageUpscaleWithModel":
                network = self._network("resampler", node)
            elif node.kind in SCALING:
                method = shown(self.graph.value(node.inputs.get("upscale_method")))
                if not network and method in RESAMPLERS:
                    gathering.take("resampler", RESAMPLERS[method], f"{node}, {shown_entry('upscale_method', method)}")
                elif not network:
                    self.tell(node, "there is no such filter; Lanczos was taken", shown_entry("upscale_method", method))
                self._scale("hires_scale", node)
            elif node.kind in ("FaceDetailer", "FaceRestoreCFWithModel", "ReActorRestoreFace"):
                self.tell(node, "faces are mended behind the hires fix here, not before it")
            else:
                self.tell(node, "what it does to the picture is not known here")

    def _network(self, setting: str, node: Node) -> bool:
        loader = self.graph.at(node.inputs.get("upscale_model"))
        name = self.graph.value(loader.inputs.get("model_name")) if loader else None
        return take_file(self.gathering, setting, name, "upscaler", f"{node}, model_name: {shown(name)}")

    def _scale(self, setting: str, node: Node) -> None:
        """How much a node enlarges: by a number, or to a size."""
        by = self.graph.value(node.inputs.get("scale_by"))
        if by is not None:
            network = "ImageUpscaleWithModel" in {
                each.kind for each in [self.graph.at(node.inputs.get("image"))] if each
            }
            number = as_number(by)
            if network and isinstance(number, int | float):
                guess = "the network's file does not say here by how much it enlarges; 4 is usual."
                take(self.gathering, setting, round(number * 4, 6), f"{node}, {shown_entry('scale_by', by)}", guess)
            else:
                take(self.gathering, setting, by, f"{node}, {shown_entry('scale_by', by)}")
            return
        width, height = (as_number(self.graph.value(node.inputs.get(name))) for name in ("width", "height"))
        of = self._size_before(setting)
        words = f"{node}, {shown_entry('width', width)}, {shown_entry('height', height)}"
        if not (type(width) is int and type(height) is int and of and 0 < max(width, height) < 100_000):
            self.gathering.cannot(words, "by how much that enlarges the picture is not known")
            return
        scale = _fewest_digits(of, (width, height), multiple=8 if setting == "hires_scale" else 1)
        guess = "" if scale else "the sides are enlarged alike here, by that of the width."
        take(self.gathering, setting, scale or width / of[0], words, guess)

    def _size_before(self, setting: str) -> tuple[int, int] | None:
        values = self.gathering.values
        width, height = (as_number(values.get(name, 1024)) for name in ("width", "height"))
        if not (type(width) is int and type(height) is int):
            return None
        if setting == "hires_scale" or not values.get("hires"):
            return width, height
        scale = values.get("hires_scale", 1.5)
        if not isinstance(scale, int | float):
            return None
        return round(width * scale / 8) * 8, round(height * scale / 8) * 8

    # --- mending -----------------------------------------------------------------------------------------------------

    def _mend(self, after: list[Node], base: Pass, last: Pass) -> None:
        """The nodes behind the last sampler: faces, and what enlarges the finished picture."""
        seen = set[str]()
        for node in after:
            kind = {"FaceRestoreCFWithModel": "faces", "ReActorRestoreFace": "faces", "ReActorFaceBoost": "faces",
                    "FaceDetailer": "detail", "ImageUpscaleWithModel": "upscale"}.get(node.kind, "")  # fmt: skip
            if kind and kind in seen:
                self.tell(node, "each kind of mending is done once here")
                continue
            if kind == "faces":
                self._faces(node, enlarged="upscale" in seen)
            elif kind == "detail":
                self._detail(node, base, last)
            elif kind == "upscale":
                self._upscale(node)
            elif node.kind in SCALING and "upscale" in seen:
                self._scale("upscale_factor", node)
            elif node.kind in SCALING:
                self.tell(node, "a finished picture is enlarged by networks alone")
            else:
                self.tell(node, "what it does to the picture is not known here")
            seen.add(kind)

    def _faces(self, node: Node, *, enlarged: bool) -> None:
        gathering, inputs = self.gathering, node.inputs
        loader = self.graph.at(inputs.get("facerestore_model"))
        model = self.graph.value(loader.inputs.get("model_name") if loader else inputs.get("model"))
        if model == "none":
            return
        if not take_file(gathering, "restorer", model, "restorer", f"{node}, model: {shown(model)}"):
            return
        for name, setting in (
            ("codeformer_fidelity", "weight"), ("restore_fidelity", "weight"), ("codeformer_weight", "weight"),
            ("visibility", "restore_visibility"), ("face_restore_visibility", "restore_visibility"),
            ("facedetection", "detector"),
        ):  # fmt: skip
            if name in inputs:
                value = self.graph.value(inputs[name])
                take(gathering, setting, value, f"{node}, {shown_entry(name, value)}")
        if enlarged:
            why = "faces are restored in the enlarged picture there; here they are found before and pasted into it."
            gathering.take("upscale_mode", "background", str(node), why)

    def _upscale(self, node: Node) -> None:
        if self._network("upscaler", node):
            guess = "the network's file does not say here by how much it enlarges; 4 is usual."
            self.gathering.take("upscale_factor", 4, str(node), guess)

    def _detail(self, node: Node, base: Pass, last: Pass) -> None:
        found, gathering = self.passes.read(node), self.gathering
        gathering.take("detail", True, str(node), f"{OTHER_FACES}; ours stand as they are.")
        for name, setting in (("denoise", "detail_strength"), ("steps", "detail_steps"), ("cfg", "detail_cfg"),
                              ("guide_size", "detail_size"), ("bbox_dilation", "detail_dilate")):  # fmt: skip
            value = found.inputs.get(name)
            take(gathering, setting, value, f"{node}, {shown_entry(name, value)}")
        blur = found.inputs.get("feather")
        take(
            gathering,
            "detail_blur",
            blur,
            f"{node}, {shown_entry('feather', blur)}",
            "the edge is softened in another way.",
        )
        gathering.take("detail_faces", MOST_FACES, str(node), "FaceDetailer takes all faces; more are not taken here.")
        gathering.take("detail_mask", "box", str(node), "FaceDetailer masks what its detector finds, mostly a box.")
        for name in ("bbox_threshold", "bbox_crop_factor", "drop_size", "wildcard", "cycle"):
            value = found.inputs.get(name)
            if value not in (None, "", 1, 0.5, 3.0, 10):
                self.tell(node, OTHER_FACES, shown_entry(name, value))
        self._detail_sampler(found, base)
        self._own_texts("detail", found, base)
        if last is base or found.checkpoint == last.checkpoint:
            self._refiner(found, base)
        else:
            self.tell(
                node,
                "faces are detailed with the checkpoint of the hires fix here",
                f"ckpt_name: {shown(found.checkpoint)}",
            )
        for name in ("bbox_detector", "sam_model_opt", "segm_detector_opt"):
            self.graph.at(node.inputs.get(name))

    def _detail_sampler(self, found: Pass, base: Pass) -> None:
        ours, words = found.sampling, f"{found.node}, {found.words}"
        if ours.acting == base.sampling.acting:
            return
        if ours.schedule == "auto":
            self.gathering.take("detail_sampler", ours.sampler, words, ours.guess)
        elif ours.acting[0] == base.sampling.acting[0]:
            self.gathering.cannot(words, "the detailer has the base's schedule here, or one in its sampler's name")
        else:
            why = "the schedule of a detailer's own sampler is the model's here, or in its name."
            self.gathering.take("detail_sampler", ours.sampler, words, why)


def _fewest_digits(of: tuple[int, int], to: tuple[int, int], *, multiple: int) -> float | None:
    """The factor with fewest digits that makes a size of another; None where the sides are not enlarged alike."""
    for digits in (0, 1, 2, 3, 4, 6, 9):
        for side in (0, 1):
            by = round(to[side] / of[side], digits)
            if by and tuple(round(each * by / multiple) * multiple for each in of) == to:
                return by
    return None
