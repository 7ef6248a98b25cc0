"""Barriers: how far loss and error rise on the straight line between two states."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import torch

from lottery.landscape.evaluate import Policies, measures, named, policies, values_at
from lottery.landscape.memo import Memo
from lottery.landscape.surface import Point, Surface

Row = dict[str, float | str]


def shares(points: int) -> list[float]:
    """Return so many numbers from 0 to 1 at equal distances, both ends exactly; at least two."""
    return [i / (points - 1) for i in range(points)]


def barriers(values: Sequence[float]) -> dict[str, float]:
    """Return the three barriers that are in use, from values at equal distances along a path with both ends.

    The first two are equal where the ends are. NaN anywhere makes all of them NaN.

    Returns:
        `barrier`, the highest value minus the mean of the ends (Frankle et al. 2020); `line_barrier`, the largest
        height over the straight line between the ends, 0 or more (Entezari et al. 2022); `deviation`, the largest
        distance from that line with its sign, negative where the path is lower.
    """
    found = np.asarray(values, dtype=np.float64)
    alpha = np.asarray(shares(len(found)))
    with np.errstate(invalid="ignore"):  # an infinite loss minus an infinite one is NaN, and stays so
        height = found - ((1 - alpha) * found[0] + alpha * found[-1])
        return {
            "barrier": float(found.max() - (found[0] + found[-1]) / 2),
            "line_barrier": float(height.max()),
            "deviation": float(height[np.abs(height).argmax()]),
        }


def line(surface: Surface, memo: Memo, ends: tuple[Point, Point], points: int, bn: Policies) -> list[Row]:
    """Return loss and error at points of the straight line between two points of a surface, both ends exactly.

    Each row has `bn`, `alpha`, and what `values_at` measures.
    """
    rows: list[Row] = []
    for policy in policies(surface, bn):
        for i, alpha in enumerate(shares(points)):
            found = values_at(surface, memo, f"line {i}", partial(ends[0].toward, ends[1], alpha), policy)
            rows.append({"bn": policy, "alpha": alpha, **found})
    return rows


def summary(
    rows: Sequence[Mapping[str, float | str]], surface: Surface, of: Callable[[Sequence[float]], Mapping[str, float]]
) -> dict[str, float]:
    """Return what a function says of each measure along a path, such as `train_loss_barrier_reset` by `barriers`.

    Args:
        rows: Rows of a path, with `bn`, in the order of the path.
        surface: The surface that they were measured on.
        of: Returns numbers by name from the values along the path.
    """
    found: dict[str, float] = {}
    for policy in dict.fromkeys(str(row["bn"]) for row in rows):
        for name in measures(surface):
            numbers = of([float(row[name]) for row in rows if row["bn"] == policy])
            found |= named({f"{name}_{which}": value for which, value in numbers.items()}, policy)
    return found


def apart(one: Point, other: Point) -> dict[str, float]:
    """Return the L2 `distance` of two points and the `cosine` of the angle between them as seen from 0."""
    a, b = one.vector.double(), other.vector.double()
    return {"distance": float(torch.linalg.norm(a - b)), "cosine": float(torch.cosine_similarity(a, b, dim=0))}
