"""From a scored run to a preset: the settings that are best over all its prompts and seeds, with the evidence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from workbench.errors import BadPreset, NothingToPromote, PresetNotFound, UsageError
from workbench.models import LICENCES
from workbench.presets import Preset, check_preset_name, load_preset, presets_folder
from workbench.runs import BLOCKING, Run, find_run, plain, swept
from workbench.scores import SHARPNESS

from ..settings import Settings, expand_cfg


@dataclass(frozen=True)
class Chosen:
    """A setting combination of a run that may be promoted.

    Attributes:
        combination: the swept settings it consists of.
        record: of the cell whose settings the preset gets.
        row: of `Run.summary`.
        rank: its place among the run's combinations by mean, 1 is the best; settings with gaps stand behind whole ones.
        by: "highest mean", or "a person".
    """

    combination: dict[str, Any]
    record: dict[str, Any]
    row: Any
    rank: int
    by: str


def promote(
    run: Run | str | Path,
    *,
    name: str = "production",
    note: str = "",
    cell: int | None = None,
    settings: Mapping[str, Any] | Settings | None = None,
    verdict: Mapping[str, Any] | None = None,
) -> Preset:
    """Write settings of a run as the preset `name` under `$WORKBENCH_HOME/presets` (the old one goes to `history/`).

    Left to itself, it takes the winner: the highest mean sharpness over prompts and seeds, among combinations with no
    failed cell, no missing face and no picture on which a guard fired (noise, halo and whatever else a score can be fooled
    by). The preset's prompt and seed are those of its sharpest picture, so that it reproduces that picture. It is chosen
    and measured on the same pictures; the evidence says so.

    `cell` (a cell's number: the preset makes that picture) or `settings` (a combination of the run's axes) promote what a
    person has chosen instead; the evidence says so, with its rank. One on which a guard fired is refused all the same.
    `verdict` is kept with the evidence: what `challenges.Verdict.promote` promotes was measured on held-out pictures.
    Raises `NothingToPromote`, `RunNotFound`, `MixedScores`.
    """
    run = find_run(run)
    check_preset_name(name)
    choice = choose(run, cell=cell, settings=settings)
    table, axes, record = run.table(), swept(run.axes), choice.record
    cells = _cells_of(table, choice.combination)
    by_mean = choice.by == "highest mean"
    summary: Any = run.summary(merged=by_mean)
    scored, whole = _eligible(summary)
    evidence = {
        "run": run.id,
        "score": {
            "name": SHARPNESS.name,
            "version": run.score_version(),
            "higher_is_better": SHARPNESS.higher_is_better,
        },
        "chosen": choice.combination,
        "chosen_by": choice.by if verdict is None else "a challenge",
        "rank": choice.rank,
        "n": int(choice.row["n"]),
        "mean": round(float(choice.row["mean"]), 3),
        "sd": _number(choice.row["sd"]),
        "guards": dict(Counter(flag for flags in cells["flags"] for flag in flags.split(", ") if flag)),
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
        "passed_over": _passed_over(scored, choice.row["mean"], axes),
        "search": _search(run),
        "identical": run.identical(),
        "runner_up": _runner_up(table, cells, [_combination(axes, index) for index in whole.index[:2]], choice),
        "cell": int(record["cell"]),
        "sharpness": record["scores"]["sharpness"],
        "pixels_sha256": record["pixels_sha256"],
        "keys": record["keys"],
        "states": run.states(),
        "caveat": "chosen and measured on the same prompts and seeds; not tested on held-out ones",
        "note": note,
    }
    if verdict is not None:
        evidence |= {"verdict": dict(verdict), "caveat": verdict["caveat"]}
    mean = f"mean sharpness {evidence['mean']:g} over {evidence['n']} pictures"
    how = "" if by_mean or verdict is not None else f", chosen by a person (rank {choice.rank} of {len(summary)})"
    wanted = Settings(**record["settings"])
    provenance = {"promoted": datetime.now().astimezone().isoformat(timespec="seconds"), **run.about["environment"]}
    preset = Preset(name, wanted, f"Promoted from {run.id}: {mean}{how}.", evidence, provenance, licences(wanted))
    return preset.save(presets_folder() / f"{name}.json")


def preview(name: str, settings: Settings) -> dict[str, tuple[Any, Any]]:
    """{setting: (now, then)} of what promoting `settings` as the preset `name` would change; now is None where there is no
    such preset of yours, or a damaged one."""
    try:
        present = load_preset(presets_folder() / f"{check_preset_name(name)}.json").settings
    except (PresetNotFound, BadPreset):
        return {setting: (None, value) for setting, value in settings.model_dump().items()}
    return present.diff(settings)


def choose(run: Run, *, cell: int | None = None, settings: Mapping[str, Any] | Settings | None = None) -> Chosen:
    """The combination that `promote` promotes. Raises `NothingToPromote`, `MixedScores`, `UsageError`."""
    if cell is not None and settings is not None:
        raise UsageError("cell and settings both name what to promote; give one of them.")
    if cell is None and settings is None:
        return _winner(run)
    summary: Any = run.summary(merged=False)
    axes, table = swept(run.axes), run.table()
    records = {record["cell"]: record for record in run.records()}
    if cell is not None:
        if cell not in records:
            raise NothingToPromote(
                f"cell {cell} of {run.id} has not been made; its cells are 0 to {run.about['cells'] - 1}."
            )
        combination = {axis: records[cell]["settings"][axis] for axis in axes}
    else:
        combination = _named(run, axes, settings)
    rows = [
        (place, row)
        for place, (index, row) in enumerate(summary.iterrows(), 1)
        if _combination(axes, index) == combination
    ]
    if not rows:
        raise NothingToPromote(f"no picture of {run.id} was made with {_words(combination)}; finish the sweep first.")
    rank, row = rows[0]
    cells = _cells_of(table, combination)
    if row["flagged"]:
        raise NothingToPromote(
            f"a guard fired on {_words(combination)} ({_fired(cells)}), so its sharpness cannot be trusted and it is not "
            "promoted; choose other settings."
        )
    missing = cells["sharpness"].isna()
    if missing.any():
        states = ", ".join(
            f"{count} {state.replace('_', ' ')}" for state, count in Counter(cells["status"][missing]).items()
        )
        raise NothingToPromote(
            f"{_words(combination)} has no face score on {int(missing.sum())} of {len(cells)} pictures ({states}), so it is "
            "not promoted; choose other settings, or retry failed cells with --retry-failed."
        )
    best = cell if cell is not None else int(cells.loc[cells["sharpness"].idxmax()]["cell"])
    return Chosen(combination, records[best], row, rank, "a person")


def _winner(run: Run) -> Chosen:
    summary: Any = run.summary()
    table: Any = run.table()
    scored, whole = _eligible(summary)
    if scored.empty:
        raise NothingToPromote(
            f"no setting of {run.id} has a face score on every prompt and seed (states: {run.states()}); "
            "finish the sweep, or retry its failed cells with --retry-failed."
        )
    if whole.empty:
        raise NothingToPromote(
            f"a guard fired on every setting of {run.id} ({_fired(table)}), so its sharpness cannot be trusted; look at "
            "the pictures (workbench score PICTURE --heatmap out.png) and sweep other settings."
        )
    chosen = _combination(swept(run.axes), whole.index[0])
    cells = _cells_of(table, chosen)
    best = cells.loc[cells["sharpness"].idxmax()]
    record = next(r for r in run.records() if r["cell"] == best["cell"])
    return Chosen(chosen, record, whole.iloc[0], list(summary.index).index(whole.index[0]) + 1, "highest mean")


def _eligible(summary: Any) -> tuple[Any, Any]:
    """(the combinations scored on every prompt and seed, those of them on which no guard fired)"""
    scored = summary[(summary["missing"] == 0) & (summary["not_run"] == 0)]
    return scored, scored[scored["flagged"] == 0]


def _named(run: Run, axes: list[str], settings: Any) -> dict[str, Any]:
    """A combination that a person wrote, or that of whole settings; axes of one value may be left out."""
    given = settings.model_dump() if isinstance(settings, Settings) else expand_cfg(dict(settings))
    wrong = [name for name in given if name not in axes] if not isinstance(settings, Settings) else []
    if wrong:
        raise UsageError(f"{wrong[0]} is no axis of {run.id}; its axes are {', '.join(axes) or 'none'}.")
    values = {name: list(dict.fromkeys(run.table()[name].tolist())) for name in axes}
    single = {name: found[0] for name, found in values.items() if len(found) == 1}
    if lacking := [name for name in axes if name not in {**single, **given}]:
        raise UsageError(f"{', '.join(lacking)} of {run.id} is not given; name a value of every axis.")
    return {name: {**single, **given}[name] for name in axes}


def _words(combination: dict[str, Any]) -> str:
    return ", ".join(f"{name} {plain(value)}" for name, value in combination.items()) or "these settings"


def _search(run: Run) -> dict[str, Any]:
    """How the pictures were chosen."""
    found = run.search()
    return {"strategy": "grid"} if found is None else {"strategy": found["strategy"], "why": found["why"]}


def _fired(table: Any) -> str:
    """Which guards fired on how many cells, in words."""
    counts = Counter(flag for flags in table["flags"] for flag in flags.split(", ") if flag in BLOCKING)
    return ", ".join(f"{flag} {count}x" for flag, count in counts.most_common())


def _passed_over(scored: Any, mean: float, axes: list[str]) -> list[dict[str, Any]]:
    """Combinations with a higher mean than the chosen one's that a guard kept out."""
    better = scored[(scored["flagged"] > 0) & (scored["mean"] > mean)]
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


def _runner_up(table: Any, cells: Any, best: list[dict[str, Any]], choice: Chosen) -> dict[str, Any] | None:
    """The best other combination, and the paired difference chosen minus that one over equal prompts and seeds."""
    second = next((combination for combination in best if combination != choice.combination), None)
    if second is None:
        return None
    others = _cells_of(table, second)
    pairs = cells.merge(others, on=["prompt", "seed"], suffixes=("", "_second"))
    difference = pairs["sharpness"] - pairs["sharpness_second"]
    return {
        "settings": second,
        "mean": round(float(others["sharpness"].mean()), 3),
        "paired_difference": {"mean": _number(difference.mean()), "sd": _number(difference.std()), "n": len(pairs)},
    }


def _number(value: Any) -> float | None:
    return None if value != value else round(float(value), 3)
