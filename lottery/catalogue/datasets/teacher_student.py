"""Teacher and student as a data set: normal inputs, and what a network of one hidden layer makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from lottery.catalogue.activations import ActivationName
from lottery.registry import activations, datasets

if TYPE_CHECKING:
    from lottery.data.splits import Splits


@datasets.register("teacher_student", computed_by=(), source="Saad & Solla 1995; Safran & Shamir 2018; Sun 2019")
def teacher_student(
    root: Path,
    *,
    units: Annotated[int, Field(strict=True, ge=1, le=1024)] = 6,
    activation: ActivationName = "relu",
    samples: Annotated[int, Field(strict=True, ge=2, le=1_000_000)] = 1000,
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**32)] = 0,
) -> Splits:
    """Standard normal inputs, to be mapped to the sum of a teacher's `units` with orthonormal weights: a regression.

    The teacher is y = sum_j phi(x_j) over `units` inputs, in the basis of its own weights, brought to mean 0 and
    variance 1 over the `samples` training examples; there are as many test examples. A student with one hidden layer
    of at least `units` units of the same activation (`{name: mlp, widths: [6]}`) can have it exactly, so that the
    lowest training loss is 0, and a mean squared error above it is the share of the variance that training left. Where
    all of the examples are taken in one batch, what a descent ends at with a loss above 0 is no global minimum.
    """
    import math

    import torch

    from lottery.data.splits import Splits
    from lottery.seed import generator

    draws = generator(seed, "teacher_student")
    x = torch.randn(2 * samples, units, generator=draws, dtype=torch.float64)
    phi = activations[activation].make()
    y = torch.zeros(2 * samples, dtype=torch.float64)
    for hidden in phi(x.clone()).unbind(
        1
    ):  # one after another, as sums are rounded differently from machine to machine
        y += hidden
    mean = math.fsum(y[:samples].tolist()) / samples
    spread = math.sqrt(math.fsum((y[:samples] - mean).square().tolist()) / samples)
    x, y = x.float(), ((y - mean) / spread).float().unsqueeze(1)
    return Splits(x[:samples], y[:samples], x[samples:], y[samples:], classes=1)
