"""Critical points of small objectives: found by a Newton-type search from many starts, sorted by index and loss.

A critical point has gradient 0. Its index is the number of negative eigenvalues of its Hessian: 0 for a local minimum,
more for a saddle. Points that differ by a symmetry of the network, such as a permutation of hidden units, have one loss
and one index, and count as one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import root
from torch import Tensor

from lottery.landscape.memo import Memo

Vector = npt.NDArray[np.float64]

TOLERANCE = 1e-8  # norm of a gradient that counts as 0
FLAT = 1e-6  # share of the largest eigenvalue, in size, below which one counts as 0
SAME = 1e-5  # relative difference of losses that count as one


@dataclass(frozen=True)
class Objective:
    """A function of a vector that has second derivatives, in double precision.

    Attributes:
        value: Returns the value at a vector (n,).
        gradient: Returns the gradient (n,).
        hessian: Returns the Hessian (n, n).
    """

    value: Callable[[Vector], float]
    gradient: Callable[[Vector], Vector]
    hessian: Callable[[Vector], Vector]

    @classmethod
    def of(cls, function: Callable[[Tensor], Tensor], chunk: int | None = None) -> Objective:
        """Return the objective of a function of torch, which `torch.func` differentiates.

        Args:
            function: Takes a vector (n,) in double precision and returns a 0-d tensor.
            chunk: Number of rows of the Hessian that are computed at once; None for all.
        """
        slope = torch.func.grad(function)
        curvature = torch.func.jacrev(slope, chunk_size=chunk)
        return cls(
            lambda x: float(function(torch.from_numpy(x))),
            lambda x: slope(torch.from_numpy(x)).detach().cpu().numpy(),
            lambda x: curvature(torch.from_numpy(x)).detach().cpu().numpy(),
        )


@dataclass(frozen=True)
class CriticalPoint:
    """What a search from one start ended at.

    Attributes:
        loss: Value there.
        gradient_norm: Norm of the gradient there.
        index: Number of negative eigenvalues; -1 where they could not be computed.
        flat: Number of eigenvalues that count as 0.
        lowest: Smallest eigenvalue.
        vector: The point.
    """

    loss: float
    gradient_norm: float
    index: int
    flat: int
    lowest: float
    vector: Vector

    @property
    def converged(self) -> bool:
        """True if the gradient counts as 0."""
        return self.gradient_norm <= TOLERANCE


def newton(objective: Objective, start: Vector, evaluations: int = 300) -> Vector:
    """Return the end of a search for a gradient of 0 by Levenberg and Marquardt's damped Newton steps.

    It takes saddles as it takes minima, and knows nothing of the loss. The solver is MINPACK's.
    """
    if not np.isfinite(objective.gradient(start)).all():
        return start
    found = root(
        objective.gradient,
        start,
        jac=objective.hessian,
        method="lm",
        options={"xtol": 1e-15, "ftol": 1e-15, "gtol": 0.0, "maxiter": evaluations},
    )
    return np.asarray(found.x, dtype=np.float64)


def classify(objective: Objective, at: Vector) -> CriticalPoint:
    """Return the loss, the norm of the gradient and the index of a point."""
    loss, norm = objective.value(at), float(np.linalg.norm(objective.gradient(at)))
    matrix = objective.hessian(at)
    if not np.isfinite(matrix).all():
        return CriticalPoint(loss, norm, -1, 0, math.nan, at)
    values = np.linalg.eigvalsh((matrix + matrix.T) / 2)
    flat = FLAT * max(float(np.abs(values).max()), np.finfo(float).tiny)
    return CriticalPoint(loss, norm, int((values < -flat).sum()), int((abs(values) <= flat).sum()), values[0], at)


def search(
    objective: Objective,
    starts: Sequence[Vector],
    memo: Memo,
    method: Callable[[Objective, Vector], Vector] = newton,
    name: str = "start",
) -> list[CriticalPoint]:
    """Return where a search from each start ended, converged or not, in the order of the starts.

    Args:
        objective: The function.
        starts: Vectors (n,).
        memo: Keeps the end of each search.
        method: Takes the objective and a start, and returns the end.
        name: Name of the parts in the memo.
    """
    ends = [
        memo.tensor(f"{name} {number}", lambda start=start: torch.from_numpy(method(objective, start)))
        for number, start in enumerate(starts)
    ]
    return [classify(objective, end.numpy()) for end in ends]


def distinct(points: Sequence[CriticalPoint]) -> list[dict[str, float]]:
    """Return rows of the converged points up to symmetry, sorted by index and loss.

    Two are one where their index and, to 1e-5, their loss are. A row has `index`, `loss` (the lowest of them), `count`
    (starts that led there), `flat` (the fewest eigenvalues that are 0), `lowest` (smallest eigenvalue) and
    `gradient_norm` (the largest).
    """
    rows: list[dict[str, float]] = []
    for point in sorted((p for p in points if p.converged and p.index >= 0), key=lambda p: (p.index, p.loss)):
        last = rows[-1] if rows else None
        if last and last["index"] == point.index and abs(point.loss - last["loss"]) <= SAME * max(last["loss"], SAME):
            last["count"] += 1
            last["flat"] = min(last["flat"], point.flat)
            last["lowest"] = min(last["lowest"], point.lowest)
            last["gradient_norm"] = max(last["gradient_norm"], point.gradient_norm)
            continue
        rows.append(
            {
                "index": point.index,
                "loss": point.loss,
                "count": 1,
                "flat": point.flat,
                "lowest": point.lowest,
                "gradient_norm": point.gradient_norm,
            }
        )
    return rows
