"""The sharpness of a minimum: how far the loss rises nearby, at worst and on average, over the survivors alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lottery.landscape.lanczos import top_eigenvectors
from lottery.landscape.matrices import Matrix, Streams, curvature
from lottery.landscape.memo import Memo
from lottery.landscape.surface import Point, Surface
from lottery.landscape.trace import FEWEST, Estimate

ALIGNED = 1e-6  # an ascent has ended where the cosine between step and gradient is within this of 1
Ascent = dict[str, Tensor]


@dataclass(frozen=True)
class WorstCase:
    """The largest rise that an ascent found in a ball, a lower bound of the true one.

    Attributes:
        rise: The largest loss found, less that at the centre.
        quadratic: What the quadratic model of the loss has at the top eigenvector of its curvature: lambda_max rho^2/2
            at a minimum.
        eigenvalue: lambda_max in the coordinates of the ball.
    """

    rise: float
    quadratic: float
    eigenvalue: float

    @property
    def reached(self) -> float:
        """The rise as a share of the quadratic model's: below 1 the ascent failed, or the loss grows slower than it."""
        return self.rise / self.quadratic if not self.quadratic <= 0 else 1.0


def worst_case(
    surface: Surface,
    streams: Streams,
    memo: Memo,
    name: str,
    *,
    rho: float = 0.05,
    adaptive: bool = False,
    steps: int = 20,
    products: int = 20,
) -> WorstCase:
    """Return the largest rise of the loss in a ball around the present point, which stays the present one.

    The ball is |d| <= rho (Foret et al. 2021), or with `adaptive` |d / |w|| <= rho, element by element (Kwon et al.
    2021, without their term eta; Andriushchenko et al. 2023): that does not change when the weights of a layer are
    scaled and those of the next by the inverse, where the outputs do not. Ascents start at the centre, whose first step
    is that of SAM, at a random point and at the top eigenvector of the curvature; the highest counts.

    Args:
        surface: The surface, at the centre of the ball.
        streams: Streams of random numbers; index 0 is for the random start, those after it for the eigenvector.
        memo: Keeps each step.
        name: Name of the parts in it.
        rho: Radius of the ball.
        adaptive: True to measure each step in units of its weight.
        steps: Steps of each ascent, a forward and a backward pass each.
        products: Largest number of Hessian products for the eigenvector.
    """
    centre = surface.here()
    loss, slope = _rises(surface, centre, 0.0)(torch.zeros_like(centre.vector))
    scale = centre.vector.abs() if adaptive else torch.ones_like(centre.vector)
    matrix = curvature(surface).scaled(scale)
    values, vectors = top_eigenvectors(
        matrix, lambda i: streams(i + 1), memo, f"{name} curvature", count=1, steps=products
    )
    value, top = float(values), vectors[0].to(scale)
    along = float((scale * slope) @ top)
    starts = {"centre": torch.zeros_like(top), "random": _unit(matrix.normal(streams(0)))}
    starts["eigenvector"] = top if along >= 0 else -top
    rise = partial(_scaled, _rises(surface, centre, loss), scale)
    each = [_ascent(rise, rho * start, rho, steps, memo, f"{name} from {at}") for at, start in starts.items()]
    surface.load(centre)
    return WorstCase(_highest(each), rho * abs(along) + value * rho**2 / 2, value)


def _highest(each: list[float]) -> float:
    """Return the largest number, NaN if one is."""
    return math.nan if any(map(math.isnan, each)) else max(each)


def _rises(surface: Surface, centre: Point, loss: float) -> Callable[[Tensor], tuple[float, Tensor]]:
    """Return a function that gives the loss a step (n,) from the centre, less one that is known, and its gradient."""

    def rise(step: Tensor) -> tuple[float, Tensor]:
        surface.load(centre.moved(step))
        value, gradient = surface.gradient()
        return value - loss, gradient

    return rise


def _scaled(rise: Callable[[Tensor], tuple[float, Tensor]], scale: Tensor, step: Tensor) -> tuple[float, Tensor]:
    value, gradient = rise(scale * step)
    return value, scale * gradient


def _unit(vector: Tensor) -> Tensor:
    """Return the vector at length 1; 0 stays 0."""
    length = vector.norm()
    return vector / length if length != 0 else vector


def _ascent(
    rise: Callable[[Tensor], tuple[float, Tensor]], start: Tensor, rho: float, steps: int, memo: Memo, name: str
) -> float:
    """Return the largest rise found by so many steps on the sphere of radius rho; the centre counts as 0.

    Each goes to where the gradient points, which on a quadratic is a power iteration, and half as far between the two
    directions as the last one where the loss did not rise.
    """

    def begin() -> Ascent:
        value, gradient = rise(start)
        found = torch.tensor(value, dtype=torch.float64)
        return {"at": start, "gradient": gradient, "rise": found, "share": torch.ones((), dtype=torch.float64)}

    def advance(index: int, state: Ascent) -> Ascent:
        if not state:
            return begin()
        toward, here = _unit(state["gradient"]), state["at"] / rho
        if not (state["rise"].isfinite() and toward.any()) or toward @ here > 1 - ALIGNED:
            return state
        share = float(state["share"])
        at = rho * _unit((1 - share) * here + share * toward)
        value, gradient = rise(at)
        if value <= float(state["rise"]):
            return {**state, "share": state["share"] / 2}
        found = torch.tensor(value, dtype=torch.float64)
        return {"at": at, "gradient": gradient, "rise": found, "share": (2 * state["share"]).clamp_max(1)}

    return max(float(memo.iterate(name, steps + 1, {}, advance)["rise"]), 0.0)


def average_case(
    surface: Surface,
    streams: Streams,
    memo: Memo,
    name: str,
    *,
    rho: float = 0.05,
    adaptive: bool = False,
    draws: int = 20,
    tolerance: float = 0.05,
) -> Estimate:
    """Return the mean rise of the loss at random steps from the present point, which stays the present one.

    Each element of a step is normal with standard deviation rho / sqrt(n), so that a step is about rho long, with
    `adaptive` times its weight (Andriushchenko et al. 2023, whose rho is ours divided by sqrt(n)). At a minimum that is
    near rho^2 trace / (2 n). Each draw is the mean over a step and its opposite.

    Args:
        surface: The surface, at the point.
        streams: Streams of random numbers, one for each draw.
        memo: Keeps each draw.
        name: Name of the parts in it.
        rho: Length of the steps.
        adaptive: True to measure each step in units of its weight.
        draws: Largest number of draws, two evaluations each.
        tolerance: Stops where the standard error is at most this share of the mean, after 5 draws at the earliest.
    """
    centre = surface.here()
    base = memo.values(f"{name} centre", lambda: {"loss": _loss(surface, centre)})["loss"]
    scale = rho / math.sqrt(surface.size) * (centre.vector.abs() if adaptive else torch.ones_like(centre.vector))

    def draw(index: int) -> dict[str, float]:
        step = scale * _normal(surface, streams(index))
        return {"rise": sum(_loss(surface, centre.moved(sign * step)) - base for sign in (1, -1)) / 2}

    each: list[float] = []
    while len(each) < draws:
        each.append(memo.values(f"{name} draw {len(each)}", partial(draw, len(each)))["rise"])
        found = Estimate.of(each)
        if not math.isfinite(found.value) or (len(each) >= FEWEST and found.relative_error <= tolerance):
            break
    surface.load(centre)
    return found


def _normal(surface: Surface, draws: torch.Generator) -> Tensor:
    return Matrix(surface.size, lambda vector: vector, surface.device, surface.dtype).normal(draws)


def _loss(surface: Surface, point: Point) -> float:
    """Return the mean training loss at a point, which becomes the present one."""
    surface.load(point)
    return surface.mean_loss()


def keskar(
    surface: Surface, streams: Streams, memo: Memo, name: str, *, epsilon: float = 1e-3, iterations: int = 10
) -> float:
    """Return 100 times the largest rise in a box, divided by 1 + loss (Keskar et al. 2017, metric 2.1 with A = I).

    The box is |d| <= epsilon (|w| + 1) for each weight. It is searched by L-BFGS-B as there, from a random point in a
    tenth of it, because at a minimum there is no gradient at the centre; the highest point evaluated counts, or the
    first whose loss is not finite. The present point stays the present one.

    Args:
        surface: The surface, at the minimum.
        streams: Streams of random numbers; that of index 0 is drawn from.
        memo: Keeps each evaluation while the search is under way.
        name: Name of the parts in it.
        epsilon: Size of the box.
        iterations: Iterations of L-BFGS-B.
    """
    from scipy.optimize import Bounds, minimize

    centre = surface.here()
    loss, _ = _rises(surface, centre, 0.0)(torch.zeros_like(centre.vector))
    box = epsilon * (centre.vector.abs() + 1)
    start = 0.1 * (2 * torch.rand(surface.size, generator=streams(0), dtype=torch.float64) - 1).numpy()
    rises: list[float] = []

    def evaluate(at: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        def make() -> Tensor:
            step = box * torch.from_numpy(at).to(box)
            value, gradient = _rises(surface, centre, loss)(step)
            return torch.cat([torch.tensor([value], dtype=torch.float64), (box * gradient).double().cpu()])

        found = memo.tensor(f"{name} evaluation {len(rises)}", make).numpy()
        rises.append(float(found[0]))
        return float(found[0]), found[1:]

    def search() -> dict[str, float]:
        # As the function to maximize is convex at a minimum, L-BFGS-B learns no scale from it, and takes the gradient
        # as its first step: it is made as large as the box.
        first, slope = evaluate(start)
        length = float(np.sqrt(np.mean(np.square(slope))))
        factor = -10 / length if length > 0 else -1.0
        rises.clear()  # the search begins with the same evaluation, which is kept

        def down(at: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            value, gradient = evaluate(at)
            return factor * value, factor * gradient

        if math.isfinite(length):
            options = {"maxiter": iterations, "maxfun": 2 * iterations, "ftol": 0, "gtol": 0}
            minimize(down, start, jac=True, method="L-BFGS-B", bounds=Bounds(-1, 1), options=options)
        memo.forget(f"{name} evaluation")
        wrong = [value for value in [first, length, *rises] if not math.isfinite(value)]
        return {"rise": wrong[0] if wrong else max(0.0, first, *rises)}

    rise = memo.values(f"{name} largest", search)["rise"]
    surface.load(centre)
    return 100 * rise / (1 + loss)
