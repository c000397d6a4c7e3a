"""A server for one preset: POST /generate?prompt=...&seed=42 -> {"image": "data:image/png;base64,..."}."""

from __future__ import annotations

from typing import Annotated

from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from workbench.errors import UsageError, WorkbenchError
from workbench.files import data_url, package_version, picture_chunks
from workbench.presets import Preset, preset_licences, promise_withdrawn
from workbench.recipe import Bench
from workbench.settings import MAX_SEED
from workbench.store import Store

MAX_PROMPT = 4000  # characters: at most 54 chunks of 75 tokens


class Health(BaseModel):
    """The answer of /health. `withdrawn`: why its pictures are not exactly those it was promoted for; "" where they are."""

    status: str
    preset: str
    model: str
    licences: list[str]
    withdrawn: str


class Generated(BaseModel):
    """The answer of /generate. `image`: PNG as a data URL; `seed`: the one used; `seconds` it took; `notes`: what was cut."""

    image: str
    seed: int
    preset: str
    seconds: float
    notes: list[str] = []


def create_app(preset: Preset) -> FastAPI:
    """The app that serves `preset`. Pictures equal `workbench generate --preset` with the same prompt and seed.

    Requests are made one after the other: the device holds one picture at a time. Nothing is kept on disk, since a
    public server would fill it; unchanged stages are re-used from memory.
    """
    app = FastAPI(title="SDXL face workbench", version=package_version())
    bench, licences, withdrawn = Bench(Store(None)), preset_licences(preset), promise_withdrawn(preset)

    @app.exception_handler(WorkbenchError)
    async def in_words(request: Request, error: WorkbenchError) -> JSONResponse:
        return JSONResponse({"error": str(error)}, status_code=400 if isinstance(error, UsageError) else 503)

    @app.get("/health")
    def health() -> Health:
        return Health(
            status="ok", preset=preset.name, model=preset.settings.model, licences=licences, withdrawn=withdrawn
        )

    @app.get("/preset")
    def what_is_served() -> dict[str, object]:
        return preset.to_json()

    # a plain def: FastAPI runs it in a thread, so /health answers while a picture is being made
    @app.post("/generate")
    def generate(
        prompt: Annotated[
            str | None, Query(min_length=1, max_length=MAX_PROMPT, description="Default: the preset's.")
        ] = None,
        seed: Annotated[
            int | None, Query(ge=-1, le=MAX_SEED, description="-1 draws one. Default: the preset's.")
        ] = None,
        negative_prompt: Annotated[
            str | None, Query(max_length=MAX_PROMPT, description="Default: the preset's.")
        ] = None,
    ) -> Generated:
        asked = {"prompt": prompt, "seed": seed, "negative_prompt": negative_prompt}
        result = bench.generate(preset.settings.replace(**{n: v for n, v in asked.items() if v is not None}))
        chunks = picture_chunks(result.image, result.settings, keys=result.keys)
        return Generated(
            image=data_url(result.image, chunks),
            seed=result.settings.seed,
            preset=preset.name,
            seconds=round(result.seconds, 3),
            notes=[*result.notes],
        )

    return app


def serve(preset: Preset, host: str = "127.0.0.1", port: int = 7860) -> None:
    """Serve until stopped. Weights are found (not loaded) first, so that a missing file is said at once."""
    import uvicorn

    from workbench.recipe import stage_keys

    stage_keys(preset.settings)
    uvicorn.run(create_app(preset), host=host, port=port, log_level="info")
