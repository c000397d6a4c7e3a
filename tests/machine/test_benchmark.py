"""`workbench bench`: what a preset's picture costs on this machine, and that plans know it afterwards."""

from __future__ import annotations

import json
import shutil
import sys
from collections import namedtuple
from pathlib import Path

import pytest
import torch

from workbench.cli import commands as cli
from workbench.cli.benchmarks import _words
from workbench.errors import DiskFull
from workbench.machine import Benchmark, StageSpeed
from workbench.models import counting_flops, matmul_rate, random_weights, unet_gains, write_random_sdxl
from workbench.presets import Preset, presets_folder
from workbench.recipe import Bench
from workbench.settings import Settings
from workbench.sweeps import Costs


def bench(*words: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["workbench", "bench", *words])
    try:
        cli.main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


@pytest.fixture
def preset(tiny: Settings, home: Path) -> Settings:
    saved = tiny.replace(restorer="codeformer", steps=2, refine_steps=5)  # torch's counter takes 0.1 ms an operation
    Preset("tiny", saved).save(presets_folder() / "tiny.json")
    return saved


@pytest.fixture
def small_configs(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights of the tiny networks, with the tokenizers that go with them."""
    monkeypatch.setattr(random_weights, "CONFIGS", tiny_model)
    monkeypatch.setattr(random_weights, "TOKENIZERS_OF", {"base": (), "refiner": ()})


def test_each_stage_is_timed_counted_and_known_to_the_plans(
    preset: Settings, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench("tiny", "--pictures", "2", "--price-per-hour", "0.5", "--json", monkeypatch=monkeypatch) == 0
    said = json.loads(capsys.readouterr().out)
    kept = json.loads(Path(said["file"]).read_text())
    assert {**kept, "file": said["file"]} == said and Path(said["file"]).name.startswith("cpu-1-thread-20")
    assert said["pictures_per_dollar"] == pytest.approx(2 * said["pictures_per_hour"])
    base, refine, faces = (said["stages"][name] for name in ("base", "refine", "faces"))
    assert len(base["seconds"]) == 2 and base["tflop"] > 0 and 0 < refine["share"] < 1.5
    assert said["gains"] == {"UNet": "not measured: no card"} and said["peak_bytes"] > 10**8
    assert faces["note"] == "not measured: no face was found in the picture"
    costs = Costs.at_home()
    assert costs.seconds("base", preset) in base["seconds"] and costs.seconds("refine", preset) in refine["seconds"]
    assert costs.seconds("faces", preset) is None
    assert [p.name for p in (home / "benchmarks").iterdir()] == [Path(said["file"]).name]  # the pictures are gone


def test_it_is_said_in_words(tiny: Settings) -> None:
    """Of a card, which no test here has ever seen."""
    base = StageSpeed((1.0, 1.5, 1.25), 500.0, 0.5, 11 * 10**9)
    found = Benchmark(
        "NVIDIA H100", "2026-11-28T17:00:00+00:00", "recommended", tiny.model_dump(), "float16", True, 3, 2.5, 800.0,
        12 * 10**9, {"base": base, "faces": StageSpeed((0.1,), 0.1, 0.1, None, "not measured: no face")},
        {"channels_last": 1.123, "SDPA cuDNN": "not measured: no kernel"},
    )  # fmt: skip
    assert _words(found, Path("x.json"), 2.0).splitlines() == [
        "NVIDIA H100, float16: 3 pictures of recommended with random weights, which make noise",
        "  base          1.25 s    500.000 TFLOP    50% of the matmul rate   11 GB at most",
        "  faces    not measured: no face",
        "  matmul rate: 800.000 TFLOP/s in float16",
        "  memory: 12 GB of the card's memory at most",
        "  a picture: 2.50 s; an hour: 1440.0; a dollar: 720.0",
        "  faster by: channels_last 1.12x, SDPA cuDNN not measured: no kernel",
        "x.json; plans of sweeps use these times.",
    ]
    assert "a dollar: not measured (give --price-per-hour)" in _words(found, Path("x.json"), None)


def test_random_weights_stand_in_for_weights_that_are_not_there(
    preset: Settings,
    small_configs: None,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A rented machine is measured before 13 GB of weights are fetched to it; plans of the real model know the times."""
    words = ("tiny", "--pictures", "1", "--set", "model=not-there", "--random-weights")
    assert bench(*words[:-1], "-q", monkeypatch=monkeypatch) != 0  # there are no weights of that name
    assert "not-there" in capsys.readouterr().err
    assert bench(*words, "--json", monkeypatch=monkeypatch) == 0
    said = json.loads(capsys.readouterr().out)
    assert (
        said["random_weights"]
        and said["settings"]["model"] == "not-there"
        and list(said["stages"]) == ["base", "refine"]
    )
    assert Costs.at_home().seconds("refine", preset.replace(model="not-there")) is not None


def test_random_weights_that_do_not_fit_on_the_disk_are_refused_first(
    small_configs: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")(1, 1, 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(DiskFull, match="GB are free at"):
        write_random_sdxl(tmp_path / "sdxl")
    assert not list((tmp_path / "sdxl").iterdir())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tiny", "--pictures", "0"], "--pictures is 0"),
        (["tiny", "--price-per-hour", "0"], "--price-per-hour is 0.0"),
        (["tiny", "--fast"], "bench does not know --fast"),
        (["none-of-that-name"], "there is no preset"),
    ],
)
def test_wrong_words_are_refused_before_anything_is_loaded(
    words: list[str], said: str, preset: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench(*words, monkeypatch=monkeypatch) == 2
    assert said in capsys.readouterr().err


def test_work_is_counted_as_torch_counts_it() -> None:
    with counting_flops() as counted:
        torch.mm(torch.ones(8, 16), torch.ones(16, 4))
        assert counted() == 2 * 8 * 16 * 4
    assert matmul_rate("float32") > 1e8


def test_what_makes_a_unet_faster_is_measured_or_said_to_be_not(preset: Settings) -> None:
    """On the CPU, where a kernel of cuDNN has to fail: on a card this code has not run yet."""
    unet = Bench().diffusion(preset).base.unet
    gains = unet_gains(unet, 64, 64, compiler="eager")
    assert next(iter(gains)) == "channels_last" and list(gains)[-1] == "regional compile"
    assert all(isinstance(gains[name], float) for name in ("channels_last", "fp16 accumulation", "regional compile"))
    assert str(gains["SDPA cuDNN"]).startswith("not measured: ")
    assert torch.backends.cuda.matmul.allow_fp16_accumulation is False
