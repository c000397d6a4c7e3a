"""The server over real HTTP, on a port of its own."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.servers import call, free_port, picture_of

from workbench.files.pictures import CHUNK, pixels_sha256
from workbench.presets.preset import Preset, presets_folder
from workbench.recipe.pipeline import Bench
from workbench.settings import Settings
from workbench.store.store import Store


@pytest.fixture
def server(home: Path, tiny: Settings) -> Iterator[str]:
    """`workbench serve` as a user starts it, with the random model as the production preset."""
    Preset("production", tiny, licences=["a licence"]).save(presets_folder() / "production.json")
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "workbench.cli", "serve", "--port", str(port)], env=dict(os.environ)
    )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                call(f"{url}/health")
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.slow
def test_the_contract(server: str, tiny: Settings, home: Path) -> None:
    query = urllib.parse.urlencode({"prompt": "a face, smiling", "seed": 42})
    status, answer = call(f"{server}/generate?{query}", "POST")
    assert status == 200
    picture = picture_of(answer)
    alone = Bench(Store(None)).generate(tiny.replace(prompt="a face, smiling", seed=42))
    assert pixels_sha256(picture) == pixels_sha256(alone.image)
    assert json.loads(picture.text[CHUNK])["settings"] == alone.settings.model_dump()  # type: ignore[attr-defined]

    _, default = call(f"{server}/generate", "POST")
    assert pixels_sha256(picture_of(default)) == pixels_sha256(Bench(Store(None)).generate(tiny).image)

    _, drawn = call(f"{server}/generate?seed=-1", "POST")
    assert 0 <= drawn["seed"] < 2**32

    for bad in ("seed=abc", "seed=-2", "prompt=", f"seed={2**53}"):
        assert call(f"{server}/generate?{bad}", "POST")[0] == 422
    assert call(f"{server}/generate")[0] == 405
    assert call(f"{server}/health")[1] == {
        "status": "ok",
        "preset": "production",
        "model": tiny.model,
        "licences": ["a licence", "tiny: ask whoever published it"],
        "withdrawn": "",
    }  # fmt: skip
    assert not (home / "store").exists()  # a public server must not fill the disk


def test_lost_weights_are_said_in_words(tiny: Settings, tmp_path: Path) -> None:
    from fastapi.testclient import TestClient

    from workbench.serve.app import create_app

    app = create_app(Preset("p", tiny.replace(model=str(tmp_path))))
    answer = TestClient(app, raise_server_exceptions=False).post("/generate")
    assert answer.status_code == 503 and "base/model_index.json" in answer.json()["error"]
