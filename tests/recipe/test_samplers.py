"""Samplers, schedules and steps: pixel for pixel as plain diffusers; pairs that are none are refused by name."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers.schedulers import AysSchedules
from support.checkpoints import pipelines_of

from workbench.errors import SettingsError
from workbench.files import pixels_sha256
from workbench.models import SAMPLERS, sampler_steps
from workbench.recipe import Answer, Bench, Diffusion, Row, idle_settings, notes, stage_keys
from workbench.settings import Settings, stages
from workbench.store import Store
from workbench.sweeps.session import sweep

d: Any = diffusers
M, SDE = d.DPMSolverMultistepScheduler, d.DPMSolverSDEScheduler
PLAIN: dict[tuple[str, str], Any] = {  # (sampler, schedule): how somebody would write it with diffusers
    ("DPM++ 2M", "Karras"): (M, {"use_karras_sigmas": True}),
    ("DPM++ 2M Karras", "auto"): (M, {"use_karras_sigmas": True}),
    ("DPM++ 2M", "auto"): (M, {}),
    ("DPM++ 2M", "Normal"): (M, {"timestep_spacing": "linspace"}),
    ("DPM++ 2M SDE", "Exponential"): (M, {"algorithm_type": "sde-dpmsolver++", "use_exponential_sigmas": True}),
    ("DPM++ SDE Karras", "auto"): (SDE, {"use_karras_sigmas": True, "noise_sampler_seed": 5}),
    ("DPM++ SDE", "SGM Uniform"): (SDE, {"timestep_spacing": "trailing", "noise_sampler_seed": 5}),
    ("Euler", "SGM Uniform"): (d.EulerDiscreteScheduler, {"timestep_spacing": "trailing"}),
    ("Euler", "Beta"): (d.EulerDiscreteScheduler, {"use_beta_sigmas": True}),
    ("Euler a", "auto"): (d.EulerAncestralDiscreteScheduler, {}),
    ("UniPC", "Karras"): (d.UniPCMultistepScheduler, {"use_karras_sigmas": True}),
    ("DDIM", "SGM Uniform"): (d.DDIMScheduler, {"timestep_spacing": "trailing"}),
    ("LCM", "auto"): (d.LCMScheduler, {}),
    ("TCD", "auto"): (d.TCDScheduler, {}),
}


@cache
def loaded(model: Path) -> tuple[Any, ...]:
    """((pipeline, the config of its own scheduler) of the base and of the refiner), by plain diffusers: only read here."""
    return tuple((pipe, pipe.scheduler.config) for pipe in pipelines_of(model))


@cache
def one_bench() -> Bench:
    """For all pictures of this file: a sampler must not find what another one left behind."""
    return Bench(Store(None))


def plain(
    model: Path,
    s: Settings,
    first: tuple[Any, dict[str, Any]],
    second: tuple[Any, dict[str, Any]],
    steps: int,
    strength: float,
) -> list[str]:
    """Hashes of (base, refined) by plain diffusers; the hires fix has `steps` and `strength`."""
    for (pipe, config), (made, changes) in zip(loaded(model), (first, second), strict=True):
        pipe.set_progress_bar_config(disable=True)
        pipe.scheduler = made.from_config(config, **changes)
    (base, _), (refines, _) = loaded(model)
    generator = torch.Generator("cpu").manual_seed(s.seed)
    words: dict[str, Any] = {"negative_prompt": s.negative_prompt, "generator": generator}
    picture = base(
        s.prompt, width=s.width, height=s.height, num_inference_steps=s.steps, guidance_scale=s.base_cfg, **words
    ).images[0]
    refined = refines(
        s.prompt, image=picture.resize(s.hires_size, 1), strength=strength, num_inference_steps=steps,
        guidance_scale=s.refine_cfg, **words,
    ).images[0]  # fmt: skip
    assert np.asarray(refined).std() > 5
    return [pixels_sha256(picture), pixels_sha256(refined)]


def ours(s: Settings) -> list[str]:
    return [pixels_sha256(picture) for picture in one_bench().generate(s).stages.values()]


@pytest.mark.parametrize(("sampler", "schedule"), PLAIN)
def test_every_sampler_gives_the_pixels_of_plain_diffusers(
    sampler: str, schedule: str, tiny: Settings, tiny_model: Path
) -> None:
    s = tiny.replace(sampler=sampler, schedule=schedule, seed=5, steps=5)
    how = PLAIN[sampler, schedule]
    assert ours(s) == plain(tiny_model, s, how, how, s.refine_steps, s.strength)


def test_keys_have_the_schedule(tiny: Settings) -> None:
    known = ("auto", "Normal", "Karras", "Exponential", "Beta", "SGM Uniform", "Align Your Steps")
    both = [stage_keys(tiny.replace(sampler="DPM++ 2M", schedule=schedule)) for schedule in known]
    assert len({keys["base"] for keys in both}) == len(known) == len({keys["refine"] for keys in both})
    hires = [stage_keys(tiny.replace(sampler="DPM++ 2M", hires_schedule=schedule)) for schedule in known]
    assert [keys["refine"] for keys in hires[1:]] != [keys["refine"] for keys in both[1:]]  # another base
    assert {keys["base"] for keys in hires} == {both[0]["base"]} and len({keys["refine"] for keys in hires}) == len(
        known
    )


def test_few_steps_at_cfg_1(tiny: Settings, tiny_model: Path) -> None:
    """As Lightning, Hyper and DMD2 are run: 4 steps, no guidance."""
    for sampler, schedule in (("Euler", "SGM Uniform"), ("LCM", "auto"), ("TCD", "auto"), ("DDIM", "SGM Uniform")):
        s = tiny.replace(sampler=sampler, schedule=schedule, steps=4, cfg=1.0, refine_steps=4, strength=0.5)
        how = PLAIN[sampler, schedule]
        assert ours(s) == plain(tiny_model, s, how, how, 4, 0.5)


def test_align_your_steps_are_the_ten_that_are_published(tiny: Settings, tiny_model: Path) -> None:
    s = tiny.replace(sampler="DPM++ 2M", schedule="AYS", steps=10, hires=False)
    base, _ = pipelines_of(tiny_model)
    base.set_progress_bar_config(disable=True)
    base.scheduler = M.from_config(base.scheduler.config)
    published: Any = AysSchedules["StableDiffusionXLTimesteps"]
    picture = base(
        s.prompt, negative_prompt=s.negative_prompt, width=64, height=64, timesteps=published, guidance_scale=s.base_cfg,
        generator=torch.Generator("cpu").manual_seed(s.seed),
    ).images[0]  # fmt: skip
    assert ours(s) == [pixels_sha256(picture)]


def test_align_your_steps_are_interpolated_log_linearly(tiny_model: Path) -> None:
    """By the authors' own sigmas for SDXL: at 20 steps each tenth one is theirs, the one between their geometric mean."""
    from workbench.models import pipelines

    scheduler: Any = pipelines.make_scheduler("Euler", "Align Your Steps", loaded(tiny_model)[0][1])
    pipelines.set_steps(scheduler, "Align Your Steps", 20, "cpu")
    theirs = np.array([14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029])
    sigmas = scheduler.sigmas.numpy()[:-1]
    assert sigmas[::2] == pytest.approx(theirs[:-1], rel=0.02)
    assert sigmas[1::2] == pytest.approx(np.sqrt(theirs[:-1] * theirs[1:]), rel=0.04)  # a timestep is a whole number


def test_the_hires_fix_may_have_another_sampler(tiny: Settings, tiny_model: Path) -> None:
    s = tiny.replace(sampler="Euler", schedule="SGM Uniform", hires_sampler="DPM++ 2M", hires_schedule="Karras", seed=5)
    want = plain(tiny_model, s, PLAIN["Euler", "SGM Uniform"], PLAIN["DPM++ 2M", "Karras"], s.refine_steps, s.strength)
    assert ours(s) == want
    keys = stage_keys(s)
    assert stage_keys(s.replace(hires_sampler="DPM++ 2M Karras", hires_schedule="auto")) == keys
    assert stage_keys(s.replace(hires_sampler="UniPC"))["base"] == keys["base"]
    same = tiny.replace(hires_sampler=tiny.sampler)
    assert stage_keys(same) == stage_keys(tiny)


def test_fixed_strength_steps_run_all_steps(tiny: Settings, tiny_model: Path) -> None:
    """A1111's and ComfyUI's rule: the last N of int(N / strength)."""
    how = PLAIN["DPM++ 2M Karras", "auto"]
    for steps, strength, whole in ((4, 0.5, 8), (7, 0.28, 24), (7, 0.35, 20), (13, 0.55, 23), (3, 1.0, 3)):
        s = tiny.replace(strength_steps="fixed", refine_steps=steps, strength=strength, seed=5)
        assert (s.refine_evaluations, s.refine_schedule_steps) == (steps, whole)
        assert stages()["refine"].unet_evaluations(s) == steps
        assert ours(s) == plain(tiny_model, s, how, how, whole, (steps + 0.5) / whole if whole > steps else 1.0)
    with_13 = tiny.replace(strength_steps="fixed", refine_steps=13, strength=0.55)  # 23 * (13 / 23) is below 13
    assert Bench(Store(None)).generate(with_13).counters["unet_evaluations"]["refine"] == 13
    axis = [tiny.replace(strength_steps="fixed", refine_steps=25, strength=n / 20) for n in range(2, 21)]
    assert len({stage_keys(s)["refine"] for s in axis}) == len(axis)  # no two values are one picture
    with pytest.raises(SettingsError, match="at most 499 steps, not 2500"):
        tiny.replace(strength_steps="fixed", refine_steps=25, strength=0.01)


def test_what_runs_is_counted(tiny: Settings) -> None:
    """A sampler of two evaluations a step needs one for its last."""
    for s, base, refine in (
        (tiny.replace(sampler="DPM++ SDE Karras", steps=5), 9, 7),
        (tiny.replace(steps=5, hires_sampler="DPM++ SDE"), 5, 7),
        (tiny.replace(steps=5, strength_steps="fixed", refine_steps=3), 5, 3),
    ):
        counts = {name: stages()[name].unet_evaluations(s) for name in ("base", "refine")}
        assert counts == {"base": base, "refine": refine}
        assert Bench(Store(None)).generate(s).counters["unet_evaluations"] == {**counts, "detail": 0}


def test_names_are_as_in_a1111() -> None:
    for name, schedule in (
        ("karras", "Karras"),
        ("trailing", "SGM Uniform"),
        ("sgm uniform", "SGM Uniform"),
        ("AYS", "Align Your Steps"),
        ("Automatic", "auto"),
    ):
        assert Settings(sampler="DPM++ 2M", schedule=name).schedule == schedule
    assert Settings(sampler="dpm++ sde").sampler == "DPM++ SDE"
    with pytest.raises(SettingsError, match="Align Your Steps"):
        Settings(schedule="turbo")


@pytest.mark.parametrize(("values", "said"), [
    ({"sampler": "DPM++ 2M Karras", "schedule": "Exponential"}, "says Karras and schedule says Exponential"),
    ({"sampler": "DDIM", "schedule": "Karras"}, "'DDIM' cannot take the schedule Karras; it takes auto, Normal, SGM Uniform"),
    ({"sampler": "LCM", "schedule": "SGM Uniform"}, "it takes auto"),
    ({"sampler": "LCM", "steps": 51, "hires": False}, "at most 50 steps, not 51"),
    ({"sampler": "Euler", "schedule": "AYS", "steps": 51, "hires": False}, "at most 50 steps, not 51"),
    ({"sampler": "Euler", "schedule": "trailing", "steps": 61, "hires": False}, "into 61 steps"),
    ({"hires_sampler": "Euler a", "schedule": "Karras"}, "refine_steps: sampler 'Euler a' cannot take the schedule Karras"),
    ({"hires_sampler": "DPM++ 2M Karras", "sampler": "Euler", "schedule": "Beta"}, "refine_steps: sampler"),
])  # fmt: skip
def test_pairs_that_are_none_are_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError) as error:
        Settings(**values)
    assert said in str(error.value)


def test_no_schedule_ends_below_zero(tiny_model: Path) -> None:
    """diffusers' own arithmetic gives 62 timesteps of 61, the last of them -1."""
    from workbench.models import pipelines

    (_, config), _ = loaded(tiny_model)
    refused = []
    for steps in range(1, 151):
        try:
            sampler_steps("Euler", "SGM Uniform", steps)
        except ValueError:
            refused.append(steps)
            continue
        scheduler: Any = pipelines.make_scheduler("Euler", "SGM Uniform", config)
        pipelines.set_steps(scheduler, "SGM Uniform", steps, "cpu")
        assert len(scheduler.timesteps) == steps and scheduler.timesteps.min() >= 0
    assert refused == [61, 103, 121, 122]


def test_a_model_of_no_terminal_signal_is_not_given_a_sampler_that_ignores_it(tiny_model: Path) -> None:
    from workbench.models import pipelines

    config = {**loaded(tiny_model)[0][1], "rescale_betas_zero_snr": True}
    for sampler in SAMPLERS:
        if sampler == "DPM++ SDE":
            with pytest.raises(SettingsError, match="zero terminal SNR"):
                pipelines.make_scheduler(sampler, "auto", config)
        else:
            assert pipelines.make_scheduler(sampler, "auto", config).config["rescale_betas_zero_snr"]


def test_unlike_samplers_share_a_call_unlike_lengths_do_not_and_nobody_is_changed(
    tiny: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = tiny.replace(refiner="base").diff(Settings())
    fixed = {n: v for n, (v, _) in changed.items() if n not in ("prompt", "sampler")}
    spec = {
        "preset": "recommended",
        "prompts": ["a face", "a " + "b" * 90],
        "seeds": [1],
        "fixed": fixed,
        "batch_size": 4,
    }
    calls: list[set[int]] = []
    evaluate = Diffusion.evaluate

    def seen(self: Diffusion, rows: list[Row], batch: int = 1) -> list[Answer]:
        calls.append({row.text.positive.shape[1] for row in rows})
        return evaluate(self, rows, batch)

    monkeypatch.setattr(Diffusion, "evaluate", seen)
    run = sweep({**spec, "name": "mixed", "axes": {"sampler": ["Euler", "DDIM", "DPM++ SDE", "LCM"]}}, quiet=True)
    assert set(map(len, calls)) == {1} and {77, 154} == set.union(*calls)
    together = {(r["settings"]["sampler"], r["settings"]["prompt"]): r["pixels_sha256"] for r in run.records()}
    assert len(set(together.values())) == 8
    for name in ("Euler", "DPM++ SDE"):
        fresh = Bench(Store(tmp_path / name))
        alone = sweep({**spec, "name": f"only {name}", "axes": {"sampler": [name]}}, on=fresh, quiet=True)
        for record in alone.records():
            assert record["pixels_sha256"] == together[name, record["settings"]["prompt"]]


def test_a_schedule_is_not_mixed_with_the_models_own(tiny_model: Path) -> None:
    """Playground's and others' scheduler configs say `use_karras_sigmas`."""
    from workbench.models import pipelines

    config = {**loaded(tiny_model)[0][1], "use_karras_sigmas": True}
    for sampler, kind in SAMPLERS.items():
        for schedule in ("auto", *kind.schedules):
            scheduler = pipelines.make_scheduler(sampler, schedule, config)
            pipelines.set_steps(scheduler, schedule, 8, "cpu")
            if "use_karras_sigmas" in scheduler.config:
                assert scheduler.config["use_karras_sigmas"] == (schedule in ("auto", "Karras"))


def test_what_has_no_effect_is_said(tiny: Settings) -> None:
    off = tiny.replace(hires=False, hires_prompt="a lake", hires_sampler="Euler")
    assert set(idle_settings(off)) == {"hires_prompt", "hires_sampler"}
    assert notes(off) == [f"{', '.join(idle_settings(off))} have no effect: the hires fix is off"]
    assert notes(tiny.replace(refine_cfg=1.0, hires_negative_prompt="dull")) == [
        "hires_negative_prompt has no effect: refine_cfg is 1"
    ]
    assert notes(tiny.replace(cfg=1.0)) == ["negative_prompt has no effect: CFG is 1"]
    assert notes(tiny.replace(cfg=1.0, negative_prompt=Settings().negative_prompt)) == notes(tiny) == []
    (note,) = notes(tiny.replace(prompt="a (face:1.3)", prompt_syntax="plain"))
    assert "'(face:1.3)' is read as words; prompt_syntax = webui applies it" in note
