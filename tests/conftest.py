"""Every test has its own WORKBENCH_HOME; torch runs on one thread (two on shared cores ran 10-60x slower)."""

import os
from pathlib import Path
from typing import Any

import pytest

os.environ["WORKBENCH_THREADS"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from PIL import Image
from support.models import make_tiny_model

from workbench.models import keep_memory
from workbench.recipe import faces
from workbench.recipe.pipeline import Bench
from workbench.settings import Settings
from workbench.store.store import Store

torch.set_num_threads(1)
keep_memory()  # tests that build networks themselves call nothing that does so


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: a worker that got the README's commands last kept the other one waiting for 5 minutes."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path not in slow, item.path.name != "test_readme.py"))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    monkeypatch.setenv("WORKBENCH_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="session")
def tiny(tiny_model: Path) -> Settings:
    """Settings of a 64 px picture refined at 128 px by the random model."""
    return Settings(
        model=str(tiny_model), prompt="a face", negative_prompt="blurry", width=64, height=64, steps=4, hires_scale=2.0,
        refine_steps=10,
        strength=0.4, restorer="none",
    )  # fmt: skip


@pytest.fixture
def bench(home: Path) -> Bench:
    return Bench(Store(home / "store"))


@pytest.fixture(scope="session")
def astronaut() -> Image.Image:
    """Eileen Collins, 512x512, public domain: one face."""
    import skimage.data

    return Image.fromarray(skimage.data.astronaut())


@pytest.fixture(scope="session")
def hopper() -> Image.Image:
    """Grace Hopper, 512x600, public domain: one face."""
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "sample_data"
    return Image.open(folder / "grace_hopper.jpg").convert("RGB")


@pytest.fixture(scope="session")
def shared() -> Path:
    """Evaluation data beside the checkout, where there is any."""
    folder = Path(__file__).parents[2] / "shared"
    if not folder.exists():
        pytest.skip("no ../shared beside this checkout")
    return folder


@pytest.fixture
def spec(tiny: Settings, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """2 prompts x 1 seed x 2 strengths x 2 CFGs x 3 weights = 24 cells of the random model.

    Their 128 px show no face, and are searched for one five times a cell: as they are here, without being enlarged to
    320 px first, which was half of such a sweep's time.
    """
    monkeypatch.setattr(faces, "DETECTION_SIDES", (128, faces.DETECTION_SIDES[1]))
    changed = tiny.diff(Settings())
    fixed = {name: pair[0] for name, pair in changed.items() if name not in ("prompt", "seed", "strength")}
    return {
        "preset": "recommended",
        "prompts": ["a face", "a lake"],
        "seeds": [3],
        "axes": {"weight": [0.0, 0.5, 1.0], "strength": [0.3, 0.5], "refine_cfg": [2.0, 6.0]},
        "fixed": {**fixed, "restorer": "codeformer"},
    }
