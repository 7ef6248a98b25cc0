"""The directions from a point in which its loss surface is most curved, and how far they reach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite, nan, sqrt

import torch
from torch import Tensor

from lottery.errors import UsageError
from lottery.landscape.directions import scaled
from lottery.landscape.lanczos import MOST, top_eigenvectors
from lottery.landscape.matrices import Streams, curvature
from lottery.landscape.memo import Memo
from lottery.landscape.surface import Point, Surface

FARTHEST = 1.0  # in norms of the point, beyond which nothing near it is shown
MARGIN = 1.1  # of a reach, so that rounding does not decide whether the loss there is high enough


@dataclass(frozen=True, eq=False)
class Sharpest:
    """The eigenvectors of the largest eigenvalues of a Hessian, as directions of a picture.

    Attributes:
        eigenvalues: The eigenvalues, the largest first.
        directions: Their eigenvectors (n,), each as long as the point is from 0.
        reaches: How far a picture goes along each, in these lengths.
    """

    eigenvalues: Sequence[float]
    directions: Sequence[Tensor]
    reaches: Sequence[float]


def sharpest_directions(
    surface: Surface, at: Point, streams: Streams, memo: Memo, times: float, *, count: int = 2, steps: int = MOST
) -> Sharpest:
    """Return the directions from a point in which the train loss is most curved, over the survivors.

    Args:
        surface: The surface; it is at the point afterwards.
        at: The point.
        streams: Streams of random numbers for the start vector.
        memo: Keeps each Lanczos vector, then the eigenvectors.
        times: The multiple of the point's loss, at least 2; a direction reaches a tenth farther than where the
            quadratic model has it, at most to FARTHEST.
        count: Number of directions.
        steps: Largest number of products.

    Raises:
        UsageError: Fewer weights survive than directions are asked for, or the network has no second derivatives.
    """
    if surface.size < count:
        raise UsageError(f"{surface.size} weights survive, which have no {count} directions; look at a denser network")
    surface.load(at)
    name = "eigenvectors"
    values, vectors = top_eigenvectors(curvature(surface), streams, memo, name, count=count, steps=steps)
    loss = memo.values(f"{name}: loss", lambda: {"train": surface.mean_loss()})["train"]
    rise, norm = max(times - 1, 1) * loss, float(at.vector.double().norm())
    eigenvalues, directions = values.tolist(), [scaled(each, at.vector) for each in vectors.to(surface.device)]
    missing = count - len(directions)  # of a diverged state, whose curvature is not finite
    eigenvalues += [nan] * missing
    directions += [torch.full_like(at.vector, nan)] * missing
    return Sharpest(eigenvalues, directions, [_reach(rise, value, norm) for value in eigenvalues])


def _reach(rise: float, eigenvalue: float, norm: float) -> float:
    """Return a tenth more than how many norms away a parabola of this curvature has risen so far, FARTHEST at most.

    Where it never does, or is not finite, that is FARTHEST.
    """
    steps = sqrt(2 * rise / eigenvalue) if eigenvalue > 0 and rise > 0 else inf
    return min(MARGIN * steps / norm, FARTHEST) if isfinite(steps) and norm > 0 else FARTHEST
