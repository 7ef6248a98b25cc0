"""A sparse network of random weights that targets are computed by, so that a mask which solves them is known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from lottery.errors import UsageError
from lottery.seed import generator


@dataclass(frozen=True)
class Teacher:
    """A fully connected network of rectifiers without biases, most of whose weights are 0.

    Attributes:
        weights: Weight of each layer, float64 (units, inputs), 0 where there is no connection.
    """

    weights: tuple[Tensor, ...]

    @property
    def connections(self) -> tuple[Tensor, ...]:
        """Where there is a connection, bool (units, inputs) for each layer."""
        return tuple(weight != 0 for weight in self.weights)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the outputs, float64 (n, outputs), for inputs (n, inputs), to the same bytes on every machine."""
        for number, weight in enumerate(self.weights):
            x = torch.relu(x) if number else x.double()
            # term by term, since a matrix product rounds differently from machine to machine
            x = torch.stack([_weighted_sum(x, row) for row in weight], 1)
        return x


def _weighted_sum(x: Tensor, row: Tensor) -> Tensor:
    total = x.new_zeros(len(x))
    for i in row.nonzero().flatten().tolist():
        total += row[i] * x[:, i]
    return total


def make_teacher(inputs: int, widths: Sequence[int], outputs: int, fan_in: int, seed: int) -> Teacher:
    """Return the teacher of a seed: each unit has `fan_in` connections, to units that have fewest so far.

    Each hidden unit is read by another, as far as the next layer has connections for all, and none of them is 0 for all
    inputs because all its weights are negative. A connection's absolute value is uniform between 1/2 and 3/2 times the
    root of 2 / `fan_in`, its sign is drawn.

    Args:
        inputs: Number of inputs.
        widths: Number of units of each hidden layer.
        outputs: Number of outputs.
        fan_in: Number of connections into each unit.
        seed: Seed of connections and weights.

    Raises:
        UsageError: A layer has fewer inputs than `fan_in`, or too few connections for all hidden units before it.
    """
    draws = generator(seed, "teacher")
    sizes = [inputs, *widths, outputs]
    weights = []
    for layer, (before, units) in enumerate(pairwise(sizes)):
        if fan_in > before:
            raise UsageError(f"fan_in: {fan_in} connections into a unit, and layer {layer + 1} has {before} inputs")
        if layer and units * fan_in < before:
            raise UsageError(
                f"widths: {units} units of {fan_in} connections do not read all {before} of the layer before; "
                "write more"
            )
        used, weight = torch.zeros(before, dtype=torch.float64), torch.zeros(units, before, dtype=torch.float64)
        for row in weight:
            chosen = (used + torch.rand(before, generator=draws, dtype=torch.float64)).argsort()[:fan_in]
            used[chosen] += 1
            sizes_of = 0.5 + torch.rand(fan_in, generator=draws, dtype=torch.float64)
            signs = torch.randint(2, (fan_in,), generator=draws) * 2 - 1
            if 0 < layer < len(sizes) - 2 and bool((signs < 0).all()):
                signs[0] = 1
            row[chosen] = signs * sizes_of * math.sqrt(2 / fan_in)
        weights.append(weight)
    return Teacher(tuple(weights))
