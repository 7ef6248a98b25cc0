"""How fast loss and gradient fall along a training: rates of linear convergence."""

from __future__ import annotations

import math

from lottery.landscape.memo import Memo
from lottery.landscape.surface import Point, Surface


def loss_and_gradient(surface: Surface, point: Point, memo: Memo, name: str) -> dict[str, float]:
    """Return the mean training loss at a point and the norm of its gradient; the memo keeps them under the name."""

    def make() -> dict[str, float]:
        surface.load(point)
        loss, gradient = surface.gradient()
        return {"loss": loss, "gradient_norm": float(gradient.norm())}

    return memo.values(name, make)


def rate(first: float, last: float, steps: int) -> float:
    """Return the factor a step, the geometric mean, of what went from `first` to `last` in so many `steps`.

    It is NaN where `first` is 0 or one of them is not finite.
    """
    if not (first > 0 and last >= 0 and math.isfinite(first) and math.isfinite(last)):
        return math.nan
    return float((last / first) ** (1 / steps))
