"""Tests of means over seeds, and over pairs of networks, where pairs that share a seed are not independent."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from lottery.statistics.paired import NO_SPREAD


def seed_values(pairs: Mapping[tuple[int, int], float]) -> list[float]:
    """Return one value for each seed, in rising order of seeds, whose mean is the mean over the pairs.

    `pairs` has a value for each pair of seeds. Where both are the same seed (two optimizers), it is that seed's value.
    Where they are different, a seed has the jackknife's pseudo-value: n times the mean over all pairs less n - 1 times
    that over the pairs without this seed (Arvesen 1969, Jackknifing U-statistics). Each seed has to be in equally many
    pairs, see `balanced`; where these are not all that there are, as in a ring, the spread is overestimated. Empty for
    fewer than 3 seeds, of which the pairs without one are none.
    """
    seeds = sorted({seed for pair in pairs for seed in pair})
    if all(one == other for one, other in pairs):
        return [pairs[seed, seed] for seed in seeds]
    n, mean = len(seeds), statistics.fmean(pairs.values())
    assert balanced(pairs)
    if n < 3:
        return []
    without = [statistics.fmean(value for pair, value in pairs.items() if seed not in pair) for seed in seeds]
    return [n * mean - (n - 1) * left for left in without]


def balanced(pairs: Iterable[tuple[int, int]]) -> bool:
    """Return True if pairs are each within one seed, or of different seeds that are in equally many pairs each."""
    seen = list(pairs)
    counts = Counter(seed for pair in seen for seed in pair)
    within = sum(one == other for one, other in seen)
    return within == len(seen) or (within == 0 and len(set(counts.values())) == 1)


def t_test(values: Sequence[float]) -> tuple[float, float] | None:
    """Return t and the two-sided p that the mean of independent values is 0.

    Returns:
        The two; None for fewer than 2 values, or without spread between them.
    """
    if len(values) < 2 or max(values) - min(values) < NO_SPREAD * max(1.0, *map(abs, values)):
        return None
    from scipy import special  # `scipy.stats.ttest_1samp` gives the same to the bit, after half a second of imports

    known, n = np.asarray(values, dtype=float), len(values)
    mean = known.mean()
    t = float(mean / np.sqrt(((known - mean) ** 2).mean() * (n / (n - 1)) / n))
    return None if math.isnan(t) else (t, float(2 * special.stdtr(n - 1, -abs(t))))
