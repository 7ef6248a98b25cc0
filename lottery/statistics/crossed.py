"""Uncertainty of a mean over seeds and test examples, both of which are drawn. No torch here."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import stdtrit

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Crossed:
    """Mean of values by seed and test example, with an interval for other seeds and other test examples.

    What is left of the variance, 1 less both shares, falls with more seeds as with more examples: it is chance of a
    seed with an example.

    Attributes:
        estimate: The mean.
        low: Lower end of the two-sided interval; None for fewer than 2 seeds or examples, or where all values are
            equal.
        high: Upper end; None as `low`.
        seeds_share: Share of the variance of the mean that more seeds would take away; None as `low`.
        examples_share: Share of it that more test examples would take away; None as `low`.
    """

    estimate: float
    low: float | None
    high: float | None
    seeds_share: float | None
    examples_share: float | None


def crossed(values: Array, confidence: float = 0.95) -> Crossed:
    """Return the mean of `values` (seeds, test examples) with its interval and the shares of its variance.

    The variance is what the crossed bootstrap estimates that resamples seeds and examples independently ("pigeonhole
    bootstrap", McCullagh 2000; Owen 2007): s²/n of seeds, e²/N of examples and c²/(nN) of both. That of the bootstrap
    is known in closed form, and how it errs: it counts c² about three times, and takes s² (n - 1)/n times. Here it is
    without this bias, from the mean squares of the table (components below 0 count as 0), with a t distribution whose
    degrees of freedom are those of the mean squares (Satterthwaite 1946): of few seeds the percentiles of draws know
    too little.
    """
    n, examples = values.shape
    estimate = float(values.mean(dtype=float)) if values.size else math.nan
    if min(n, examples) < 2:
        return Crossed(estimate, None, None, None, None)
    by_seed, by_example = values.mean(axis=1, dtype=float), values.mean(axis=0, dtype=float)
    of_seeds = examples * float(((by_seed - estimate) ** 2).sum())
    of_examples = n * float(((by_example - estimate) ** 2).sum())
    total = float((values.astype(float) ** 2).sum()) - values.size * estimate**2
    freedom = ((n - 1), (examples - 1), (n - 1) * (examples - 1))
    both = max(0.0, (total - of_seeds - of_examples) / freedom[2])
    squares = max(of_seeds / freedom[0], both), max(of_examples / freedom[1], both), both
    summed = squares[0] + squares[1] - both  # n N times the variance of the mean
    if summed <= np.finfo(float).eps * values.size:
        return Crossed(estimate, None, None, None, None)
    degrees = summed**2 / sum(square**2 / each for square, each in zip(squares, freedom, strict=True))
    reach = -float(stdtrit(degrees, (1 - confidence) / 2)) * math.sqrt(summed / values.size)
    seeds_share, examples_share = ((square - both) / summed for square in squares[:2])
    return Crossed(estimate, estimate - reach, estimate + reach, seeds_share, examples_share)


def between_seeds(correct: Array) -> float | None:
    """Return the mean share of test examples on which exactly one of two networks of different seeds is right.

    `correct` are bools (seeds, test examples); None for fewer than 2 seeds.
    """
    n, examples = correct.shape
    if n < 2 or not examples:
        return None
    right: Array = correct.sum(axis=0, dtype=float)
    apart: float = np.mean(right * (n - right)) / (n * (n - 1) / 2)
    return float(apart)


def by_class(values: Array, labels: Array, classes: int) -> Array:
    """Return the mean over the test examples of each class, (seeds, classes); nan for a class without examples."""
    counts = np.bincount(labels, minlength=classes)
    sums = np.stack([np.bincount(labels, weights=row, minlength=classes) for row in values])
    means: Array = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
    return means
