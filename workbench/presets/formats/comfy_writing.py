"""Settings as a graph of ComfyUI's own nodes, and of the nodes that everybody has for faces."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from workbench.errors import WorkbenchError
from workbench.models import model_path, refiner_path, tokenizers_of, vae_path
from workbench.recipe import sizes
from workbench.settings import Settings, Weighted

from .comfy_sampling import comfy_names, denoise_of, denoising
from .file_names import file_name, restorer_name, upscaler_name
from .weighted_texts import comfy_text, loras_of, sections_of

Link = list[object]
RESAMPLERS = {"lanczos": "lanczos", "bicubic": "bicubic", "bilinear": "bilinear", "nearest-exact": "nearest"}
"""{ComfyUI's name of a filter: ours}."""
ALIGN_YOUR_STEPS = "align_your_steps"


class GraphWriting:
    """A graph that is being made of settings: {number of a node: its class and its inputs}."""

    def __init__(self, s: Settings) -> None:
        self.s = s
        self.nodes: dict[str, dict[str, Any]] = {}
        self._same: dict[str, str] = {}

    def add(self, class_type: str, **inputs: object) -> str:
        """The number of a node; equal ones are one."""
        node = {"class_type": class_type, "inputs": inputs}
        known = self._same.setdefault(repr(node), str(len(self.nodes) + 1))
        self.nodes.setdefault(known, node)
        return known

    def write(self) -> dict[str, dict[str, Any]]:
        s = self.s
        image = self._base()
        image = self._hires(image) if s.hires else image
        image = self._detail(image) if s.detail else image
        image = self._faces(image) if s.restorer != "none" else image
        image = self._upscale(image) if s.upscaler != "none" else image
        self.add("SaveImage", images=image, filename_prefix="workbench")
        return self.nodes

    # --- models ----------------------------------------------------------------------------------------------------

    @cached_property
    def refiner_file(self) -> str:
        """The checkpoint of the hires fix; "" where it is the base's."""
        s = self.s
        try:
            path = refiner_path(s.model, s.refiner)
        except WorkbenchError:  # it is not here
            return "" if s.refiner in ("auto", "base") else file_name(s.refiner, ".safetensors")
        if path is None:
            return ""
        own = f"{file_name(s.model, '')}-refiner.safetensors"  # a part of a folder, which ComfyUI needs as a file
        return own if s.refiner == "auto" else file_name(s.refiner, ".safetensors", lambda _: path)

    @cached_property
    def refines_only(self) -> bool:
        """Whether the checkpoint of the hires fix is SDXL's refiner, which has another text encoder and takes no LoRAs."""
        try:
            path = refiner_path(self.s.model, self.s.refiner)
            return path is not None and tokenizers_of(path).refines
        except (WorkbenchError, OSError):
            return False

    def _models(self, part: str, loras: list[Weighted]) -> tuple[Link, Link, Link]:
        """(model, clip, vae) of a part, with LoRAs."""
        s = self.s
        refiner = self.refiner_file if part == "refiner" else ""
        base = self.add("CheckpointLoaderSimple", ckpt_name=file_name(s.model, ".safetensors", model_path))
        vae: Link = [base, 2]
        if s.vae:
            vae = [self.add("VAELoader", vae_name=file_name(s.vae, ".safetensors", vae_path)), 0]
        loader = self.add("CheckpointLoaderSimple", ckpt_name=refiner) if refiner else base
        model, clip = [loader, 0], [loader, 1]
        for item in [] if refiner and self.refines_only else loras:
            node = self.add(
                "LoraLoader", model=model, clip=clip, lora_name=f"{item.name}.safetensors", strength_model=item.weight,
                strength_clip=item.weight,
            )  # fmt: skip
            model, clip = [node, 0], [node, 1]
        if s.clip_skip:
            clip = [self.add("CLIPSetLastLayer", clip=clip, stop_at_clip_layer=-2 - s.clip_skip), 0]
        return model, clip, vae

    def _pass(self, stage: str) -> dict[str, Any]:
        """What a sampler of a stage is given: model, conditioning and guidance scale, and the VAE."""
        texts, part = denoising(self.s, stage).prompts_of(self.s), denoising(self.s, stage).part
        model, clip, vae = self._models(part, loras_of(self.s, texts.name))
        refines = part == "refiner" and bool(self.refiner_file) and self.refines_only
        positive = self._text(texts.name, clip, 6.0 if refines else 0)
        negative = self._text(texts.negative_name, clip, 2.5 if refines else 0)
        return {"model": model, "clip": clip, "vae": vae, "positive": positive, "negative": negative,
                "cfg": denoising(self.s, stage).guidance(self.s)}  # fmt: skip

    def _text(self, name: str, clip: Link, score: float) -> Link:
        """Conditioning of a prompt, whose parts behind BREAK are concatenated. `score`: of beauty, for SDXL's refiner."""
        found: Link = []
        width, height = self.s.hires_size
        for parts in sections_of(self.s, name):
            text = comfy_text(parts)
            if score:
                made: Link = [
                    self.add(
                        "CLIPTextEncodeSDXLRefiner", ascore=score, width=width, height=height, text=text, clip=clip
                    ),
                    0,
                ]
            else:
                made = [self.add("CLIPTextEncode", text=text, clip=clip), 0]
            found = (
                [self.add("ConditioningConcat", conditioning_to=found, conditioning_from=made), 0] if found else made
            )
        return found

    # --- stages ----------------------------------------------------------------------------------------------------

    def _base(self) -> Link:
        s, given = self.s, self._pass("base")
        empty = self.add("EmptyLatentImage", width=s.width, height=s.height, batch_size=1)
        return self._sampled("base", given, [empty, 0])

    def _hires(self, image: Link) -> Link:
        s, given = self.s, self._pass("refine")
        if s.resampler not in RESAMPLERS.values():
            image = self._network(s.resampler, image)
        method = next((theirs for theirs, ours in RESAMPLERS.items() if ours == s.resampler), "lanczos")
        image = self._scaled(image, method, s.hires_size)
        encoded = self.add("VAEEncode", pixels=image, vae=given["vae"])
        return self._sampled("refine", given, [encoded, 0])

    def _sampled(self, stage: str, given: dict[str, Any], latent: Link) -> Link:
        s = self.s
        sampler, schedule = comfy_names(s, stage)
        steps = denoising(s, stage).sampler_steps(s)
        inputs = {name: given[name] for name in ("model", "positive", "negative", "cfg")}
        seed = max(s.seed, 0)
        if schedule == ALIGN_YOUR_STEPS:
            sigmas = self.add(
                "AlignYourStepsScheduler", model_type="SDXL", steps=steps.steps, denoise=steps.run / steps.steps
            )
            chosen = self.add("KSamplerSelect", sampler_name=sampler)
            made = self.add(
                "SamplerCustom", **inputs, add_noise=True, noise_seed=seed, sampler=[chosen, 0], sigmas=[sigmas, 0],
                latent_image=latent,
            )  # fmt: skip
        else:
            made = self.add(
                "KSampler", **inputs, seed=seed, steps=steps.run, sampler_name=sampler, scheduler=schedule,
                denoise=denoise_of(steps.run, steps.steps), latent_image=latent,
            )  # fmt: skip
        return [self.add("VAEDecode", samples=[made, 0], vae=given["vae"]), 0]

    def _detail(self, image: Link) -> Link:
        s, given = self.s, self._pass("detail")
        sampler, schedule = comfy_names(s, "detail")
        steps = denoising(s, "detail").sampler_steps(s)
        found = self.add("UltralyticsDetectorProvider", model_name="bbox/face_yolov8m.pt")
        node = self.add(
            "FaceDetailer", **given, image=image, bbox_detector=[found, 0], guide_size=s.detail_size, guide_size_for=True,
            max_size=s.detail_size, seed=max(s.seed, 0), steps=steps.run, sampler_name=sampler, scheduler=schedule,
            denoise=denoise_of(steps.run, steps.steps), feather=s.detail_blur, noise_mask=True, force_inpaint=True,
            bbox_threshold=0.5, bbox_dilation=s.detail_dilate, bbox_crop_factor=3.0, sam_detection_hint="center-1",
            sam_dilation=0, sam_threshold=0.93, sam_bbox_expansion=0, sam_mask_hint_threshold=0.7,
            sam_mask_hint_use_negative="False", drop_size=10, wildcard="", cycle=1,
        )  # fmt: skip
        return [node, 0]

    def _faces(self, image: Link) -> Link:
        s = self.s
        name = "codeformer.pth" if s.restorer == "codeformer" else restorer_name(s.restorer)
        if s.restore_visibility != 1:  # ReActor has a visibility
            node = self.add(
                "ReActorRestoreFace", image=image, facedetection=s.detector, model=name, visibility=s.restore_visibility,
                codeformer_weight=s.weight,
            )  # fmt: skip
            return [node, 0]
        loader = self.add("FaceRestoreModelLoader", model_name=name)
        node = self.add(
            "FaceRestoreCFWithModel", facerestore_model=[loader, 0], image=image, facedetection=s.detector,
            codeformer_fidelity=s.weight,
        )  # fmt: skip
        return [node, 0]

    def _upscale(self, image: Link) -> Link:
        s = self.s
        *_, (_, size) = sizes(s).values()
        return self._scaled(self._network(s.upscaler, image), "lanczos", size)

    def _network(self, name: str, image: Link) -> Link:
        loader = self.add("UpscaleModelLoader", model_name=upscaler_name(name))
        return [self.add("ImageUpscaleWithModel", upscale_model=[loader, 0], image=image), 0]

    def _scaled(self, image: Link, method: str, size: tuple[int, int]) -> Link:
        width, height = size
        return [
            self.add("ImageScale", image=image, upscale_method=method, width=width, height=height, crop="disabled"),
            0,
        ]
