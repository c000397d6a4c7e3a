"""From a scored run to a preset: the settings that are best over all its prompts and seeds, with the evidence."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

from .measures import SHARPNESS
from .presets import Preset, check_preset_name, presets_folder
from .runs import BLOCKING, Run, find_run, swept
from .settings import Settings, UsageError
from .weights import LICENCES


class NothingToPromote(UsageError):
    """No setting combination of the run is finished, scored on every prompt and seed, and free of flags."""


def promote(run: Run | str | Path, *, name: str = "production", note: str = "") -> Preset:
    """Write the winner of a run as the preset `name` under `$WORKBENCH_HOME/presets` (the old one goes to `history/`).

    The winner has the highest mean sharpness over prompts and seeds, among combinations with no failed cell, no missing
    face and no picture on which a guard fired (noise, halo and whatever else a score can be fooled by). The preset's
    prompt and seed are those of its sharpest picture, so that it reproduces that picture. It is chosen and measured on
    the same pictures; the evidence says so. Raises `NothingToPromote`, `RunNotFound`, `MixedScores`.
    """
    run = find_run(run)
    check_preset_name(name)
    summary: Any = run.summary()
    table: Any = run.table()
    scored = summary[(summary["missing"] == 0) & (summary["not_run"] == 0)]
    if scored.empty:
        raise NothingToPromote(
            f"no setting of {run.id} has a face score on every prompt and seed (states: {run.states()}); "
            "finish the sweep, or retry its failed cells with --retry-failed."
        )
    whole = scored[scored["flagged"] == 0]
    if whole.empty:
        raise NothingToPromote(
            f"a guard fired on every setting of {run.id} ({_fired(table)}), so its sharpness cannot be trusted; look at "
            "the pictures (workbench score PICTURE --heatmap out.png) and sweep other settings."
        )
    axes = swept(run.axes)
    chosen = _combination(axes, whole.index[0])
    cells = _cells_of(table, chosen)
    best = cells.loc[cells["sharpness"].idxmax()]
    record = next(r for r in run.records() if r["cell"] == best["cell"])
    evidence = {
        "run": run.id,
        "score": {
            "name": SHARPNESS.name,
            "version": run.score_version(),
            "higher_is_better": SHARPNESS.higher_is_better,
        },
        "chosen": chosen,
        "n": int(whole["n"].iloc[0]),
        "mean": round(float(whole["mean"].iloc[0]), 3),
        "sd": _number(whole["sd"].iloc[0]),
        "ranking": [
            {
                **_combination(axes, index),
                "mean": round(float(row["mean"]), 3),
                "n": int(row["n"]),
                "missing": int(row["missing"]),
                "flagged": int(row["flagged"]),
            }
            for index, row in summary.head(8).iterrows()
        ],
        "passed_over": _passed_over(scored, whole, axes),
        "search": _search(run),
        "identical": run.identical(),
        "runner_up": _runner_up(table, cells, axes, whole),
        "cell": int(best["cell"]),
        "sharpness": record["scores"]["sharpness"],
        "pixels_sha256": record["pixels_sha256"],
        "keys": record["keys"],
        "states": run.states(),
        "caveat": "chosen and measured on the same prompts and seeds; not tested on held-out ones",
        "note": note,
    }
    about = f"Promoted from {run.id}: mean sharpness {evidence['mean']:g} over {evidence['n']} pictures."
    settings = Settings(**record["settings"])
    provenance = {"promoted": datetime.now().astimezone().isoformat(timespec="seconds"), **run.about["environment"]}
    preset = Preset(name, settings, about, evidence, provenance, licences(settings))
    return preset.save(presets_folder() / f"{name}.json")


def _search(run: Run) -> dict[str, Any]:
    """How the pictures were chosen."""
    found = run.search()
    return {"strategy": "grid"} if found is None else {"strategy": found["strategy"], "why": found["why"]}


def _fired(table: Any) -> str:
    """Which guards fired on how many cells, in words."""
    counts = Counter(flag for flags in table["flags"] for flag in flags.split(", ") if flag in BLOCKING)
    return ", ".join(f"{flag} {count}x" for flag, count in counts.most_common())


def _passed_over(scored: Any, whole: Any, axes: list[str]) -> list[dict[str, Any]]:
    """Combinations with a higher mean than the winner that a guard kept out."""
    better = scored[(scored["flagged"] > 0) & (scored["mean"] > whole["mean"].iloc[0])]
    return [
        {**_combination(axes, index), "mean": round(float(row["mean"]), 3), "flagged": int(row["flagged"])}
        for index, row in better.iterrows()
    ]


def licences(settings: Settings) -> list[str]:
    """The licences of the weights these settings use, in words."""
    used = [LICENCES.get(settings.model, f"{settings.model}: ask whoever published this model")]
    used += [LICENCES["codeformer"]] * (settings.restorer == "codeformer")
    return used + [LICENCES["realesrgan"]] * (settings.upscaler != "none")


def _combination(axes: list[str], index: Any) -> dict[str, Any]:
    values = index if isinstance(index, tuple) else (index,)
    return {axis: value.item() if hasattr(value, "item") else value for axis, value in zip(axes, values, strict=False)}


def _cells_of(table: Any, chosen: dict[str, Any]) -> Any:
    for name, value in chosen.items():
        table = table[table[name] == value]
    return table


def _runner_up(table: Any, cells: Any, axes: list[str], whole: Any) -> dict[str, Any] | None:
    """The next combination, and the paired difference winner minus runner-up over equal prompts and seeds."""
    if len(whole) < 2:
        return None
    second = _combination(axes, whole.index[1])
    pairs = cells.merge(_cells_of(table, second), on=["prompt", "seed"], suffixes=("", "_second"))
    difference = pairs["sharpness"] - pairs["sharpness_second"]
    return {
        "settings": second,
        "mean": round(float(whole["mean"].iloc[1]), 3),
        "paired_difference": {"mean": _number(difference.mean()), "sd": _number(difference.std()), "n": len(pairs)},
    }


def _number(value: Any) -> float | None:
    return None if value != value else round(float(value), 3)
