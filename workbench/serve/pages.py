"""The page at `/` and the description of all addresses at `/docs`: files of this package, nothing from elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fastapi.responses import FileResponse, JSONResponse, Response
from swagger_ui_bundle import swagger_ui_path

if TYPE_CHECKING:
    from fastapi import FastAPI

PAGE = Path(__file__).with_name("page")
TYPES = {
    # said here: by its name, a machine's registry may take a script for text, which browsers then do not run
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
OURS = {path.name: path for path in PAGE.iterdir()}
SWAGGER = {name: Path(swagger_ui_path) / name for name in ("swagger-ui.css", "swagger-ui-bundle.js")}


def add_page(app: FastAPI) -> None:
    """`/`, `/docs`, and the files of both."""

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return _sent(OURS["index.html"])

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return _sent(OURS["docs.html"])

    @app.get("/page/{name}", include_in_schema=False)
    async def page_file(name: str) -> Response:
        return _sent(OURS.get(name))

    @app.get("/docs/{name}", include_in_schema=False)
    async def docs_file(name: str) -> Response:
        return _sent(SWAGGER.get(name))


def _sent(path: Path | None) -> Response:
    if path is None:
        return JSONResponse({"error": "there is no such page."}, status_code=404)
    # no-cache: kept by the browser, but asked for again, so that after an update no old script meets a new server
    return FileResponse(path, media_type=TYPES[path.suffix], headers={"Cache-Control": "no-cache"})
