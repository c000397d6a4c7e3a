"""Every test has its own WORKBENCH_HOME; torch runs on one thread (two on shared cores ran 10-60x slower)."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image
from xdist import is_xdist_controller

from workbench.settings import Settings

if TYPE_CHECKING:
    from workbench.recipe import Bench

os.environ["WORKBENCH_THREADS"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
LEFT_OUT = str(Path(__file__).parent / "support" / "left_out")
if LEFT_OUT not in sys.path:
    sys.path.insert(0, LEFT_OUT)
os.environ["PYTHONPATH"] = os.pathsep.join(
    [LEFT_OUT, *(path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path not in ("", LEFT_OUT))]
)

# Files by how long they take, longest first, so that no worker is left with one when the other has nothing to do; then
# those with slow tests, then all others
LONGEST = (
    "test_readme.py", "test_cluster.py", "test_notebooks.py", "test_sweep_wall.py", "test_tuner.py", "test_sweeps.py",
    "test_detached.py", "test_engine.py", "test_codeformer.py", "test_embedded.py", "test_loras.py", "test_cli.py",
    "test_promote.py", "test_page.py", "test_any_sdxl.py", "test_samplers.py", "test_engine_benchmark.py",
    "test_restoration.py", "test_new_stage.py", "test_no_room.py", "test_winners.py", "test_ui_tuner.py",
)  # fmt: skip


def pytest_sessionstart(session: pytest.Session) -> None:
    """Import what computes, but not in the process that only hands out tests to others: they wait for it to begin."""
    if is_xdist_controller(session):
        return
    gc.disable()  # until all is imported
    import torch

    from workbench.models import keep_memory

    torch.set_num_threads(1)
    keep_memory()  # tests that build networks themselves call nothing that does so


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    place = {name: n for n, name in enumerate(LONGEST)}
    items.sort(key=lambda item: (place.get(item.path.name, len(place)), item.path not in slow))


def pytest_collection_finish(session: pytest.Session) -> None:
    """What was imported stays: a look for garbage need not go through its million objects each time."""
    gc.enable()
    gc.freeze()


def pytest_unconfigure(config: pytest.Config) -> None:
    gc.unfreeze()  # or libraries say at the end what they have leaked


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    monkeypatch.setenv("WORKBENCH_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from support.models import make_tiny_model

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
    from workbench.recipe import Bench
    from workbench.store import Store

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
    from workbench.recipe import faces

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
