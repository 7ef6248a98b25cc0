"""Plateaus along a training: where the gradient is small and the curvature not positive."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from lottery.landscape.lanczos import extreme_eigenvalues
from lottery.landscape.matrices import Streams, curvature
from lottery.landscape.memo import Memo
from lottery.landscape.surface import Surface


@dataclass(frozen=True)
class Waypoint:
    """A state along a training.

    Attributes:
        step: Step of the training.
        loss: Mean training loss.
        gradient_norm: Norm of its gradient.
        smallest: Smallest Ritz value of the Hessian: the smallest eigenvalue is not above it.
        smallest_residual: Its residual, see `lanczos.Krylov`.
        largest: Largest eigenvalue.
        largest_residual: Its residual.
    """

    step: int
    loss: float
    gradient_norm: float
    smallest: float
    smallest_residual: float
    largest: float
    largest_residual: float


def measure_waypoint(
    surface: Surface, step: int, streams: Streams, memo: Memo, name: str, *, steps: int = 40
) -> Waypoint:
    """Measure the present point of a surface; `steps` is the largest number of Hessian products."""

    def make() -> dict[str, float]:
        loss, gradient = surface.gradient()
        found = extreme_eigenvalues(curvature(surface), streams, memo, name, smallest=True, steps=steps)
        values, residuals = found.values.tolist(), found.residuals.tolist()
        memo.forget(name)
        return {
            "loss": loss,
            "gradient_norm": float(gradient.norm()),
            "smallest": values[-1],
            "smallest_residual": residuals[-1],
            "largest": values[0],
            "largest_residual": residuals[0],
        }

    return Waypoint(step, **memo.values(name, make))


def shares(waypoints: Sequence[Waypoint], threshold: float) -> dict[str, float]:
    """Return the shares of a run spent where the gradient is small, the curvature not positive, and both (a plateau).

    A state stands for the steps up to half-way to its neighbours. Small is a gradient whose norm is at most
    `threshold` times the largest of the run; curvature is not positive where the smallest Ritz value is at most 0,
    which proves it. Where it is above 0, the Lanczos steps may not have found a smaller one: shares are from below. All
    are NaN where a gradient is not finite.
    """
    norms = [waypoint.gradient_norm for waypoint in waypoints]
    if not all(map(math.isfinite, norms)):
        return dict.fromkeys(("plateau_share", "small_gradient_share", "nonpositive_share"), math.nan)
    weights = _spans([waypoint.step for waypoint in waypoints])
    small = [norm <= threshold * max(norms) for norm in norms]
    flat = [waypoint.smallest <= 0 for waypoint in waypoints]
    both = [a and b for a, b in zip(small, flat, strict=True)]
    return {
        "plateau_share": math.fsum(w for w, yes in zip(weights, both, strict=True) if yes),
        "small_gradient_share": math.fsum(w for w, yes in zip(weights, small, strict=True) if yes),
        "nonpositive_share": math.fsum(w for w, yes in zip(weights, flat, strict=True) if yes),
    }


def _spans(steps: Sequence[int]) -> list[float]:
    """Return the share of a run that each state stands for, of rising steps."""
    if len(steps) == 1:
        return [1.0]
    middles = [steps[0], *((a + b) / 2 for a, b in pairwise(steps)), steps[-1]]
    return [(b - a) / (steps[-1] - steps[0]) for a, b in pairwise(middles)]
