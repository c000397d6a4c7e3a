"""Whatever changes pixels on one machine, or between two, is part of every key."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from workbench.models import numerics
from workbench.models.numerics import SWITCHES, VARIABLES
from workbench.recipe import stage_keys
from workbench.settings import Settings


@pytest.fixture
def keys(tiny: Settings) -> dict[str, str]:
    return stage_keys(tiny)


def test_they_are_the_same_as_long_as_nothing_changes(tiny: Settings, keys: dict[str, str]) -> None:
    assert stage_keys(tiny) == keys and all(isinstance(value, str) for value in numerics().values())


CHANGES = {
    "cuda.matmul.fp32_precision": "tf32",
    "cuda.matmul.allow_fp16_accumulation": True,
    "cudnn.benchmark": True,
    "cudnn.conv.fp32_precision": "ieee",
    "mkldnn.matmul.fp32_precision": "bf16",
    "mkldnn.enabled": False,
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_switch_of_torch_is_another_key(name: str, tiny: Settings, keys: dict[str, str]) -> None:
    owner: Any = torch.backends
    *parents, last = name.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    before = getattr(owner, last)
    try:
        setattr(owner, last, CHANGES[name])
        assert set(stage_keys(tiny).values()).isdisjoint(keys.values()), name
    finally:
        setattr(owner, last, before)
    assert stage_keys(tiny) == keys and name in SWITCHES


def test_the_old_names_of_tf32_count_too(tiny: Settings, keys: dict[str, str]) -> None:
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        assert set(stage_keys(tiny).values()).isdisjoint(keys.values())
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.fixture
def other_attention() -> Iterator[None]:
    torch.backends.cuda.enable_flash_sdp(False)
    yield
    torch.backends.cuda.enable_flash_sdp(True)


def test_the_attention_in_force_is_another_key(tiny: Settings, keys: dict[str, str], other_attention: None) -> None:
    assert set(stage_keys(tiny).values()).isdisjoint(keys.values())
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        assert set(stage_keys(tiny).values()).isdisjoint(keys.values())


@pytest.mark.parametrize("name", VARIABLES)
def test_a_variable_that_libraries_read_is_another_key(
    name: str, tiny: Settings, keys: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "1")
    assert set(stage_keys(tiny).values()).isdisjoint(keys.values())


def test_other_instructions_are_other_numerics() -> None:
    """AVX2 and AVX-512 gave other pixels under equal keys. ATEN_CPU_CAPABILITY lets one processor stand for another."""
    code = "from workbench.models import numerics; print(numerics()['instructions'])"
    env = {**os.environ, "ATEN_CPU_CAPABILITY": "default"}
    said = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout
    assert said.strip() == "DEFAULT" != numerics()["instructions"]


def test_on_a_gpu_the_card_and_its_libraries_count(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from workbench.models import hardware
    from workbench.models.numerics import _machine

    card = SimpleNamespace(multi_processor_count=132, major=9, minor=0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda where: card)
    monkeypatch.setattr(hardware, "device", lambda: torch.device("cuda"))
    _machine.cache_clear()
    try:
        found = _machine("cuda")
    finally:
        _machine.cache_clear()
    assert found["multiprocessors"] == "132" and found["capability"] == "9.0"
    assert found["CUDA"] == str(torch.version.cuda) and found["cuDNN"] == str(torch.backends.cudnn.version())
