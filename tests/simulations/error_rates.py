"""How often verdicts and claims err: `python -m tests.simulations.error_rates` prints the table of docs/statistics.md.

One density whose true difference lies exactly where nothing may be claimed, 10,000 experiments a cell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import stats as oracle
from tabulate import tabulate

from lottery.recipe.schema import CompareSpec
from lottery.statistics import paired
from lottery.verdicts import decisions, superiority, verdicts

EXPERIMENTS = 10_000
SEEDS = (3, 5, 10)
SPEC = CompareSpec(margin=100)  # a difference of -1 or less does not match

Array = Any
Noise = Callable[[np.random.Generator, int], Array]

NOISES: dict[str, Noise] = {  # differences of a true mean of 0
    "normal": lambda draws, n: draws.normal(size=n),
    "normal, rounded to half a deviation": lambda draws, n: np.round(2 * draws.normal(size=n)) / 2,
    "heavy tails (t, 4 degrees of freedom)": lambda draws, n: draws.standard_t(4, n),
    "exponential shortfalls of both networks": lambda draws, n: draws.exponential(size=n) - draws.exponential(size=n),
    "exponential shortfalls of both, the mean of 3 samples": lambda draws, n: (
        draws.exponential(size=(3, n)).mean(0) - draws.exponential(size=n)
    ),
    "exponential tail, to the ticket's good": lambda draws, n: draws.exponential(size=n) - 1,
    "gamma (shape 4) tail, to its bad": lambda draws, n: 4 - draws.gamma(4, size=n),
    "exponential tail, to its bad": lambda draws, n: 1 - draws.exponential(size=n),
    "a collapse by 10 deviations in 5 % of seeds": lambda draws, n: (
        0.5 + draws.normal(size=n) - 10 * (draws.random(n) < 0.05)
    ),
}


def claimed(noise: Noise, n: int) -> tuple[float, float]:
    """The parts of the experiments with a false `matching` (at the margin) and a false `superior` (at 0)."""
    draws, matching, superior = np.random.default_rng(n), 0, 0
    for _ in range(EXPERIMENTS):
        values = noise(draws, n)
        cell = decisions.DenseDifferences(list(values - 1))
        matching += decisions.decide([cell], SPEC, may_win=False)[0].verdict == "matching"
        superior += superiority.decide([superiority.Pairs(dict(enumerate(values)))], SPEC)[0].verdict == "superior"
    return matching / EXPERIMENTS, superior / EXPERIMENTS


def covered(noise: Noise, n: int, experiments: int = 1000) -> tuple[float, float]:
    """How often the two-sided 95 % t and BCa intervals hold the true mean."""
    draws, held = np.random.default_rng(n), np.zeros(2)
    for _ in range(experiments):
        values = list(noise(draws, n))
        for place, interval in enumerate((paired.t_interval(values), paired.bca_interval(values, draws=1000))):
            held[place] += interval.low <= 0 <= interval.high
    return float(held[0]) / experiments, float(held[1]) / experiments


def crossed(n: int, experiments: int = 300) -> float:
    """How often the 95 % interval of the density at which matching ends holds the true one, for normal differences."""
    at, truths = [0.8**level for level in range(1, 7)], np.array([0.0, -1.0, -2.0, -4.0, -8.0, -16.0])
    true, draws, held = at[3] * 0.8**0.25, np.random.default_rng(n), 0  # where the line passes -5
    for _ in range(experiments):
        curve = truths[:, None] + draws.normal(0, 3, (1, n)) + draws.normal(0, 3, (6, n))
        found = verdicts.crossing_interval(curve.tolist(), at, 5, 0.95)
        low, high = (end if isinstance(end, float) else 0.0 for end in (found["low"], found["high"]))
        held += low <= true <= high
    return held / experiments


def peeked(looks: range) -> float:
    """A false claim at the margin by one t test after each new seed, until one is below 5 %."""
    seen = np.random.default_rng(0).normal(size=(EXPERIMENTS, max(looks)))
    p = [oracle.ttest_1samp(seen[:, :n], 0, axis=1, alternative="greater").pvalue for n in looks]
    return float((np.min(p, axis=0) <= 0.05).mean())


if __name__ == "__main__":
    table = []
    for name, noise in NOISES.items():
        rates = [claimed(noise, n) for n in SEEDS]
        table.append([name, *(f"{100 * rate[0]:.1f}" for rate in rates), *(f"{100 * rate[1]:.1f}" for rate in rates)])
    heads = [f"{word}, {n} seeds" for word in ("matching", "superior") for n in SEEDS]
    print(tabulate(table, ["differences", *heads], tablefmt="github", disable_numparse=True))
    for name in ("normal", "exponential tail, to its bad"):
        for n in (5, 10):
            held = " and ".join(f"{100 * part:.1f} %" for part in covered(NOISES[name], n))
            print(f"{name}, {n} seeds: t and BCa intervals hold the mean in {held}")
    for n in SEEDS:
        print(f"{n} seeds: the interval of the sparsest matching density holds it in {100 * crossed(n):.0f} %")
    print(f"a test after each seed from 5 to 20 errs in {100 * peeked(range(5, 21)):.1f} %")
