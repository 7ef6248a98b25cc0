"""The critical line of wide random networks (Poole et al. 2016; Schoenholz et al. 2017), by quadrature."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import torch
from scipy.optimize import brentq

from lottery import registry
from lottery.errors import UsageError

VANISHING = 1e-12  # a variance so small that an activation is its tangent at 0, on either side
LARGEST = 1e3  # no fixed point is looked for above


def critical(activation: str, bias_var: float) -> tuple[float, float]:
    """Return the critical s_w^2 and its fixed point q, the variance of preactivations.

    If the activation is 0 at 0 and there are no biases, q = 0 is the fixed point, reached in the limit.

    Raises:
        UsageError: No s_w is critical.
    """
    start, slope = _moments(activation, VANISHING)
    if bias_var == 0 and start <= VANISHING:
        return 1 / slope, 0.0

    def excess(log_q: float) -> float:
        q = math.exp(log_q)
        value, slope = _moments(activation, q)
        return value / slope + bias_var - q

    grid = np.linspace(math.log(1e-6), math.log(LARGEST), 60)
    values = [excess(point) for point in grid]
    for left, right, before, after in zip(grid, grid[1:], values, values[1:], strict=False):
        if before > 0 >= after:
            q = math.exp(brentq(excess, left, right, xtol=1e-13, rtol=1e-13))
            return 1 / _moments(activation, q)[1], q
    raise UsageError(
        f"init mean_field: {activation} with bias_var {bias_var:g} is nowhere critical; use another (0 for relu)"
    )


def _moments(activation: str, q: float) -> tuple[float, float]:
    """Return E[phi(sqrt(q) z)^2] and E[phi'(sqrt(q) z)^2] for standard normal z, each side of a kink at 0 by itself."""
    z, mass = _quadrature()
    x = (math.sqrt(q) * z).requires_grad_()
    with torch.enable_grad():
        value = registry.activations[activation].make()(x)
        (slope,) = torch.autograd.grad(value.sum(), x)
    return float(mass @ value.detach().square()), float(mass @ slope.square())


@cache
def _quadrature() -> tuple[torch.Tensor, torch.Tensor]:
    """Return points z and the mass of the standard normal at each, for integrals over -10 to 0 and over 0 to 10."""
    nodes, weights = np.polynomial.legendre.leggauss(400)  # the eigenvalues of a matrix: 15 ms
    z = torch.from_numpy(np.concatenate([-5 * (nodes + 1), 5 * (nodes + 1)]))  # beyond 10 nothing is left of the normal
    widths = torch.from_numpy(np.concatenate([weights, weights]) * 5)
    return z, widths * torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
