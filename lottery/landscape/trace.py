"""The trace of a matrix from products with random vectors, with a standard error by which it stops."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from lottery.landscape.lanczos import Krylov, orthogonal
from lottery.landscape.matrices import Matrix, Streams
from lottery.landscape.memo import Memo

FEWEST = 5  # probes before a standard error is trusted to stop by


@dataclass(frozen=True)
class Estimate:
    """A mean over independent draws.

    Attributes:
        value: The mean, and what is known exactly beside it.
        standard_error: Its standard error; NaN from a single draw, 0 where all is known exactly.
        draws: Number of draws.
    """

    value: float
    standard_error: float
    draws: int

    @classmethod
    def of(cls, each: Sequence[float], known: float = 0.0) -> Estimate:
        """Return the estimate from independent draws, to which a known number is added."""
        count, mean = len(each), math.fsum(each) / len(each)
        variance = math.fsum((one - mean) ** 2 for one in each) / (count - 1) if count > 1 else math.nan
        return cls(known + mean, math.sqrt(variance / count), count)

    @property
    def relative_error(self) -> float:
        """Standard error as a share of the absolute value; infinite for a value of 0 with an error."""
        return self.standard_error / abs(self.value) if self.value else math.inf * self.standard_error


def trace(
    matrix: Matrix,
    streams: Streams,
    memo: Memo,
    name: str,
    *,
    probes: int = 100,
    tolerance: float = 0.05,
    known: Krylov | None = None,
) -> Estimate:
    """Estimate the trace by the mean of z^T A z over vectors z of random signs (Hutchinson 1990).

    With a Krylov space the trace within it, which is the sum of its diagonal, is taken as it is, and the vectors probe
    what is at right angles to it alone, as in Hutch++ (Meyer et al. 2021). That is far more exact where a few
    eigenvalues stand out.

    Args:
        matrix: The matrix.
        streams: Streams of random numbers, one for each probe; none of those that made the Krylov space.
        memo: Keeps each probe.
        name: Name of the parts in it.
        probes: Largest number of probes.
        tolerance: Stops where the standard error is at most this share of the trace, after 5 probes at the earliest.
        known: A Krylov space of the matrix.
    """
    basis = () if known is None else known.basis
    within = 0.0 if known is None else float(known.diagonal.sum())
    if len(basis) == matrix.size:
        return Estimate(within, 0.0, 0)

    def probe(index: int) -> dict[str, float]:
        vector = orthogonal(matrix.signs(streams(index)), basis)
        return {"product": float(vector.double() @ matrix.product(vector).double())}

    each: list[float] = []
    while len(each) < probes:
        each.append(memo.values(f"{name} probe {len(each)}", partial(probe, len(each)))["product"])
        found = Estimate.of(each, within)
        if not math.isfinite(found.value) or (len(each) >= FEWEST and found.relative_error <= tolerance):
            break
    return found
