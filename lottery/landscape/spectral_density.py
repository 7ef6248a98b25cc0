"""The density of a matrix' eigenvalues by stochastic Lanczos quadrature, on a linear or a logarithmic axis."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lottery.landscape.lanczos import MOST, lanczos
from lottery.landscape.matrices import Matrix, Streams
from lottery.landscape.memo import Memo

Axis = Literal["linear", "log"]
Numbers = NDArray[np.float64]
FEWEST = 3  # probes before a standard error is trusted to stop by
LINEAR_WIDTH = 0.01  # of the range between the extreme eigenvalues
LOG_WIDTH = 0.1  # decades
DECADES = 6  # below the norm, beyond which eigenvalues are rounding in single precision


@dataclass(frozen=True, eq=False)
class Branch:
    """A density on one stretch of an axis.

    Attributes:
        eigenvalues: Grid (g,), rising in absolute value on a logarithmic axis, else rising.
        density: Share of all eigenvalues (g,) per unit of the axis: of the eigenvalue, or of log10 of its absolute.
        standard_error: Its standard error over probes (g,); NaN from one probe.
        positions: Positions of the grid on the axis (g,).
    """

    eigenvalues: Numbers
    density: Numbers
    standard_error: Numbers
    positions: Numbers

    @property
    def area(self) -> float:
        """Share of all eigenvalues on this stretch."""
        return float(np.trapezoid(self.density, self.positions))


@dataclass(frozen=True, eq=False)
class Density:
    """The density of eigenvalues, smoothed by a Gaussian kernel.

    Attributes:
        axis: `linear` in the eigenvalue, or `log`, in log10 of its absolute value, apart for each sign.
        width: Standard deviation of the kernel in units of the axis: of the eigenvalue, or decades.
        branches: One for `linear`; the positive and the negative eigenvalues for `log`.
        near_zero: Share of eigenvalues left out of a logarithmic axis, smaller than a millionth of the norm.
        probes: Number of probes.
    """

    axis: Axis
    width: float
    branches: Sequence[Branch]
    near_zero: float
    probes: int

    @property
    def error(self) -> float:
        """Integral of the standard error, as a share of all eigenvalues; NaN from one probe."""
        return sum(float(np.trapezoid(branch.standard_error, branch.positions)) for branch in self.branches)


def quadrature(matrix: Matrix, streams: Streams, memo: Memo, name: str, *, steps: int = MOST) -> Tensor:
    """Return the nodes and weights (2, m) of Gauss' quadrature for one probe, a vector of random signs.

    For any function f the sum of weights times f(nodes) estimates the mean of f over all eigenvalues; it is exact for
    the probe where f is a polynomial of degree below 2 m. The Lanczos vectors are forgotten when it is done.
    """

    def make() -> Tensor:
        found = lanczos(matrix, matrix.signs, streams, memo, name, steps=steps)
        memo.forget(name)
        return torch.stack([found.values, found.weights])

    return memo.tensor(f"{name}: nodes", make).cpu()


def spectral_density(
    matrix: Matrix,
    streams: Callable[[int], Streams],
    memo: Memo,
    name: str,
    *,
    axis: Axis = "log",
    probes: int = 10,
    steps: int = MOST,
    tolerance: float = 0.05,
) -> Density:
    """Estimate the density of all eigenvalues (Lin, Saad & Yang 2016; Ghorbani et al. 2019).

    Args:
        matrix: The matrix.
        streams: Returns the streams of random numbers of each probe.
        memo: Keeps each Lanczos vector of the probe under way, and nodes and weights of those before.
        name: Name of the parts in it.
        axis: Axis of the grid.
        probes: Largest number of probes.
        steps: Lanczos steps for each.
        tolerance: Stops where the integral of the standard error is at most this share of all eigenvalues, after 3
            probes at the earliest.
    """
    each: list[Tensor] = []
    while True:
        each.append(quadrature(matrix, streams(len(each)), memo, f"{name} probe {len(each)}", steps=steps))
        found = density_of(each, axis)
        if len(each) >= probes or math.isnan(found.width) or (len(each) >= FEWEST and found.error <= tolerance):
            return found


def density_of(each: Sequence[Tensor], axis: Axis) -> Density:
    """Return the density from the nodes and weights (2, m) of each probe, on a grid of half the kernel's width.

    The kernel is 0.01 of the range wide on a linear axis, 0.1 decades on a logarithmic one. Where a node is not finite,
    there is no grid, and the width is NaN.
    """
    probes = [(nodes, weights) for nodes, weights in (pair.double().numpy() for pair in each)]
    nodes = np.concatenate([one for one, _ in probes])
    if not np.isfinite(nodes).all():
        return Density(axis, math.nan, (), math.nan, len(probes))
    norm = float(np.abs(nodes).max()) or 1.0
    if axis == "linear":
        width = LINEAR_WIDTH * (float(np.ptp(nodes)) or norm)
        positions = _grid(float(nodes.min()), float(nodes.max()), width)
        branch = _branch(probes, positions, positions, width, lambda x: x)
        return Density(axis, width, (branch,), 0.0, len(probes))
    low, high = math.log10(norm) - DECADES, math.log10(norm)
    positions, floor = _grid(low, high, LOG_WIDTH), 10.0**low
    branches = [_branch(probes, positions, s * 10**positions, LOG_WIDTH, partial(_log, s, floor)) for s in (1, -1)]
    near = float(np.mean([weights[np.abs(nodes) < floor].sum() for nodes, weights in probes]))
    return Density(axis, LOG_WIDTH, branches, near, len(probes))


def _grid(low: float, high: float, width: float) -> Numbers:
    """Return points half a width apart, from 5 widths below the lowest to 5 above the highest."""
    count = math.ceil((high - low + 10 * width) / (width / 2)) + 1
    return np.linspace(low - 5 * width, high + 5 * width, count)


def _log(sign: int, floor: float, nodes: Numbers) -> Numbers:
    """Return log10 of the absolute values of nodes of one sign; NaN for others and those below the floor."""
    kept = sign * nodes >= floor
    return np.where(kept, np.log10(np.where(kept, sign * nodes, 1)), np.nan)


def _branch(
    probes: Sequence[tuple[Numbers, Numbers]],
    positions: Numbers,
    eigenvalues: Numbers,
    width: float,
    place: Callable[[Numbers], Numbers],
) -> Branch:
    """Return the density on one stretch; `place` puts nodes on the axis, NaN where they are not on this stretch."""
    rows = []
    for nodes, weights in probes:
        at = place(nodes)
        kernel = np.exp(-0.5 * ((positions[:, None] - at[~np.isnan(at)]) / width) ** 2)
        rows.append(kernel @ weights[~np.isnan(at)] / (width * math.sqrt(2 * math.pi)))
    each = np.stack(rows)
    error = each.std(0, ddof=1) / math.sqrt(len(each)) if len(each) > 1 else np.full(len(positions), np.nan)
    return Branch(eigenvalues, each.mean(0), error, positions)
