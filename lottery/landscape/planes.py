"""Slices and planes: loss and error on a line or a grid around states, in a range that adapts to the surface."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import isfinite

import numpy as np
import torch
from torch import Tensor

from lottery.errors import UsageError
from lottery.landscape.evaluate import Policies, Policy, named, policies, values_at
from lottery.landscape.memo import Memo
from lottery.landscape.surface import Point, Surface

Row = dict[str, float | str]
WIDENED = 4  # times at most
FACTOR = 1.5  # of each widening
_ROUNDING = 1e-6  # of second differences, relative to the values: losses are computed in single precision


@dataclass(frozen=True)
class Box:
    """The part of a plane, or of a line where height is 0, that a picture shows: its middle and half its sides."""

    x: float
    y: float
    half_width: float
    half_height: float

    @classmethod
    def around(cls, places: Sequence[tuple[float, float]], room: float) -> Box:
        """Return the box around places, with room on each side, a share of the sides."""
        (left, right), (low, high) = ((min(c), max(c)) for c in zip(*places, strict=True))
        stretch = 0.5 + room
        return cls((left + right) / 2, (low + high) / 2, (right - left) * stretch, (high - low) * stretch)

    def wider(self) -> Box:
        """Return the box with the same middle and longer sides."""
        return Box(self.x, self.y, self.half_width * FACTOR, self.half_height * FACTOR)

    def at(self, right: float, up: float) -> tuple[float, float]:
        """Return the coordinates of a place that is given from -1 to 1."""
        return self.x + right * self.half_width, self.y + up * self.half_height

    def border(self) -> list[tuple[float, float]]:
        """Return the middles of the sides, and the corners; for a line its ends."""
        if self.half_height == 0:
            return [self.at(-1, 0), self.at(1, 0)]
        return [self.at(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j]

    def grid(self, points: int) -> list[tuple[float, float]]:
        """Return the coordinates of so many points along each side, column by column; both ends are among them."""
        steps = [2 * i / (points - 1) - 1 for i in range(points)]
        return [self.at(i, j) for i in steps for j in (steps if self.half_height else [0.0])]


class Around:
    """A line or plane through one point of a surface, along directions (n,); its coordinates count them."""

    def __init__(self, middle: Point, *directions: Tensor):
        self.middle, self.directions = middle, directions

    def at(self, x: float, y: float = 0.0) -> Point:
        """Return the point at coordinates, the one in the middle exactly at 0."""
        step = [share * direction for share, direction in zip((x, y), self.directions, strict=False) if share]
        return self.middle.moved(torch.stack(step).sum(0)) if step else self.middle


class Through:
    """The plane through three points of a surface, with L2 distances as coordinates.

    The first is at (0, 0), the second at (x, 0), the third above them. Running statistics are combined as the weights.
    Source: Garipov et al. 2018.

    Raises:
        UsageError: The three lie on one line.
    """

    def __init__(self, points: Sequence[Point]):
        self.points = tuple(points)
        origin, second, third = (point.vector.double() for point in points)
        along, other = second - origin, third - origin
        self._x = float(along.norm())
        self._third_x = float(other @ along) / self._x
        self._third_y = float((other - along * (self._third_x / self._x)).norm())
        if self._third_y <= 1e-6 * max(self._x, float(other.norm())):
            raise UsageError("the three states lie on one line, so that many planes go through them; take `barrier`")

    @property
    def places(self) -> list[tuple[float, float]]:
        """Coordinates of the three points."""
        return [(0.0, 0.0), (self._x, 0.0), (self._third_x, self._third_y)]

    def at(self, x: float, y: float) -> Point:
        """Return the point at coordinates; at those of the three it is each of them exactly."""
        third = y / self._third_y
        second = (x - third * self._third_x) / self._x
        return combined(self.points, (1 - second - third, second, third))


def combined(points: Sequence[Point], shares: Sequence[float]) -> Point:
    """Return the sum of points times shares, which add up to 1; one with share 1 is returned as it is.

    Running statistics are combined as well; counters are those of the first point.
    """
    if 1 in shares and sum(share != 0 for share in shares) == 1:
        return points[list(shares).index(1)]
    terms = [(point, share) for point, share in zip(points, shares, strict=True) if share]

    def total(values: Sequence[Tensor]) -> Tensor:
        parts = [share * value for (_, share), value in zip(terms, values, strict=True)]
        return torch.stack(parts).sum(0)

    buffers = {
        name: total([point.buffers[name] for point, _ in terms]) if value.is_floating_point() else value
        for name, value in points[0].buffers.items()
    }
    return Point(total([point.vector for point, _ in terms]), buffers)


def picture(
    surface: Surface,
    memo: Memo,
    at: Callable[[float, float], Point],
    box: Box,
    *,
    states: Sequence[tuple[str, float, float, Point]],
    points: int,
    bn: Policies,
    times: float,
) -> tuple[list[Row], dict[str, float]]:
    """Return loss and error on a grid, and at the states that the picture is made around.

    The box is widened by half until the train loss at the middles of its sides and its corners is at least a multiple
    of that of the states, where it is finite, at most four times. The first policy decides, for all.

    Args:
        surface: The surface.
        memo: The finished parts of the measurement.
        at: Returns the point at coordinates x, y.
        box: The box to begin with.
        states: Name, coordinates and point of each state.
        points: Number of points along each side.
        bn: Policies for running statistics.
        times: The multiple; 0 leaves the box as it is.

    Returns:
        Rows with `kind` (`state` or `grid`), `name` of a state, `bn`, `x`, `y` and what `values_at` measures; and
        values: the sides of the box and what `shape_of` finds.
    """
    rows: list[Row] = []
    for policy in policies(surface, bn):
        for i, (name, x, y, point) in enumerate(states):
            found = values_at(surface, memo, f"state {i}", point, policy)
            rows.append({"kind": "state", "name": name, "bn": policy, "x": x, "y": y, **found})
    first = policies(surface, bn)[0]
    losses = [loss for row in rows if row["bn"] == first and isfinite(loss := float(row["train_loss"]))]
    box = _wide_enough(surface, memo, at, box, times * max(losses, default=0.0), first)
    values = {"half_width": box.half_width, **({"half_height": box.half_height} if box.half_height else {})}
    grid = box.grid(points)
    for policy in policies(surface, bn):
        here: list[Row] = []
        for i, (x, y) in enumerate(grid):
            found = values_at(surface, memo, f"grid {i}", partial(at, x, y), policy)
            here.append({"kind": "grid", "bn": policy, "x": x, "y": y, **found})
        train = np.array([row["train_loss"] for row in here], dtype=np.float64)
        values |= named(shape_of(train if box.half_height == 0 else train.reshape(points, points)), policy)
        rows += here
    return rows, values


def _wide_enough(
    surface: Surface, memo: Memo, at: Callable[[float, float], Point], box: Box, least: float, policy: Policy
) -> Box:
    """Return the box, widened until no finite train loss at its border is below the least."""
    for step in range(WIDENED):
        low = False
        for i, (x, y) in enumerate(box.border()):
            name = f"border {step} {i}"
            loss = values_at(surface, memo, name, partial(at, x, y), policy)["train_loss"]
            low = low or loss < least  # NaN is not
        if not low:
            break
        box = box.wider()
    return box


def shape_of(losses: np.ndarray) -> dict[str, float]:
    """Return what can be said of train losses on a line (n,) or a grid (n, n).

    Returns:
        `holes`, the fraction that is not finite; `lowest` and `highest` of the others; `convex`, the fraction of the
        inner points whose second differences have no negative eigenvalue, beyond rounding; `minima`, the number of
        inner points that are lower than all their neighbours. Inner points near a hole are left out; NaN for a
        fraction of none.
    """
    finite = losses[np.isfinite(losses)]
    curved = [
        (_least_curvature(near), bool(near.flat[near.size // 2] < np.delete(near, near.size // 2).min()))
        for near in _neighbourhoods(losses)
        if np.isfinite(near).all()
    ]
    return {
        "holes": 1 - len(finite) / losses.size,
        "train_loss_lowest": float(finite.min()) if len(finite) else float("nan"),
        "train_loss_highest": float(finite.max()) if len(finite) else float("nan"),
        "convex": float(np.mean([least >= 0 for least, _ in curved])) if curved else float("nan"),
        "minima": float(sum(lowest for _, lowest in curved)),
    }


def _neighbourhoods(losses: np.ndarray) -> list[np.ndarray]:
    """Return each inner point with its neighbours, (3,) or (3, 3)."""
    windows = np.lib.stride_tricks.sliding_window_view(losses, (3,) * losses.ndim)
    return list(windows.reshape(-1, *(3,) * losses.ndim))


def _least_curvature(near: np.ndarray) -> float:
    """Return the smallest eigenvalue of the second differences around a point, 0 where it is rounding."""
    if near.ndim == 1:
        least = float(near[0] - 2 * near[1] + near[2])
    else:
        across = near[:, 1] @ [1, -2, 1], near[1, :] @ [1, -2, 1]
        mixed = (near[2, 2] - near[2, 0] - near[0, 2] + near[0, 0]) / 4
        least = float(np.linalg.eigvalsh([[across[0], mixed], [mixed, across[1]]])[0])
    return 0.0 if abs(least) <= _ROUNDING * np.abs(near).max() else least
