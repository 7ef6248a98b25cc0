"""Curves of low loss between two states: Bezier curves and polygonal chains with trained bends."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import comb
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from lottery.landscape.barrier import Row, barriers, shares
from lottery.landscape.evaluate import policies, values_at
from lottery.landscape.memo import Memo
from lottery.landscape.planes import combined
from lottery.landscape.surface import Point, Surface

Kind = Literal["bezier", "chain"]


@dataclass(frozen=True)
class Training:
    """How the bends of a curve are trained: stochastic gradient descent with momentum.

    The learning rate is constant for the first half of the epochs, falls linearly to a hundredth until nine tenths,
    and stays there.
    """

    epochs: int
    lr: float
    momentum: float = 0.9
    batch_size: int = 128

    def rate(self, epoch: int) -> float:
        """Return the learning rate of an epoch."""
        done = epoch / self.epochs
        return self.lr * (1.0 if done <= 0.5 else max(0.01, 1 - (done - 0.5) / 0.4 * 0.99))


def basis(kind: Kind, bends: int, t: float) -> list[float]:
    """Return the shares of the control points, both ends and the bends between them, in the point at t of a curve.

    t goes from 0 to 1; at its ends the end points have the whole share.
    """
    last = bends + 1
    if kind == "bezier":
        return [comb(last, i) * t**i * (1 - t) ** (last - i) for i in range(last + 1)]
    return [max(0.0, 1 - abs(t * last - i)) for i in range(last + 1)]


def trained(
    surface: Surface,
    memo: Memo,
    ends: tuple[Point, Point],
    kind: Kind,
    bends: int,
    training: Training,
    draws: Callable[[int], torch.Generator],
) -> Tensor:
    """Return the bends (bends, n) of a curve between two points whose mean loss over t is low.

    They begin on the straight line. Each step takes a batch and one t between 0 and 1, both at random, and moves the
    bends down the gradient of the loss at the point of the curve there. Normalizations use the statistics of the batch.
    All training examples are held in memory. After each epoch it can be stopped. Source: Garipov et al. 2018.

    Args:
        surface: The surface, with `batch` statistics.
        memo: The finished parts of the measurement.
        ends: The two end points, which do not move.
        kind: `bezier`, of the degree bends + 1, or `chain`, a polygonal chain.
        bends: Number of control points between the ends.
        training: How they are trained.
        draws: Returns the stream of random numbers of an epoch.
    """
    whole: list[tuple[Tensor, Tensor]] = []

    def epoch(number: int, state: dict[str, Tensor]) -> Mapping[str, Tensor]:
        if not whole:
            xs, ys = zip(*surface.batches("train"), strict=True)
            whole.append((_own(surface, torch.cat(xs)), _own(surface, torch.cat(ys))))
        x, y = whole[0]
        state = {name: value.to(surface.device) for name, value in state.items()}  # those that were kept are elsewhere
        stream = draws(number)
        order = torch.randperm(len(y), generator=stream)
        steps = max(1, len(y) // training.batch_size)  # a last batch that is smaller joins the others
        at = torch.rand(steps, generator=stream, dtype=torch.float64).tolist()
        for chosen, t in zip(order.tensor_split(steps), at, strict=True):
            here = chosen.to(y.device)
            _step(surface, ends, basis(kind, bends, t), state, (x[here], y[here]), training, number)
        return state

    line = [ends[0].toward(ends[1], share).vector for share in shares(bends + 2)[1:-1]]
    start = {"bends": torch.stack(line), "velocity": torch.zeros(bends, surface.size, dtype=surface.dtype)}
    start["velocity"] = start["velocity"].to(surface.device)
    return memo.iterate("curve", training.epochs, start, epoch)["bends"].to(surface.device)


def _own(surface: Surface, values: Tensor) -> Tensor:
    """Return values in the precision of the surface where they are no integers."""
    return values.to(surface.dtype) if values.is_floating_point() else values


def _step(
    surface: Surface,
    ends: tuple[Point, Point],
    parts: Sequence[float],
    state: dict[str, Tensor],
    batch: tuple[Tensor, Tensor],
    training: Training,
    epoch: int,
) -> None:
    """Move the bends by one step, with torch's definition of momentum."""
    inner = state["bends"].new_tensor(parts[1:-1])
    vector = parts[0] * ends[0].vector + parts[-1] * ends[1].vector + inner @ state["bends"]
    vector = vector.requires_grad_()
    # normalizations count in the buffers that they are given
    at = Point(vector, {name: value.clone() for name, value in ends[0].buffers.items()})
    (slope,) = torch.autograd.grad(surface.value_of(at, *batch), vector)
    state["velocity"].mul_(training.momentum).add_(inner[:, None] * slope)
    state["bends"].sub_(training.rate(epoch) * state["velocity"])


def along(surface: Surface, memo: Memo, ends: tuple[Point, Point], bends: Tensor, kind: Kind, points: int) -> list[Row]:
    """Return loss and error at points of a curve, both ends exactly, with running statistics reset at each.

    Each row has `bn`, `t`, `length`, the length of the curve up to there, and what `values_at` measures.
    """
    (policy,) = policies(surface, "reset")
    control = [ends[0], *(Point(bend, ends[0].buffers) for bend in bends), ends[1]]
    rows: list[Row] = []
    before, length = ends[0].vector, 0.0
    for i, t in enumerate(shares(points)):
        point = combined(control, basis(kind, len(bends), t))
        length += float((point.vector.double() - before.double()).norm())
        before = point.vector
        found = values_at(surface, memo, f"curve point {i}", point, policy)
        rows.append({"bn": policy, "t": t, "length": length, **found})
    return rows


def heights(values: Sequence[float]) -> dict[str, float]:
    """Return the `highest` of the values along a curve, and its `barriers`; NaN where one of them is NaN."""
    return {"highest": float(np.max(values)), **barriers(values)}
