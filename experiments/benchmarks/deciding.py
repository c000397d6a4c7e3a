"""Duels whose truth is known, decided by `wb.decide`: how often a verdict is wrong, and what it finds. Makes no picture.

    python -m experiments.benchmarks.deciding --duels 2000

A difference of a pair is the prompt's own (standard deviation 1) plus the pair's own (1); where there is one prompt, its own
is 0. A *better* on few prompts speaks of these prompts, and is wrong where the mean of their own is not above 0. "crossed":
besides, each seed favours one side by as much in all prompts. Seeded: the same figures on every machine.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from workbench.evidence import Decision, decide

MARGIN = 1.0  # one standard deviation of a pair


def frame(differences: np.ndarray) -> pd.DataFrame:
    """Pairs of differences (prompts, seeds)."""
    prompts, seeds = np.indices(differences.shape)
    return pd.DataFrame(
        {"prompt": prompts.ravel(), "seed": seeds.ravel(), "champion": 0.0, "challenger": differences.ravel()}
    )


def drawn(rng: np.random.Generator, prompts: int, seeds: int, crossed: float = 0) -> tuple[np.ndarray, float]:
    """(differences, their true mean on these prompts) of two settings that do not differ on average."""
    own = rng.normal(size=(prompts, 1)) if prompts > 1 else np.zeros((1, 1))
    shared = crossed * rng.normal(size=(1, seeds))
    return own + shared + rng.normal(size=(prompts, seeds)), float(own.mean())


def wrong(found: Decision, truth: float) -> bool:
    """Whether a challenger that is no better was called so."""
    return found.word == "better" and (found.scope != "these prompts" or truth <= 0)


def one_look(rng: np.random.Generator, prompts: int, seeds: int, crossed: float = 0) -> bool:
    differences, truth = drawn(rng, prompts, seeds, crossed)
    return wrong(decide(frame(differences)), truth)


def with_gaps(rng: np.random.Generator, prompts: int, seeds: int) -> bool:
    """Seeds favour one side, and 40 % of the pairs have no score."""
    differences, truth = drawn(rng, prompts, seeds, 1.0)
    there = rng.random(differences.shape) < 0.6
    return wrong(decide(frame(differences).loc[there.ravel()]), truth)


def looking_again(rng: np.random.Generator, prompts: int = 1, step: int = 4, most: int = 64) -> bool:
    """After every `step` seeds, until it is better, or there are `most`."""
    differences, truth = drawn(rng, prompts, most)
    looks = range(step, most + 1, step)
    return any(wrong(decide(frame(differences[:, :n]), looks=i), truth) for i, n in enumerate(looks, start=1))


def following(rng: np.random.Generator, rounds: int = 8) -> bool:
    """Adding as many pairs as "about N more" says, from 8 on."""
    differences, n = rng.normal(size=(1, 10_100)), 8
    for look in range(1, rounds + 1):
        found = decide(frame(differences[:, :n]), looks=look, margin=MARGIN / 10)
        if found.word != "undecided" or found.more is None or n + found.more > 2000:
            return found.word == "better"
        n += found.more
    return False


def in_turn(rng: np.random.Generator, challengers: int = 20, pairs: int = 8) -> bool:
    """Challengers no better than the champion, one after another; every one has pairs of its own."""
    return any(
        decide(frame(rng.normal(size=(1, pairs))), challengers=k).word == "better" for k in range(1, challengers + 1)
    )


def on_one_test_set(rng: np.random.Generator, challengers: int = 20, pairs: int = 8) -> bool:
    """The same with the champion's pictures used for all, which the workbench does not do."""
    champion = rng.normal(size=(1, pairs)) / np.sqrt(2)
    return any(
        decide(frame(rng.normal(size=(1, pairs)) / np.sqrt(2) - champion), challengers=k).word == "better"
        for k in range(1, challengers + 1)
    )


def everything(rng: np.random.Generator) -> bool:
    """20 challengers, each looked at up to 8 times on 4 prompts: true for the first wrong promotion."""
    return any(
        wrong(decide(frame(differences[:, : 4 * look]), looks=look, challengers=k), truth)
        for k in range(1, 21)
        for differences, truth in [drawn(rng, 4, 32)]
        for look in range(1, 9)
    )


def lines(duels: int, seed: int) -> Iterator[tuple[str, float, str]]:
    """(what is simulated, share of the duels, what it has to be)"""

    def share(what: Callable[..., bool], *values: float, times: int = duels) -> float:
        rng = np.random.default_rng(seed)
        return float(np.mean([what(rng, *values) for _ in range(times)]))

    def found(mean: float, pairs: int, word: str) -> Callable[[np.random.Generator], bool]:
        def one(rng: np.random.Generator) -> bool:
            return decide(frame(mean + rng.normal(size=(1, pairs))), margin=MARGIN).word == word

        return one

    yield "false better, one look, 8 pairs, 1 prompt", share(one_look, 1, 8), "<= 2.5 %"
    yield "false better, looking again after every 4 pairs up to 64", share(looking_again), "<= 2.5 %"
    yield "false better, as many more as it says, up to 8 times", share(following), "<= 2.5 %"
    yield "false promotion among 20 equal challengers in turn", share(in_turn), "<= 5 %"
    yield "the same on one test set", share(on_one_test_set), "<= 5 %"
    for prompts, seeds in ((2, 4), (6, 4), (8, 4), (24, 8)):
        yield f"false better, {prompts} prompts x {seeds} seeds", share(one_look, prompts, seeds), "<= 2.5 %"
    for prompts, seeds in ((2, 4), (6, 4), (8, 2), (8, 4), (24, 1), (24, 2), (24, 8)):
        yield f"false better, {prompts} x {seeds} crossed", share(one_look, prompts, seeds, 1.0), "<= 2.5 %"
    for prompts, seeds in ((12, 4), (24, 2), (24, 8)):
        yield f"the same, 40 % of {prompts} x {seeds} missing", share(with_gaps, prompts, seeds), "<= 2.5 %"
    yield "8 prompts, looking again after every 4 seeds up to 32", share(looking_again, 8, 4, 32), "<= 2.5 %"
    yield "20 challengers, 8 looks each, 4 prompts", share(everything, times=duels // 4), "<= 5 %"
    yield "better by 1 sd of a pair found within 32 pairs", share(found(1.0, 32, "better")), ">= 85 %"
    yield "better by 1 sd of a pair found within 16 pairs", share(found(1.0, 16, "better")), ""
    yield "better by 0.5 sd of a pair found within 32 pairs", share(found(0.5, 32, "better")), ""
    yield "an equal one called as good within 64 pairs (margin 1 sd)", share(found(0.0, 64, "as_good")), ">= 80 %"
    yield "an equal one called as good within 16 pairs (margin 1 sd)", share(found(0.0, 16, "as_good")), ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--duels", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    a = parser.parse_args()
    print(f"| {a.duels} duels each, seed {a.seed} | measured | target |\n|---|---|---|")
    for what, measured, target in lines(a.duels, a.seed):
        print(f"| {what} | {100 * measured:.1f} % | {target} |", flush=True)


if __name__ == "__main__":
    main()
