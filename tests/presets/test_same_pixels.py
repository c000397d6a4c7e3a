"""Same preset and same seed are the same pixels: from Python, the command line, the server, papermill, and the script."""

from __future__ import annotations

import base64
import io
import sys
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from PIL import Image
from support.scripts import run_script

from workbench.cli import commands as cli
from workbench.files import pixels_sha256
from workbench.notebook import run_notebook
from workbench.presets import Preset
from workbench.presets.formats import export_settings
from workbench.recipe import Bench, stage_keys
from workbench.serve.access import Access
from workbench.serve.app import create_app
from workbench.settings import Settings
from workbench.store import Store


@pytest.mark.slow
def test_every_door_gives_the_same_pixels(
    small: Settings, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has a store of its own, so that none gets the picture of another."""
    preset = Preset("small", small).save(tmp_path / "small.json")
    s, seed, found = small.replace(seed=8), 8, dict[str, Image.Image]()
    found["Python"] = Bench(Store(None)).generate(s).image

    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "of the command"))
    words = ["generate", "--preset", str(preset.path), "--seed", "7", "-n", "2", "-o", str(tmp_path / "a.png"), "-q"]
    monkeypatch.setattr(sys, "argv", ["workbench", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    found["command line"] = Image.open(tmp_path / "a-8.png")

    with TestClient(create_app(preset, access=Access(host="testserver"), bench=Bench(Store(None)))) as client:
        answer = client.post("/generate", params={"prompt": s.prompt, "seed": seed}).json()
    found["server"] = Image.open(io.BytesIO(base64.b64decode(answer["image"].partition(",")[2])))

    monkeypatch.setenv("WORKBENCH_HOME", str(home))
    run_notebook("01_tune", {"preset": str(preset.path), "seed": str(seed)}, tmp_path / "report.ipynb")
    made = Store(home / "store").get(stage_keys(s)["refine"])  # by the kernel, a process of its own
    assert made is not None
    found["papermill"] = made.image

    done = run_script(export_settings(preset.settings, "script", "small"), tmp_path, "--seed", str(seed))
    assert done.returncode == 0, done.stderr[-2000:]
    found["script"] = Image.open(tmp_path / "theirs.png")

    assert {name: pixels_sha256(image) for name, image in found.items()} == dict.fromkeys(
        found, pixels_sha256(found["Python"])
    )
