"""Exact bounds of shares of seeds, and of differences of two shares of the same seeds: of values that are 0 or 1.

A t interval of such values lies: where all are equal it has no width. No torch here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

_GRID = 201  # shares of pairs that differ, the nuisance parameter, that are tried
_HALVINGS = 30  # to a billionth


def lower_bound(values: Sequence[float], confidence: float, paired: bool) -> float:
    """Return the one-sided lower bound of a share, or, `paired`, of the difference of two shares of the same seeds.

    Values of 0 and 1 are those of one share, whose bound is that of Clopper and Pearson (1934). Values of -1, 0 and 1
    are differences within a pair, whose mean has the bound of Buehler (1957, "Confidence intervals for the product of
    two binomial parameters"): the least difference under which the ones can outnumber the minus ones by as many as seen
    with a probability above 1 - `confidence`, whatever the share of pairs that differ. It is above 0 where the sign
    test of the pairs is as sure if all of them differ. Both are exact: they hold at least as surely as they say, for
    any number of seeds.

    Raises:
        ValueError: There is no value, or another one.
    """
    n = len(values)
    if not n or not set(values) <= ({-1, 0, 1} if paired else {0, 1}):
        raise ValueError("shares are of values that are 0 or 1, differences of -1, 0 or 1, and of one at least")
    more = round(math.fsum(values))
    if not paired:
        from scipy import special  # takes half a second: only where it is asked for

        return float(special.betaincinv(more, n - more + 1, 1 - confidence)) if more else 0.0
    return _least(lambda difference: _chance(n, more, difference) > 1 - confidence)


def upper_bound(values: Sequence[float], confidence: float, paired: bool) -> float:
    """Return the one-sided upper bound of a share, or, `paired`, of the difference of two; see `lower_bound`."""
    if paired:
        return -lower_bound([-value for value in values], confidence, paired)
    return 1 - lower_bound([1 - value for value in values], confidence, paired)


def _chance(n: int, more: int, difference: float) -> float:
    """Return the highest chance that of n pairs the ones outnumber the minus ones by `more` at least.

    Ones have a share that is higher by `difference`; of the shares of pairs that differ at all, the worst counts.
    """
    from scipy import special

    differ = np.linspace(abs(difference), 1, _GRID)[:, None]
    with np.errstate(invalid="ignore"):
        ones = np.where(differ > 0, (1 + difference / np.maximum(differ, 1e-300)) / 2, 0.5)
    pairs = np.arange(n + 1)[None, :]  # number of those that differ
    chance_of_pairs = special.bdtr(pairs, n, differ) - np.where(pairs > 0, special.bdtr(pairs - 1, n, differ), 0)
    wanted = np.ceil((pairs + more) / 2)  # ones among them
    enough = np.where(wanted > 0, special.bdtrc(np.clip(wanted - 1, 0, pairs), pairs, ones), 1.0)
    return float((chance_of_pairs * np.where(wanted > pairs, 0.0, enough)).sum(axis=1).max())


def _least(plausible: Callable[[float], bool]) -> float:
    """Return the least difference of two shares that is plausible; those above it are as well."""
    low, high = -1.0, 1.0
    if plausible(low):
        return low
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if plausible(middle) else (middle, high)
    return low
