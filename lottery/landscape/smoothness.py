"""Smoothness of the loss along the gradient: its change, that of the gradient, and the effective beta-smoothness.

Santurkar et al. 2018 look along the gradient because that is where a step of training goes. Surviving weights alone
move.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from lottery.landscape.memo import Memo
from lottery.landscape.surface import Point, Surface

Row = dict[str, float]


@dataclass(frozen=True)
class Smoothness:
    """The loss along the gradient from one point.

    Attributes:
        loss: Loss at the point itself.
        gradient_norm: Norm of its gradient g.
        steps: One row for each step size: `step` (s), `distance` (s |g|), `loss` at the point minus s g,
            `gradient_change` (norm of the difference of the gradients there and here) and `beta` (gradient change over
            distance). Numbers that are not finite are kept.
    """

    loss: float
    gradient_norm: float
    steps: Sequence[Row]

    @property
    def loss_range(self) -> float:
        """Highest minus lowest loss over the step sizes."""
        losses = [row["loss"] for row in self.steps]
        return _largest(losses) + _largest([-loss for loss in losses])

    @property
    def gradient_change(self) -> float:
        """Largest change of the gradient: small where it predicts the gradients ahead."""
        return _largest([row["gradient_change"] for row in self.steps])

    @property
    def beta(self) -> float:
        """Effective beta-smoothness, the largest gradient change over distance; of a quadratic |H g| / |g|."""
        return _largest([row["beta"] for row in self.steps])


def along_gradient(surface: Surface, point: Point, sizes: Sequence[float], memo: Memo, name: str) -> Smoothness:
    """Return the smoothness of the training loss along its gradient at a point.

    Args:
        surface: The surface; where its statistics are those of the batch, so are those of each loss and gradient.
        point: The point that the steps begin at.
        sizes: Step sizes, learning rates of gradient descent.
        memo: Keeps the gradient, and the row of each step size.
        name: Name of the point in the memo.
    """

    def here() -> Tensor:
        surface.load(point)
        loss, gradient = surface.gradient()
        return torch.cat([gradient.double(), torch.tensor([loss], dtype=torch.float64, device=gradient.device)])

    kept = memo.tensor(f"{name} gradient", here).to(surface.device)
    loss, gradient = float(kept[-1]), kept[:-1].to(surface.dtype)
    norm = float(gradient.double().norm())

    def row(size: float) -> Row:
        surface.load(point.moved(-size * gradient))
        value, there = surface.gradient()
        change = float((there - gradient).double().norm())
        beta = change / (size * norm) if norm else math.nan
        return {"step": size, "distance": size * norm, "loss": value, "gradient_change": change, "beta": beta}

    rows = [memo.values(f"{name} step {number}", partial(row, size)) for number, size in enumerate(sizes)]
    surface.load(point)
    return Smoothness(loss, norm, rows)


def sizes_between(smallest: float, largest: float, count: int) -> list[float]:
    """Return so many step sizes in equal ratios, both ends among them."""
    if count == 1:
        return [largest]
    ratio = math.log(largest / smallest) / (count - 1)
    return [smallest, *(smallest * math.exp(ratio * i) for i in range(1, count - 1)), largest]


def _largest(values: Sequence[float]) -> float:
    """Return the largest value, NaN if one is NaN."""
    return math.nan if any(map(math.isnan, values)) else max(values)
