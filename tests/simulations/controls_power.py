"""Level and power of the corrections of claims against controls: `python -m tests.simulations.controls_power` prints
the table of docs/statistics.md.

Five densities, 2,000 studies a cell. In units of the spread of a seed's difference at the dense end; two densities of a
seed correlate by 1/2."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from tabulate import tabulate

from lottery.statistics import paired
from lottery.statistics.step_down import adjusted

STUDIES = 2_000
ALPHA = 0.05
SEEDS = (5, 6, 8, 10)
CORRECTIONS = ("step-down, t", "step-down, mean", "Holm", "dense to sparse", "sparse to dense")

Array = Any
Draw = Callable[[np.random.Generator, tuple[int, ...]], Array]


@dataclass(frozen=True)
class Study:
    """True differences and spreads from dense to sparse, and how a seed's differences are drawn: mean 0, variance 1."""

    effects: tuple[float, ...]
    spreads: tuple[float, ...] = (1, 1, 1, 1, 1)
    skewed: bool = False


def studies() -> dict[str, Study]:
    rising = (1, 1, 1.5, 2, 3)
    return {
        "no difference": Study((0, 0, 0, 0, 0)),
        "no difference, spread rising": Study((0, 0, 0, 0, 0), rising),
        "no difference, control of 3 samples": Study((0, 0, 0, 0, 0), skewed=True),
        "growing": Study((0, 0.8, 2.5, 5, 9)),  # as of the quickstart's random masks
        "growing, spread rising": Study((0, 0.8, 2.5, 5, 9), rising),
        "growing, control of 3 samples": Study((0, 0.8, 2.5, 5, 9), skewed=True),
        "sparse only": Study((0, 0, 0.5, 1.5, 2.5)),
        "shrinking": Study((9, 5, 2.5, 0.8, 0)),
        "dense only, spread rising": Study((2.5, 1.5, 0.75, 0, 0), rising),
        "in the middle, spread sixfold at the end": Study((0, 1.5, 2, 2.5, 0), (1, 1, 1, 1, 6)),
        "worse at first": Study((-3, -1, 0, 2, 4)),
    }


def drawn(study: Study, n: int, draws: np.random.Generator) -> Array:
    """The differences of one study, (seeds, densities)."""

    def one(kind: Draw, *samples: int) -> Array:
        shared, own = kind(draws, (*samples, n, 1)), kind(draws, (*samples, n, len(study.effects)))
        return (shared + own) / np.sqrt(2)

    if study.skewed:  # both fall short by exponential amounts, the control as the mean of three samples
        noise = (one(_exponential, 3).mean(axis=0) - one(_exponential)) / np.sqrt(4 / 3)
    else:
        noise = one(_normal)
    return noise * np.array(study.spreads) + np.array(study.effects)


def _normal(draws: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return draws.normal(size=shape)


def _exponential(draws: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return draws.exponential(size=shape)


def corrected(values: Array, flips: Array) -> dict[str, Array]:
    """The p-values of each density by each correction; of means as the step-down test by its definition."""
    seen, means = values.sum(axis=0), flips @ values
    alone = (means >= seen - 1e-12).mean(axis=0)
    order = np.argsort(seen)
    largest = np.maximum.accumulate(means[:, order], axis=1)
    by_means = np.empty(len(seen))
    by_means[order] = np.maximum.accumulate((largest >= seen[order] - 1e-12).mean(axis=0)[::-1])[::-1]
    sequences = np.maximum.accumulate(alone), np.maximum.accumulate(alone[::-1])[::-1]
    found = (np.array(adjusted(values)), by_means, np.array(paired.holm(list(alone))), *sequences)
    return dict(zip(CORRECTIONS, found, strict=True))


def rates(study: Study, n: int) -> dict[str, tuple[float, float]]:
    """By correction the share of studies with a false claim, and the percentage of true differences that are shown."""
    draws, flips, effects = np.random.default_rng(n), paired.flips(n, 0), np.array(study.effects)
    wrong, shown = dict.fromkeys(CORRECTIONS, 0), dict.fromkeys(CORRECTIONS, 0)
    for _ in range(STUDIES):
        for name, p in corrected(drawn(study, n, draws), flips).items():
            wrong[name] += bool((p[effects <= 0] <= ALPHA).any())
            shown[name] += int((p[effects > 0] <= ALPHA).sum())
    most = STUDIES * max(1, int((effects > 0).sum()))
    return {name: (wrong[name] / STUDIES, 100 * shown[name] / most) for name in CORRECTIONS}


def row(found: list[dict[str, tuple[float, float]]], place: int) -> list[str]:
    """A cell for each correction, a figure for each number of seeds."""
    scaled = [{name: 100 * each[name][0] if place == 0 else each[name][1] for name in CORRECTIONS} for each in found]
    return [" / ".join(f"{each[name]:.{1 - place}f}" for each in scaled) for name in CORRECTIONS]


if __name__ == "__main__":
    table = []
    for name, study in studies().items():
        found = [rates(study, n) for n in SEEDS]
        table.append([name, "false", *row(found, 0)])
        if max(study.effects) > 0:
            table.append(["", "shown", *row(found, 1)])
    print(tabulate(table, ["true differences", "%", *CORRECTIONS], tablefmt="github", disable_numparse=True))
