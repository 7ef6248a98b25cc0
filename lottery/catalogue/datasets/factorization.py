"""Matrix factorization as a data set: rows of the identity in, rows of a low-rank matrix out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from lottery.errors import UsageError
from lottery.registry import datasets

if TYPE_CHECKING:
    from lottery.data.splits import Splits


@datasets.register("matrix_factorization", computed_by=(), source="Saxe et al. 2014; Sun 2019")
def matrix_factorization(
    root: Path,
    *,
    size: Annotated[int, Field(ge=2, le=4096)] = 100,
    rank: Annotated[int, Field(ge=1)] = 5,
    noise: Annotated[float, Field(ge=0)] = 0.0,
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0,
) -> Splits:
    """The rows of a `size` x `size` matrix of low `rank`, to be predicted from the rows of the identity: a regression.

    U V^T / sqrt(rank) with standard normal U and V (size, rank), so that entries have variance 1, plus normal `noise`
    of that standard deviation. A `deep_linear` of depth 2 and width w then factorizes the matrix, and its least mean
    squared error is the sum of the squared singular values beyond the first w over size^2 (Eckart & Young 1936). The
    test examples are the training examples: what is measured is the fit. Hold none out (`validation: 0`), since
    nothing can be learned about a row that is never seen; `batch_size: all` makes steps those of the full gradient.

    Raises:
        UsageError: The rank is above the size.
    """
    import math

    import torch

    from lottery.data.splits import Splits
    from lottery.seed import generator

    if rank > size:
        raise UsageError(f"data.rank: a matrix of size {size} has no rank {rank}; write at most {size}")
    draws = generator(seed, "matrix_factorization")
    left, right = (torch.randn(rank, size, generator=draws, dtype=torch.float64) for _ in range(2))
    matrix = noise * torch.randn(size, size, generator=draws, dtype=torch.float64)
    # term by term, since a matrix product rounds differently from machine to machine, and fingerprints with it
    for u, v in zip(left, right / math.sqrt(rank), strict=True):
        matrix += torch.outer(u, v)
    x, y = torch.eye(size), matrix.float()
    return Splits(x, y, x, y, classes=size)
