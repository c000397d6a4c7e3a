import itertools
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support.checkpoints import pipelines_of, write_configs
from support.loras import write_lora

from workbench.errors import SettingsError, SpecError, UsageError, WorkbenchError
from workbench.models import models_folder
from workbench.recipe.pipeline import Bench
from workbench.runs import ResolvedSpec
from workbench.settings import Settings, stages
from workbench.store.store import Store
from workbench.sweeps.costs import Costs
from workbench.sweeps.planning import Plan, plan
from workbench.sweeps.spec import MAX_CELLS, make_spec, parse_range, write_out

SDXL_GRID = {
    "preset": "hires-768",
    "axes": {"strength": "0.25:0.45:0.05", "refine_cfg": [3, 5, 7, 9, 11], "weight": [0.0, 0.25, 0.5, 0.75, 1.0]},
}


@pytest.fixture(scope="module")
def sdxl_without_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_configs(tmp_path_factory.mktemp("configs") / "sdxl")


@pytest.fixture
def no_weights(monkeypatch: pytest.MonkeyPatch, home: Path, sdxl_without_weights: Path) -> None:
    """Plan the real recipe without its 13 GB, with the tokenizers that it has."""
    (home / "models").mkdir(parents=True)
    (home / "models" / "sdxl").symlink_to(sdxl_without_weights)
    for stage in stages().values():
        monkeypatch.setattr(type(stage), "weights", lambda self, s: [self.name, s.model])


def test_plan_counts_each_stage_once(spec: dict, bench: Bench) -> None:
    planned = plan(spec, bench.store).to_json()
    assert planned["cells"] == 24
    counts = {stage: (n["jobs"], n["shared"], n["done"]) for stage, n in planned["stages"].items()}
    assert counts == {
        "base": (2, 22, 0),
        "refine": (8, 16, 0),
        "faces": (24, 0, 0),
        "detail": (0, 0, 0),
        "upscale": (0, 0, 0),
    }
    # the two CFGs of a prompt and strength start from the same latents: one evaluation less for each of those pairs
    assert planned["unet_evaluations"] == {"base": 2 * 4, "refine": 2 * (2 * (3 + 5) - 2), "detail": 0}
    assert planned["naive_unet_evaluations"] == {"base": 24 * 4, "refine": 12 * (3 + 5), "detail": 0}
    assert planned["warnings"] == []
    assert bench.counters()["stages"]["base"] == 0
    json.dumps(planned)


def test_the_minimum_is_the_analytic_one(no_weights: None) -> None:
    planned = plan(SDXL_GRID, Store(None))
    assert planned.minimum() == {
        "unet_evaluations": {"base": 30, "refine": 190, "detail": 0},
        "prompt_encodes": 2, "vae_encodes": 1, "vae_decodes": 26,
        "detections": 25, "prefixes": 25, "weights": 125,
    }  # fmt: skip
    assert planned.to_json()["naive_unet_evaluations"] == {"base": 3750, "refine": 1050, "detail": 0}


@pytest.mark.parametrize(
    ("axes", "evaluations", "encodes"),
    [
        ({"refine_cfg": [1.0, 5.0]}, (30, 16), 3),  # without guidance nothing is shared, and no negative prompt is read
        ({"refine_cfg": [3.0, 5.0], "negative_prompt": ["a", "b"]}, (60, 2 * 15), 4),
        ({"base_cfg": [3.0, 5.0]}, (59, 16), 2),
        ({"cfg": [3.0, 5.0]}, (59, 16), 2),
        ({"refine_cfg": [3.0, 5.0], "resampler": ["lanczos", "bicubic"]}, (30, 2 * 15), 2),
        ({"refine_cfg": [3.0, 5.0], "sampler": ["Euler", "DDIM"]}, (60, 2 * 15), 2),
        ({"refine_cfg": [3.0, 5.0], "hires": [False]}, (30, 0), 1),
    ],
)
def test_what_is_shared(no_weights: None, axes: dict[str, Any], evaluations: Any, encodes: int) -> None:
    minimum = plan({"preset": "hires-768", "axes": axes}, Store(None)).minimum()
    if axes.get(
        "negative_prompt"
    ):  # a negative prompt changes the base as well, so nothing but the CFG pairs is shared
        evaluations = (60, 2 * 15)
    assert tuple(minimum["unet_evaluations"].values()) == (*evaluations, 0)
    assert minimum["prompt_encodes"] == encodes


def test_encodes_and_detections_are_counted_by_their_input(no_weights: None) -> None:
    axes = {"hires_scale": [1.5, 2.0], "resampler": ["lanczos", "nearest"], "strength": [0.2, 0.4]}
    minimum = plan({"preset": "hires-768", "seeds": [1, 2], "axes": axes}, Store(None)).minimum()
    assert (minimum["vae_encodes"], minimum["vae_decodes"], minimum["detections"]) == (8, 18, 16)
    detectors = {"detector": ["retinaface_mobile0.25", "retinaface_resnet50"], "weight": [0.0, 1.0]}
    minimum = plan({"preset": "hires-768", "axes": detectors}, Store(None)).minimum()
    assert (minimum["detections"], minimum["weights"]) == (2, 4)


def test_what_is_in_the_store_is_done(spec: dict, bench: Bench) -> None:
    first = plan(spec, bench.store)
    cell = next(c for c in first.cells if (c.settings.strength, c.settings.refine_cfg) == (0.3, 2.0))
    bench.generate(cell.settings)
    planned = plan(spec, bench.store)
    assert planned.done == {"base": 1, "refine": 1, "detail": 0, "faces": 1, "upscale": 0}
    assert {stage: len(jobs) for stage, jobs in planned.left.items()} == {
        "base": 1,
        "refine": 7,
        "detail": 0,
        "faces": 23,
        "upscale": 0,
    }
    # its CFG sibling now evaluates its own first step
    assert planned.minimum()["unet_evaluations"]["refine"] == 28 - 3 + 1
    assert planned.to_json()["unet_evaluations"]["refine"] == 28
    # a finished picture needs no inputs: with its base lost only the others' are left
    kept = Store(None)
    for c in planned.cells:
        if c.settings.prompt == cell.settings.prompt:
            kept.put(c.key, bench.store.get(cell.key), {})  # type: ignore[arg-type]
    assert len(plan(spec, kept).left["base"]) == 1
    # nor is the base needed where the refined picture is there and only its face is missing
    refined = Store(None)
    for key in planned.jobs["refine"]:
        refined.put(key, bench.store.get(cell.key), {})  # type: ignore[arg-type]
    left = {stage: len(jobs) for stage, jobs in plan(spec, refined).left.items()}
    assert left == {"base": 0, "refine": 0, "detail": 0, "faces": 24, "upscale": 0}


def learnt(home: Path, settings: Settings) -> Costs:
    costs = Costs(home / "costs.json", "cpu")
    for stage, seconds in (("base", 10.0), ("refine", 20.0), ("faces", 2.0)):
        costs.learn(stage, settings, seconds, size_bytes=1000)
    return costs


def test_time_disk_and_price(spec: dict, bench: Bench, home: Path) -> None:
    small = {**spec, "prompts": ["a face"], "axes": {"weight": [0.0, 1.0]}}
    unknown = plan(small, bench.store, costs=Costs(home / "none.json", "cpu")).to_json(0.5)
    assert unknown["seconds"] is None and unknown["price"] is None
    assert unknown["not_measured"] == ["base", "refine", "faces"] and unknown["stages"]["base"]["seconds"] is None
    settings = plan(small, bench.store).cells[0].settings
    known = plan(small, bench.store, costs=learnt(home, settings)).to_json(0.5)
    assert {stage: n["seconds"] for stage, n in known["stages"].items()} == {
        "base": pytest.approx(10), "refine": pytest.approx(20), "detail": 0, "faces": pytest.approx(4),
        "upscale": 0,
    }  # fmt: skip
    assert known["seconds"] == pytest.approx(34) and known["price"] == pytest.approx(34 / 3600 * 0.5, abs=1e-4)
    assert [known["stages"][stage]["bytes"] for stage in ("base", "refine", "faces")] == [1000, 1000, 2000]
    assert known["bytes"] == 4000 + known["scores"]["bytes"] and known["scores"]["bytes"] == 2 * int(1.6 * 128 * 128)
    assert known["peak_memory"]["bytes"] > 1e8 and known["peak_memory"]["how"] == "estimated"
    # two CFGs: one shared evaluation of 2 x 3 less
    more = plan({**small, "axes": {"refine_cfg": [2.0, 6.0]}}, bench.store, costs=learnt(home, settings)).to_json()
    assert more["stages"]["refine"]["seconds"] == pytest.approx(40 * 5 / 6, abs=1e-3)


def test_scores_count_where_they_take_longer_than_all_else(spec: dict, bench: Bench, home: Path) -> None:
    small = {**spec, "prompts": ["a face"], "axes": {"weight": [0.0, 1.0]}}
    settings = plan(small, bench.store).cells[0].settings
    costs = learnt(home, settings)
    costs.learn("scores", settings, 1.0)
    assert plan(small, bench.store, costs=costs).to_json()["seconds"] == pytest.approx(34)
    costs.learn("scores", settings, 30.0)
    costs.learn("scores", settings, 30.0)
    assert plan(small, bench.store, costs=costs).to_json()["seconds"] == pytest.approx(60)


def test_aliased_and_dead_values_are_named(spec: dict, bench: Bench) -> None:
    axes = {"strength": [0.3, 0.35, 0.5], "weight": [0.2, 0.8], "refine_cfg": [2.0, 6.0]}
    planned = plan({**spec, "axes": axes, "fixed": {**spec["fixed"], "restorer": "none"}}, bench.store)
    assert planned.warnings == [
        "strength 0.3 and 0.35 give the same picture (each runs 3 of 10 refine steps); only one is computed.",
        "axis weight is dead: all its values (0.2 and 0.8) give the same picture (the faces stage does not run).",
    ]
    assert planned.to_json()["stages"]["refine"]["jobs"] == 2 * 2 * 2


def test_the_issue_s_alias() -> None:
    planned = plan({"preset": "embedded", "axes": {"strength": [0.36, 0.37, 0.45]}})
    assert "strength 0.36 and 0.37 give the same picture (each runs 9 of 25 refine steps)" in planned.warnings[0]


def test_dead_values_of_settings_that_vary_together(spec: dict, bench: Bench) -> None:
    zipped = [{"weight": [0.1, 0.9], "detector": ["retinaface_mobile0.25"] * 2}]
    planned = plan({**spec, "axes": {}, "zipped": zipped, "fixed": {**spec["fixed"], "restorer": "none"}}, bench.store)
    assert planned.warnings == [
        "axis weight+detector is dead: all its values (0.1/retinaface_mobile0.25 and 0.9/retinaface_mobile0.25) give the "
        "same picture (the faces stage does not run)."
    ]


def test_axes_are_ordered_by_stage(spec: dict, bench: Bench) -> None:
    axes = {"weight": [0.1, 0.2], "strength": [0.3, 0.5], "base_cfg": [2.0, 3.0]}
    zipped = [{"detector": ["retinaface_mobile0.25"] * 2, "steps": [2, 3]}]
    fixed = {name: value for name, value in spec["fixed"].items() if name != "steps"}
    planned = plan({**spec, "axes": axes, "zipped": zipped, "fixed": fixed}, bench.store)
    assert list(planned.resolved["axes"]) == ["base_cfg", "detector+steps", "strength", "weight"]


def test_settings_that_vary_together(spec: dict, bench: Bench) -> None:
    zipped = [{"width": [64, 128], "height": "64:128:64", "cfg": [2, 3.0]}]
    fixed = {name: value for name, value in spec["fixed"].items() if name not in ("width", "height")}
    axes = {"weight": [0.0, 1.0]}
    planned = plan({**spec, "prompts": ["a face"], "axes": axes, "zipped": zipped, "fixed": fixed}, bench.store)
    rows = [(c.settings.width, c.settings.height, c.settings.base_cfg, c.settings.weight) for c in planned.cells]
    assert rows == [(64, 64, 2, 0), (64, 64, 2, 1), (128, 128, 3, 0), (128, 128, 3, 1)]
    assert planned.resolved["axes"] == {"width+height+cfg": [[64, 64, 2.0], [128, 128, 3.0]], "weight": [0.0, 1.0]}
    assert all(c.settings.refine_cfg == c.settings.base_cfg for c in planned.cells)


@pytest.mark.parametrize(
    ("name", "values", "written"),
    [
        ("strength", "0.2:0.5:0.05", [0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5]),
        ("strength", ["0.1:0.3:0.1", 0.7, 1], [0.1, 0.2, 0.3, 0.7, 1.0]),
        ("cfg", "1 : 7 : 3", [1.0, 4.0, 7.0]),
        ("steps", "1:4", [1, 2, 3, 4]),
        ("steps", ["2:6:2", 9], [2, 4, 6, 9]),
        ("weight", "0.5:0.5:0.1", [0.5]),
        ("negative_prompt", ["a:b", "0:1:1"], ["a:b", "0:1:1"]),
    ],
)
def test_ranges(name: str, values: Any, written: list[Any]) -> None:
    axes = write_out(make_spec({"preset": "embedded", "axes": {name: values}})).axes
    assert axes == {name: written} and [type(v) for v in axes[name]] == [type(v) for v in written]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"axes": {"strenght": [0.3]}}, "did you mean 'strength'"),
        ({"axes": {"strength": [0.3, 1.7]}}, "strength = 1.7 is not allowed"),
        ({"axes": {"strength": ["0.5:1.5:0.5"]}}, "strength = 1.5 is not allowed"),
        ({"axes": {"strength": ["much"]}}, "strength = 'much' is not allowed"),
        ({"axes": {"strength": [[0.3]]}}, "strength = [0.3] is not allowed"),
        ({"axes": {"strength": [True]}}, "strength = True is not allowed"),
        ({"axes": {"strength": 0.3}}, "axes.strength = 0.3 is no list; write [0.3]"),
        ({"axes": [0.3]}, "a table of lists"),
        ({"axes": {"strength": []}}, "axes.strength is empty"),
        ({"axes": {"strength": [0.3, 0.3]}}, "names a value twice"),
        ({"axes": {"refine_cfg": [5, 5.0]}}, "names a value twice"),
        ({"axes": {"sampler": ["Euler", "euler"]}}, "names a value twice"),
        ({"axes": {"strength": ["0.2:0.4:0.1", 0.3]}}, "names a value twice"),
        ({"axes": {"sampler": "Euler"}}, "is not a list of values; write ['Euler']"),
        ({"axes": {"strength": "0.2:0.5:0.07"}}, "write 0.2:0.48:0.07"),
        ({"axes": {"strength": "0.5:0.2:0.1"}}, "start below stop"),
        ({"axes": {"strength": "0.2:0.5"}}, "is no range; write start:stop:step"),
        ({"axes": {"strength": "0.2:0.5:0"}}, "step above 0"),
        ({"axes": {"strength": "a:b:c"}}, "is no range"),
        ({"axes": {"strength": "NaN:1:1"}}, "is no range"),
        ({"axes": {"steps": "1e999999:1e999999:1"}}, "the step may be left out"),
        ({"axes": {"steps": "1:2:0.5"}}, "no range of whole numbers"),
        ({"axes": {"strength": [0.02], "refine_steps": [10]}}, "is 0 denoising steps"),
        ({"axes": {"seed": [1]}}, "list its values under seeds"),
        ({"zipped": [{"prompt": ["a"]}]}, "list its values under prompts"),
        ({"axes": {"cfg": [1.0], "base_cfg": [2.0]}}, "beside it"),
        ({"fixed": {"cfg": 1.0}, "axes": {"refine_cfg": [2.0]}}, "refine_cfg cannot stand beside it"),
        ({"zipped": [{"cfg": [1.0], "weight": [1.0]}], "fixed": {"base_cfg": 2.0}}, "base_cfg cannot stand beside it"),
        ({"zipped": [{"weight": [0.1, 0.2], "strength": [0.3]}]}, "weight has 2, strength has 1"),
        ({"zipped": [{"weight": [0.1]}, {"weight": [0.2]}]}, "weight is zipped twice"),
        ({"zipped": [{"weight": [0.1, 0.1], "steps": [2, 2]}]}, "names a value twice"),
        ({"zipped": [{"weight": [0.1]}], "axes": {"weight": [0.2]}}, "weight is both an axis and zipped"),
        ({"zipped": {"weight": [0.1]}}, "[[zipped]]"),
        ({"prompts": []}, "prompts is empty"),
        ({"prompts": [" "]}, "empty prompt"),
        ({"prompts": ["a", "a"]}, "names a value twice"),
        ({"prompts": ["a"], "fixed": {"prompt": "b"}}, "prompt is fixed, and prompts lists others"),
        ({"seeds": [1], "fixed": {"seed": 2}}, "seed is fixed, and seeds lists others"),
        ({"seeds": [1.5]}, "seeds = [1.5] is not allowed; it must be a list of whole numbers, or how many"),
        ({"seeds": 0}, "seeds is empty"),
        ({"seeds": True}, "seeds = True is not allowed"),
        ({"seeds": 3, "fixed": {"seed": 2**53 - 2}}, "seed = 9007199254740992 is not allowed"),
        ({"fixed": {"weigth": 1}}, "did you mean 'weight'"),
        ({"fixed": {"weight": [1]}}, "[fixed]: weight = [1] is not allowed"),
        ({"fixed": {"weight": 0.5}, "axes": {"weight": [0.1]}}, "both an axis and fixed"),
        ({"strength": [0.3]}, "settings go under [axes]"),
        ({"preset": "nope"}, "no preset 'nope'"),
        ({"base": "recommended"}, "name two presets; keep one"),
        ({"strategy": "bayes"}, "grid, random, race or pareto"),
        ({"budget": 10}, "does not go with strategy 'grid'"),
        ({"strategy": "race", "budget": 0}, "a whole number from 1"),
        ({"batch_size": 65}, "from 1 to 64, or 'auto'"),
        ({"batch_size": "big"}, "from 1 to 64, or 'auto'"),
        ({"executor": "dask"}, "local or ray"),
        ({"upscale_winners": -1}, "a whole number from 0"),
        ({"upscale_winners": 2}, "has no upscaler"),
        (
            {"upscale_winners": 2, "axes": {"upscaler": ["none", "realesrgan-x4plus"]}},
            "has no upscaler",
        ),
    ],
)  # fmt: skip
def test_bad_specs_are_refused_before_anything_runs(change: dict, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.sweeps.planning.ContentKeys", lambda: pytest.fail("keys need torch and weights"))
    with pytest.raises(UsageError) as caught:
        plan({"preset": "embedded", **change})
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"axes": {"strength": "0.001:1:0.001", "weight": "0.001:1:0.001"}, "seeds": 1000}, "1,000,000,000 cells"),
        ({"seeds": 10**9}, "1,000,000,000 cells (1,000,000,000 seeds)"),
        ({"seeds": 3, "axes": {"steps": "1:100", "strength": "0.001:1:0.001"}}, "1,000 strength x 100 steps x 3 seeds"),
        ({"zipped": [{"strength": "0:4088:0.000001", "weight": "0:4088:0.000001"}]}, "4,088,000,001 strength+weight"),
    ],
)
def test_a_sweep_without_end_is_refused_at_once(change: dict, said: str) -> None:
    started = time.perf_counter()
    with pytest.raises(SpecError) as caught:
        plan({"preset": "embedded", **change})
    assert time.perf_counter() - started < 0.2
    assert said in str(caught.value) and f"{MAX_CELLS:,}" in str(caught.value)


def test_a_bad_spec_needs_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from workbench.errors import SpecError; from workbench.sweeps import plan\n"
        "try: plan({'preset': 'embedded', 'axes': {'weight': [0.5, 0.5]}})\n"
        "except SpecError: print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_exact_decimals() -> None:
    start, step, count = parse_range("strength", "0.1:0.7:0.1")
    assert [float(start + step * i) for i in range(count)] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]


def test_bad_spec_files(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no spec"):
        make_spec(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("axes = [")
    with pytest.raises(SpecError, match="not a TOML spec"):
        make_spec(tmp_path / "bad.toml")


def test_prompts_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text('base = "embedded"\nprompts_file = "p.txt"\n')
    with pytest.raises(SpecError, match="cannot be read"):
        make_spec(tmp_path / "s.toml")
    (tmp_path / "p.txt").write_text("# people\nGrace Hopper, ünïcode \n\n  Eileen Collins #2\n", encoding="utf-8")
    spec = make_spec(tmp_path / "s.toml")
    assert (spec.preset, spec.prompts) == ("embedded", ["Grace Hopper, ünïcode", "Eileen Collins #2"])
    (tmp_path / "p.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(SpecError, match="UTF-16"):
        make_spec(tmp_path / "s.toml")
    (tmp_path / "p.txt").write_text("# nobody\n")
    with pytest.raises(SpecError, match="holds no prompt"):
        make_spec(tmp_path / "s.toml")
    with pytest.raises(SpecError, match="keep one"):
        make_spec({"prompts": ["a"], "prompts_file": "p.txt"})


def test_seeds_by_count(spec: dict) -> None:
    assert write_out(make_spec({"preset": "embedded", "seeds": 3, "fixed": {"seed": 7}})).seeds == [7, 8, 9]
    drawn = write_out(make_spec({"preset": "embedded", "seeds": 3, "fixed": {"seed": -1}})).seeds
    assert drawn[0] >= 0 and drawn == list(range(drawn[0], drawn[0] + 3))


DRAWS: list[dict[str, Any]] = [
    {"seeds": [-1]}, {"seeds": [4, -1]}, {"seeds": [-1, -1, -1]}, {"fixed": {"seed": -1}},
    {"seeds": 2, "fixed": {"seed": -1}},
]  # fmt: skip


@pytest.mark.parametrize("wanted", DRAWS)
def test_the_same_spec_draws_the_same_seeds(wanted: dict[str, Any], tmp_path: Path) -> None:
    """The same command was another run each time, though it is said to go on."""

    def seeds(**more: Any) -> list[int]:
        return write_out(make_spec({"preset": "embedded", **wanted, **more})).seeds

    drawn = seeds()
    assert drawn == seeds() and -1 not in drawn and max(drawn) < 2**32 + 1 and len(set(drawn)) == len(drawn)
    assert seeds(axes={"weight": [0.2, 0.4]}) == drawn  # a wider sweep uses the narrower one's pictures
    assert seeds(name="again")[-1] != drawn[-1] and seeds(prompts=["another"])[-1] != drawn[-1]
    one, other = (plan({"preset": "embedded", **wanted}, Store(None)) for _ in range(2))
    assert one.hash == other.hash


@pytest.mark.parametrize("seeds", [[1], [-1]])
def test_a_later_stage_that_is_off_makes_no_other_run(seeds: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of a run does not tell its settings, so what is drawn from the spec cannot depend on them."""
    monkeypatch.setattr(type(stages()["upscale"]), "named_when_off", False)
    one, other = (
        plan({"preset": "embedded", "seeds": seeds, "fixed": fixed}, Store(None))
        for fixed in ({}, {"upscale_factor": 4})
    )
    assert one.hash == other.hash


@pytest.mark.parametrize("seeds", [[1], [-1]])
@pytest.mark.parametrize(
    ("entry", "value"), [("prompts", ["a \ud83d"]), ("prompts", ["a\0b"]), ("name", "\ud83d"), ("name", "a\0b")]
)
def test_text_that_no_file_can_hold(seeds: list[int], entry: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"{entry} holds the character .* at place [123], which is no UTF-8 text"):
        write_out(make_spec({"preset": "embedded", "seeds": seeds, entry: value}))


@pytest.mark.parametrize("text", ["0.2:0.4:0_.1", "٠:١:١", "0:1:nan", "0:1:inf"])
def test_ranges_of_no_numbers(text: str) -> None:
    with pytest.raises(SpecError, match="is no range"):
        write_out(make_spec({"preset": "embedded", "axes": {"strength": text}}))


def test_large_seeds_are_taken_and_larger_ones_refused() -> None:
    assert write_out(make_spec({"preset": "embedded", "seeds": [2**53 - 1]})).seeds == [2**53 - 1]
    with pytest.raises(UsageError, match="not exact in JSON"):
        write_out(make_spec({"preset": "embedded", "seeds": [2**53]}))


@pytest.mark.parametrize(
    ("mark", "said"),
    [(b"\xef\xbb\xbf", None), (b"\xff\xfe", "UTF-16"), (b"\xe9", "byte 1 is not UTF-8"), (b"p\0", "UTF-16")],
)
def test_text_as_editors_save_it(tmp_path: Path, mark: bytes, said: str | None) -> None:
    """A UTF-8 mark turned a comment into a prompt."""
    (tmp_path / "p.txt").write_bytes(mark + b"# my prompts\r\nportrait photo of Grace Hopper\r\n")
    (tmp_path / "s.toml").write_text('preset = "embedded"\nprompts_file = "p.txt"\n')
    (tmp_path / "marked.toml").write_bytes(mark + b'preset = "embedded"\r\n')
    (tmp_path / "marked.json").write_bytes(mark + b'{"preset": "embedded"}')
    if said is None:
        assert write_out(make_spec(tmp_path / "s.toml")).prompts == ["portrait photo of Grace Hopper"]
        assert make_spec(tmp_path / "marked.toml").preset == make_spec(tmp_path / "marked.json").preset == "embedded"
        return
    for name in ("s.toml", "marked.toml", "marked.json"):
        with pytest.raises(SpecError, match=said):
            make_spec(tmp_path / name)


def test_ranges_of_any_spelling() -> None:
    assert write_out(make_spec({"preset": "embedded", "axes": {"strength": ".2:.4:.1"}})).axes["strength"] == [
        0.2,
        0.3,
        0.4,
    ]


def test_what_names_a_run(spec: dict, bench: Bench) -> None:
    def resolved(**changes: Any) -> ResolvedSpec:
        return plan({**spec, **changes}, bench.store).resolved

    usual = resolved()
    assert (usual["strategy"], usual["budget"]) == ("grid", None) and "batch_size" not in usual
    assert resolved(executor="ray") == usual
    assert resolved(batch_size=4) == {**usual, "batch_size": 4}
    assert resolved(strategy="race", budget=9) == {**usual, "strategy": "race", "budget": 9}


def test_the_batch_size_is_part_of_the_keys(spec: dict, bench: Bench) -> None:
    alone, four = (plan({**spec, "batch_size": n}, bench.store).cells[0].keys for n in (1, 4))
    auto = plan(spec, bench.store, batch={"base": 4, "refine": 4}).cells[0].keys
    assert alone == plan(spec, bench.store).cells[0].keys and four == auto
    assert all(four[stage] != alone[stage] for stage in alone)


def test_only_the_winners_are_upscaled(spec: dict, bench: Bench) -> None:
    wanted = {**spec, "fixed": {**spec["fixed"], "upscaler": "realesrgan-x4plus"}}
    every, winners = plan(wanted, bench.store), plan({**wanted, "upscale_winners": 2}, bench.store)
    assert len(every.jobs["upscale"]) > 0 and every.upscaler == "none"
    assert not winners.jobs["upscale"] and winners.upscaler == "realesrgan-x4plus" and winners.spec.upscale_winners == 2
    assert winners.resolved == plan(spec, bench.store).resolved  # the same run, so winners can be asked for later


def test_spec_changes_from_the_command_line(spec: dict) -> None:
    changed = make_spec(spec).with_values(
        {"weight": 0.4, "strength": [0.2, 0.4], "steps": 3, "seeds": 4, "refine_cfg": "2:6:2", "strategy": "race"}
    )
    assert changed.axes == {"strength": [0.2, 0.4], "refine_cfg": "2:6:2"}
    assert changed.fixed["weight"] == 0.4 and changed.fixed["steps"] == 3
    assert (changed.seeds, changed.strategy) == (4, "race")
    assert make_spec(spec).with_values({"base": "embedded"}).preset == "embedded"
    with pytest.raises(SettingsError):
        make_spec(spec).with_values({"foo": 1})


def test_cells_are_numbered_as_the_grid_says(spec: dict, bench: Bench) -> None:
    planned: Plan = plan(spec, bench.store)
    axes = planned.resolved["axes"]
    wanted = list(itertools.product(spec["prompts"], [3], *axes.values()))
    assert [
        (c.settings.prompt, c.settings.seed, *(getattr(c.settings, n) for n in axes)) for c in planned.cells
    ] == wanted


def test_the_plan_in_words(spec: dict, bench: Bench, home: Path) -> None:
    from workbench.cli.runs import plan_words

    small = {**spec, "prompts": ["a face"], "axes": {"weight": [0.0, 1.0, 0.5]}}
    settings = plan(small, bench.store).cells[0].settings
    unknown = plan(small, bench.store, costs=Costs(home / "none.json", "cpu"))
    assert plan_words(unknown.to_json(0.5)).splitlines()[1:4] == [
        "  stage   jobs  shared  done     time left    disk",
        "  base       1       2     0  not measured  0.0 MB",
        "  refine     1       2     0  not measured  0.0 MB",
    ]
    assert "price at 0.5 an hour not known: base, refine, faces was not measured" in plan_words(unknown.to_json(0.5))
    costs = learnt(home, settings)
    for stage, seconds in (("base", 1000.0), ("refine", 1500.0), ("faces", 10.0)):
        for _ in range(9):
            costs.learn(stage, settings, seconds)
    known = plan(small, bench.store, costs=costs)
    words = plan_words(known.to_json(0.44)).splitlines()
    assert words[0] == "3 cells" and words[3].split()[:5] == ["refine", "1", "2", "0", "25"]
    assert words[-2].startswith("7 UNet evaluations instead of 21; about 42 min left; disk ")
    assert words[-1] == "about 0.31 (42 min at 0.44 an hour)"
    partly = Costs(home / "partly.json", "cpu")
    partly.learn("base", settings, 3.0)
    said = plan_words(plan(small, bench.store, costs=partly).to_json())
    assert "at least 3 s left, not measured on this device: refine, faces" in said and "an hour" not in said
    search = plan({**small, "strategy": "race", "budget": 2}, bench.store, costs=costs)
    assert plan_words(search.to_json()).startswith("3 cells to choose from by race, at most 2 of them are made;")


def test_set_on_the_command_line() -> None:
    from workbench.cli.runs import _spec_value

    given = {
        "weight": "0.1:0.3:0.1",
        "strength": "[0.1, '0.3:0.5:0.1']",
        "steps": "4",
        "seeds": "3",
        "batch_size": "auto",
    }
    assert {name: _spec_value(name, text) for name, text in given.items()} == {
        "weight": "0.1:0.3:0.1", "strength": [0.1, "0.3:0.5:0.1"], "steps": 4, "seeds": 3, "batch_size": "auto",
    }  # fmt: skip
    assert (_spec_value("budget", "12"), _spec_value("preset", "7"), _spec_value("cfg", "7")) == (12, "7", 7.0)
    with pytest.raises(UsageError, match="not a number"):
        _spec_value("weight", "heavy")


def test_the_order_of_axes_names_another_run(spec: dict) -> None:
    """It numbers the cells: one folder for both would show one's pictures under the other's labels."""
    turned = {**spec, "axes": {name: spec["axes"][name] for name in ("refine_cfg", "strength", "weight")}}
    one, other = (
        plan({**spec, "axes": {**turned["axes"]}}),
        plan({**spec, "axes": dict(reversed(turned["axes"].items()))}),
    )
    assert [c.settings for c in one.cells] != [c.settings for c in other.cells]
    assert one.hash != other.hash and one.hash == plan(turned).hash


def test_a_lora_weight_is_an_axis_in_toml(tmp_path: Path, tiny: Settings, bench: Bench, tiny_model: Path) -> None:
    """Quoted, as TOML needs a name with a colon."""
    base, _ = pipelines_of(tiny_model)
    write_lora(models_folder() / "loras" / "detail.safetensors", "kohya", base)
    path = tmp_path / "loras.toml"
    path.write_text(
        'preset = "recommended"\nprompts = ["a face"]\nseeds = [1]\n[axes]\n"lora:detail" = [0, 0.4, "0.6:0.8:0.1"]\n'
        f'weight = [0.2, 0.6]\n[fixed]\nmodel = "{tiny_model}"\nwidth = 64\nheight = 64\nloras = "detail.safetensors:0.8"\n'
    )
    planned = plan(path, bench.store)
    assert list(planned.resolved["axes"]) == ["lora:detail", "weight"]  # it acts in the base
    assert planned.resolved["axes"]["lora:detail"] == [0.0, 0.4, 0.6, 0.7, 0.8]
    said = [cell.settings.loras for cell in planned.cells[::2]]
    assert said == [f"detail.safetensors:{weight}" for weight in ("0", "0.4", "0.6", "0.7", "0.8")]
    assert len(planned.jobs["base"]) == 5 and len(planned.jobs["refine"]) == 5
    for name, values, said in (
        ("lora:nosuch", [1.0], "the LoRA 'nosuch' is not there"),
        ("lora:detail", [11], "must be float from -10 to 10"),
        ("lora:a+b", [1.0], "'+' joins settings"),
        ("loar:detail", [1.0], "unknown setting 'loar:detail'"),
    ):
        with pytest.raises(WorkbenchError, match=re.escape(said)):
            plan({**make_spec(path).model_dump(), "axes": {name: values}}, bench.store)
    fixed = {**make_spec(path).fixed, "lora:detail": 0.5}
    assert (
        plan({**make_spec(path).model_dump(), "axes": {}, "fixed": fixed}, bench.store)
        .cells[0]
        .settings.loras.endswith(":0.5")
    )


def test_a_run_of_plain_prompts_keeps_the_name_that_it_had(tiny: Settings) -> None:
    """Before there was a syntax; with anything that the syntax is about, it is another run."""
    fixed = {n: v for n, (v, _) in tiny.diff(Settings()).items() if n not in ("prompt", "seed", "prompt_syntax")}

    def name(prompt: str, syntax: str, **more: Any) -> str:
        return plan(
            {"preset": "recommended", "prompts": [prompt], "fixed": {**fixed, "prompt_syntax": syntax, **more}},
            Store(None),
        ).hash

    assert name("a face", "webui") == name("a face", "plain")
    for prompt in ("a (face)", "a" * 76, "a \\(face", "a BREAK face"):
        assert name(prompt, "webui") != name(prompt, "plain")
    assert name("a face", "webui", hires_prompt="a (lake)") != name("a face", "plain", hires_prompt="a (lake)")
