"""The next, finer sweep around a winner."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.runs import known, known_run
from typer.testing import CliRunner

from workbench.cli.commands import app
from workbench.errors import NothingToPromote
from workbench.sweeps.around import finer, finer_words
from workbench.sweeps.planning import plan
from workbench.sweeps.spec import make_spec


def test_numbers_get_the_values_half_way_to_the_winners_neighbours(home: Path, tmp_path: Path) -> None:
    found = finer(known())  # won by strength 0.4, refine_cfg 2, weight 1: each at an end of its axis
    assert found.spec.axes == {"strength": [0.3, 0.4, 0.5], "refine_cfg": [1.0, 2.0, 3.5], "weight": [0.75, 1.0]}
    assert found.spec.seeds == [2, 3] and found.spec.prompts == ["p"] and found.spec.name == "t finer"
    assert make_spec(found.write(tmp_path / "next.toml")) == found.spec
    assert plan(found.spec).to_json()["cells"] == 36
    assert finer_words(found)[:2] == [
        "around Strength 0.4, Refine CFG 2, CodeFormer weight 1",
        "Strength: 0.3, 0.4, 0.5",
    ]


def test_what_is_swept_already_or_finer_than_a_settings_step_is_left_out(home: Path) -> None:
    axes: dict[str, list[Any]] = {"strength": [0.3, 0.35, 0.4], "weight": [0.0, 1.0]}
    found = finer(known_run(axes, lambda s: (str(s), 10 * s["strength"] + s["weight"] + s["seed"])))
    assert found.spec.axes == {"weight": [0.5, 1.0]} and found.spec.fixed["strength"] == 0.4
    assert found.fixed == "Strength 0.4"
    alone: dict[str, list[Any]] = {"strength": [0.95, 1.0]}
    with pytest.raises(NothingToPromote, match="as fine as its settings go"):
        finer(known_run(alone, lambda s: (str(s), 10 * s["strength"])))
    with pytest.raises(NothingToPromote, match="has no winner"):
        finer(known_run(alone, lambda s: (str(s), None)))


@pytest.mark.parametrize(("lead", "kept"), [(0.001, True), (9.0, False)])
def test_choices_that_were_not_told_apart_stay(home: Path, lead: float, kept: bool) -> None:
    axes: dict[str, list[Any]] = {
        "sampler": ["DPM++ 2M", "Euler"], "width+height": [[512, 512], [512, 768]], "strength": [0.2, 0.4]
    }  # fmt: skip

    def tell(s: dict[str, Any]) -> tuple[str, float]:
        wobble = hash_of(s) * 0.2
        return str(s), 10 * s["strength"] + lead * (s["sampler"] == "Euler") + lead * (s["height"] == 768) + wobble

    found = finer(known_run(axes, tell, seeds=4))
    assert ("sampler" in found.spec.axes) == kept == bool(found.spec.zipped)
    assert found.spec.fixed.get("sampler", "") in (("",) if kept else ("Euler",))
    assert len(plan(found.spec).cells) == 4 * len(found.spec.axes["strength"]) * (4 if kept else 1)


def hash_of(s: dict[str, Any]) -> float:
    """A number from 0 to 1 that looks like noise and is the same each time."""
    return (s["seed"] * 7919 + s["height"] * 31 + int(100 * s["strength"]) * 17 + len(s["sampler"])) % 97 / 97


def test_the_command_writes_the_spec(home: Path, tmp_path: Path) -> None:
    run = known()
    done = CliRunner().invoke(app, ["runs", "finer", "latest", "--json"])
    about = json.loads(done.stdout)
    assert about["spec"] == str(run.path / "finer.toml") and about["axes"]["strength"] == [0.3, 0.4, 0.5]
    done = CliRunner().invoke(app, ["runs", "finer", run.id, "-o", str(tmp_path / "mine.toml")])
    assert "workbench sweep" in done.stdout and make_spec(tmp_path / "mine.toml").seeds == [2, 3]
