"""Statistics of paired seeds: intervals, tests, corrections for several claims, numbers of seeds. No torch here.

Where a function takes a `floor`, it is the least standard deviation that is believed of the values: those seen may be
equal, or nearly so, only because they are counts of test examples. Values that are all equal are judged by their number
as well, since without spread a t test shows anything: the sign test has to be as sure, 0.5^n.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np

Alternative = Literal["greater", "less", "two-sided"]
EXACT = 16  # pairs of which all 2^n flips are tried
DRAWS = 20_000  # flips drawn where there are more pairs
MOST_SEEDS = 100_000
FEWEST_FOR_BCA = 10  # with fewer values the bootstrap interval holds the mean far less often than it says
NO_SPREAD = 1e-12  # values that differ by less are equal but for rounding

Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Interval:
    """An estimate with a two-sided interval; infinite where the data say nothing."""

    estimate: float
    low: float
    high: float
    confidence: float
    method: str
    n: int


def t_interval(differences: Sequence[float], confidence: float = 0.95, floor: float = 0.0) -> Interval:
    """Return the two-sided t interval for the mean."""
    tail = (1 - confidence) / 2
    low, high = lower_bound(differences, 1 - tail, floor), upper_bound(differences, 1 - tail, floor)
    return Interval(_mean(differences), low, high, confidence, "t", len(differences))


def lower_bound(differences: Sequence[float], confidence: float = 0.95, floor: float = 0.0) -> float:
    """Return the one-sided lower t bound of the mean: the largest null value that `t_pvalue` rejects so surely.

    -inf for fewer than 2 values, and where all are equal and a sign test of so many is not as sure.
    """
    n = len(differences)
    if n < 2 or (_tied(differences) and 0.5**n > 1 - confidence):
        return -math.inf
    error = _error(differences, floor)
    if not error:
        return _mean(differences)
    from scipy import special  # takes half a second, and the command line asks for tests of equal values alone

    return _mean(differences) - float(special.stdtrit(n - 1, confidence)) * error


def upper_bound(differences: Sequence[float], confidence: float = 0.95, floor: float = 0.0) -> float:
    """Return the one-sided upper t bound of the mean, as `lower_bound`."""
    return -lower_bound([-difference for difference in differences], confidence, floor)


@np.errstate(over="ignore", invalid="ignore")
def bca_interval(
    differences: Sequence[float], confidence: float = 0.95, *, draws: int = 10_000, seed: int = 0
) -> Interval:
    """Return the bias-corrected and accelerated bootstrap interval for the mean (Efron 1987).

    Infinite for fewer than 2 values, the value itself where all are equal, NaN where one is not finite or too large to
    be cubed. Known to be too narrow for few seeds.
    """
    n = len(differences)
    if n < 2:
        return Interval(_mean(differences), -math.inf, math.inf, confidence, "BCa", n)
    if _tied(differences):
        return Interval(*3 * (_mean(differences),), confidence, "BCa", n)
    from scipy import special  # `scipy.stats.bootstrap` gives the same to the bit, after half a second of imports

    values = np.asarray(differences, dtype=float)
    mean, resampled = values.mean(), np.random.default_rng(seed).integers(0, n, (draws, n))
    drawn = np.sort(values[resampled].mean(axis=1))
    below = np.searchsorted(drawn, mean, side="left") + np.searchsorted(drawn, mean, side="right")
    bias = special.ndtri(below / (2 * draws))
    others = np.array([np.delete(values, place) for place in range(n)]).mean(axis=1)  # means without one of the values
    pulls = (n - 1) * (others.mean() - others)
    spread = (pulls**2).sum() / n**2
    acceleration = 1 / 6 * ((pulls**3).sum() / n**3) / spread ** (3 / 2)
    if not math.isfinite(bias + acceleration):
        return Interval(_mean(differences), math.nan, math.nan, confidence, "BCa", n)
    tail = bias + special.ndtri((1 - confidence) / 2) * np.array([1, -1])
    low, high = _quantiles(drawn, special.ndtr(bias + tail / (1 - acceleration * tail)))
    return Interval(_mean(differences), low, high, confidence, "BCa", n)


def _quantiles(ordered: Array, shares: Array) -> list[float]:
    """Return quantiles of values in ascending order, linear between two of them."""
    places = shares * len(ordered) + (1 - shares)
    below = places.astype(int)
    part = places - below
    above = np.minimum(below, len(ordered) - 1)
    return [float(value) for value in (1 - part) * ordered[below - 1] + part * ordered[above]]


def summary(
    differences: Sequence[float], confidence: float, floor: float = 0.0, *, bootstrap: bool = True
) -> dict[str, Any]:
    """Return the columns of a mean difference.

    These are `n` values, `difference`, its two-sided t interval, and the bootstrap interval where there are at least 10
    values; without `bootstrap` that is left out.
    """
    interval = t_interval(differences, confidence, floor)
    row = {"n": interval.n, "difference": interval.estimate, "low": interval.low, "high": interval.high}
    drawn = bca_interval(differences, confidence) if bootstrap and interval.n >= FEWEST_FOR_BCA else None
    return row | {"bca_low": drawn and drawn.low, "bca_high": drawn and drawn.high}


def t_pvalue(
    differences: Sequence[float], null: float = 0.0, alternative: Alternative = "greater", floor: float = 0.0
) -> float:
    """Return the p-value of the one-sample t test of the mean against `null`; 1 for fewer than 2 values.

    Where all values are equal it is at least that of the sign test.
    """
    n = len(differences)
    if n < 2:
        return 1.0
    if alternative == "two-sided":
        return min(1.0, 2 * min(t_pvalue(differences, null, side, floor) for side in ("greater", "less")))
    gap = _mean(differences) - null if alternative == "greater" else null - _mean(differences)
    error, tied = _error(differences, floor), _tied(differences)
    if tied and gap <= NO_SPREAD:
        return 1.0
    if tied and not floor:
        return float(0.5**n)
    from scipy import special  # as in `lower_bound`

    p = float(special.stdtr(n - 1, -gap / error))
    return max(p, 0.5**n) if tied else p


def sign_flip(differences: Sequence[float], alternative: Alternative = "greater", *, seed: int = 0) -> float:
    """Return the p-value of the paired permutation test that flips signs, on the mean (Fisher 1935).

    The null hypothesis is that differences are symmetric around 0. Exact for up to 16 pairs: p is at least 2^-n
    (2^(1-n) two-sided). With more, 20,000 flips are drawn and p is (count + 1) / (draws + 1). 1 without pairs.
    """
    # not scipy.stats.permutation_test, which takes sums as equal within 2e-14 of the one seen: differences of counts of
    # examples are rounded to worse than that, and ties that it misses put exact p-values off by up to several flips
    values = np.asarray(differences, dtype=float)
    if not len(values):
        return 1.0
    signs = flips(len(values), seed)
    means, seen = signs @ values, float(values.sum())
    if alternative == "two-sided":
        means, seen = np.abs(means), abs(seen)
    elif alternative == "less":
        means, seen = -means, -seen
    return _share(means, seen, len(values))


def holm(pvalues: Sequence[float]) -> list[float]:
    """Return the adjusted p-values of Holm's step-down procedure (1979), in the given order."""
    adjusted, most = [0.0] * len(pvalues), 0.0
    for rank, place in enumerate(sorted(range(len(pvalues)), key=lambda i: pvalues[i])):
        most = max(most, min(1.0, (len(pvalues) - rank) * pvalues[place]))
        adjusted[place] = most
    return adjusted


def fixed_sequence(pvalues: Sequence[float]) -> list[float]:
    """Return adjusted p-values where hypotheses are tested in this order, each only if all before it are rejected.

    Each is the largest so far (Maurer, Hothorn & Lehmacher 1995).
    """
    return [max(pvalues[: place + 1]) for place in range(len(pvalues))]


def fallback(pvalues: Sequence[float], weights: Sequence[float] | None = None) -> list[float]:
    """Return the adjusted p-values of the fallback procedure.

    Each hypothesis has a share of the level, and one that is rejected hands its share to the next in this order that is
    not yet, the last one to the first. `weights` are the shares, 1 in all; without them each is half of the one before.
    Wiens 2003, "A fixed sequence Bonferroni procedure for testing multiple endpoints"; that the last one's share is not
    lost: Wiens & Dmitrienko 2005. As a graph with adjusted p-values: Bretz, Maurer, Brannath & Posch 2009. With all
    weight on the first it is the fixed sequence.
    """
    halves = [0.5**place for place in range(len(pvalues))]
    shares = list(weights or [half / sum(halves) for half in halves])
    open_, adjusted, most = list(range(len(pvalues))), [1.0] * len(pvalues), 0.0
    while open_:
        costs = [pvalues[place] / shares[place] if shares[place] > 0 else math.inf for place in open_]
        at = min(range(len(open_)), key=costs.__getitem__)
        most = max(most, min(1.0, costs[at]))
        place = open_.pop(at)
        adjusted[place] = most
        if open_:
            shares[open_[at % len(open_)]] += shares[place]
    return adjusted


def seeds_needed(
    sd: float, distance: float, confidence: float = 0.95, power: float = 0.8, floor: float = 0.0
) -> int | None:
    """Return the fewest seeds with which a one-sided paired t test has this power, by the noncentral t distribution.

    Without spread these are at least those with which the sign test can show anything.

    Args:
        sd: Standard deviation of the differences.
        distance: Distance of their true mean from the null value.
        confidence: The one-sided confidence of the test.
        power: The power.
        floor: The least standard deviation that is believed.

    Returns:
        The number; None where `distance` is not above 0, and where 100,000 would not do.
    """
    if not distance > 0:
        return None
    spread, least = max(sd, floor), fewest_equal(confidence) if sd < NO_SPREAD else 2
    if spread < NO_SPREAD:
        return least

    from scipy import special  # as in `lower_bound`

    def enough(n: int) -> bool:
        bound = special.stdtrit(n - 1, confidence)
        reached = 1 - float(special.nctdtr(n - 1, distance / spread * math.sqrt(n), bound))
        return reached >= power or math.isnan(reached)  # nan: so far out that the power is 1

    low, high = least - 1, least
    while not enough(high):
        low, high = high, 2 * high
        if high > MOST_SEEDS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def largest_spread(seeds: int, distance: float, confidence: float = 0.95, power: float = 0.8) -> float | None:
    """Return the largest standard deviation of differences with which so many seeds have this power.

    The inverse of `seeds_needed`, to a thousandth of the distance; arguments as there. None for fewer than 2 seeds.
    """
    if seeds < 2:
        return None
    low, high = 0.0, math.sqrt(seeds)  # with more, the mean of so many is not even one standard error away
    while high - low > 1e-3:
        middle = (low + high) / 2
        needed = seeds_needed(middle * distance, distance, confidence, power)
        low, high = (middle, high) if needed is not None and needed <= seeds else (low, middle)
    return low * distance


def fewest_equal(confidence: float) -> int:
    """Return the number of equal values that the sign test needs: the fewest n with 0.5^n <= 1 - confidence."""
    return math.ceil(round(-math.log2(1 - confidence), 9))


def earlier(
    ticket_steps: Sequence[float],
    dense_steps: Sequence[float],
    ticket_censored: Sequence[bool],
    dense_censored: Sequence[bool],
    *,
    later: float = 0.0,
) -> float:
    """Return p for "the ticket stops early no later than (1 + `later`) times the dense network", paired by seed.

    Where no step is censored: the paired t test on the logarithm of the ratio of steps; where all ratios are equal, as
    on a coarse evaluation grid, the sign test, since a t test without spread shows anything. Else a permutation test
    that swaps ticket and dense network within pairs, exact up to 16 pairs; its statistic is the sum of the log ratios,
    with what is not known counted against the ticket: a censored dense network is later by at least what is seen, so
    that counts; a censored ticket by an unknown factor, so the largest in the data; a pair with both censored says
    nothing. As the statistic is computed anew after each swap by the same rule, the test holds its level where ticket
    and dense network are exchangeable (`later` 0); a tolerance moves the ticket's steps before, which is approximate
    where steps are censored. 1 for fewer than 2 pairs.
    """
    if len(ticket_steps) < 2:
        return 1.0
    gains = np.log(np.maximum(dense_steps, 1)) - np.log(np.maximum(ticket_steps, 1)) + math.log1p(later)
    ours, theirs = np.asarray(ticket_censored, dtype=bool), np.asarray(dense_censored, dtype=bool)
    if not (ours | theirs).any():
        return t_pvalue(list(gains))
    largest = float(np.abs(gains).max())
    kept = _gain(gains, ours, theirs, largest)
    swapped = _gain(-gains, theirs, ours, largest)
    swaps = flips(len(gains), 0)
    sums = np.where(swaps > 0, kept, swapped).sum(axis=1)
    return _share(sums, float(kept.sum()), len(gains))


def _gain(gains: Array, ours: Any, theirs: Any, largest: float) -> Array:
    """Return log ratios in favour of the first of each pair, the unknown counted against it."""
    known: Array = np.where(ours & theirs, 0.0, np.where(ours, -largest, gains))
    return known


@lru_cache(maxsize=2)  # the tests of a study ask for the same ones again and again, and 20,000 of 130 take 20 MB
def flips(n: int, seed: int) -> Array:
    """Return rows of 1 and -1, of shape (flips, n): all of them for up to 16 columns, identity first, else drawn.

    The array cannot be written to: all who ask for it share it.
    """
    if n <= EXACT:
        bits = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
    else:
        bits = np.random.default_rng(seed).integers(0, 2, (DRAWS, n))
    signs = np.asarray(1 - 2 * bits, dtype=np.float64)
    signs.flags.writeable = False
    return signs


def _share(drawn: Array, seen: float, n: int) -> float:
    """Return the share of flips whose statistic is at least the one seen, up to rounding."""
    count = int((drawn >= seen - 1e-12 * max(1.0, abs(seen))).sum())
    return count / len(drawn) if n <= EXACT else (count + 1) / (len(drawn) + 1)


def _mean(values: Sequence[float]) -> float:
    if len(set(values)) == 1:
        return float(values[0])  # to the bit
    return math.fsum(values) / len(values) if len(values) else math.nan


def _tied(values: Sequence[float]) -> bool:
    return max(values) - min(values) < NO_SPREAD


def _error(values: Sequence[float], floor: float = 0.0) -> float:
    """Return the standard error of the mean; exactly 0 where all values are equal and there is no floor."""
    mean = _mean(values)  # of equal values to the bit, so that their spread is 0
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
    return max(spread, floor) / math.sqrt(len(values))
