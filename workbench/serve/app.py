"""The server's addresses: POST /generate?prompt=...&seed=42 -> {"image": "data:image/png;base64,..."}, and others."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from PIL import Image
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from workbench.errors import BadRequest, CorruptWeights, MissingWeights, WorkbenchError
from workbench.files import data_url, fitted, jpeg_url, package_version, picture_chunks, png_bytes
from workbench.presets import Preset
from workbench.recipe import Bench, Result, stage_keys
from workbench.settings import Settings, stages
from workbench.store import Store

from .access import Access, Guard, error_json
from .asking import PictureRequest, accepted, asked, check_query, pictures, preset_name, read_request, schema_of
from .in_force import InForce, Served, known_digest, model_digest, public_settings, public_words, without_paths
from .making import PREVIEW, client_of, make, told
from .metrics import Metrics
from .pages import add_page
from .queueing import Order, PictureProgress, PictureQueue
from .webui import add_webui

log = logging.getLogger("workbench.serve")
STOP = 3.0  # s that the picture being made has to stop within
EVENTS, PNG = "text/event-stream", "image/png"


class Service:
    """What all addresses have in common: the presets in force, the queue, and whether all is ready."""

    def __init__(
        self,
        presets: InForce,
        *,
        bench: Bench | None = None,
        limit: int = 32,
        per_client: int = 8,
        strip_metadata: bool = False,
    ) -> None:
        """`limit`, `per_client`: orders that may wait; `strip_metadata`: leave the settings out of the PNGs."""
        self.presets, self.strip_metadata = presets, strip_metadata
        self.bench = bench or Bench(Store(None))  # nothing on disk, which a public server would fill
        self.queue = PictureQueue(self.bench, limit=limit, per_client=per_client)
        self.metrics = Metrics(self.queue)
        self.ready = False

    def warm_up(self) -> None:
        """Load the networks of the first preset. Raises `MissingWeights`, `CorruptWeights`, `OutOfMemory`."""
        self.bench.load(self.presets.get().preset.settings, lambda: not self.queue.stopping)
        gc.collect()
        gc.freeze()  # what was imported and loaded stays: a look for garbage among it held every answer up
        self.ready = True

    def wanted(self, served: Served, request: PictureRequest) -> tuple[Settings, ...]:
        """The settings of each picture that is asked for.

        Raises `BadRequest`, `SettingsError`, `NotServed`; `MissingWeights` and others of weights that the request names.
        """
        each = pictures(served.preset, request)
        weights = {name for stage in each[0].stages for name in stages()[stage].networks} | {"loras"}
        if weights.intersection(request.values):
            self.presets.check_licences(each[0])
            try:
                stage_keys(each[0])
            except (MissingWeights, CorruptWeights) as error:
                raise BadRequest(str(error)) from None
        return each

    def chunks(self, result: Result) -> dict[str, str] | None:
        """The text of a PNG, in which models are names and digests."""
        if self.strip_metadata:
            return None
        named = result.settings.replace(**public_settings(result.settings))
        digest = model_digest(result.settings)
        return picture_chunks(result.image, named, made_by=result.settings, keys=result.keys, model_digest=digest)

    def answer(self, served: Served, results: Sequence[Result]) -> dict[str, Any]:
        """The JSON of pictures that were made."""
        first = results[0]
        images = [data_url(result.image, self.chunks(result)) for result in results]
        return {
            "image": images[0],
            **({"images": images} if len(images) > 1 else {}),
            "prompt": first.settings.prompt,
            "negative_prompt": first.settings.negative_prompt,
            "seed": first.settings.seed,
            "preset": served.preset.name,
            "settings": public_settings(first.settings),
            "settings_digest": served.digest,
            "model_digest": model_digest(first.settings),
            "seconds": round(sum(result.seconds for result in results), 3),
            "notes": [public_words(note) for note in dict.fromkeys(n for result in results for n in result.notes)],
        }


def headers_of(served: Served) -> dict[str, str]:
    return {"X-Preset": served.preset.name, "X-Settings-Digest": served.digest, "Cache-Control": "no-store"}


def create_app(
    preset: Preset | InForce, *, access: Access | None = None, warm: bool = False, **service: Any
) -> FastAPI:
    """The app that serves a preset, or several. Pictures equal `workbench generate --preset` with the same prompt and seed.

    Args:
        access: who may ask; this machine alone, without a token, where it is left out.
        warm: load the networks when it starts, before `/ready` says so; else they are loaded for the first picture.
        service: as `Service` takes it.
    """
    found = Service(preset if isinstance(preset, InForce) else InForce((), given=[preset]), **service)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        if warm:  # a thread that nobody waits for: reading 7 GB cannot be interrupted
            threading.Thread(target=_warm, args=(found,), name="warm-up", daemon=True).start()
        found.ready = found.ready or not warm
        yield
        found.queue.close()
        await asyncio.to_thread(found.queue.join, STOP)
        if warm:
            gc.unfreeze()  # see `Service.warm_up`; else libraries say at the end what they have leaked

    app = FastAPI(
        title="SDXL face workbench", version=package_version(), lifespan=life, dependencies=[Depends(_known_query)],
        docs_url=None, redoc_url=None, openapi_url=None,
    )  # fmt: skip
    app.state.service = found
    _handle_errors(app)
    _add_routes(app, found)
    app.add_middleware(Guard, access=access or Access(), seen=found.metrics.count)
    return app


async def _known_query(request: Request) -> None:
    """Raise `BadRequest` where a GET names in its query what its address does not take. POST /generate sees to its own."""
    route: Any = request.scope["route"]
    if request.method in ("GET", "HEAD") and not route.path.endswith(
        ":path}"
    ):  # which says that there is no such address
        check_query(request.url.query, [each.alias for each in route.dependant.query_params])


def _warm(service: Service) -> None:
    try:
        service.warm_up()
    except WorkbenchError as error:
        log.error("the server cannot get ready: %s", error)
    except Exception:
        log.exception("the server cannot get ready")


def _handle_errors(app: FastAPI) -> None:
    @app.exception_handler(WorkbenchError)
    async def in_words(request: Request, error: WorkbenchError) -> JSONResponse:
        status, words, headers = told(error)
        return JSONResponse(error_json(request.url.path, words), status_code=status, headers=headers)

    @app.exception_handler(HTTPException)
    async def elsewhere(request: Request, error: HTTPException) -> JSONResponse:
        words = {
            404: "there is no such address; / and /docs say which there are.",
            405: "another method is meant here.",
        }
        said = words.get(error.status_code, str(error.detail))
        return JSONResponse(error_json(request.url.path, said), error.status_code, error.headers)

    @app.exception_handler(ClientDisconnect)
    async def left(request: Request, error: ClientDisconnect) -> JSONResponse:
        gone = (HTTPStatus.REQUEST_TIMEOUT, "the request did not come as a whole.")
        status, words = request.scope.get("refused", gone)
        return JSONResponse(error_json(request.url.path, words), status, {"Connection": "close"})


def _add_routes(app: FastAPI, service: Service) -> None:
    add_webui(app, service)
    add_page(app)

    @app.get("/health", summary="Whether the server lives, and what waits.")
    @app.head("/health", include_in_schema=False)
    async def health(answer: Response) -> dict[str, Any]:
        served = service.presets.current()
        if not service.queue.works:
            answer.status_code = HTTPStatus.SERVICE_UNAVAILABLE
        return {
            "status": "ok" if service.queue.works else "no picture can be made; start the server again",
            "preset": served.preset.name,
            "presets": service.presets.names,
            "model": public_settings(served.preset.settings)["model"],
            "licences": served.licences,
            "withdrawn": public_words(served.withdrawn),
            "waiting": service.queue.waiting,
        }

    @app.get("/ready", summary="200 once the networks are loaded, else 503.")
    @app.head("/ready", include_in_schema=False)
    async def ready() -> JSONResponse:
        is_ready = (service.ready or service.queue.counts["made"] > 0) and service.queue.works
        status = HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE
        return JSONResponse({"ready": is_ready}, status, {} if is_ready else {"Retry-After": "5"})

    @app.get("/metrics", summary="For Prometheus.")
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type=service.metrics.media_type)

    @app.get("/openapi.json", include_in_schema=False)
    async def description() -> dict[str, Any]:
        return app.openapi()

    @app.get("/preset", summary="The preset in force, with its evidence and licences.")
    async def what_is_served(preset: str = "") -> dict[str, Any]:
        served = await asyncio.to_thread(service.presets.get, preset)
        about = {k: v for k, v in served.preset.to_json().items() if k not in ("checksum", "settings")}
        s, allow = served.preset.settings, served.preset.allow
        more = {
            "settings": public_settings(s),
            "licences": served.licences,
            "withdrawn": public_words(served.withdrawn),
            "model_digest": await asyncio.to_thread(known_digest, s),
        }
        opened = {"allow": list(allow), "schema": schema_of(allow), "stages": {n: stages()[n].title for n in s.stages}}
        return {**without_paths(about), **more, **opened, "settings_digest": served.digest}

    schema = schema_of(service.presets.current().preset.allow)
    # prompt is required, but it may stand in the query
    whole = {"type": "object", "properties": schema, "additionalProperties": False}
    body = {"schema": whole, "example": {}}  # or /docs sends one beside the query, and each name twice

    @app.post(
        "/generate",
        summary="Make pictures: by query, JSON or form. Accept image/png for the picture, text/event-stream for progress.",
        openapi_extra={
            "parameters": [
                {"name": name, "in": "query", "description": each.get("description", ""), "schema": each}
                for name, each in schema.items()
            ],
            "requestBody": {"content": dict.fromkeys(("application/json", "application/x-www-form-urlencoded"), body)},
        },
    )
    async def generate(request: Request) -> Response:
        given = read_request(request.url.query, await request.body(), request.headers.get("content-type", ""))
        # once: a promotion in between must not mix two
        served = await asyncio.to_thread(service.presets.get, preset_name(given))
        wanted = asked(given, tuple(dict.fromkeys(("prompt", "seed", *served.preset.allow))))
        each = await asyncio.to_thread(service.wanted, served, wanted)
        accepts = accepted(request.headers.get("accept", ""))
        if EVENTS in accepts:
            loop, news = asyncio.get_running_loop(), asyncio.Queue[PictureProgress | None]()
            order = Order(served.preset, each, client_of(request), lambda p: _tell(loop, news, p))
            service.queue.put(order)
            order.made.add_done_callback(lambda _: _tell(loop, news, None))
            events = _events(service, served, order, news)
            return StreamingResponse(events, media_type=EVENTS, headers=headers_of(served))
        if PNG in accepts and len(each) > 1:
            raise BadRequest("image/png is one picture; leave n out, or accept application/json.")
        results = await make(service.queue, Order(served.preset, each, client_of(request)), request)
        if PNG in accepts:
            data = await asyncio.to_thread(lambda: png_bytes(results[0].image, service.chunks(results[0])))
            return Response(data, media_type=PNG, headers=headers_of(served))
        # in a thread also as text: of megabytes of base64 that takes what others would wait for
        return await asyncio.to_thread(
            lambda: JSONResponse(service.answer(served, results), headers=headers_of(served))
        )


async def _events(
    service: Service, served: Served, order: Order, news: asyncio.Queue[PictureProgress | None]
) -> AsyncIterator[str]:
    """Server-sent events: `progress` while it waits and is made, then `picture` or `error`."""
    try:
        while not order.made.done():
            try:
                progress = await asyncio.wait_for(news.get(), 1.0)
            except TimeoutError:
                progress = service.queue.progress(order)
            if progress is not None:
                yield await asyncio.to_thread(_progress_event, progress, order)
        results = order.made.result()  # here, where its being cancelled is no cancelling of ours
        yield await asyncio.to_thread(lambda: _event("picture", service.answer(served, results)))
    except Exception as error:
        status, words, headers = told(error)
        yield _event("error", {"status": int(status), "error": words, "retry_after": headers.get("Retry-After")})
    finally:
        service.queue.drop(order)  # also when the client has left: the generator is closed then


def _tell(
    loop: asyncio.AbstractEventLoop, news: asyncio.Queue[PictureProgress | None], what: PictureProgress | None
) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(news.put_nowait, what)


def _event(name: str, value: object) -> str:
    return f"event: {name}\ndata: {json.dumps(value)}\n\n"


def _progress_event(progress: PictureProgress, order: Order) -> str:
    preview = jpeg_url(_at_most(progress.preview, PREVIEW)) if progress.preview else None
    said = {
        "picture": progress.picture,
        "pictures": len(order.each),
        "place": progress.place,
        "stage": progress.stage,
        "done": progress.done,
        "total": progress.total,
        "eta": round(progress.eta, 1),
        **({"preview": preview} if preview else {}),
    }
    return _event("progress", said)


def _at_most(image: Image.Image, side: int) -> Image.Image:
    """A picture of at most `side` x `side` px: that of latents is smaller, and enlarged by whoever looks."""
    return fitted(image, side) if max(image.size) > side else image
