"""Linear regression with a given condition number as a data set: the convex quadratic of which rates are known."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from lottery.registry import datasets

if TYPE_CHECKING:
    from lottery.data.splits import Splits


@datasets.register("least_squares", computed_by=(), source="Nesterov 2004; Sun 2019")
def least_squares(
    root: Path,
    *,
    size: Annotated[int, Field(ge=2, le=1024)] = 50,
    condition: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 100.0,
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0,
) -> Splits:
    """A regression of one target on `size` inputs whose loss is a quadratic of the given `condition` number.

    For `{name: deep_linear, depth: 1}`, a linear map without bias, the mean squared error over the `size` examples has
    a Hessian with eigenvalues from 1 down to 1 / `condition` in equal ratios, and its minimum is 0. Eigenvectors are
    the vectors of the discrete cosine transform, so that none lies along a coordinate. The minimum is drawn from
    `seed`, with standard normal coordinates along the eigenvectors. The test examples are the training examples: what
    is measured is the fit. Hold none out (`validation: 0`); `batch_size: all` makes steps those of the full gradient.
    """
    import math

    import torch

    from lottery.data.splits import Splits
    from lottery.seed import generator

    ranks = torch.arange(size, dtype=torch.float64)
    eigenvalues = condition ** (-ranks / (size - 1))
    angles = math.pi / size * torch.outer(ranks + 0.5, ranks + 0.5)
    basis = math.sqrt(2 / size) * angles.cos()  # orthogonal and symmetric: its rows are the eigenvectors
    optimum = torch.randn(size, generator=generator(seed, "least_squares"), dtype=torch.float64)
    # the Hessian of the mean of `size` squares is 2 / size x'x
    lengths = (size / 2 * eigenvalues).sqrt()
    # term by term, since a matrix product rounds differently from machine to machine, and fingerprints with it
    x, y = torch.zeros(size, size, dtype=torch.float64), torch.zeros(size, dtype=torch.float64)
    for length, vector, coordinate in zip(lengths, basis, optimum, strict=True):
        x += length * torch.outer(vector, vector)
        y += length * coordinate * vector
    x, y = x.float(), y.float()[:, None]
    return Splits(x, y, x, y, classes=1)
