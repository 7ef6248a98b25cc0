"""Pairs of networks that share seeds: which of them are independent of each other."""

from __future__ import annotations

import math
from collections.abc import Iterable


def independent_means(pairs: Iterable[tuple[frozenset[int], float]]) -> dict[frozenset[int], float]:
    """Return values that are independent of each other, by the seeds that each is made of.

    The unit that is drawn anew is the seed: its first weights, its split, its order. All pairs within one seed (samples
    of a control, children of one state, pairs of orders of the data) share what the seed drew, so their mean is one
    value, however many there are. Pairs of two seeds are independent only where they have no seed in common: of those
    that do, the first counts. A ring of n seeds, each with the next, so has n // 2 independent pairs.

    Args:
        pairs: The seeds of a pair, one or two, and its value.
    """
    values: dict[frozenset[int], list[float]] = {}
    for seeds, value in pairs:
        values.setdefault(seeds, []).append(value)
    taken: set[int] = set()
    found: dict[frozenset[int], float] = {}
    for seeds, each in values.items():
        if taken.isdisjoint(seeds):
            taken |= seeds
            found[seeds] = math.fsum(each) / len(each)
    return found
