"""The mean-field recursion against published fixed points and closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from lottery import registry
from lottery.landscape.mean_field import chi, correlation, fixed_point, moments, variance


def test_relu_of_he_init_keeps_every_variance_and_gradient() -> None:
    for start in (0.3, 1.0, 7.0):
        point = fixed_point(torch.relu, 2.0, start=start)
        assert point.q == start
        assert point.chi_1 == pytest.approx(1, abs=1e-12)
        assert (point.c, point.xi_q, point.xi_c, point.xi_gradient) == (1.0, math.inf, math.inf, math.inf)
    assert variance(torch.relu, 0.3, 2.0) == pytest.approx(0.3, abs=1e-12)


def test_relu_above_the_critical_variance_explodes_and_below_it_vanishes() -> None:
    above, below = fixed_point(torch.relu, 3.0), fixed_point(torch.relu, 1.0)
    assert above.q == math.inf
    assert above.chi_1 == pytest.approx(1.5)
    assert below.q == 0
    assert below.xi_q == pytest.approx(1 / math.log(2))
    assert below.xi_c == below.xi_gradient == pytest.approx(1 / math.log(2))


@pytest.mark.parametrize("c", [-0.9, 0.0, 0.3, 0.999, 1.0])
def test_the_correlation_of_relu_follows_the_arc_cosine_kernel(c: float) -> None:
    after, slope = correlation(torch.relu, 0.7, c, 2.0)
    angle = math.acos(c)
    assert after == pytest.approx((math.sin(angle) + c * (math.pi - angle)) / math.pi, abs=1e-11)  # Cho & Saul 2009
    assert slope == pytest.approx(1 - angle / math.pi, abs=1e-11)


@pytest.mark.parametrize("c", [-1.0, 0.2, 0.9999, 1.0])
def test_the_correlation_of_erf_follows_the_arc_sine_kernel(c: float) -> None:
    q, weight_var, bias_var = 2.0, 1.3, 0.1
    square, product = (2 / math.pi * math.asin(2 * q * r / (1 + 2 * q)) for r in (1, c))  # Williams 1997
    after, _ = correlation(torch.erf, q, c, weight_var, bias_var)
    assert after == pytest.approx((weight_var * product + bias_var) / (weight_var * square + bias_var), abs=1e-11)


def test_tanh_without_biases_is_critical_at_one_and_its_depth_scale_diverges_there() -> None:
    assert fixed_point(torch.tanh, 1.0).q == 0
    assert fixed_point(torch.tanh, 1.0).xi_c == math.inf
    scales = [fixed_point(torch.tanh, weight_var).xi_c for weight_var in (0.5, 0.9, 0.99, 0.999)]
    for weight_var, scale in zip((0.5, 0.9, 0.99, 0.999), scales, strict=True):
        assert scale == pytest.approx(-1 / math.log(weight_var), rel=1e-6)  # chi_1 = s_w^2 at q = 0
    near, far = fixed_point(torch.tanh, 1.01), fixed_point(torch.tanh, 2.0)
    assert 0 < near.q < far.q
    assert 1 < near.chi_1 < far.chi_1
    assert near.xi_c > 20 * far.xi_c


def test_with_biases_the_chaotic_phase_has_a_fixed_point_that_iteration_finds() -> None:
    weight_var, bias_var = 2.5, 0.05
    point = fixed_point(torch.tanh, weight_var, bias_var)
    q, c = 1.0, 0.1
    for _ in range(300):
        q = variance(torch.tanh, q, weight_var, bias_var)
    distances = []
    for _ in range(150):
        c = correlation(torch.tanh, q, c, weight_var, bias_var)[0]
        distances.append(abs(c - point.c))
    assert point.q == pytest.approx(q, abs=1e-10)
    assert point.c == pytest.approx(c, abs=1e-6)
    assert point.chi_1 > 1
    assert math.log(distances[120] / distances[70]) / 50 == pytest.approx(-1 / point.xi_c, rel=1e-3)


def test_the_distance_from_the_fixed_variance_shrinks_by_the_depth_scale() -> None:
    point = fixed_point(torch.tanh, 1.5, 0.1)
    before = point.q * (1 + 1e-4)
    after = variance(torch.tanh, before, 1.5, 0.1)
    assert (after - point.q) / (before - point.q) == pytest.approx(math.exp(-1 / point.xi_q), rel=1e-3)


def test_of_a_mask_the_recursion_sees_the_density() -> None:
    assert fixed_point(torch.tanh, 3.0, 0.1, density=0.4) == fixed_point(torch.tanh, 3.0 * 0.4, 0.1)
    assert chi(torch.relu, 1.0, 2.0, density=0.25) == pytest.approx(0.25)
    assert fixed_point(torch.relu, 2.0, density=0.5).q == 0


@pytest.mark.parametrize("name", [entry.name for entry in registry.activations])
def test_moments_of_each_activation_are_those_of_many_draws(name: str) -> None:
    function = registry.activations[name].make()
    z = torch.randn(400_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = (math.sqrt(1.7) * z).requires_grad_()
    (slope,) = torch.autograd.grad(function(x).sum(), x)
    value, square = moments(function, 1.7)
    assert value == pytest.approx(float(function(x.detach()).square().mean()), rel=0.01)
    assert square == pytest.approx(float(slope.square().mean()), rel=0.01)
