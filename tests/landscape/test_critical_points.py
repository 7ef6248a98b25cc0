"""Critical points of functions whose critical points are known, and of small networks."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lottery import registry
from lottery.errors import UsageError
from lottery.landscape.critical_points import CriticalPoint, Objective, classify, distinct, newton, search
from lottery.landscape.memo import Memo
from lottery.landscape.subject import Measurement, State, Subject
from lottery.landscape.teacher_student import descend
from lottery.network.layout import state_of
from lottery.pruning.mask import Mask
from lottery.values import Part


def draws(count: int, size: int, seed: int = 0) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).normal(size=(count, size)))


def found(objective: Objective, starts: list[np.ndarray]) -> list[CriticalPoint]:
    return search(objective, starts, Memo())


def test_all_nine_critical_points_of_two_double_wells_are_found_by_index_and_loss() -> None:
    objective = Objective.of(lambda x: (x**2 - 1).square() @ torch.tensor([1.0, 2.0], dtype=torch.float64))
    starts = [np.array([a, b]) for a in (-1.2, 0.1, 0.9) for b in (-0.9, -0.1, 1.3)]
    rows = distinct(found(objective, starts))
    assert [(row["index"], row["loss"], row["count"]) for row in rows] == [
        (0, pytest.approx(0, abs=1e-12), 4),
        (1, pytest.approx(1), 2),
        (1, pytest.approx(2), 2),
        (2, pytest.approx(3), 1),
    ]
    assert rows[-1]["lowest"] == pytest.approx(-8)  # second derivative of 2 (y^2 - 1)^2 at 0


def test_the_product_of_two_weights_has_a_saddle_at_the_origin_and_a_valley_of_minima() -> None:
    objective = Objective.of(lambda x: (x[0] * x[1] - 1).square() / 2)
    origin = classify(objective, np.zeros(2))
    assert (origin.index, origin.loss, origin.lowest) == (1, 0.5, pytest.approx(-1))
    ends = [end for end in found(objective, draws(10, 2)) if end.converged and end.index == 0]
    assert ends
    for end in ends:
        assert end.vector[0] * end.vector[1] == pytest.approx(1, abs=1e-6)
        assert end.flat == 1


def deep_linear(depth: int, width: int = 2) -> Objective:
    x = torch.from_numpy(np.random.default_rng(1).normal(size=(20, 2)))
    y = torch.from_numpy(np.random.default_rng(2).normal(size=(20, 2)))

    def loss(vector: Tensor) -> Tensor:
        out = x
        for matrix in vector.view(depth, width, width):
            out = out @ matrix.T
        return (out - y).square().sum(1).mean() / 2

    return Objective.of(loss)


def least_squares() -> float:
    x, y = np.random.default_rng(1).normal(size=(20, 2)), np.random.default_rng(2).normal(size=(20, 2))
    residual = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
    return float((residual**2).sum(1).mean() / 2)


@pytest.mark.parametrize("depth", [2, 3])
def test_every_local_minimum_of_a_deep_linear_network_is_global(depth: int) -> None:
    objective = deep_linear(depth)
    saddles = [end for end in found(objective, draws(10, 4 * depth)) if end.converged and end.index > 0]
    minima = [end for end in search(objective, draws(6, 4 * depth), Memo(), descend) if end.converged]
    assert saddles
    assert len(minima) >= 4
    for end in minima:
        assert end.index == 0
        assert end.loss == pytest.approx(least_squares(), rel=1e-6)
    assert all(end.loss > 1.001 * least_squares() for end in saddles)


def test_at_zero_a_deep_linear_network_has_no_curvature_from_depth_three_on() -> None:
    assert np.abs(deep_linear(3).hessian(np.zeros(12))).max() == 0
    two = classify(deep_linear(2), np.zeros(8))
    assert two.gradient_norm == 0
    assert two.index > 0  # a strict saddle


def test_a_search_that_does_not_arrive_is_no_critical_point() -> None:
    slope = Objective.of(lambda x: torch.exp(-x).sum())
    (end,) = found(slope, [np.zeros(1)])
    assert distinct([CriticalPoint(1.0, 1e-3, 0, 0, 0.0, np.zeros(1))]) == []
    assert end.loss < 1e-6  # its minimum lies at infinity
    lost = classify(Objective.of(lambda x: (x.square() * math.nan).sum()), newton(slope, np.full(1, np.nan)))
    assert lost.index == -1
    assert not lost.converged


def batches(part: Part, count: int | None) -> Iterator[tuple[Tensor, Tensor]]:
    stream = torch.Generator().manual_seed(4)
    for size in (11, 6):
        x = torch.randn(size, 2, generator=stream)
        yield x, torch.tanh(x[:, :1] * x[:, 1:]) + 0.1 * torch.randn(size, 1, generator=stream)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 1))


def subject(mask: Mask | None = None, poison: float | None = None, width: int | None = None) -> Subject:
    def make() -> nn.Module:
        return network() if width is None else nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, 1))

    weights = dict(state_of(make()))
    if mask is not None and poison is not None:
        weights |= {n: torch.where(mask[n], weights[n], torch.full_like(weights[n], poison)) for n in mask}
    return Subject([State("dense", "key", weights, mask)], 0, make, make, nn.MSELoss(), batches)


def run(given: Subject, memo: Memo | None = None, starts: int = 4) -> Measurement:
    measured: Measurement = registry.analyses["critical_points"].make(given, memo or Memo(), starts=starts, steps=60)
    return measured


def test_the_entry_finds_points_whose_plain_gradient_is_zero() -> None:
    memo = Memo()
    measured = run(subject(), memo)
    assert set(measured.values) == set(registry.analyses["critical_points"].traits.units)
    assert measured.values["points"] == len(measured.profile) > 0
    parts = list(batches("train", None))
    x, y = (torch.cat([part[i] for part in parts]).double() for i in (0, 1))
    small = 0
    for vector in memo.parts.values():
        model = network().double()
        nn.utils.vector_to_parameters(vector, model.parameters())
        gradients = torch.autograd.grad(nn.functional.mse_loss(model(x), y), list(model.parameters()))
        small += math.hypot(*(float(g.norm()) for g in gradients)) <= 1e-8
    assert small == round(measured.values["converged"] * 4) > 0


def test_pruned_weights_are_neither_read_nor_searched() -> None:
    mask = Mask({"0.weight": torch.tensor([[True, False], [True, True]]), "2.weight": torch.tensor([[True, True]])})
    memo = Memo()
    clean = run(subject(mask, 0.0), memo, starts=2)
    assert repr(clean) == repr(run(subject(mask, math.nan), starts=2))
    assert {len(vector) for vector in memo.parts.values()} == {8}  # 9 parameters, one of them pruned


def test_a_stopped_search_goes_on_to_the_same_bytes() -> None:
    kept: list[dict[str, Tensor]] = []
    whole = run(subject(), Memo(after=lambda memo: kept.append(dict(memo.parts))))
    assert len(kept) == 4
    for parts in kept[::2]:
        assert repr(run(subject(), Memo(parts))) == repr(whole)


def test_a_network_too_large_for_a_dense_hessian_is_refused() -> None:
    with pytest.raises(UsageError, match=r"505 surviving weights are too many .* name a smaller model"):
        run(subject(width=126))


def test_a_dense_hessian_is_that_of_torch_and_looks_for_a_stop_at_each_of_its_chunks() -> None:
    def function(x: Tensor) -> Tensor:
        return torch.tanh(x[:-1] * x[1:]).sum() + (x**4).sum()

    seen: list[int] = []
    at = draws(1, 7)[0]
    found = Objective.of(function, chunk=3, check=lambda: seen.append(1)).hessian(at)
    expected = torch.autograd.functional.hessian(function, torch.from_numpy(at)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)
    assert len(seen) == 3


def test_a_stop_within_a_search_of_minpack_ends_it_at_the_next_evaluation() -> None:
    seen: list[int] = []

    def check() -> None:
        seen.append(1)
        if len(seen) >= 3:
            raise KeyError

    objective = Objective.of(lambda x: (x**2 - 1).square().sum(), check=check)
    with pytest.raises(KeyError):
        newton(objective, draws(1, 4)[0])
    assert len(seen) == 3
