"""Smoothness along the gradient: on quadratics by formula, and against plain gradients."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from lottery import registry
from lottery.errors import UsageError
from lottery.landscape.memo import Memo
from lottery.landscape.smoothness import along_gradient, sizes_between
from lottery.landscape.subject import Measurement, State, Subject
from lottery.landscape.surface import Surface
from lottery.network.layout import state_of
from lottery.pruning.mask import Mask
from lottery.values import Part

SIZES = [0.01, 0.1, 1.0]


def regression(part: Part) -> Iterator[tuple[Tensor, Tensor]]:
    draws = torch.Generator().manual_seed(1)
    for size in (9, 6):
        x = torch.randn(size, 4, generator=draws, dtype=torch.float64)
        yield x, torch.randn(size, 2, generator=draws, dtype=torch.float64)


def linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(4, 2).double()


@pytest.mark.parametrize("pruned", [False, True])
def test_beta_of_a_quadratic_is_the_curvature_along_the_gradient(pruned: bool) -> None:
    model = nn.Sequential(linear())
    mask = Mask({"0.weight": torch.tensor([[1, 0, 1, 1], [0, 1, 1, 0]], dtype=torch.bool)}) if pruned else None
    surface = Surface(model, regression, mask, loss=nn.MSELoss())
    start = surface.point(state_of(model))
    found = along_gradient(surface, start, SIZES, Memo(), "here")
    surface.load(start)
    loss, gradient = surface.gradient()
    parts = list(regression("train"))
    x, y = torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts])
    hessian = torch.func.hessian(lambda v: nn.functional.mse_loss(functional_call(model, surface.spread(v), (x,)), y))(
        start.vector
    )
    product = hessian @ gradient
    assert found.beta == pytest.approx((product.norm() / gradient.norm()).item(), rel=1e-10)
    for row in found.steps:
        s = row["step"]
        assert row["beta"] == pytest.approx(found.beta, rel=1e-10)
        assert row["loss"] == pytest.approx(
            loss - s * float(gradient @ gradient) + s * s / 2 * float(gradient @ product)
        )
        assert row["gradient_change"] == pytest.approx(s * float(product.norm()))
        assert row["distance"] == pytest.approx(s * float(gradient.norm()))
    losses = [row["loss"] for row in found.steps]
    assert found.loss_range == pytest.approx(max(losses) - min(losses))


def test_along_an_eigenvector_beta_is_its_eigenvalue() -> None:
    class Bowl(nn.Module):  # outputs whose squares have the mean 4 a^2 + b^2
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.tensor([[0.0, 1.5]], dtype=torch.float64))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.w

    def one(part: Part) -> Iterator[tuple[Tensor, Tensor]]:
        yield torch.tensor([[8.0, 2.0]], dtype=torch.float64).sqrt(), torch.zeros(1, 2, dtype=torch.float64)

    surface = Surface(Bowl(), one, loss=nn.MSELoss())
    assert along_gradient(surface, surface.here(), SIZES, Memo(), "here").beta == pytest.approx(2.0)


def test_step_sizes_have_equal_ratios_and_both_ends() -> None:
    assert sizes_between(0.01, 1.0, 3) == [0.01, pytest.approx(0.1), 1.0]
    assert sizes_between(0.01, 1.0, 1) == [1.0]


def network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))


def subject(mask: Mask | None = None, poison: float | None = None) -> Subject:
    def examples(part: Part, count: int | None) -> Iterator[tuple[Tensor, Tensor]]:
        draws = torch.Generator().manual_seed(1)
        for size in (9, 6):
            yield torch.randn(size, 4, generator=draws), torch.randint(3, (size,), generator=draws)

    states = []
    for step, scale in ((0, 1.0), (5, 2.0)):
        weights = {n: v * scale if v.is_floating_point() else v for n, v in state_of(network()).items()}
        if mask is not None and poison is not None:
            weights |= {n: torch.where(mask[n], weights[n], torch.full_like(weights[n], poison)) for n in mask}
        states.append(State(f"dense at {step}it", "key", weights, mask, step))
    return Subject(states, 0, network, network, nn.CrossEntropyLoss(), examples)


def half() -> Mask:
    draws = torch.Generator().manual_seed(0)
    return Mask(
        {name: torch.rand(shape, generator=draws) < 0.5 for name, shape in (("0.weight", (6, 4)), ("3.weight", (3, 6)))}
    )


def run(given: Subject, memo: Memo | None = None, **args: object) -> Measurement:
    found: Measurement = registry.analyses["smoothness"].make(given, memo or Memo(), points=4, **args)
    return found


def test_pruned_weights_are_neither_read_nor_moved() -> None:
    assert repr(run(subject(half(), float("nan")))) == repr(run(subject(half(), 0.0)))
    assert math.isfinite(run(subject(half(), float("nan"))).values["beta_largest"])


def test_both_kinds_of_statistics_are_measured() -> None:
    batch, running = run(subject()), run(subject(), statistics="running")
    assert batch.values != running.values
    assert set(batch.values) == set(registry.analyses["smoothness"].traits.units)
    assert len(batch.profile) == 2 * 4


def test_a_stopped_measurement_goes_on_to_the_same_bytes() -> None:
    kept: list[dict[str, Tensor]] = []
    whole = run(subject(), Memo(after=lambda memo: kept.append(dict(memo.parts))))
    assert len(kept) == 2 * 5
    for parts in kept:
        assert repr(run(subject(), Memo(parts))) == repr(whole)


def test_the_gradient_norm_is_that_of_the_whole_loss_at_each_state() -> None:
    found, norms = run(subject(), statistics="running").values, []
    for state in subject().states:
        model = network().eval()
        model.load_state_dict(state.weights)
        parts = list(subject().examples("train", None))
        x, y = torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts])
        gradient = torch.autograd.grad(nn.functional.cross_entropy(model(x), y), list(model.parameters()))
        norms.append(math.sqrt(sum(float(part.square().sum()) for part in gradient)))
    assert found["gradient_norm_first"] == pytest.approx(norms[0], rel=1e-5)
    assert found["gradient_norm_last"] == pytest.approx(norms[1], rel=1e-5)
    assert found["gradient_norm_largest"] == pytest.approx(max(norms), rel=1e-5)


def test_values_that_are_not_finite_are_kept() -> None:
    given = subject()
    given.states[1].weights["0.weight"][0, 0] = float("nan")
    values = run(given).values
    assert math.isfinite(values["beta_first"])
    assert math.isnan(values["beta_last"])
    assert math.isnan(values["beta_largest"])


def test_a_range_the_wrong_way_round_is_refused() -> None:
    with pytest.raises(UsageError, match="swap"):
        run(subject(), smallest=1.0, largest=0.1)
