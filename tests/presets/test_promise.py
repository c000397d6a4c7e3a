"""Whether a preset still gives its winner's very pixels."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from workbench.presets import Preset, load_preset, promise_withdrawn
from workbench.recipe import batch_of, stage_keys


def promoted(**evidence: Any) -> Preset:
    return dataclasses.replace(load_preset("embedded"), name="mine", evidence=evidence)


def test_the_same_weights_keep_the_promise(home: Path) -> None:
    settings = load_preset("embedded").settings
    assert promise_withdrawn(promoted(keys=stage_keys(settings))) == ""
    assert promise_withdrawn(promoted(keys=stage_keys(settings), batch=batch_of())) == ""
    assert promise_withdrawn(promoted(keys=stage_keys(settings), batch={})) == ""  # of a run that kept none
    assert promise_withdrawn(load_preset("embedded")) == ""


@pytest.mark.parametrize("keys", [None, {}, [], 5])
def test_what_was_written_by_hand_promised_nothing(home: Path, keys: Any) -> None:
    assert promise_withdrawn(promoted(keys=keys, batch="four")) == ""


def test_other_weights_withdraw_it_in_words(home: Path) -> None:
    keys = stage_keys(load_preset("embedded").settings)
    said = promise_withdrawn(promoted(keys={**keys, "refine": "0" * 64}))
    assert "no longer gives exactly its winner's pixels" in said and "from stage 'refine' on" in said


def test_pictures_made_in_batches_differ_in_the_last_bits(home: Path) -> None:
    settings, four = load_preset("embedded").settings, batch_of(4)
    said = promise_withdrawn(promoted(keys=stage_keys(settings, four), batch=four))
    assert "made 4 at a time" in said
    assert "no longer gives" in promise_withdrawn(promoted(keys=stage_keys(settings, four)))
