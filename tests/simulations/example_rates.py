"""How often intervals over test examples, tests of transferred tickets and tests of overlaps err: `python -m
tests.simulations.example_rates` prints the figures of docs/statistics.md and docs/genealogy.md, from 2,000 studies."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
from scipy import stats as oracle
from tabulate import tabulate

from lottery.statistics import paired
from lottery.statistics.crossed import crossed
from lottery.statistics.network_pairs import seed_values, t_test

STUDIES, DRAWS, SURE = 2_000, 400, 0.95
DIFFER = {  # spread of seeds, of examples for tickets alone, of both; gain of the ticket
    "seed": (0.15, 0.0, 0.4, 0.0),
    "example": (0.0, 0.5, 0.3, 0.0),
    "both": (0.1, 0.3, 0.3, -0.1),
    "neither": (0.0, 0.0, 0.4, 0.0),
}
HARD = 0.8  # spread of how hard examples are, for ticket and dense network alike

Array = np.ndarray[Any, np.dtype[Any]]


def truth(of_seeds: float, of_examples: float, of_both: float, gain: float) -> float:
    """Return the expected difference of accuracy: a network is right where a score of mean 1 is above 0."""
    spread = (HARD**2 + of_seeds**2 + of_both**2) ** 0.5
    return float(oracle.norm.cdf((1 + gain) / np.hypot(spread, of_examples)) - oracle.norm.cdf(1 / spread))


def study(draws: np.random.Generator, n: int, size: int, spreads: tuple[float, float, float, float]) -> Array:
    """Return ticket less dense, 1, 0 or -1 for each seed and test example."""
    of_seeds, of_examples, of_both, gain = spreads
    hard, own = 1 + HARD * draws.normal(size=size), of_examples * draws.normal(size=size)
    scores = [of_seeds * draws.normal(size=(n, 1)) + of_both * draws.normal(size=(n, size)) for _ in range(2)]
    return 1.0 * (hard + gain + own + scores[0] > 0) - 1.0 * (hard + scores[1] > 0)


def held(name: str, n: int, size: int) -> list[float]:
    """How often four intervals hold the true difference: percentiles and deviation of the crossed bootstrap, `crossed`,
    and the t interval over seeds alone."""
    draws, counts, expected = np.random.default_rng(n), np.zeros(4), truth(*DIFFER[name])
    v = draws.multinomial(size, np.full(size, 1 / size), DRAWS).T.astype(np.float32)
    w = draws.multinomial(n, np.full(n, 1 / n), DRAWS).T
    reach = oracle.t.isf((1 - SURE) / 2, n - 1)
    for _ in range(STUDIES):
        values = study(draws, n, size, DIFFER[name])
        resampled = ((values.astype(np.float32) @ v) * w).sum(0) / values.size
        found, by_seed = crossed(values, SURE), paired.t_interval(values.mean(1).tolist(), SURE)
        low, high = np.quantile(resampled, [(1 - SURE) / 2, (1 + SURE) / 2])
        assert found.low is not None and found.high is not None
        counts += [
            low <= expected <= high,
            abs(found.estimate - expected) <= reach * resampled.std(),
            found.low <= expected <= found.high,
            by_seed.low <= expected <= by_seed.high,
        ]
    return [100 * count / STUDIES for count in counts]


def transferred(n: int, optimizers: int = 3) -> float:
    """Return how often any of the transferred tickets is said to match, where all are exactly the margin below what
    they are held against, in percent: cells that one optimizer retrains share its reference."""
    draws, wrong, pairs = np.random.default_rng(n), 0, [(a, b) for a in range(optimizers) for b in range(optimizers)]
    for _ in range(STUDIES):
        seeds = draws.normal(size=n)
        dense = draws.normal(size=(optimizers, n)) + seeds
        cells = [draws.normal(size=n) + seeds - 1 - dense[b] for a, b in pairs if a != b]
        wrong += min(paired.holm([paired.t_pvalue(cell.tolist(), -1.0, "greater") for cell in cells])) <= 1 - SURE
    return 100 * wrong / STUDIES


def overlapping(n: int, of_seeds: float, skewed: bool = False) -> list[float]:
    """Return how often an overlap of chance alone is called more or less than that, in percent: by the test of
    overlaps, by a t test of the seeds' means, and by z over pairs. `skewed`: the effect of seeds is exponential."""
    draws, wrong = np.random.default_rng(n), np.zeros(3)
    for _ in range(STUDIES):
        own = of_seeds * (draws.exponential(size=n) - 1 if skewed else draws.normal(size=n))
        pairs = {(a, b): float(own[a] + own[b] + 0.3 * draws.normal()) for a, b in combinations(range(n), 2)}
        values = np.array(list(pairs.values()))
        means = [np.mean([value for pair, value in pairs.items() if seed in pair]) for seed in range(n)]
        wrong += [
            (t_test(seed_values(pairs)) or (0, 1))[1] < 1 - SURE,
            oracle.ttest_1samp(means, 0).pvalue < 1 - SURE,
            abs(values.sum()) / (values**2).sum() ** 0.5 > oracle.norm.isf((1 - SURE) / 2),
        ]
    return [100 * count / STUDIES for count in wrong]


if __name__ == "__main__":
    sizes = ((3, 500), (5, 200), (5, 1000), (10, 500))
    table = [(name, f"{n}, {size:,}", *held(name, n, size)) for name in DIFFER for n, size in sizes]
    heads = ("differ by", "seeds, examples", "bootstrap, percentiles", "its deviation, t", "low, high", "seeds alone")
    print(tabulate(table, heads, floatfmt=".1f"))
    print(tabulate([(n, transferred(n)) for n in (3, 5, 10)], ("seeds", "any transferred ticket, %"), floatfmt=".1f"))
    effects = {"none": (0.0, False), "normal": (1.0, False), "exponential": (1.0, True)}
    rows = [(name, n, *overlapping(n, *effect)) for name, effect in effects.items() for n in (3, 5, 10)]
    print(tabulate(rows, ("effect of seeds", "seeds", "t", "t of means", "z of pairs"), floatfmt=".1f"))
