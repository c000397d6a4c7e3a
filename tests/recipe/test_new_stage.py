"""A stage that somebody else registers goes through everything: `support/posterise.py` is all there is of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.runs import fresh, recorded

import workbench as wb
from workbench import settings as registry
from workbench.analysis import arrange
from workbench.errors import BadPreset, SettingsError, StageError
from workbench.files import pixels_sha256, read_lines, read_settings
from workbench.files.pictures import infotext
from workbench.presets import Preset, load_preset
from workbench.recipe import Bench, stage_keys
from workbench.settings import Settings, knobs, stages, use_stages
from workbench.store import Store
from workbench.sweeps import last_session, plan, start, sweep

MODULE = "support.posterise"


@pytest.fixture(autouse=True)
def posterise(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("WORKBENCH_STAGES", "")
    tests = str(Path(__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([tests, *filter(None, [os.environ.get("PYTHONPATH")])]))
    sys.modules.pop(MODULE, None)
    use_stages(MODULE)
    yield
    registry.unregister("posterise")


@pytest.fixture
def shaded(spec: dict[str, Any]) -> dict[str, Any]:
    """2 prompts x 2 CFGs x 3 shades, faces restored: 12 cells."""
    axes = {"refine_cfg": [2.0, 6.0], "shades": [0, 2, 4]}
    return {**spec, "axes": axes, "fixed": {**spec["fixed"], "strength": 0.3}}


def colours(image: Image.Image) -> int:
    return len(np.unique(np.asarray(image)))


def test_it_is_a_stage_with_a_setting(tiny: Settings) -> None:
    assert list(stages()) == ["base", "refine", "detail", "faces", "posterise", "upscale"]
    assert knobs()["shades"].allowed == "int from 0 to 8" and knobs()["shades"].stage == "posterise"
    assert tiny.replace(shades=3).stages == ("base", "refine", "posterise") and "posterise" not in tiny.stages
    with pytest.raises(SettingsError, match=r"shades = 9 is not allowed .*it must be int from 0 to 8"):
        tiny.replace(shades=9)
    assert "shades" in Settings.model_json_schema()["properties"]


def test_its_pictures_are_keyed_and_used_again(tiny: Settings, bench: Bench) -> None:
    plain, shaded = bench.generate(tiny), bench.generate(tiny.replace(shades=2))
    assert list(shaded.stages) == ["base", "refine", "posterise"] and shaded.info["posterise"] == {"shades": 2}
    assert colours(shaded.image) <= 4 < colours(plain.image)
    assert shaded.counters["stages"] == {
        "base": 0, "refine": 0, "detail": 0, "faces": 0, "posterise": 1, "upscale": 0,
    }  # fmt: skip
    again = Bench(bench.store).generate(tiny.replace(shades=2))
    assert not any(again.counters["stages"].values()) and pixels_sha256(again.image) == pixels_sha256(shaded.image)
    assert stage_keys(tiny.replace(shades=2)).items() >= stage_keys(tiny).items()  # nothing before it has another key


def test_a_picture_and_a_preset_keep_it(tiny: Settings, bench: Bench, tmp_path: Path) -> None:
    result = bench.generate(tiny.replace(shades=2))
    assert read_settings(result.save(tmp_path / "p.png")) == result.settings and "Shades: 2" in infotext(
        result.settings
    )
    path = tmp_path / "mine.json"
    Preset("mine", result.settings).save(path)
    assert load_preset(path).settings.model_dump()["shades"] == 2
    registry.unregister("posterise")
    with pytest.raises(BadPreset, match="unknown setting 'shades'"):
        load_preset(path)
    sys.modules.pop(MODULE)
    use_stages(MODULE)


def test_it_is_swept(shaded: dict[str, Any], home: Path) -> None:
    planned = plan(shaded, Store(None))
    assert planned.to_json()["stages"]["posterise"]["jobs"] == 8 and planned.warnings == []
    run = sweep(shaded, on=fresh(home), quiet=True)
    executed = last_session(run)["executed"]
    assert executed["stages"] == {
        "base": 2, "refine": 4, "detail": 0, "faces": 4, "posterise": 8, "upscale": 0,
    }  # fmt: skip
    assert executed["unet_evaluations"] == planned.minimum()["unet_evaluations"]
    for record in run.records()[::5]:
        alone = Bench(Store(None)).generate(Settings(**record["settings"]))
        assert pixels_sha256(alone.image) == record["pixels_sha256"]
    page = arrange(run)
    assert "Shades 2" in " ".join(page.columns) and len(page.columns) == 6
    assert list(run.table()["shades"]) == [0, 2, 4] * 4
    assert list(wb.find_run("latest").table().columns).count("shades") == 1


def test_the_panels_and_notebooks_have_it(tiny: Settings) -> None:
    from workbench.notebook.parameters import check_values
    from workbench.notebook.widgets.controls import Controls

    controls = Controls(tiny, lambda name: None)
    assert "Fewer shades" in [group.titles[0] for group in controls.groups.children]
    controls.fields["shades"].value = 5
    assert controls.settings() == tiny.replace(shades=5)
    check_values({"shades": 5})
    with pytest.raises(SettingsError, match="shades"):
        check_values({"shades": 50})


def test_it_is_served(tiny: Settings) -> None:
    from fastapi.testclient import TestClient
    from support.servers import picture_of

    from workbench.serve import Access, create_app

    preset = Preset("mine", tiny.replace(shades=1))
    client = TestClient(create_app(preset, access=Access(host="testserver")))
    answer = client.post("/generate", params={"prompt": preset.settings.prompt, "seed": 3}).json()
    assert pixels_sha256(picture_of(answer)) == pixels_sha256(wb.generate(tiny.replace(shades=1, seed=3)).image)


def records(run: Any) -> list[Any]:
    return [(r["cell"], r["key"], r["status"], r["pixels_sha256"]) for r in run.records()]


@pytest.fixture
def alone(shaded: dict[str, Any], home: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What a sweep in this process records, in a home of its own: a run of the same spec would be found finished."""
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("WORKBENCH_HOME", str(home.with_name("alone")))
        return records(sweep(shaded, on=Bench(Store(None)), quiet=True))


@pytest.mark.slow
def test_a_second_process_runs_it(shaded: dict[str, Any], alone: list[Any]) -> None:
    elsewhere = start(shaded)
    elsewhere.wait()
    assert records(elsewhere.run) == alone
    ran = [line for line in read_lines(elsewhere.run.journal) if line["kind"] == "stage"]
    assert os.getpid() not in {line["pid"] for line in ran} and "posterise" in {line["stage"] for line in ran}


@pytest.mark.slow
def test_a_ray_worker_runs_it(
    shaded: dict[str, Any], home: Path, alone: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`executor = "ray"` from the spec on, without a cluster: the same run, keys and pixels; what is done starts no Ray."""
    pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    wanted = {**shaded, "executor": "ray"}
    spread = sweep(wanted, on=fresh(home), quiet=True)
    assert spread.id.split("-")[-1] == plan(shaded, Store(None)).hash[:8] == plan(wanted, Store(None)).hash[:8]
    assert records(spread) == alone and recorded(spread) == list(range(12))
    ran = [line for line in read_lines(spread.journal) if line["kind"] == "stage"]
    assert os.getpid() not in {line["pid"] for line in ran} and "posterise" in {line["stage"] for line in ran}
    session = last_session(spread)
    assert session["executed"]["stages"] == {
        "base": 2, "refine": 4, "detail": 0, "faces": 4, "posterise": 8, "upscale": 0,
    }  # fmt: skip
    assert session["executed"]["unet_evaluations"] == session["unet_evaluations"] and session["state"] == "finished"
    monkeypatch.setitem(sys.modules, "workbench.sweeps.cluster", None)
    assert sweep(wanted, on=fresh(home), quiet=True).states()["to_do"] == 0


def test_a_run_of_before_goes_on(spec: dict[str, Any], home: Path) -> None:
    """A run is named by its spec; a stage that is off is no part of it."""
    named = plan(spec, Store(None)).hash
    registry.unregister("posterise")
    assert plan(spec, Store(None)).hash == named
    sys.modules.pop(MODULE)
    use_stages(MODULE)


def test_what_cannot_be_registered_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StageError, match=r"cannot be imported .*PYTHONPATH"):
        use_stages("no_such_stages")
    assert os.environ["WORKBENCH_STAGES"] == MODULE
    taken = type("Taken", (type(stages()["posterise"]),), {"name": "other"})
    with pytest.raises(StageError, match="'other' declares shades, which there is already"):
        registry.register(taken())
    twin = type("Twin", (type(stages()["posterise"]),), {"settings": type(stages()["upscale"]).settings})
    with pytest.raises(StageError):
        registry.register(twin())
    assert list(stages()) == ["base", "refine", "detail", "faces", "posterise", "upscale"]


@pytest.mark.parametrize("field", ["shade: list = []", "shade: int = 3", "shade: list = setting([], 'S', 's')"])
def test_a_setting_that_nothing_can_show_is_refused(field: str) -> None:
    space: dict[str, Any] = {}
    exec(
        f"from pydantic import BaseModel\nfrom workbench.settings import setting\nclass Odd(BaseModel):\n    {field}\n",
        space,
    )
    odd = type("Odd", (type(stages()["posterise"]),), {"name": "odd", "settings": space["Odd"]})
    with pytest.raises(StageError, match="'odd' declares shade in a way that nothing can show"):
        registry.register(odd())
    assert "odd" not in stages() and "shade" not in knobs()


def test_importing_loads_no_stage() -> None:
    """A stage may import any room, and is imported at the first use of a setting."""
    code = (
        "import importlib, workbench.settings as s\n"
        "for room in ('store', 'recipe', 'sweeps', 'notebook.widgets', 'cli.commands', 'serve.app', 'scores.scoring'):\n"
        "    importlib.import_module(f'workbench.{room}')\n"
        "assert not importlib.import_module('workbench.settings.registry')._asked\n"
        "print(','.join(s.stages()))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "base,refine,detail,faces,posterise,upscale"
