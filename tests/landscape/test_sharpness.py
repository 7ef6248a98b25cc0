"""Sharpness on quadratics by formula, scale invariance of the adaptive form, ascents that are told to have failed."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import nn

from lottery.landscape.memo import Memo
from lottery.landscape.sharpness import WorstCase, average_case, keskar, worst_case
from lottery.landscape.surface import Surface
from lottery.network.layout import state_of
from lottery.pruning.mask import Mask
from tests.support.surfaces import examples, half, killed_everywhere, planted, quadratic, streams, surface

SPECTRUM = torch.tensor([0.1, 0.3, 0.5, 1.0, 2.0, 3.9, 4.0], dtype=torch.float64)
RHO = 0.3


def alive() -> torch.Tensor:
    return torch.tensor([True, False, True, True, False, True, True])


@pytest.mark.parametrize("pruned", [False, True])
def test_the_worst_case_at_the_minimum_of_a_quadratic_is_by_formula(pruned: bool) -> None:
    full = planted(SPECTRUM)
    at = quadratic(full, Mask({"fc.weight": alive()[None]}) if pruned else None)
    left = full[alive()][:, alive()] if pruned else full
    top = float(torch.linalg.eigvalsh(left)[-1])
    found = worst_case(at, streams(), Memo(), "worst", rho=RHO)
    assert found.eigenvalue == pytest.approx(top, rel=1e-4)
    assert found.rise == pytest.approx(top * RHO**2 / 2, rel=1e-4)
    assert found.reached == pytest.approx(1, abs=1e-4)


def test_the_worst_case_beside_the_minimum_is_that_of_the_trust_region_problem() -> None:
    full, centre = planted(SPECTRUM), torch.linspace(-1, 1.5, 7).double()
    found = worst_case(quadratic(full, at=centre), streams(), Memo(), "worst", rho=RHO, steps=60)
    values, vectors = torch.linalg.eigh(full)
    slope = vectors.T @ full @ centre  # the maximum solves (m - A) d = g, |d| = rho, with m above all eigenvalues
    low, high = float(values[-1]), float(values[-1] + slope.norm() / RHO)
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if (slope / (middle - values)).norm() > RHO else (low, middle)
    step = slope / (high - values)
    assert found.rise == pytest.approx(float(slope @ step + (values * step**2).sum() / 2), rel=1e-6)
    assert found.reached >= 1


def test_the_adaptive_worst_case_of_a_quadratic_is_by_formula() -> None:
    full, centre = planted(SPECTRUM), torch.linspace(-1, 1.5, 7).double()
    matrix = centre.abs()[:, None] * full * centre.abs()
    slope = centre.abs() * (full @ centre)
    found = worst_case(quadratic(full, at=centre), streams(), Memo(), "worst", rho=1e-4, adaptive=True, steps=60)
    assert found.eigenvalue == pytest.approx(float(torch.linalg.eigvalsh(matrix)[-1]), rel=1e-4)
    assert found.rise == pytest.approx(1e-4 * float(slope.norm()), rel=1e-3)  # so near that the slope decides


def test_an_ascent_that_finds_less_than_the_quadratic_model_is_told() -> None:
    assert WorstCase(rise=0.5, quadratic=1.0, eigenvalue=2.0).reached == 0.5
    assert WorstCase(rise=0.0, quadratic=-1.0, eigenvalue=-2.0).reached == 1  # nothing to reach
    assert math.isnan(WorstCase(rise=math.nan, quadratic=1.0, eigenvalue=2.0).reached)


@pytest.mark.parametrize("pruned", [False, True])
def test_keskars_sharpness_of_a_separable_quadratic_is_at_the_corners_of_its_box(pruned: bool) -> None:
    centre, epsilon = torch.linspace(-1, 1.5, 7).double(), 0.01
    mask = Mask({"fc.weight": alive()[None]}) if pruned else None
    kept = alive() if pruned else torch.ones(7, dtype=torch.bool)
    values, at = SPECTRUM[kept], centre[kept]
    box = epsilon * (at.abs() + 1)
    loss = float((values * at**2).sum() / 2)
    expected = 100 * float((values * (2 * at.abs() * box + box**2)).sum() / 2) / (1 + loss)
    found = keskar(quadratic(torch.diag(SPECTRUM), mask, centre), streams(), Memo(), "box", epsilon=epsilon)
    assert found == pytest.approx(expected, rel=1e-9)


def test_keskars_sharpness_at_a_minimum_reaches_a_corner_though_there_is_no_slope() -> None:
    found = keskar(quadratic(torch.diag(SPECTRUM)), streams(), Memo(), "box", epsilon=0.01)
    assert found == pytest.approx(100 * float(SPECTRUM.sum()) * 0.01**2 / 2, rel=1e-9)


@pytest.mark.parametrize("adaptive", [False, True])
def test_the_average_case_of_a_quadratic_is_its_trace_by_formula(adaptive: bool) -> None:
    full, centre = planted(SPECTRUM), torch.linspace(-1, 1.5, 7).double()
    diagonal = full.diagonal() * (centre**2 if adaptive else 1)
    found = average_case(
        quadratic(full, at=centre), streams(), Memo(), "a", rho=RHO, adaptive=adaptive, draws=2000, tolerance=0.03
    )
    assert abs(found.value - RHO**2 * float(diagonal.sum()) / 14) < 4 * found.standard_error
    assert found.standard_error <= 0.03 * found.value
    assert found.draws < 2000


def rescaled(factor: float) -> Surface:
    """A network of ReLUs whose first layer is larger by a factor and its second smaller: the same function."""
    at = surface(pruned=True, activation=nn.ReLU)
    scales = {"0.weight": factor, "0.bias": factor, "2.weight": 1 / factor, "2.bias": 1}
    at.load(at.point({name: scales[name] * value for name, value in state_of(at.model).items()}))
    return at


def test_adaptive_sharpness_does_not_change_when_layers_are_scaled_against_each_other() -> None:
    one, two = rescaled(1), rescaled(4)
    assert one.gradient()[0] == pytest.approx(two.gradient()[0], rel=1e-12)
    worst = partial(worst_case, streams=streams(), name="w", rho=RHO)
    average = partial(average_case, streams=streams(), name="a", rho=RHO, draws=5)
    for measure in (worst, average):
        invariant = [measure(at, memo=Memo(), adaptive=True) for at in (one, two)]
        plain = [measure(at, memo=Memo(), adaptive=False) for at in (one, two)]
        key = "rise" if measure is worst else "value"
        assert getattr(invariant[0], key) == pytest.approx(getattr(invariant[1], key), rel=1e-9)
        assert getattr(plain[0], key) != pytest.approx(getattr(plain[1], key), rel=0.1)


def test_no_other_point_of_the_ball_is_found_to_be_higher() -> None:
    at = surface(pruned=True)
    centre, base = at.here(), at.gradient()[0]
    found = worst_case(at, streams(), Memo(), "worst", rho=RHO)
    torch.testing.assert_close(at.here().vector, centre.vector, rtol=0, atol=0)
    draws = torch.Generator().manual_seed(1)
    for _ in range(100):
        step = torch.randn(at.size, generator=draws, dtype=torch.float64)
        at.load(centre.moved(RHO * step / step.norm()))
        assert at.mean_loss() - base < found.rise
    at.load(centre)
    _, gradient = at.gradient()
    at.load(centre.moved(RHO * gradient / gradient.norm()))
    assert at.mean_loss() - base <= found.rise  # the one step of SAM


def test_sharpness_that_is_killed_goes_on_to_the_same_bytes() -> None:
    def measure(memo: Memo) -> object:
        at = surface(pruned=True)  # a new one, as what a session had loaded is gone
        return (
            worst_case(at, streams(), memo, "worst", steps=3, products=4),
            average_case(at, streams(), memo, "average", draws=2),
            keskar(at, streams(), memo, "box", iterations=2),
        )

    assert killed_everywhere(measure) > 15


def test_a_loss_that_is_not_finite_nearby_stays_so() -> None:
    model = nn.Sequential(nn.Linear(5, 3)).double()
    mask = Mask({"0.weight": torch.ones(3, 5, dtype=torch.bool)})

    class Wall(nn.Module):
        def forward(self, outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            """Cross-entropy inside a small ball around 0, and NaN outside."""
            far = model[0].weight.norm() > 1e-3  # type: ignore[operator]
            return nn.functional.cross_entropy(outputs, y) * (math.nan if far else 1)

    at = Surface(model, examples, mask, loss=Wall())
    at.load(at.here().moved(-at.here().vector))
    assert math.isnan(worst_case(at, streams(), Memo(), "w").rise)
    assert math.isnan(average_case(at, streams(), Memo(), "a").value)
    assert math.isnan(keskar(at, streams(), Memo(), "k", epsilon=0.1))


def test_the_mask_of_these_tests_prunes() -> None:
    assert 0 < int(half(surface().model)["0.weight"].sum()) < 30
