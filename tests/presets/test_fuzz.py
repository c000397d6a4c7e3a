"""Preset files that somebody or something has damaged: refused in a sentence, or of use to whatever reads presets.

`mutated` draws from a `random.Random`, so that hypothesis can drive it as well, where it is installed.
"""

import contextlib
import copy
import io
import json
import os
import random
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from workbench.cli.presets import presets_list, presets_show
from workbench.errors import BadPreset, WorkbenchError
from workbench.files import hash_json
from workbench.presets import (
    Preset,
    RunSample,
    damaged_presets,
    list_presets,
    load_preset,
    preset_licences,
    preset_schema,
    presets_folder,
    promise_withdrawn,
)
from workbench.promotion import challenge
from workbench.promotion.ledger import used_samples
from workbench.recipe import UsedModel, batch_of
from workbench.runs.archive import _runs_behind
from workbench.serve import InForce
from workbench.serve.asking import schema_of
from workbench.serve.in_force import known_digest, public_settings, without_paths
from workbench.settings import Settings

VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 7, 1.5, -0.0, 10**30, 10**4000, float("nan"), float("inf"), "", "x", "\n", "\0", "é\u2028",
    "\ud83d", "/etc/passwd", "../..", "x" * 5000, "0" * 64, "1999-01-01", "<b>", [], [1], ["x"], [[[[]]]], [None], [{}], {},
    {"a": 1}, {"": None}, {"x\ny": {}}, {"run": "r", "prompts": [], "seeds": []}, {"words": "w"}, {"words": 1},
]  # fmt: skip


def any_value(chance: random.Random) -> Any:
    return copy.deepcopy(chance.choice(VALUES))


def good() -> dict[str, Any]:
    sample = RunSample(run="a-run", prompts=["x"], seeds=[1, 2]).model_dump()
    evidence = {
        "run": "a-run", "chosen": {"strength": 0.4, "sampler": "Euler"}, "chosen_by": "x", "mean": 51.5, "n": 4,
        "guards": {"noise": 1}, "keys": {"base": "0" * 64}, "batch": batch_of(2), "used": [sample], "caveat": "c",
        "verdict": {"words": "better", "decision": "better", "caveat": "c", "found": {"mean": 1.0}}, "forced": "f",
    }  # fmt: skip
    preset = Preset(
        "mine", Settings(model="embedded"), "about", evidence, {"promoted": "2026-11-26T18:28:43+00:00", "torch": "2"},
        ["x: y"], parent="0" * 64, models={"model": UsedModel(name="embedded", digest="0" * 64)}, allow=("prompt", "steps"),
    )  # fmt: skip
    return json.loads(json.dumps(preset.to_json()))


def places(value: Any) -> list[tuple[Any, Any]]:
    """(container, key) of everything in JSON values."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [pair for key, each in inside for pair in [(value, key), *places(each)]]


def mutated(chance: random.Random) -> tuple[bytes, bool]:
    """(what is in a file, whether it has a key twice)"""
    value = good()
    for _ in range(chance.randint(1, 3)):
        part = value.get(chance.choice(["evidence", "provenance", "models", "settings", "", ""]))
        found = places(part) or places(value)
        container, key = found[chance.randrange(len(found))]
        what = chance.randrange(6)
        if what == 0:
            del container[key]
        elif what == 1 and isinstance(container, dict):
            container[str(any_value(chance))[:40]] = container.pop(key)
        elif what == 2 and isinstance(container, dict):
            container[chance.choice(["$schema", "extra", "cfg", "lora:x", "used", "keys", "settings"])] = chance.choice(
                VALUES
            )
        else:
            container[key] = any_value(chance)
    fate = chance.randrange(10)
    if fate < 8 and isinstance(value.get("settings"), dict) and "digest" in value:
        value["digest"] = checksum(value["settings"])
    body = {k: v for k, v in value.items() if k not in ("checksum", "$schema")}
    if fate < 5:
        value["checksum"] = checksum(body)
    elif fate < 9:
        value.pop("checksum", None)
    text = json.dumps(value)
    twice = chance.randrange(12) == 0 and '"steps": ' in text
    data = (text.replace('"steps": ', '"steps": 3, "steps": ', 1) if twice else text).encode()
    if chance.randrange(12) == 0:
        at, how = chance.randrange(len(data)), chance.randrange(3)
        data = [data[:at], data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :], b"\xef\xbb\xbf" + data][how]
        twice = twice and how == 2
    return data, twice


def checksum(body: object) -> str:
    try:
        return hash_json(body)
    except UnicodeEncodeError:  # half of a surrogate pair
        return "none"


@cache
def schema() -> Any:
    return jsonschema.Draft202012Validator(preset_schema())


def complaints(data: bytes) -> list[str]:
    """What the published schema has against a file, but for the case of choices, and NaN of version 1."""
    value = json.loads(data.decode("utf-8-sig"))
    errors = schema().iter_errors(value)
    return [error.message[:200] for error in errors if error.validator != "enum" or error.path[0] != "settings"]


def readers(preset: Preset) -> list[Callable[[], object]]:
    def answer() -> object:
        served = InForce((), given=[preset], accept_licences=True, accept_other_models=True).get()
        about = {
            **without_paths(preset.to_json()),
            "settings": public_settings(preset.settings),
            "others": served.others,
        }
        more = {"schema": schema_of(preset.allow), "digest": known_digest(preset.settings)}
        return json.dumps({**about, **more}, ensure_ascii=False, allow_nan=False).encode()

    def silent(work: Callable[[], object]) -> None:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            work()

    return [
        lambda: silent(lambda: presets_show(str(preset.path))),
        lambda: silent(lambda: presets_show(str(preset.path), as_json=True)),
        lambda: silent(presets_list),
        lambda: preset_licences(preset), lambda: promise_withdrawn(preset), lambda: used_samples(preset),
        lambda: _runs_behind(preset), lambda: challenge(preset, "weight=0.9", seeds=2), answer,
    ]  # fmt: skip


def check(data: bytes, twice: bool) -> str:
    """ "refused" or "accepted"; raises where the one or the other is wrong."""
    path = presets_folder() / "mine.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    try:
        preset = load_preset("mine")
    except BadPreset as error:
        assert str(path) in str(error) and "\n" not in str(error) and len(str(error)) < 4000
        if len(data) % 8 == 0:  # it is the same reading of every file
            assert [bad.name for bad in damaged_presets()] == ["mine"]
            assert "mine" not in [good.name for good in list_presets()]
        return "refused"
    assert not twice and complaints(data) == []
    again = presets_folder() / "elsewhere" / "mine.json"
    saved = preset.save(again)
    written = again.read_bytes()
    assert load_preset(again).save(again).to_json() | {"parent": 0, "checksum": 0} == saved.to_json() | {
        "parent": 0,
        "checksum": 0,
    }
    assert written and complaints(written) == []
    for read in readers(preset):
        try:
            read()
        except WorkbenchError as error:  # the weights of another model are not here, say
            assert str(error)
    return "accepted"


def test_mutated_presets_are_refused_or_of_use(home: Path) -> None:
    """Of 10,000 none crashed anything; each that was accepted follows the published schema."""
    chance = random.Random(21)
    found = [check(*mutated(chance)) for _ in range(int(os.environ.get("WORKBENCH_TEST_MUTANTS", 120)))]
    assert found.count("refused") > len(found) / 4 and found.count("accepted") > len(found) / 30


def test_mutants_that_hypothesis_draws(home: Path) -> None:
    hypothesis = pytest.importorskip("hypothesis")
    cases = int(os.environ.get("WORKBENCH_TEST_MUTANTS", 100))

    @hypothesis.settings(
        max_examples=cases, deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck)
    )
    @hypothesis.given(hypothesis.strategies.randoms(use_true_random=False))
    def draw(chance: random.Random) -> None:
        check(*mutated(chance))

    draw()
