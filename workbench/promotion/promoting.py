"""From a scored run to a preset: the settings that are best over all its prompts and seeds, with the evidence."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import fmean, stdev

from workbench.errors import BadPreset, NothingToPromote, PresetNotFound, UsageError
from workbench.presets import Preset, RunSample, check_preset_name, licences, load_preset, presets_folder
from workbench.recipe import used_models
from workbench.runs import (
    BLOCKING,
    JsonObject,
    Record,
    Run,
    SettingRow,
    SettingValues,
    find_run,
    plain,
    setting_rows,
    swept,
)
from workbench.scores import SHARPNESS
from workbench.settings import Settings, Value, expand_cfg


@dataclass(frozen=True)
class Chosen:
    """A setting combination of a run that may be promoted.

    Attributes:
        combination: the swept settings it consists of.
        record: of the cell whose settings the preset gets.
        row: what the run says of it.
        rank: its place among the run's combinations by mean, 1 is the best; settings with gaps stand behind whole ones.
        by: "highest mean", or "a person".
    """

    combination: SettingValues
    record: Record
    row: SettingRow
    rank: int
    by: str


def write_promoted(
    run: Run | str | Path,
    *,
    name: str = "production",
    note: str = "",
    cell: int | None = None,
    settings: SettingValues | Settings | None = None,
    verdict: JsonObject | None = None,
    chosen_on: RunSample | None = None,
    used: Sequence[RunSample] = (),
    forced: str = "",
    parent: str | None = None,
) -> Preset:
    """Write settings of a run as the preset `name` under `$WORKBENCH_HOME/presets` (the old one goes to `history/`).

    Left to itself, it takes the winner: the highest mean sharpness over prompts and seeds, among combinations with no
    failed cell, no missing face and no picture on which a guard fired (noise, halo and whatever else a score can be fooled
    by). The preset's prompt and seed are those of its sharpest picture, so that it reproduces that picture.

    `cell` (a cell's number: the preset makes that picture) or `settings` (a combination of the run's axes) are what a person
    has chosen instead; the evidence says so, with its rank. One on which a guard fired is refused all the same, unless it won
    a duel: `verdict` is what that found, which is kept with the evidence. `chosen_on` is what the setting was chosen on,
    `used` what chose or judged the two sides before. `forced`: why there was no duel. `parent`: digest of the settings that
    it was compared with, for a preset that replaces none.
    Raises `NothingToPromote`, `RunNotFound`, `MixedScores`.
    """
    run = find_run(run)
    check_preset_name(name)
    choice = choose(run, cell=cell, settings=settings, judged=verdict is not None)
    record, cells = choice.record, _records_of(run, choice.combination)
    by_mean = choice.by == "highest mean"
    rows = setting_rows(run, merged=by_mean)
    scored, whole = _eligible(rows)
    measured_on = run_sample(run)
    chose, judged = (measured_on, None) if verdict is None else (chosen_on, measured_on)
    samples = {sample.run: sample for sample in (*used, chose, judged) if sample}
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
        "n": choice.row.n,
        "mean": round(choice.row.mean, 3),
        "sd": _number(choice.row.sd),
        "guards": dict(Counter(flag for cell in cells for flag in _flags(cell))),
        "ranking": [
            {
                **row.combination,
                "mean": _number(row.mean),
                "n": row.n,
                "missing": row.missing,
                "flagged": row.flagged,
            }
            for row in rows[:8]
        ],
        "passed_over": _passed_over(scored, choice.row.mean),
        "search": _search(run),
        "identical": run.identical(),
        "runner_up": _runner_up(run, choice, whole[:2]),
        "cell": record["cell"],
        "sharpness": record["scores"]["sharpness"],
        "pixels_sha256": record["pixels_sha256"],
        "keys": record["keys"],
        "batch": run.batch() or {},
        "states": run.states(),
        "used": [sample.model_dump(mode="json") for sample in samples.values()],
        "caveat": "chosen and measured on the same prompts and seeds; not tested on held-out ones",
        "note": note,
    }
    if forced:
        evidence["forced"] = forced
    if verdict is not None:
        evidence |= {"verdict": dict(verdict), "caveat": verdict["caveat"]}
    mean = f"mean sharpness {evidence['mean']:g} over {evidence['n']} pictures"
    how = "" if by_mean or verdict is not None else f", chosen by a person (rank {choice.rank} of {len(rows)})"
    without = f" Without a duel: {forced.rstrip('.')}." if forced else ""
    wanted = Settings.written(record["settings"])
    provenance = {"promoted": datetime.now().astimezone().isoformat(timespec="seconds"), **run.about["environment"]}
    about = f"Promoted from {run.id}: {mean}{how}.{without}"
    preset = Preset(
        name, wanted, about, evidence, provenance, licences(wanted), parent=parent, models=used_models(wanted)
    )
    kind, why = ("force", forced) if forced else ("promote", note)
    path = presets_folder() / f"{name}.json"
    return preset.save(path, kind, why=why, chosen_on=chose, judged_on=judged)


def run_sample(run: Run) -> RunSample:
    """The prompts and seeds of a run, as the log of the presets has them. Raises `BadRun`."""
    spec = run.about["spec"]
    return RunSample(run=run.id, prompts=list(spec["prompts"]), seeds=list(spec["seeds"]))


def preview(name: str, settings: Settings) -> Mapping[str, tuple[Value | None, Value]]:
    """{setting: (now, then)} of what promoting `settings` as the preset `name` would change, but for prompt and seed, which
    are those of the duel's sharpest picture; now is None where there is no such preset of yours, or a damaged one."""
    try:
        present = load_preset(presets_folder() / f"{check_preset_name(name)}.json").settings
    except (PresetNotFound, BadPreset):
        changes: Mapping[str, tuple[Value | None, Value]] = {
            n: (None, value) for n, value in settings.model_dump().items()
        }
    else:
        changes = present.diff(settings)
    return {setting: pair for setting, pair in changes.items() if setting not in ("prompt", "seed")}


def choose(
    run: Run,
    *,
    cell: int | None = None,
    settings: SettingValues | Settings | None = None,
    judged: bool = False,
) -> Chosen:
    """The combination that is promoted, or sent into a duel. `judged`: a duel has compared flags and missing faces already.

    Raises `NothingToPromote`, `MixedScores`, `UsageError`.
    """
    if cell is not None and settings is not None:
        raise UsageError("cell and settings both name what to promote; give one of them.")
    if cell is None and settings is None:
        return _winner(run)
    axes = swept(run.axes)
    records = {record["cell"]: record for record in run.records()}
    if cell is not None:
        if cell not in records:
            raise NothingToPromote(
                f"cell {cell} of {run.id} has not been made; its cells are 0 to {run.about['cells'] - 1}."
            )
        combination = {axis: records[cell]["settings"][axis] for axis in axes}
    else:
        combination = _named(run, axes, settings or {})
    ranked = enumerate(setting_rows(run, merged=False), start=1)
    rank, row = next(((rank, row) for rank, row in ranked if row.combination == combination), (0, None))
    if row is None:
        raise NothingToPromote(f"no picture of {run.id} was made with {_words(combination)}; finish the sweep first.")
    cells = _records_of(run, combination)
    best = records[cell] if cell is not None else _sharpest(cells)
    if judged and _sharpness(best) is not None:
        return Chosen(combination, best, row, rank, "a person")
    if row.flagged:
        raise NothingToPromote(
            f"a guard fired on {_words(combination)} ({_fired(cells)}), so its sharpness cannot be trusted and it is not "
            "promoted; choose other settings."
        )
    missing = Counter(cell["status"] for cell in cells if _sharpness(cell) is None)
    if missing:
        states = ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in missing.items())
        raise NothingToPromote(
            f"{_words(combination)} has no face score on {missing.total()} of {len(cells)} pictures ({states}), so it is "
            "not promoted; choose other settings, or retry failed cells with --retry-failed."
        )
    return Chosen(combination, best, row, rank, "a person")


def _winner(run: Run) -> Chosen:
    rows = setting_rows(run)
    scored, whole = _eligible(rows)
    if not scored:
        raise NothingToPromote(
            f"no setting of {run.id} has a face score on every prompt and seed (states: {run.states()}); "
            "finish the sweep, or retry its failed cells with --retry-failed."
        )
    if not whole:
        raise NothingToPromote(
            f"a guard fired on every setting of {run.id} ({_fired(run.records())}), so its sharpness cannot be trusted; look "
            "at the pictures (workbench score PICTURE --heatmap out.png) and sweep other settings."
        )
    best = whole[0]
    record = _sharpest(_records_of(run, best.combination))
    return Chosen(best.combination, record, best, rows.index(best) + 1, "highest mean")


def _eligible(rows: list[SettingRow]) -> tuple[list[SettingRow], list[SettingRow]]:
    """(the combinations scored on every prompt and seed, those of them on which no guard fired)"""
    scored = [row for row in rows if row.missing == 0 and row.not_run == 0]
    return scored, [row for row in scored if row.flagged == 0]


def _records_of(run: Run, combination: SettingValues) -> list[Record]:
    """The cells that have these settings."""
    return [r for r in run.records() if all(r["settings"][name] == value for name, value in combination.items())]


def _sharpness(record: Record) -> float | None:
    return record["scores"].get("sharpness") if "scores" in record else None


def _flags(record: Record) -> list[str]:
    return record["scores"].get("flags", []) if "scores" in record else []


def _sharpest(records: list[Record]) -> Record:
    """The first of those with the highest score."""
    return max(records, key=lambda record: _sharpness(record) or 0.0)


def _named(run: Run, axes: list[str], settings: SettingValues | Settings) -> SettingValues:
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


def _words(combination: SettingValues) -> str:
    return ", ".join(f"{name} {plain(value)}" for name, value in combination.items()) or "these settings"


def _search(run: Run) -> dict[str, str]:
    """How the pictures were chosen."""
    found = run.search()
    return {"strategy": "grid"} if found is None else {"strategy": found["strategy"], "why": found["why"]}


def _fired(records: list[Record]) -> str:
    """Which guards fired on how many cells, in words."""
    counts = Counter(flag for record in records for flag in _flags(record) if flag in BLOCKING)
    return ", ".join(f"{flag} {count}x" for flag, count in counts.most_common())


def _passed_over(scored: list[SettingRow], mean: float) -> list[JsonObject]:
    """Combinations with a higher mean than the chosen one's that a guard kept out."""
    better = [row for row in scored if row.flagged and row.mean > mean]
    return [{**row.combination, "mean": round(row.mean, 3), "flagged": row.flagged} for row in better]


def _runner_up(run: Run, choice: Chosen, best: list[SettingRow]) -> JsonObject | None:
    """The best other combination, and the paired difference chosen minus that one over equal prompts and seeds."""
    second = next((row for row in best if row.combination != choice.combination), None)
    if second is None:
        return None
    ours, theirs = (_by_block(run, row) for row in (choice.combination, second.combination))
    apart = [ours[block] - theirs[block] for block in ours if block in theirs]
    mean, sd = (fmean(apart) if apart else math.nan), (stdev(apart) if len(apart) > 1 else math.nan)
    return {
        "settings": second.combination,
        "mean": round(second.mean, 3),
        "paired_difference": {"mean": _number(mean), "sd": _number(sd), "n": len(apart)},
    }


def _by_block(run: Run, combination: SettingValues) -> dict[int, float]:
    """{block, of a prompt and seed: sharpness of the cell with these settings} where there is one."""
    inner, again = math.prod(map(len, run.axes.values())), run.repeated_cells()
    records = [record for record in _records_of(run, combination) if record["cell"] not in again]
    scores = {record["cell"] // inner: _sharpness(record) for record in records}
    return {block: score for block, score in scores.items() if score is not None}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 3)
