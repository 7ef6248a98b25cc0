"""Teacher-student networks: the population loss against draws, its derivatives, and the counts of spurious minima."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from lottery.landscape.critical_points import classify
from lottery.landscape.memo import Memo
from lottery.landscape.teacher_student import (
    Activation,
    objective,
    population_loss,
    relu_kernel,
    spurious_minima,
    spurious_table,
)

FUNCTIONS = {"relu": torch.relu, "erf": torch.erf, "quadratic": torch.square}


@pytest.mark.parametrize("activation", ["relu", "erf", "quadratic"])
def test_the_population_loss_is_the_mean_over_many_inputs(activation: Activation) -> None:
    draws = torch.Generator().manual_seed(0)
    w = torch.randn(3, 4, generator=draws, dtype=torch.float64) / 2
    v = torch.eye(4, dtype=torch.float64)
    x = torch.randn(400_000, 4, generator=draws, dtype=torch.float64)
    function = FUNCTIONS[activation]
    losses = (function(x @ w.T).sum(1) - function(x @ v.T).sum(1)).square() / 2
    error = 4 * float(losses.std()) / math.sqrt(len(x))
    assert float(population_loss(activation, w, v)) == pytest.approx(float(losses.mean()), abs=error)


def test_derivatives_of_relu_are_those_of_torch() -> None:
    draws = torch.Generator().manual_seed(0)
    n, k = 4, 5
    w = torch.randn(n, k, generator=draws, dtype=torch.float64)
    v = torch.eye(k, dtype=torch.float64)

    def loss(vector: Tensor) -> Tensor:  # the diagonal apart: there autograd divides by a sine of 0
        rows = vector.view(n, k)
        total = v.shape[0] * 0.0 + rows.square().sum() / 4 - relu_kernel(rows, v).sum()
        for i in range(n):
            for j in range(i):
                total = total + relu_kernel(rows[i : i + 1], rows[j : j + 1]).sum()
        return total

    function, vector = objective("relu", k, n), w.flatten()
    gradient, hessian = torch.func.grad(loss)(vector), torch.func.hessian(loss)(vector)
    np.testing.assert_allclose(function.gradient(vector.numpy()), gradient.numpy(), rtol=0, atol=1e-13)
    np.testing.assert_allclose(function.hessian(vector.numpy()), hessian.numpy(), rtol=0, atol=1e-12)


def test_the_teacher_itself_is_a_global_minimum_with_finite_derivatives() -> None:
    at = np.eye(5).ravel()
    point = classify(objective("relu", 5, 5), at)
    assert point.loss == pytest.approx(0, abs=1e-15)
    assert point.gradient_norm == pytest.approx(0, abs=1e-15)
    assert point.index == 0
    assert point.lowest > 0


@pytest.mark.parametrize("starts", [8, pytest.param(16, marks=pytest.mark.slow)])
def test_relu_has_spurious_minima_that_a_wider_student_has_not(starts: int) -> None:
    equal, wider = spurious_table([8], wider=(0, 2), starts=starts)
    assert equal["spurious"] >= 1  # type: ignore[operator]  # an eighth of the descents in Safran & Shamir 2018
    assert 0.01 < equal["lowest"] < 0.1  # type: ignore[operator]
    assert equal["elsewhere"] == 0
    assert wider["spurious"] == 0
    assert wider["global"] == starts


def test_a_small_relu_student_and_a_smooth_one_find_the_teacher() -> None:
    draws = torch.Generator().manual_seed(0)
    relu = spurious_minima("relu", 4, 4, 15, draws, Memo())
    quadratic = spurious_minima("quadratic", 4, 4, 5, draws, Memo())
    assert relu["global"] == 15
    assert quadratic["global"] == 5


@pytest.mark.parametrize("starts", [12, pytest.param(25, marks=pytest.mark.slow)])
def test_a_spurious_minimum_is_one_by_its_own_derivatives(starts: int) -> None:
    memo = Memo()
    row = spurious_minima("relu", 9, 9, starts, torch.Generator().manual_seed(1), memo)
    function = objective("relu", 9, 9)
    points = [classify(function, end.numpy()) for end in memo.parts.values()]
    bad = [point for point in points if point.loss > 1e-5]
    assert len(bad) == row["spurious"] + row["saddle"] + row["elsewhere"]  # type: ignore[operator]
    assert bad
    for point in bad:
        assert point.gradient_norm < 1e-8
        assert point.lowest > 1e-4
        for direction in np.random.default_rng(0).normal(size=(20, 81)):
            assert function.value(point.vector + 1e-2 * direction / np.linalg.norm(direction)) > point.loss


def test_a_stopped_table_goes_on_to_the_same_bytes() -> None:
    kept: list[dict[str, Tensor]] = []

    def table(memo: Memo) -> str:
        return repr(spurious_table([3], wider=(0, 1), starts=3, memo=memo))

    whole = table(Memo(after=lambda memo: kept.append(dict(memo.parts))))
    assert len(kept) == 6
    for parts in kept:
        assert table(Memo(parts)) == whole


@pytest.mark.slow
@pytest.mark.parametrize(("k", "share"), [(6, 0.003), (8, 0.126), (10, 0.346), (12, 0.585)])
def test_spurious_minima_are_as_frequent_as_published(k: int, share: float) -> None:
    (row,) = spurious_table([k], wider=(0,), starts=200)
    deviation = math.sqrt(share * (1 - share) / 200)
    assert row["elsewhere"] == 0
    assert row["share"] == pytest.approx(share, abs=4 * deviation + 0.05)  # the paper descends by gradient steps
