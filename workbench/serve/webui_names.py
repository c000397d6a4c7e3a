"""What A1111's API lists and calls options: the one checkpoint of the preset, and what there is to choose from."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from workbench.errors import BadRequest, WorkbenchError
from workbench.files import file_sha256
from workbench.models import UPSCALER_FILES, list_models, model_path
from workbench.presets import Preset
from workbench.presets.formats import SCHEDULERS, UPSCALERS
from workbench.settings import Settings, knobs, short_name

from .access import SDAPI, error_json
from .in_force import model_digest
from .webui_fields import acting_sampler, read_object

if TYPE_CHECKING:
    from .app import Service

NOT_MEASURED = {"error": "not measured"}
NONE_HERE: dict[str, Any] = {
    "scripts": {"txt2img": [], "img2img": []}, "script-info": [], "extensions": [], "prompt-styles": [], "hypernetworks": [],
    "embeddings": {"loaded": {}, "skipped": {}}, "latent-upscale-modes": [], "cmd-flags": {},
    "memory": {"ram": NOT_MEASURED, "cuda": NOT_MEASURED},
}  # fmt: skip
"""What clients ask for when they start, and what a preset has none of."""
REFRESHES = ("refresh-checkpoints", "refresh-vae", "refresh-loras")  # a preset is renewed by itself


@dataclass(frozen=True)
class ServedModel:
    """The model of a preset as A1111 names checkpoints.

    Attributes:
        filename: without its folder.
        hash: the first ten digits of `sha256`; of a folder, of the digest of all its weights.
        sha256: of the file; "" of a folder, and where the file is lost.
    """

    name: str
    filename: str
    hash: str
    sha256: str

    @property
    def title(self) -> str:
        return f"{self.filename} [{self.hash}]" if self.hash else self.filename

    @property
    def aliases(self) -> set[str]:
        """What clients call it, in lower case."""
        plain = (self.title, self.name, self.filename, f"{self.name} [{self.hash}]", self.hash, self.sha256)
        return {each.lower() for each in plain if each}


def served_model(s: Settings) -> ServedModel:
    name, filename = short_name(s.model), PurePath(s.model).name
    try:
        place = model_path(s.model)
        filename = place.name if place.is_file() else filename
        sha256 = file_sha256(place) if place.is_file() else ""
        return ServedModel(name, filename, (sha256 or model_digest(s))[:10], sha256)
    except (WorkbenchError, OSError):  # it is lost; the request for a picture says so
        return ServedModel(name, filename, "", "")


def options_of(s: Settings) -> dict[str, Any]:
    """A1111's options as the preset has them: those that say what a picture looks like."""
    model = served_model(s)
    return {
        "sd_model_checkpoint": model.title,
        "sd_checkpoint_hash": model.sha256,
        "sd_vae": short_name(s.vae) if s.vae else "Automatic",
        "CLIP_stop_at_last_layers": s.clip_skip + 2,
        "face_restoration_model": None if s.restorer == "none" else restorer_name(s),
        "code_former_weight": s.weight,
        "eta_noise_seed_delta": 0,
        "randn_source": "CPU",
        "samples_format": "png",
    }


def restorer_name(s: Settings) -> str:
    return "CodeFormer" if s.restorer == "codeformer" else short_name(s.restorer)


def differs(s: Settings) -> Callable[[str, object], Any]:
    """(name, value of an option) -> what it is, where a request wants it otherwise; None where it is that already."""
    options, model, vaes = options_of(s), served_model(s), {short_name(s.vae)} if s.vae else {"Automatic", "None", ""}

    def same(name: str, value: object) -> bool:
        text = value.strip() if isinstance(value, str) else None
        if name == "sd_model_checkpoint":
            return text == "" or (text is not None and text.lower() in model.aliases)
        if name == "sd_vae":
            return text is not None and short_name(text) in vaes
        if name == "CLIP_stop_at_last_layers" and not s.clip_skip:
            return value in (1, 2)  # both mean the layer that SDXL reads
        return bool(options.get(name) == value)

    return lambda name, value: None if value is None or same(name, value) else options.get(name, "no such option")


def add_names(app: FastAPI, service: Service) -> None:
    """What there is to choose from: what the preset opens, else what it has."""

    def now() -> Preset:
        return service.presets.get().preset

    @app.get(f"{SDAPI}sd-models")
    def sd_models() -> list[dict[str, Any]]:
        model = served_model(now().settings)
        named = {"title": model.title, "model_name": model.name, "filename": model.filename}
        return [{**named, "hash": model.hash or None, "sha256": model.sha256 or None, "config": None}]

    @app.get(f"{SDAPI}samplers")
    def samplers() -> list[dict[str, Any]]:
        names = knobs()["sampler"].choices if "sampler" in now().allow else (acting_sampler(now().settings)[0],)
        return [{"name": name, "aliases": [], "options": {}} for name in names]

    @app.get(f"{SDAPI}schedulers")
    def schedulers() -> list[dict[str, Any]]:
        names = SCHEDULERS if "schedule" in now().allow else (acting_sampler(now().settings)[1],)
        labels = {name: "Automatic" if ours == "auto" else ours for name, ours in SCHEDULERS.items()}
        more = {"aliases": None, "default_rho": -1.0, "need_inner_model": False}
        return [{"name": name, "label": labels[name], **more} for name in names]

    @app.get(f"{SDAPI}upscalers")
    def upscalers() -> list[dict[str, Any]]:
        ours = {value: name for name, value in UPSCALERS.items()}
        has = short_name(now().settings.resampler)
        files = [path.stem for path in UPSCALER_FILES.files()] if "resampler" in now().allow else []
        names = [*UPSCALERS, *files] if "resampler" in now().allow else [ours.get(has, has)]
        return [{"name": n, "model_name": None, "model_path": None, "model_url": None, "scale": None} for n in names]

    @app.get(f"{SDAPI}face-restorers")
    def face_restorers() -> list[dict[str, Any]]:
        s = now().settings
        return [] if s.restorer == "none" else [{"name": restorer_name(s), "cmd_dir": None}]

    @app.get(f"{SDAPI}sd-vae")
    def sd_vae() -> list[dict[str, Any]]:
        vae = now().settings.vae
        return [{"model_name": short_name(vae), "filename": PurePath(vae).name}] if vae else []

    @app.get(f"{SDAPI}loras")
    def loras() -> list[dict[str, Any]]:
        names = [m.path.stem for m in list_models() if m.kind == "lora" and m.usable] if "loras" in now().allow else []
        return [{"name": name, "alias": name, "path": name, "metadata": {}} for name in names]


class ChangedOptions(BaseModel):
    """Attributes: ignored: options that no picture of the workbench depends on, with why they are not kept."""

    ignored: dict[str, str]


def add_options(app: FastAPI, service: Service) -> None:
    @app.get(f"{SDAPI}options")
    def options() -> dict[str, Any]:
        return options_of(service.presets.get().preset.settings)

    @app.post(f"{SDAPI}options", summary="Accepted where it changes no picture: the preset wins.")
    async def set_options(request: Request) -> ChangedOptions:
        given = read_object(await request.body(), request.headers.get("content-type", ""))
        s = service.presets.current().preset.settings
        return await asyncio.to_thread(_changed, s, given)

    for name, answer in NONE_HERE.items():
        app.add_api_route(f"{SDAPI}{name}", _always(answer), methods=["GET"], include_in_schema=False)
    for name in REFRESHES:
        app.add_api_route(f"{SDAPI}{name}", _always(None), methods=["POST"], include_in_schema=False)

    @app.api_route(f"{SDAPI}{{name:path}}", methods=["GET", "POST"], include_in_schema=False)
    async def others(name: str, request: Request) -> JSONResponse:
        path = f"{SDAPI}{name}"
        if path in {getattr(route, "path", "") for route in app.routes}:
            return JSONResponse(error_json(path, f"{path} takes no {request.method}."), HTTPStatus.METHOD_NOT_ALLOWED)
        words = f"the workbench has no {path[:60]}; of A1111's API it serves txt2img and what belongs to it."
        return JSONResponse(error_json(path, words), HTTPStatus.NOT_FOUND)


def _always(answer: Any) -> Any:
    async def route() -> Any:
        return answer

    return route


def _changed(s: Settings, given: dict[str, Any]) -> ChangedOptions:
    known, option, ignored = options_of(s), differs(s), dict[str, str]()
    for name, value in given.items():
        used = option(name, value)
        if used is None:
            continue
        if name == "sd_model_checkpoint":
            raise BadRequest(f"this server has one checkpoint, {used}; ask for that, or leave {name} out.")
        if name in known:
            raise BadRequest(f"{name} is {json.dumps(used)} by the preset and cannot be changed; leave it out.")
        ignored[name] = "no picture of this server depends on it"
    return ChangedOptions(ignored=ignored)
