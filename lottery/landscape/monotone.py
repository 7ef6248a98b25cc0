"""Monotone paths: how far a value rises again on the way."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def largest_rise(values: Sequence[float]) -> float:
    """Return the largest rise from any point of a path to a later one, 0 where values never rise.

    It is the smallest delta for which the path is delta-monotone (Lucas et al. 2021). NaN anywhere makes it NaN.
    """
    found = np.asarray(values, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        return float((found - np.minimum.accumulate(found)).max())


def monotone(values: Sequence[float]) -> float:
    """Return 1 where values never rise along a path, 0 where they do, and NaN where one of them is NaN."""
    rise = largest_rise(values)
    return rise if np.isnan(rise) else float(rise == 0)


def rises(values: Sequence[float]) -> dict[str, float]:
    """Return both measures of a path, `monotone` and `rise`."""
    return {"monotone": monotone(values), "rise": largest_rise(values)}
