"""The addresses of A1111's API, for clients that were written for it: the preset is the one checkpoint, and wins."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from workbench.errors import BadRequest, Cancelled
from workbench.files import fitted, package_version, png_bytes
from workbench.recipe import Result
from workbench.settings import short_name

from .access import SDAPI
from .in_force import Served, public_words
from .making import PREVIEW, client_of, make
from .picture_text import described
from .queueing import Order
from .webui_fields import Txt2Img, Understood, acting_sampler, read_object, title_of, understood
from .webui_names import add_names, add_options, differs, restorer_name, served_model

if TYPE_CHECKING:
    from .app import Service


def add_webui(app: FastAPI, service: Service) -> None:
    """The routes under /sdapi/v1/."""
    _add_pictures(app, service)
    add_names(app, service)
    add_options(app, service)


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
        served = await asyncio.to_thread(service.presets.get)
        option = await asyncio.to_thread(differs, served.preset.settings)
        wish = understood(given, served.preset, option)
        each = await asyncio.to_thread(service.wanted, served, wish.request)
        order = Order(served.preset, each, client_of(request))
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
        return await asyncio.to_thread(lambda: JSONResponse(_answer(service, served, wish, results)))

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
        async with reading:  # before a body of many megabytes is held, too
            body, kind = await request.body(), request.headers.get("content-type", "")
            return await asyncio.to_thread(_described, body, kind)


def _described(body: bytes, kind: str) -> dict[str, Any]:
    if body.count(b",", 0, 4000) + body.count(b",", max(0, len(body) - 4000)) > 100:  # a picture in base64 has none
        raise BadRequest("that is no picture in base64; send an object with the entry image.")
    image = read_object(body, kind).get("image")
    if not isinstance(image, str) or not image.strip():
        raise BadRequest("image is missing; send a picture as base64 or as a data: address.")
    return described(image)


def _own(service: Service, orders: Sequence[Order], client: str) -> Order | None:
    """The client's order that is being made, or is the next of them to be."""
    own = [order for order in orders if order.client == client and not order.made.done()]
    return next((order for order in own if order is service.queue.now), own[0] if own else None)


def _stopped(order: Order | None) -> dict[str, Any]:
    words = "it stops within one step" if order else "nothing had to be stopped: no picture of yours is being made"
    return {"interrupted": order is not None, "detail": words}


def _answer(service: Service, served: Served, wish: Understood, results: Sequence[Result]) -> dict[str, Any]:
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
        "face_restoration_model": None if s.restorer == "none" else restorer_name(s),
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
        "eta_relative": round(last.eta, 1),
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
