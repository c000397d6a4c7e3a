"""The addresses of A1111's API, for clients that were written for it: the preset is the one checkpoint, and wins."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from workbench.errors import BadRequest, Cancelled, WorkbenchError
from workbench.files import file_sha256, fitted, package_version, png_bytes
from workbench.models import UPSCALER_FILES, list_models, model_path
from workbench.presets import Preset
from workbench.recipe import Result
from workbench.settings import Settings, knobs, short_name

from .access import SDAPI, error_json
from .asking import pictures
from .in_force import Served, model_digest, public_words
from .making import PREVIEW, client_of, make
from .picture_text import described
from .queueing import Order
from .webui_fields import SCHEDULERS, UPSCALERS, Asked, Txt2Img, acting_sampler, read_object, title_of, understood

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
        "face_restoration_model": None if s.restorer == "none" else _restorer(s),
        "code_former_weight": s.weight,
        "eta_noise_seed_delta": 0,
        "randn_source": "CPU",
        "samples_format": "png",
    }


def _restorer(s: Settings) -> str:
    return "CodeFormer" if s.restorer == "codeformer" else short_name(s.restorer)


def differs(s: Settings, name: str, value: object) -> Any:
    """What an option is, where a request wants it otherwise; None where it is that already."""
    if value is None:
        return None
    options = options_of(s)
    if name == "sd_model_checkpoint":
        same = isinstance(value, str) and (value.strip().lower() in served_model(s).aliases or not value.strip())
    elif name == "sd_vae":
        same = isinstance(value, str) and short_name(value) in {options[name], *(() if s.vae else ("None", ""))}
    elif name == "CLIP_stop_at_last_layers":
        same = value == options[name] or (value == 1 and not s.clip_skip)  # SDXL's own, for A1111 as well
    else:
        same = options.get(name) == value
    return None if same else options.get(name, "no such option")


def add_webui(app: FastAPI, service: Service) -> None:
    """The routes under /sdapi/v1/."""
    _add_pictures(app, service)
    _add_names(app, service)
    _add_options(app, service)


# --- pictures ------------------------------------------------------------------------------------------------------


def _add_pictures(app: FastAPI, service: Service) -> None:
    orders: list[Order] = []  # of these addresses, which alone are interrupted here
    reading = asyncio.Semaphore(1)  # a picture of 48 MB is read at a time

    @app.post(
        f"{SDAPI}txt2img",
        summary="As A1111's: pictures by the preset; what of a request has no effect is listed in info.ignored.",
        openapi_extra={"requestBody": {"content": {"application/json": {"schema": Txt2Img.model_json_schema()}}}},
    )
    async def txt2img(request: Request) -> JSONResponse:
        given = read_object(await request.body(), request.headers.get("content-type", ""))
        served = service.presets.get()
        s = served.preset.settings
        wish = await asyncio.to_thread(understood, given, served.preset, lambda name, value: differs(s, name, value))
        order = Order(served.preset, pictures(served.preset, wish.request), client_of(request))
        orders.append(order)
        try:
            results = await make(service.queue, order, request)
        except Cancelled:
            results = list(order.results)
            if not results:
                raise
        finally:
            orders.remove(order)
        if not results:
            raise Cancelled("all its pictures were skipped.")
        return JSONResponse(await asyncio.to_thread(_answer, service, served, wish, results))

    @app.get(f"{SDAPI}progress", summary="Of the order that is being made; the picture only to whoever ordered it.")
    async def progress(request: Request, skip_current_image: bool = False) -> dict[str, Any]:
        order = service.queue.now
        own = order is not None and order.client == client_of(request)
        return await asyncio.to_thread(_progress, service, order, own, own and not skip_current_image)

    @app.post(f"{SDAPI}interrupt", summary="Stop the caller's own order; finished pictures of it are answered.")
    async def interrupt(request: Request) -> dict[str, Any]:
        order = _own(service, orders, client_of(request))
        if order:
            service.queue.drop(order)
        return _stopped(order)

    @app.post(
        f"{SDAPI}skip", summary="Stop the picture that is being made for the caller, and go on with the next one."
    )
    async def skip(request: Request) -> dict[str, Any]:
        order = _own(service, orders, client_of(request))
        if order and order is service.queue.now:
            order.skip()
        return _stopped(order if order is service.queue.now else None)

    @app.post(f"{SDAPI}png-info", summary="The settings that a picture carries.")
    async def png_info(request: Request) -> dict[str, Any]:
        image = read_object(await request.body(), request.headers.get("content-type", "")).get("image")
        if not isinstance(image, str) or not image.strip():
            raise BadRequest("image is missing; send a picture as base64 or as a data: address.")
        async with reading:
            return await asyncio.to_thread(described, image)


def _own(service: Service, orders: Sequence[Order], client: str) -> Order | None:
    """The client's order that is being made, or is the next of them to be."""
    own = [order for order in orders if order.client == client and not order.made.done()]
    return next((order for order in own if order is service.queue.now), own[0] if own else None)


def _stopped(order: Order | None) -> dict[str, Any]:
    words = "it stops within one step" if order else "nothing had to be stopped: no picture of yours is being made"
    return {"interrupted": order is not None, "detail": words}


def _answer(service: Service, served: Served, wish: Asked, results: Sequence[Result]) -> dict[str, Any]:
    """A1111's answer: bare base64, and `info` as a JSON text."""
    chunks = [service.chunks(result) for result in results]
    images = [
        base64.b64encode(png_bytes(result.image, each)).decode()
        for result, each in zip(results, chunks, strict=True)
        if wish.given.get("send_images") is not False
    ]
    info = {
        **_info(results, [each["parameters"] if each else "" for each in chunks]),
        "preset": served.preset.name,
        "settings_digest": served.digest,
        "notes": [public_words(note) for note in dict.fromkeys(n for result in results for n in result.notes)],
        "ignored": wish.ignored,
    }
    return {"images": images, "parameters": wish.given, "info": json.dumps(info)}


def _info(results: Sequence[Result], infotexts: list[str]) -> dict[str, Any]:
    """What A1111 says of pictures that it made."""
    s, count = results[0].settings, len(results)
    model, (sampler, scheduler) = served_model(s), acting_sampler(s)
    return {
        "prompt": s.prompt,
        "all_prompts": [s.prompt] * count,
        "negative_prompt": s.negative_prompt,
        "all_negative_prompts": [s.negative_prompt] * count,
        "seed": s.seed,
        "all_seeds": [result.settings.seed for result in results],
        "subseed": -1,
        "all_subseeds": [-1] * count,
        "subseed_strength": 0,
        "width": s.width,
        "height": s.height,
        "sampler_name": sampler,
        "scheduler": scheduler,
        "cfg_scale": s.base_cfg,
        "steps": s.steps,
        "batch_size": 1,
        "restore_faces": s.restorer != "none",
        "face_restoration_model": None if s.restorer == "none" else _restorer(s),
        "sd_model_name": model.name,
        "sd_model_hash": model.hash,
        "sd_vae_name": short_name(s.vae) or None,
        "sd_vae_hash": None,
        "seed_resize_from_w": -1,
        "seed_resize_from_h": -1,
        "denoising_strength": s.strength if s.hires else None,
        "extra_generation_params": {},
        "index_of_first_image": 0,
        "infotexts": infotexts,
        "styles": [],
        "job_timestamp": time.strftime("%Y%m%d%H%M%S"),
        "clip_skip": s.clip_skip + 2,
        "is_using_inpainting_conditioning": False,
        "version": f"workbench {package_version()}",
    }


def _progress(service: Service, order: Order | None, own: bool, with_image: bool) -> dict[str, Any]:
    """A1111's answer: 0 where nothing is made, else more than 0."""
    state = {
        "skipped": False, "interrupted": False, "stopping_generation": False, "job": "", "job_count": 0,
        "job_timestamp": "0", "job_no": 0, "sampling_step": 0, "sampling_steps": 0,
    }  # fmt: skip
    if order is None:
        return {"progress": 0.0, "eta_relative": 0.0, "state": state, "current_image": None, "textinfo": None}
    last, number, count = order.latest, len(order.results), len(order.each)
    preview = order.preview if with_image else None
    state |= {
        "skipped": order.skipped.is_set(),
        "interrupted": order.left.is_set(),
        "job": "txt2img",
        "job_count": count,
        "job_timestamp": time.strftime("%Y%m%d%H%M%S", time.localtime(time.time() - time.monotonic() + order.since)),
        "job_no": number,
        "sampling_step": last.done,
        "sampling_steps": last.total,
    }
    words = (title_of(last.stage) if last.stage else "begins") if own else "a picture of another client is being made"
    return {
        "progress": min(1.0, max(0.01, (number + _part(order)) / count)),
        "eta_relative": round(last.eta + max(0, count - number - 1) * service.queue.usual, 1),
        "state": state,
        "current_image": base64.b64encode(png_bytes(fitted(preview, PREVIEW))).decode() if preview else None,
        "textinfo": words,
    }


def _part(order: Order) -> float:
    """How much of the picture that is being made is done, from 0 to 1; each stage counts the same."""
    names, last = order.each[0].stages, order.latest
    if last.stage not in names:
        return 0.0
    return (names.index(last.stage) + (last.done / last.total if last.total else 0)) / len(names)


# --- names ---------------------------------------------------------------------------------------------------------


def _add_names(app: FastAPI, service: Service) -> None:
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
        return [] if s.restorer == "none" else [{"name": _restorer(s), "cmd_dir": None}]

    @app.get(f"{SDAPI}sd-vae")
    def sd_vae() -> list[dict[str, Any]]:
        vae = now().settings.vae
        return [{"model_name": short_name(vae), "filename": PurePath(vae).name}] if vae else []

    @app.get(f"{SDAPI}loras")
    def loras() -> list[dict[str, Any]]:
        names = [m.path.stem for m in list_models() if m.kind == "lora" and m.usable] if "loras" in now().allow else []
        return [{"name": name, "alias": name, "path": name, "metadata": {}} for name in names]


# --- options -------------------------------------------------------------------------------------------------------


class ChangedOptions(BaseModel):
    """Attributes: ignored: options that no picture of the workbench depends on, with why they are not kept."""

    ignored: dict[str, str]


def _add_options(app: FastAPI, service: Service) -> None:
    @app.get(f"{SDAPI}options")
    def options() -> dict[str, Any]:
        return options_of(service.presets.get().preset.settings)

    @app.post(f"{SDAPI}options", summary="Accepted where it changes no picture: the preset wins.")
    async def set_options(request: Request) -> ChangedOptions:
        given = read_object(await request.body(), request.headers.get("content-type", ""))
        s = service.presets.get().preset.settings
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
    known, ignored = options_of(s), dict[str, str]()
    for name, value in given.items():
        used = differs(s, name, value)
        if used is None:
            continue
        if name == "sd_model_checkpoint":
            raise BadRequest(f"this server has one checkpoint, {used}; ask for that, or leave {name} out.")
        if name in known:
            raise BadRequest(f"{name} is {json.dumps(used)} by the preset and cannot be changed; leave it out.")
        ignored[name] = "no picture of this server depends on it"
    return ChangedOptions(ignored=ignored)
