"""The command `bench`."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.errors import UsageError

from .terminal import Json, Quiet, Set, say, setting_values

if TYPE_CHECKING:
    from pathlib import Path

    from workbench.machine import Benchmark
    from workbench.settings import Settings

FORMER = ("score", "sweep")  # what `bench` measured once, of the workbench itself


def bench(
    context: typer.Context,
    preset: Annotated[str, typer.Argument(help="Preset name or file.")] = "recommended",
    pictures: Annotated[int, typer.Option(help="How many are timed, after one that loads the weights.")] = 3,
    price_per_hour: Annotated[float | None, typer.Option(help="Of this machine, in dollars.")] = None,
    random_weights: Annotated[
        bool,
        typer.Option("--random-weights", help="SDXL at its full size without its weights; takes 13 GB for the time."),
    ] = False,
    settings: Set = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Measure what a preset's picture costs on this machine: seconds of each stage, memory, pictures an hour and a dollar.

    It is kept under benchmarks/, named by card and date, and the plans of sweeps use the times.

    Example: workbench bench recommended --random-weights --price-per-hour 2.49
    """
    from workbench.machine import benchmark
    from workbench.presets import load_preset

    if preset in FORMER:
        raise UsageError(
            f"this benchmark is no command any more; in a checkout of the workbench run make bench-{preset}."
        )
    if context.args:
        raise UsageError(f"bench does not know {' '.join(context.args)}; workbench bench --help shows what it knows.")
    if pictures < 1:
        raise UsageError(f"--pictures is {pictures}; it must be a whole number from 1.")
    if price_per_hour is not None and not 0 < price_per_hour < float("inf"):
        raise UsageError(f"--price-per-hour is {price_per_hour}; it must be above 0, in dollars.")
    changes = setting_values(settings)
    wanted = load_preset(preset).settings.replace(**changes)
    found = benchmark(wanted, pictures, preset=preset, random_weights=random_weights, quiet=quiet)
    path = found.save(price_per_hour)
    _teach(found, wanted)
    said = {**found.to_json(price_per_hour), "file": str(path)}
    say(said, as_json, lambda: _words(found, path, price_per_hour))


def _teach(found: Benchmark, wanted: Settings) -> None:
    """Plans know these times from now on, under the preset's own model, random weights or not."""
    from workbench.sweeps import Costs

    costs = Costs.at_home()
    for name, stage in found.stages.items():
        for seconds in () if stage.note else stage.seconds:
            costs.learn(name, wanted, seconds, memory_bytes=stage.peak_bytes)
    costs.save()


def _words(found: Benchmark, path: Path, price: float | None) -> str:
    from workbench.store import size_words

    pictures = f"{found.pictures} picture{'s' * (found.pictures > 1)}"
    weights = " with random weights, which make noise" if found.random_weights else ""
    lines = [f"{found.device}, {found.precision}: {pictures} of {found.preset}{weights}"]
    for name, stage in found.stages.items():
        peak = f"   {size_words(stage.peak_bytes)} at most" if stage.peak_bytes else ""
        share = (
            f"{median(stage.seconds):9.2f} s   {stage.tflop:8.3f} TFLOP   {stage.share:4.0%} of the matmul rate{peak}"
        )
        lines.append(f"  {name:<8} {stage.note or share}")
    whose = "of the card's memory" if any(s.peak_bytes for s in found.stages.values()) else "of this process's memory"
    a_dollar = f"{found.pictures_per_dollar(price):.1f}" if price else "not measured (give --price-per-hour)"
    gains = (f"{n} {g if isinstance(g, str) else f'{g:.2f}x'}" for n, g in found.gains.items())
    return "\n".join(
        [
            *lines,
            f"  matmul rate: {found.matmul_tflops:.3f} TFLOP/s in {found.precision}",
            f"  memory: {size_words(found.peak_bytes)} {whose} at most",
            f"  a picture: {found.seconds:.2f} s; an hour: {found.pictures_per_hour:.1f}; a dollar: {a_dollar}",
            f"  faster by: {', '.join(gains)}",
            f"{path}; plans of sweeps use these times.",
        ]
    )
