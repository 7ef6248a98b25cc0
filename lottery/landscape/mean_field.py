"""How signals spread through wide random networks: the mean-field recursion and its depth scales, by quadrature.

A layer of normal weights of variance s_w^2 / fan_in and biases of variance s_b^2 takes the variance q of preactivations
to s_w^2 E[phi(sqrt(q) z)^2] + s_b^2, and the correlation c of two inputs to that of a pair of correlated normal numbers
(Poole et al. 2016). Near a fixed point both move by a constant factor a layer, so that each has a depth scale; a signal
is told apart, and a network can be trained, to about six of them (Schoenholz et al. 2017). Of a random mask the
recursion sees the density alone: s_w^2 is multiplied by it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
import torch
from scipy.optimize import brentq
from torch import Tensor

Function = Callable[[Tensor], Tensor]  # an activation, elementwise

VANISHING = 1e-12  # a variance so small that an activation is its tangent at 0, on either side
LARGEST = 1e6  # a variance above which it grows without bound
_EQUAL = 1e-9  # relative difference of numbers that quadrature cannot tell apart
_FARTHEST = 10  # beyond it nothing is left of the normal distribution


@dataclass(frozen=True)
class FixedPoint:
    """The point to which variance and correlation go with depth.

    Attributes:
        q: Variance of preactivations: 0 where signals vanish, infinity where they grow without bound.
        c: Correlation of two different inputs; NaN where q is infinite.
        chi_1: Factor by which the mean squared gradient grows a layer backward, and a small difference forward: below 1
            in the ordered phase, above 1 in the chaotic one.
        xi_q: Depth scale of the variance, in layers; infinite where every variance is a fixed point.
        xi_c: Depth scale of the correlation, in layers; infinite at the critical point.
    """

    q: float
    c: float
    chi_1: float
    xi_q: float
    xi_c: float

    @property
    def xi_gradient(self) -> float:
        """Depth scale of gradients, 1 / |log chi_1|, in layers; equals xi_c in the ordered phase."""
        return gradient_scale(math.log(self.chi_1)) if self.chi_1 > 0 else 0.0


def moments(function: Function, q: float) -> tuple[float, float]:
    """Return E[phi(sqrt(q) z)^2] and E[phi'(sqrt(q) z)^2] for standard normal z, each side of a kink at 0 by itself."""
    z, mass = _line(400)
    value, slope = _value_and_slope(function, math.sqrt(q) * z)
    return float(mass @ value.square()), float(mass @ slope.square())


def variance(function: Function, q: float, weight_var: float, bias_var: float = 0.0, density: float = 1.0) -> float:
    """Return the variance of the next layer's preactivations from that of this layer's."""
    return density * weight_var * moments(function, q)[0] + bias_var


def chi(function: Function, q: float, weight_var: float, density: float = 1.0) -> float:
    """Return the factor by which the mean squared gradient grows from the next layer's preactivations to this one's."""
    return density * weight_var * moments(function, q)[1]


def correlation(
    function: Function, q: float, c: float, weight_var: float, bias_var: float = 0.0, density: float = 1.0
) -> tuple[float, float]:
    """Return the correlation of two inputs in the next layer, and its derivative in the present one times the variance.

    At the fixed point q of the variance the second number is the factor by which a distance from c shrinks a layer.

    Args:
        function: The activation phi.
        q: Variance of the preactivations of both inputs.
        c: Their correlation, from -1 to 1.
        weight_var: s_w^2.
        bias_var: s_b^2.
        density: Share of the weights that survive.
    """
    product, slopes = _pair(function, q, c)
    squares = moments(function, q)[0]
    scale = density * weight_var
    after = scale * squares + bias_var
    return (scale * product + bias_var) / after if after else math.nan, scale * slopes


def fixed_point(
    function: Function, weight_var: float, bias_var: float = 0.0, density: float = 1.0, start: float = 1.0
) -> FixedPoint:
    """Return the fixed point to which a variance `start` goes, with its depth scales.

    Args:
        function: The activation phi.
        weight_var: s_w^2, the variance of weights times fan_in, of the dense network.
        bias_var: s_b^2.
        density: Share of the weights that survive.
        start: Variance of the first preactivations; matters where there is more than one fixed point.
    """
    scale = density * weight_var
    q = _fixed_variance(lambda at: variance(function, at, scale, bias_var), start)
    at = min(max(q, VANISHING), LARGEST)
    chi_1 = chi(function, at, scale)
    if math.isinf(q):
        return FixedPoint(q, math.nan, chi_1, math.nan, math.nan)
    c = 1.0
    factor = chi_1
    if chi_1 > 1 + _EQUAL:
        c, factor = _fixed_correlation(function, at, scale, bias_var)
    return FixedPoint(q, c, chi_1, _depth_scale(_variance_slope(function, at, scale)), _depth_scale(factor))


def gradient_scale(log_chi: float) -> float:
    """Return the number of layers over which gradients grow or shrink by a factor e, from the logarithm a layer."""
    return math.inf if abs(log_chi) < _EQUAL else 1 / abs(log_chi)


def _fixed_variance(following: Callable[[float], float], start: float) -> float:
    def excess(log_q: float) -> float:
        return following(math.exp(log_q)) / math.exp(log_q) - 1

    here = excess(math.log(start))
    if abs(here) < _EQUAL:
        return start
    end = math.log(LARGEST) if here > 0 else math.log(VANISHING)  # a variance moves to the nearest fixed point there
    grid = np.linspace(math.log(start), end, 80)
    for left, right in pairwise(grid):
        if excess(right) * here <= 0:
            return math.exp(brentq(excess, left, right, xtol=1e-13))
    return math.inf if here > 0 else 0.0


def _fixed_correlation(function: Function, q: float, weight_var: float, bias_var: float) -> tuple[float, float]:
    def excess(c: float) -> float:
        return correlation(function, q, c, weight_var, bias_var)[0] - c

    highest = 1 - 1e-6
    if excess(highest) >= 0:  # too near 1 for quadrature
        return 1.0, chi(function, q, weight_var)
    if excess(0.0) <= _EQUAL:
        c = 0.0
    else:
        c = float(brentq(excess, 0.0, highest, xtol=1e-12))
    return c, correlation(function, q, c, weight_var, bias_var)[1]


def _variance_slope(function: Function, q: float, weight_var: float) -> float:
    """Return the derivative of the next variance in q, E[phi phi' z] / sqrt(q) times s_w^2."""
    z, mass = _line(400)
    value, slope = _value_and_slope(function, math.sqrt(q) * z)
    return weight_var * float(mass @ (value * slope * z)) / math.sqrt(q)


def _pair(function: Function, q: float, c: float, count: int = 100) -> tuple[float, float]:
    """Return E[phi(u) phi(v)] and E[phi'(u) phi'(v)] of normal u and v of variance q and correlation c."""
    first, mass = _line(count)
    rest = math.sqrt(max(1 - c * c, 1e-30))
    kink = (-c * first / rest).clamp(-_FARTHEST, _FARTHEST)[:, None]
    nodes, weights = _legendre(count)
    below, above = (kink + _FARTHEST) / 2, (_FARTHEST - kink) / 2
    second = torch.cat([-_FARTHEST + below * (nodes + 1), kink + above * (nodes + 1)], dim=1)
    inner = (
        torch.cat([below * weights, above * weights], dim=1) * torch.exp(-second.square() / 2) / math.sqrt(2 * math.pi)
    )
    u_value, u_slope = _value_and_slope(function, math.sqrt(q) * first)
    v_value, v_slope = _value_and_slope(function, math.sqrt(q) * (c * first[:, None] + rest * second))
    return (
        float(mass @ (u_value * (inner * v_value).sum(1))),
        float(mass @ (u_slope * (inner * v_slope).sum(1))),
    )


@cache
def _legendre(count: int) -> tuple[Tensor, Tensor]:
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return torch.from_numpy(nodes), torch.from_numpy(weights)


@cache
def _line(count: int) -> tuple[Tensor, Tensor]:
    """Return points of the line and the normal distribution's mass at each, each side of 0 by itself."""
    nodes, weights = _legendre(count)
    half = _FARTHEST / 2
    z = torch.cat([-half * (nodes + 1), half * (nodes + 1)])
    mass = torch.cat([weights, weights]) * half * torch.exp(-z.square() / 2)
    return z, mass / math.sqrt(2 * math.pi)


def _value_and_slope(function: Function, x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        value = function(x)
        (slope,) = torch.autograd.grad(value.sum(), x)
    return value.detach(), slope


def _depth_scale(factor: float) -> float:
    """Return -1 / log(factor), the layers in which a distance that shrinks by the factor a layer falls to 1 / e."""
    if factor <= 0:
        return 0.0
    return math.inf if factor >= 1 - _EQUAL else -1 / math.log(factor)
