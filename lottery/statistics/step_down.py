"""The step-down maximum test: at which of several densities differences are above 0, by flipping whole seeds.

No torch here; the tests of a single density are in `lottery.statistics.paired`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lottery.statistics import paired

STUDIES, FLIPS = 400, 512  # simulated to tell the power of so many seeds, and the most flips that each is tested with
AT_ONCE = 20  # of these, whose statistics fit into a processor's cache
DRAWS = 20_000  # of normal statistics, to find how large the largest of them gets
ROUNDING = 1e-12  # statistics that differ by less are equal

Array = np.ndarray[Any, np.dtype[np.float64]]
Flags = np.ndarray[Any, np.dtype[np.bool_]]


def adjusted(differences: Array) -> list[float]:
    """Return for each density the p-value that its differences are above 0, adjusted for the other densities.

    `differences` has the shape (seeds, densities), nan where a seed has no value. A flip turns the signs of all values
    of a seed at once, so that the correlation between densities is kept. Densities are looked at from the largest t
    statistic down: p is the share of flips in which the largest of its own and all smaller ones is at least its own,
    and at least the p of the density before (Westfall & Young 1993, free step-down maxT; Romano & Wolf 2005). All 2^n
    flips of up to 16 seeds are tried; with more, 20,000 are drawn and p is (count + 1) / (draws + 1). In place of t
    stands the sum over the root of the sum of squares, which rises with it and is finite without spread.

    The chance of any false claim is at most the level, whichever densities do differ, if seeds are independent and the
    differences of a seed at the densities that do not are jointly symmetric about 0. (About values below it is smaller,
    by simulation.) A seed without a value at a density counts for its other densities, and the statistic there is of
    the seeds that have one: that is as exact where values are missing whatever their sign would have been, as those of
    trainings not yet run. Where one side diverged it is not: the caller must not ask whether that side is the better
    one. A density without values has p = 1 and is no test to the others.
    """
    values = np.asarray(differences, dtype=float)
    tested = np.flatnonzero(~np.isnan(values).all(axis=0))
    found = [1.0] * values.shape[1]
    values = values[:, tested]
    values = values[~np.isnan(values).all(axis=1)]
    if values.size:
        n = len(values)
        (shown,) = _stepdown(np.nan_to_num(values)[None], paired.flips(n, 0), n <= paired.EXACT)
        for place, p in zip(tested, shown, strict=True):
            found[place] = float(p)
    return found


def seeds_needed(differences: Array, alpha: float, power: float) -> list[int | None]:
    """Return for each density the fewest seeds with which `adjusted` is at most `alpha` with this power.

    The true means, spreads and correlations are taken to be those seen, the differences to be normal. Up to 16 seeds by
    400 simulated studies, with an error of 2 % in their power; beyond, by the t test at the level at which the density
    exceeds the largest statistic of those not yet shown. None where the mean is not above 0, where fewer than 2 values
    say nothing of the spread, and where 100,000 seeds would not do.
    """
    values = np.asarray(differences, dtype=float)
    counts = (~np.isnan(values)).sum(axis=0)
    known = np.flatnonzero(counts >= 2)
    needed: list[int | None] = [None] * values.shape[1]
    if not len(known):
        return needed
    values = values[:, known]
    means = np.nanmean(values, axis=0)
    # products of its columns are the covariances; a missing value lowers the correlation, which asks for more seeds
    loadings = np.nan_to_num(values - means) / np.sqrt(counts[known] - 1)
    n = math.ceil(round(-math.log2(alpha), 9))  # with which p can be as small as alpha
    few = means > 0
    few = few & _reached(means, loadings, paired.EXACT, alpha, power, few)
    if (many := np.flatnonzero((means > 0) & ~few)).size:
        spreads = np.maximum(np.sqrt((loadings**2).sum(axis=0)), paired.NO_SPREAD)
        effects, drawn = means / spreads, _drawn(loadings / spreads)
        for column in map(int, many):
            needed[known[column]] = _many(effects, drawn, column, alpha, power)
    while few.any():
        reached = few & (_reached(means, loadings, n, alpha, power, few) | (n >= paired.EXACT))
        for place in known[reached]:
            needed[place] = n
        few, n = few & ~reached, n + 1
    return needed


def _stepdown(values: Array, flips: Array, exact: bool) -> Array:
    """Return the adjusted p of each column of several studies, of shape (studies, columns); missing values are 0.

    `values` has the shape (studies, seeds, columns), `flips` (flips, seeds).
    """
    studies, seeds, columns = values.shape
    sizes = np.sqrt((values**2).sum(axis=1, keepdims=True))  # a flip does not change them
    scaled = values / np.where(sizes > 0, sizes, 1)
    order = np.argsort(scaled.sum(axis=1), kind="stable")
    rising = np.take_along_axis(scaled.transpose(0, 2, 1), order[:, :, None], axis=1)
    drawn = (rising.reshape(-1, seeds) @ flips.T).reshape(studies, columns, -1)
    for column in range(1, columns):  # of each column and all with a smaller statistic
        np.maximum(drawn[:, column - 1], drawn[:, column], out=drawn[:, column])
    counts = np.count_nonzero(drawn >= rising.sum(axis=2, keepdims=True) - ROUNDING, axis=2)
    p = counts / len(flips) if exact else (counts + 1) / (len(flips) + 1)
    found: Array = np.empty(p.shape)
    np.put_along_axis(found, order, np.maximum.accumulate(p[:, ::-1], axis=1)[:, ::-1], axis=1)
    return found


def _reached(means: Array, loadings: Array, n: int, alpha: float, power: float, asked: Flags) -> Flags:
    """Return whether each density is shown in such a share of simulated studies of n seeds; True only of those asked.

    The simulation ends once it is known of all that are asked.
    """
    draws = np.random.default_rng(n)
    exact = 2**n <= FLIPS
    flips = paired.flips(n, 0) if exact else draws.choice([-1.0, 1.0], size=(FLIPS, n))
    least = next((count for count in range(STUDIES) if count / STUDIES >= power), STUDIES)
    shown, done = np.zeros(len(means), dtype=int), 0
    while (asked & (shown < least) & (shown + STUDIES - done >= least)).any():
        values = means + draws.normal(size=(AT_ONCE, n, len(loadings))) @ loadings
        shown += (_stepdown(values, flips, exact) <= alpha).sum(axis=0)
        done += AT_ONCE
    known: Flags = asked & (shown >= least)
    return known


def _drawn(loadings: Array) -> Array:
    """Return draws of normal statistics with these correlations, of shape (draws, densities)."""
    return np.random.default_rng(0).normal(size=(DRAWS, len(loadings))) @ loadings


def _many(effects: Array, drawn: Array, column: int, alpha: float, power: float) -> int | None:
    """Return the number of seeds of a density, where they are many; not fewer than of those that are shown before.

    Args:
        effects: Means over spreads, one for each density.
        drawn: Draws of the statistics without these effects, of shape (draws, densities).
        column: The density.
        alpha: The level of the test.
        power: The power that is asked for.
    """
    from scipy.special import ndtr

    most = paired.EXACT + 1
    for effect in effects[effects >= effects[column]]:
        limit = float(np.quantile(drawn[:, effects <= effect].max(axis=1), 1 - alpha))
        found = paired.seeds_needed(1.0, float(effect), 1 - min(alpha, float(ndtr(-limit))), power)
        if found is None:
            return None
        most = max(most, found)
    return most
