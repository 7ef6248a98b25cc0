"""Critical points of small objectives: found by a Newton-type search from many starts, sorted by index and loss.

A critical point has gradient 0. Its index is the number of negative eigenvalues of its Hessian: 0 for a local minimum,
more for a saddle. Points that differ by a symmetry of the network, such as a permutation of hidden units, have one loss
and one index, and count as one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import root
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from lottery.errors import UsageError
from lottery.landscape.memo import Memo
from lottery.landscape.surface import Point, Surface

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
    def of(
        cls,
        function: Callable[[Tensor], Tensor],
        chunk: int | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> Objective:
        """Return the objective of a function of torch, which `torch.func` differentiates.

        Args:
            function: Takes a vector (n,) in double precision and returns a 0-d tensor.
            chunk: Number of rows of the Hessian that are computed at once; None for all.
            check: Called before each chunk; raises where the run is told to stop.
        """
        slope = torch.func.grad(function)

        def curvature(x: Tensor) -> Tensor:
            pull = torch.func.vjp(slope, x)[1]
            rows = torch.func.vmap(lambda unit: pull(unit)[0])
            units = torch.eye(len(x), dtype=x.dtype, device=x.device)
            parts = []
            for first in range(0, len(x), chunk or len(x)):
                check()
                parts.append(rows(units[first : first + (chunk or len(x))]))
            return torch.cat(parts)

        return cls(
            lambda x: float(function(torch.from_numpy(x))),
            lambda x: slope(torch.from_numpy(x)).detach().cpu().numpy(),
            lambda x: curvature(torch.from_numpy(x)).detach().cpu().numpy(),
        )


def training_loss(surface: Surface, point: Point, largest: int) -> Objective:
    """Return the mean training loss of a small network as an objective of its surviving weights.

    Args:
        surface: The surface, in double precision; its examples are taken in one batch.
        point: Its buffers, such as running statistics, stay as they are.
        largest: Number of coordinates of which a dense Hessian is taken at most.

    Raises:
        UsageError: It has too many coordinates for a dense Hessian, or no second derivatives.
    """
    if surface.size > largest:
        raise UsageError(
            f"analysis critical_points: {surface.size:,} surviving weights are too many for a dense Hessian, which is "
            f"taken up to {largest:,}; name a smaller model, or look at plateaus in its place"
        )
    surface.load(point)
    surface.hessian_product(torch.ones_like(point.vector))  # refuses a network without second derivatives
    parts = list(surface.examples("train"))
    x, y = torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts])

    def loss(vector: Tensor) -> Tensor:
        with sdpa_kernel(SDPBackend.MATH):  # fused attention has no second derivative
            return surface.value_of(Point(vector.to(surface.device), point.buffers), x, y)

    return Objective.of(loss, chunk=64, check=surface.check)


def starts_around(
    surface: Surface, vector: Tensor, count: int, scale: float, generator: torch.Generator
) -> list[Vector]:
    """Return starts of a search: the vector (n,) itself, then normal draws, each parameter with its mean square.

    Args:
        surface: Tells which coordinates are of which parameter.
        vector: The coordinates of a state.
        count: Number of starts, the vector among them.
        scale: Standard deviation of a draw over the root of the parameter's mean square; of a parameter that is 0 the
            mean square of all counts.
        generator: Draws them.
    """
    here = vector.detach().double().cpu()
    whole = here.square().mean().sqrt()
    deviation = torch.empty_like(here)
    for block in surface.blocks.values():
        own = here[block].square().mean().sqrt()
        deviation[block] = own if own > 0 else whole
    draws = torch.randn(max(0, count - 1), len(here), generator=generator, dtype=torch.float64)
    return [here.numpy(), *(scale * deviation * draws).numpy()]


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

    def end(start: Vector) -> Tensor:
        return torch.from_numpy(method(objective, start))

    ends = [memo.tensor(f"{name} {number}", partial(end, start)) for number, start in enumerate(starts)]
    return [classify(objective, found.cpu().numpy()) for found in ends]


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
