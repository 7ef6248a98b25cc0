"""Lanczos' method with full reorthogonalization: extreme eigenvalues with error estimates, and their eigenvectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import torch
from torch import Tensor

from lottery.landscape.matrices import Matrix, Streams
from lottery.landscape.memo import Memo

ROUNDING = 10  # spacings of numbers that a product may be wrong by, as a share of the norm
MOST = 100  # steps; the work of reorthogonalization grows with their square, the memory with their number


@dataclass(frozen=True, eq=False)
class Krylov:
    """An orthonormal basis Q in which a matrix A is tridiagonal, T = Q^T A Q, and its Ritz values.

    Attributes:
        basis: Unit vectors (n,), at right angles to each other.
        diagonal: Diagonal of T (m,), float64.
        beside: Elements beside the diagonal (m,), float64; the last is the length of what A leads out of the basis.
        rounding: Spacing of numbers near 1 in the vectors' type.
    """

    basis: Sequence[Tensor]
    diagonal: Tensor
    beside: Tensor
    rounding: float

    @cached_property
    def _ritz(self) -> tuple[Tensor, Tensor]:
        """Eigenvalues (m,) and eigenvectors (m, m) of T, the largest first; NaN where T is not finite."""
        off = self.beside[:-1]
        matrix = torch.diag(self.diagonal) + torch.diag(off, 1) + torch.diag(off, -1)
        if not matrix.isfinite().all():
            return self.diagonal.new_full(self.diagonal.shape, torch.nan), matrix.new_full(matrix.shape, torch.nan)
        values, vectors = torch.linalg.eigh(matrix)
        return values.flip(0), vectors.flip(1)

    @property
    def values(self) -> Tensor:
        """Ritz values (m,), the largest first: estimates of eigenvalues that lie between the extreme ones."""
        return self._ritz[0]

    @property
    def norm(self) -> float:
        """Largest absolute Ritz value."""
        return float(self.values.abs().max())

    @cached_property
    def residuals(self) -> Tensor:
        """Distances (m,), for each Ritz value, within which there is an eigenvalue: |A x - value x| of its vector.

        They are at least the rounding of a product. Where the eigenvalue stands apart from others by a gap, the error
        is about the residual squared, divided by the gap (Parlett 1980).
        """
        found = self.beside[-1] * self._ritz[1][-1].abs()
        return found.clamp_min(ROUNDING * self.rounding * self.norm) if found.isfinite().all() else found

    @property
    def weights(self) -> Tensor:
        """Weights (m,) of the Ritz values in Gauss' quadrature for the start vector; their sum is 1."""
        return self._ritz[1][0].square()

    def vector(self, index: int) -> Tensor:
        """Return the unit Ritz vector (n,) of a Ritz value; the sign is such that its largest element is positive."""
        found = torch.zeros_like(self.basis[0])
        for share, unit in zip(self._ritz[1][:, index].tolist(), self.basis, strict=True):
            found += share * unit
        found /= found.norm()
        return found * found[found.abs().argmax()].sign()


def lanczos(
    matrix: Matrix,
    start: Callable[[torch.Generator], Tensor],
    streams: Streams,
    memo: Memo,
    name: str,
    *,
    steps: int = MOST,
    enough: Callable[[Krylov], bool] = lambda krylov: False,
) -> Krylov:
    """Build a Krylov space, a product with the matrix for each vector, every one made orthogonal to all others, twice.

    Without that, eigenvalues that have converged come again as copies (ghosts). Where the space is found to be closed,
    it goes on with another random vector. An eigenvalue that several directions share is found once until then. Lanczos
    1950; Parlett 1980 on orthogonality.

    Args:
        matrix: The matrix.
        start: Draws the start vector (n,), of any length but 0.
        streams: Streams of random numbers; the start vector is drawn from that of index 0.
        memo: Keeps each vector.
        name: Name of the parts in it.
        steps: Largest number of vectors; never more than the matrix has rows.
        enough: Ends before where it returns True.
    """
    basis = [memo.tensor(f"{name} vector 0", lambda: _unit(start(streams(0)))).to(matrix.device)]
    rows: list[Tensor] = []
    rounding = torch.finfo(matrix.dtype).eps
    while True:
        following, row = _follow(matrix, basis, memo, f"{name} coefficients {len(rows)}")
        rows.append(row)
        diagonal, beside = torch.stack(rows).T.unbind()
        closed = bool(beside[-1] <= ROUNDING * rounding * diagonal.abs().maximum(beside).max())
        if closed:
            beside = torch.cat([beside[:-1], torch.zeros(1, dtype=beside.dtype)])
            rows[-1] = torch.stack([diagonal[-1], beside[-1]])
        krylov = Krylov(tuple(basis), diagonal, beside, rounding)
        if len(rows) >= min(steps, matrix.size) or not row.isfinite().all() or enough(krylov):
            return krylov
        if closed:
            following = _another(matrix, basis, streams(len(rows)))
        basis.append(memo.tensor(f"{name} vector {len(rows)}", following).to(matrix.device))


def _follow(matrix: Matrix, basis: list[Tensor], memo: Memo, name: str) -> tuple[Callable[[], Tensor], Tensor]:
    """Return a function that makes the next vector, and the last diagonal element of T and the one beside it (2,)."""

    @cache
    def step() -> tuple[Tensor, Tensor]:
        product = matrix.product(basis[-1])
        diagonal = basis[-1].double() @ product.double()
        rest = orthogonal(product, basis)
        beside = rest.double().norm()
        return rest / beside.to(rest.dtype), torch.stack([diagonal, beside]).cpu()

    return lambda: step()[0], memo.tensor(name, lambda: step()[1])


def _another(matrix: Matrix, basis: list[Tensor], draws: torch.Generator) -> Callable[[], Tensor]:
    return lambda: _unit(orthogonal(_unit(matrix.normal(draws)), basis))


def orthogonal(vector: Tensor, basis: Sequence[Tensor]) -> Tensor:
    """Return the part (n,) of a vector at right angles to all of a basis; done twice, it is so to rounding."""
    rest = vector.clone()
    for _ in range(2):
        for unit in basis:
            rest -= (unit @ rest) * unit
    return rest


def _unit(vector: Tensor) -> Tensor:
    length: Tensor = vector.norm()
    return vector / length


def extreme_eigenvalues(
    matrix: Matrix,
    streams: Streams,
    memo: Memo,
    name: str,
    *,
    largest: int = 1,
    smallest: bool = False,
    steps: int = MOST,
    tolerance: float = 0.01,
) -> Krylov:
    """Return a Krylov space whose first Ritz values are the largest eigenvalues, and whose last one is the smallest.

    Args:
        matrix: The matrix.
        streams: Streams of random numbers for the start vector.
        memo: Keeps each vector.
        name: Name of the parts in it.
        largest: Number of eigenvalues to find from above.
        smallest: True to wait for the smallest as well.
        steps: Largest number of products; at it the residuals say how far the eigenvalues are from converged.
        tolerance: Ends where each residual is at most this share of its eigenvalue, or for an eigenvalue near 0, of
            itself times the norm. As errors go by the square of residuals, 0.01 gives about four digits.
    """

    def enough(krylov: Krylov) -> bool:
        wanted = [*range(largest), *([-1] if smallest else [])]
        if len(krylov.values) < min(largest + smallest, matrix.size):
            return False
        allowed = tolerance * krylov.values.abs().clamp_min(tolerance * krylov.norm)
        return bool((krylov.residuals <= allowed)[wanted].all())

    return lanczos(matrix, matrix.normal, streams, memo, name, steps=steps, enough=enough)


def top_eigenvectors(
    matrix: Matrix,
    streams: Streams,
    memo: Memo,
    name: str,
    *,
    count: int = 2,
    steps: int = MOST,
    tolerance: float = 0.01,
) -> tuple[Tensor, Tensor]:
    """Return the largest eigenvalues (count,) and their unit eigenvectors (count, n), at right angles to each other.

    Arguments are those of `extreme_eigenvalues`. The Lanczos vectors are forgotten when it is done.
    """

    def find() -> Krylov:
        return extreme_eigenvalues(matrix, streams, memo, name, largest=count, steps=steps, tolerance=tolerance)

    def make_values() -> Tensor:
        values = find().values[:count]
        memo.forget(name)
        return values

    def make_vectors() -> Tensor:
        found = find()
        return torch.stack([found.vector(i) for i in range(min(count, len(found.values)))])

    vectors = memo.tensor(f"{name}: vectors", make_vectors)
    return memo.tensor(f"{name}: values", make_values), vectors
