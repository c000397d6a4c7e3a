from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.runs import fresh

from workbench import scores
from workbench.files.pictures import pixels_sha256, read_settings
from workbench.recipe.pipeline import Bench
from workbench.store.store import Store
from workbench.sweeps.recording import Recorder
from workbench.sweeps.session import last_session, sweep


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A score for random pictures, which show no face: the higher the weight, the sharper."""
    original = Recorder.cell

    def cell(self: Any, of: Any, image: Any, seconds: float, status: str, measured: dict[str, Any]) -> None:
        original(self, of, image, seconds, scores.SCORED[0], {**measured, "sharpness": 50 + 10 * of.settings.weight})

    monkeypatch.setattr(Recorder, "cell", cell)


@pytest.mark.parametrize("mode", ["picture", "background"])
@pytest.mark.usefixtures("scored")
def test_only_the_winners_are_enlarged(spec: dict, home: Path, mode: str) -> None:
    wanted = {
        **spec,
        "axes": {"weight": [0.0, 0.5, 1.0], "strength": [0.3, 0.5]},
        "fixed": {**spec["fixed"], "upscaler": "realesr-animevideov3", "upscale_mode": mode},
        "upscale_winners": 1,
    }
    run = sweep(wanted, on=fresh(home), quiet=True)
    assert last_session(run)["executed"]["stages"]["upscale"] == 0
    pictures = sorted((run.path / "winners").iterdir())
    assert len(pictures) == 2 and all(path.name.startswith("1-") for path in pictures)  # one setting, two prompts
    for path in pictures:
        settings = read_settings(path)
        with Image.open(path) as file:
            image = file.convert("RGB")
        assert image.size == (256, 256) and settings.upscaler == "realesr-animevideov3"
        assert pixels_sha256(image) == pixels_sha256(Bench(Store(None)).generate(settings).image)
    before = {path: path.stat().st_mtime_ns for path in pictures}
    bench = fresh(home)
    sweep(wanted, on=bench, quiet=True)
    assert bench.loaded == () and {path: path.stat().st_mtime_ns for path in pictures} == before
