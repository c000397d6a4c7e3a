from pathlib import Path

import pytest
from conftest import fresh

from workbench import runs
from workbench.sweeps import sweep


def test_runs_are_found_by_part_of_their_name(spec: dict, home: Path) -> None:
    small = {**spec, "axes": {}, "prompts": ["a face"], "name": "small one"}
    run = sweep(small, on=fresh(home), quiet=True)
    assert "small-one" in run.id
    for which in ("latest", run.id, run.id[-8:], str(run.path), run.path):
        assert runs.find_run(which).path == run.path
    with pytest.raises(runs.RunNotFound, match=run.id):
        runs.find_run("nothing")
    assert run.summary()["n"].tolist() == [0]
    (run.path / "run.json").write_text("{")
    with pytest.raises(runs.BadRun):
        run.about  # noqa: B018
