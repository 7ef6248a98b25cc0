"""Symmetric matrices that are known by their products with vectors: Hessian and Gauss-Newton matrix of a surface."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from lottery.landscape.surface import Surface
from lottery.values import Part

Kind = Literal["hessian", "gauss_newton"]
Streams = Callable[[int], torch.Generator]  # the stream of random numbers of each index, the same whenever it is asked


@dataclass(frozen=True, eq=False)
class Matrix:
    """A symmetric matrix (size, size) that is known by its products.

    Attributes:
        size: Number of rows.
        product: Returns the product (size,) with a vector (size,).
        device: Where the vectors are.
        dtype: Type of the vectors.
    """

    size: int
    product: Callable[[Tensor], Tensor]
    device: torch.device
    dtype: torch.dtype

    def block(self, part: slice) -> Matrix:
        """Return the block on the diagonal at these coordinates; its product costs one with the whole matrix."""

        def product(vector: Tensor) -> Tensor:
            padded = vector.new_zeros(self.size)
            padded[part] = vector
            return self.product(padded)[part]

        return replace(self, size=len(range(*part.indices(self.size))), product=product)

    def scaled(self, scale: Tensor) -> Matrix:
        """Return D A D, where D is the diagonal matrix of a vector (size,)."""
        return replace(self, product=lambda vector: scale * self.product(scale * vector))

    def normal(self, draws: torch.Generator) -> Tensor:
        """Draw a vector (size,) of independent standard normal numbers."""
        return torch.randn(self.size, generator=draws, dtype=torch.float64).to(self.device, self.dtype)

    def signs(self, draws: torch.Generator) -> Tensor:
        """Draw a vector (size,) of independent signs, 1 or -1 with equal probability (Rademacher)."""
        bits = torch.randint(2, (self.size,), generator=draws)
        return (2 * bits - 1).to(self.device, self.dtype)


def curvature(surface: Surface, kind: Kind = "hessian", part: Part = "train") -> Matrix:
    """Return the Hessian of the mean loss at the present point, or its generalized Gauss-Newton matrix.

    Rows and columns are those of the survivors: it is the curvature of the restricted problem.
    """
    of = surface.hessian_product if kind == "hessian" else surface.gauss_newton_product
    return Matrix(surface.size, lambda vector: of(vector, part), surface.device, surface.dtype)


def blocks(surface: Surface, matrix: Matrix) -> Iterator[tuple[str, Matrix]]:
    """Yield the name of each parameter with survivors, and the block of the matrix that is its own."""
    for name, part in surface.blocks.items():
        yield name, matrix.block(part)
