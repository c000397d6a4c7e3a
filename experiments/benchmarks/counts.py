"""Where the benchmark of sweeps works, and its first part: the calls of a sweep against three counts of the fewest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench.recipe import Bench
from workbench.runs.run import Run
from workbench.settings import Settings
from workbench.store import Store
from workbench.sweeps import plan, session as sweeps

from .interrupted import at_home
from .naive import Meter

NEGATIVE = "blurry, deformed, bad eyes, low quality"
STRENGTHS = [0.25, 0.3, 0.35, 0.4, 0.45]  # 6, 7, 8, 10 and 11 of 25 steps
CFGS = [3.0, 4.0, 5.0, 6.0, 7.0]
WEIGHTS = [0.2, 0.4, 0.6, 0.8, 1.0]


@dataclass
class Lab:
    """How the parts are run.

    Attributes:
        model: a model id, as in settings.
        size: side of the base picture of `speed` in px; the other parts' pictures have 64 px.
        quick: grids of a few cells that show that all works; the figures then say little.
        full: the naive loop makes every cell, not a sample.
        folder: where homes are made.
        check: called within every step; what it raises stops the benchmark.
        told: called with what is being done.
    """

    folder: Path
    model: str = "embedded"
    prompt: str = "portrait photo of Grace Hopper, sharp focus"
    size: int = 256
    quick: bool = False
    full: bool = False
    seed: int = 0
    check: Callable[[], None] = lambda: None
    told: Callable[[str], None] = lambda _: None
    finished: tuple[dict[str, Any], Path] | None = None  # the largest sweep so far, and its home
    _homes: int = field(default=0)

    @contextmanager
    def home(self) -> Iterator[Path]:
        self._homes += 1
        with at_home(self.folder / f"home-{self._homes}") as home:
            yield home

    def spec(self, axes: dict[str, list[Any]], *, size: int = 64, seeds: int = 1, **fixed: Any) -> dict[str, Any]:
        """30 steps and 25 refine steps, as in hires-768, at `size` and twice that."""
        start = {
            "model": self.model, "negative_prompt": NEGATIVE, "width": size, "height": size, "steps": 30,
            "hires_scale": 2.0, "refine_steps": 25, "base_cfg": 7.0, "restorer": "codeformer",
        }  # fmt: skip
        prompts = fixed.pop("prompts", [self.prompt])
        swept = {*axes, *(("base_cfg", "refine_cfg") if "cfg" in axes else ())}
        kept = {name: value for name, value in (start | fixed).items() if name not in swept}
        return {
            "name": "bench", "preset": "recommended", "prompts": prompts, "seeds": list(range(1, seeds + 1)),
            "axes": axes, "fixed": kept, "batch_size": 1,
        }  # fmt: skip

    def cube(self, side: int, **more: Any) -> dict[str, Any]:
        """`side` strengths x CFGs of the refiner x weights, evenly chosen of five."""
        chosen = {1: [2], 2: [0, 4], 3: [0, 2, 4], 5: range(5)}[side]
        named = {"strength": STRENGTHS, "refine_cfg": CFGS, "weight": WEIGHTS}
        return self.spec({name: [values[i] for i in chosen] for name, values in named.items()}, **more)


def grids(lab: Lab) -> dict[str, dict[str, Any]]:
    """{what it is: spec} of the sweeps whose calls are counted."""
    few = {"steps": 6, "refine_steps": 12, "restorer": "none"}
    odd = {
        "CFG 1, aliased strengths": lab.spec(
            {"strength": [0.2, 0.26, 0.3, 0.5], "refine_cfg": [1.0, 2.0, 5.0], "weight": [0.0, 0.5]},
            **{**few, "restorer": "codeformer"},
        ),
        "CFG of both stages, 2 prompts, 2 seeds": lab.spec(
            {"cfg": [1.0, 2.0, 5.0], "strength": [0.3, 0.5]}, seeds=2, prompts=[lab.prompt, "a lake"], **few
        ),
    }
    if lab.quick:
        return {"2x2x2": lab.cube(2), **odd}
    return {
        "5x5x5": lab.cube(5),
        **odd,
        "samplers, sizes": lab.spec(
            {"sampler": ["Euler a", "UniPC", "DDIM"], "hires_scale": [1.5, 2.0], "refine_cfg": [2.0, 3.0, 4.0]}, **few
        ),
        "with and without hires fix, negative prompts": lab.spec(
            {
                "hires": [True, False],
                "negative_prompt": ["", "blurry"],
                "base_cfg": [1.0, 3.0],
                "refine_cfg": [1.0, 3.0],
            },
            **few,
        ),
    }


def brute_force(cells: Iterable[Settings]) -> dict[str, int]:
    """The calls of a sweep, counted by writing down what each cell is made of, without any of the planner's code."""
    bases, refined, enlarged, prompts, searched, restored = {}, {}, set(), set(), set(), set()
    for s in cells:

        def guided(cfg: float, s: Settings = s) -> tuple[Any, ...]:
            return (cfg, s.negative_prompt) if cfg > 1 else (1.0, None)

        base = (s.model, s.vae, s.prompt, s.sampler, s.width, s.height, s.steps, s.seed, guided(s.base_cfg))
        bases[base] = s.steps
        prompts.add(("base", s.model, s.prompt, guided(s.base_cfg)[1]))
        last: tuple[Any, ...] = base
        if s.hires:
            steps = int(s.refine_steps * s.strength)
            large = (base, s.hires_size, s.resampler)
            last = (large, s.refine_steps, steps, guided(s.refine_cfg))
            refined[last] = steps
            enlarged.add(large)
            prompts.add(("refine", s.model, s.prompt, guided(s.refine_cfg)[1]))
        if s.restorer != "none":
            searched.add((last, s.detector))
            restored.add((last, s.detector, s.weight))

    def first_steps_saved(jobs: Iterable[tuple[Any, ...]]) -> int:
        with_cfg = [job for job in jobs if job[-1][0] > 1]
        return len(with_cfg) - len({(*job[:-1], job[-1][1]) for job in with_cfg})

    return {
        "base": sum(bases.values()) - first_steps_saved(bases),
        "refine": sum(refined.values()) - first_steps_saved(refined),
        "detail": 0,  # no grid here details faces
        "encode": len(enlarged), "decode": len(bases) + len(refined), "prompts": len(prompts),
        "detections": len(searched), "weights": len(restored),
    }  # fmt: skip


def named(least: dict[str, Any]) -> dict[str, int]:
    """`Plan.minimum()` under the names of `brute_force`."""
    return {
        **least["unet_evaluations"], "encode": least["vae_encodes"], "decode": least["vae_decodes"],
        "prompts": least["prompt_encodes"], "detections": least["detections"], "weights": least["weights"],
    }  # fmt: skip


def executed_by(run: Run) -> dict[str, int]:
    ran = sweeps.last_session(run)["executed"]
    return named({**ran["calls"], "unet_evaluations": ran["unet_evaluations"], "weights": ran["stages"]["faces"]})


def _seen(meter: Meter, of: dict[str, int]) -> dict[str, int]:
    """What hooks saw, where there are hooks: not on the prompts' encoding and on every weight."""
    hooks = {"base": "base", "refine": "refine", "encode": "encode", "decode": "decode", "detections": "restorer"}
    return {**of, **{name: meter.calls["ours", network] for name, network in hooks.items()}}


def _apart(one: dict[str, int], other: dict[str, int]) -> int:
    return sum(abs(one[name] - other[name]) for name in one)


def counters(lab: Lab) -> tuple[list[float], dict[str, Any]]:
    totals, rows = [0, 0, 0], {}
    for name, spec in grids(lab).items():
        lab.told(f"counters: {name}")
        with lab.home() as home:
            on, meter = metered(lab, spec)
            planned = plan(spec, on.store)
            executed = executed_by(sweeps.sweep(spec, on=on, quiet=True, check=lab.check))
            counts = {
                "minimum": named(planned.minimum()),
                "brute_force": brute_force(cell.settings for cell in planned.cells),
                "hooks": _seen(meter, executed),
            }
            totals = [total + _apart(executed, other) for total, other in zip(totals, counts.values(), strict=True)]
            rows[name] = {"cells": len(planned.cells), "executed": executed, **counts}
            if lab.finished is None:
                lab.finished = spec, home
    return [float(total) for total in totals], rows


def metered(lab: Lab, spec: dict[str, Any]) -> tuple[Bench, Meter]:
    """A bench with a store at home, its networks loaded and counted from now on."""
    on, meter = Bench(Store.at_home()), Meter()
    meter.watch(on, plan(spec, on.store).cells[0].settings.replace(hires=True))
    return on, meter
