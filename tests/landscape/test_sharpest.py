"""Planes of the top eigenvectors: a planted quadratic by formula, its range, kills and poison; chosen parts."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lottery import registry
from lottery.errors import UsageError
from lottery.landscape.lanczos import top_eigenvectors
from lottery.landscape.matrices import curvature
from lottery.landscape.memo import Memo
from lottery.landscape.sharpest import FARTHEST, MARGIN, sharpest_directions
from lottery.landscape.subject import Measurement, State, Subject
from lottery.pruning.mask import Mask
from tests.support.landscapes import Data, classes, drawn, random_mask, same_after_kills, state, subject

CURVATURES = (9.0, 4.0, 1.0, 0.25)  # planted eigenvalues
LOSS = 0.5  # at the minimum
make_mlp = partial(registry.models["mlp"].make, (5,), 3, widths=(6, 6), norm="batch")


def make_linear() -> nn.Module:
    return nn.Linear(4, 1, bias=False)


def quadratic(minimum: Tensor, mask: Mask | None = None) -> Subject:
    """A state at the minimum of LOSS + half of the sum of CURVATURES times squared distances from it."""
    # of N = 5 examples, example i has the input sqrt(N c_i / 2) e_i; the last has none, and the rest of the loss
    root = torch.tensor([5 * c / 2 for c in CURVATURES]).sqrt()
    x = torch.cat([torch.diag(root), torch.zeros(1, 4)])
    at = minimum if mask is None else torch.where(mask["weight"][0], minimum, 0.0)
    y = torch.cat([root * at, torch.tensor([(5 * LOSS) ** 0.5])])[:, None]
    data: Data = dict.fromkeys(("train", "validation", "test"), (x, y))
    weights = {"weight": minimum[None] if mask is None else minimum[None].masked_fill(~mask["weight"], torch.nan)}
    return subject(make_linear, [State("dense", "key", weights, mask)], data, loss=nn.MSELoss())


def analyze(given: Subject, memo: Memo | None = None, name: str = "surface", **keys: Any) -> Measurement:
    found: Measurement = registry.analyses[name].make(given, memo or Memo(), **keys)
    return found


@pytest.mark.parametrize("masked", [False, True])
def test_a_plane_of_eigenvectors_has_the_values_of_a_planted_quadratic(masked: bool) -> None:
    minimum = torch.tensor([3.0, -1.0, 2.0, 0.5])
    mask = Mask({"weight": torch.tensor([[False, True, True, True]])}) if masked else None
    first = int(masked)  # the sharpest direction is pruned
    norm = float(minimum[first:].norm())
    found = analyze(quadratic(minimum, mask), directions="eigenvectors", points=5)
    sharpest, second = CURVATURES[first : first + 2]
    assert found.values["eigenvalue_1"] == pytest.approx(sharpest, rel=1e-5)
    assert found.values["eigenvalue_2"] == pytest.approx(second, rel=1e-5)
    assert found.values["convex"] == 1
    grid = [row for row in found.profile if row["kind"] == "grid"]
    assert len(grid) == 25
    for row in grid:
        x, y = float(row["x"]) * norm, float(row["y"]) * norm
        assert row["train_loss"] == pytest.approx(LOSS + sharpest * x**2 / 2 + second * y**2 / 2, rel=1e-4)
    # along each axis the picture ends a tenth beyond where the loss has doubled, as it is asked for
    for curvature_, side in ((sharpest, "half_width"), (second, "half_height")):
        assert found.values[side] * norm == pytest.approx(MARGIN * (2 * LOSS / curvature_) ** 0.5, rel=1e-4)


@pytest.mark.parametrize(("times", "rise"), [(0.0, LOSS), (2.0, LOSS), (5.0, 4 * LOSS)])
def test_a_reach_goes_to_the_multiple_of_the_loss_and_to_twice_it_at_least(times: float, rise: float) -> None:
    minimum = torch.tensor([3.0, -1.0, 2.0, 0.5])
    given = quadratic(minimum)
    surface = given.surface(None)
    at = surface.point(given.states[0].masked())
    found = sharpest_directions(surface, at, partial(given.generator, "eigenvectors"), Memo(), times)
    for value, reach, direction in zip(found.eigenvalues, found.reaches, found.directions, strict=True):
        surface.load(at.moved(reach * direction))
        assert surface.mean_loss() == pytest.approx(LOSS + MARGIN**2 * rise, rel=1e-4)
        assert float(direction.norm()) == pytest.approx(float(minimum.norm()), rel=1e-5)
        assert value in (pytest.approx(9, rel=1e-5), pytest.approx(4, rel=1e-5))


def test_a_flat_direction_reaches_as_far_as_the_state_is_from_0() -> None:
    x, y = torch.zeros(3, 4), torch.ones(3, 1)
    x[:, 0] = 1.0
    given = subject(make_linear, [state(drawn(0, make_linear))], {"train": (x, y)}, loss=nn.MSELoss())
    found = analyze(given, directions="eigenvectors", points=3, times=0)
    assert found.values["eigenvalue_2"] == pytest.approx(0, abs=1e-6)
    assert found.values["half_height"] == FARTHEST


def test_a_reach_that_is_given_is_taken() -> None:
    given = quadratic(torch.tensor([3.0, -1.0, 2.0, 0.5]))
    values = analyze(given, directions="eigenvectors", points=3, reach=0.5, times=0).values
    assert (values["half_width"], values["half_height"]) == (0.5, 0.5)


def test_axes_are_the_eigenvectors_of_the_dense_hessian_of_the_survivors() -> None:
    model = drawn(1, make_mlp)
    mask = random_mask(model, 0)
    given = subject(make_mlp, [state(model, mask=mask)], classes((5,)))
    surface = given.surface(mask, dtype=torch.float64)
    at = surface.point(given.states[0].masked())
    found = sharpest_directions(surface, at, partial(given.generator, "eigenvectors"), Memo(), 2.0)
    surface.load(at)
    matrix = torch.stack([surface.hessian_product(unit) for unit in torch.eye(surface.size, dtype=torch.float64)])
    values, vectors = torch.linalg.eigh(matrix)
    for i in range(2):
        assert found.eigenvalues[i] == pytest.approx(float(values[-1 - i]), rel=1e-4)
        assert abs(float(torch.cosine_similarity(found.directions[i], vectors[:, -1 - i], dim=0))) > 0.999


def test_it_is_the_same_after_kills_and_whatever_pruned_weights_are() -> None:
    model = drawn(1, make_mlp)
    mask = random_mask(model, 0)

    def measure(memo: Memo, poison: bool = True) -> Measurement:
        given = subject(make_mlp, [state(model, mask=mask, poison=poison)], classes((5,)))
        return analyze(given, memo, directions="eigenvectors", points=3, bn="both")

    assert same_after_kills(measure, every=3)
    found = measure(Memo())
    assert repr(found) == repr(measure(Memo(), poison=False))
    assert set(found.values) <= set(registry.analyses["surface"].traits.units)


def test_a_diverged_state_is_a_plane_of_holes() -> None:
    bad = drawn(1, make_mlp)
    with torch.no_grad():
        bad.get_parameter("output.weight").fill_(float("nan"))
    given = subject(make_mlp, [state(bad)], classes((5,)))
    values = analyze(given, directions="eigenvectors", points=3).values
    assert values["holes_reset"] == 1
    assert values["eigenvalue_1"] != values["eigenvalue_1"]


def test_one_weight_has_no_plane() -> None:
    mask = Mask({"weight": torch.tensor([[True, False, False, False]])})
    with pytest.raises(UsageError, match="1 weights survive, which have no 2 directions"):
        analyze(quadratic(torch.ones(4), mask), directions="eigenvectors")


@pytest.mark.parametrize(
    ("name", "count"), [("barrier", 2), ("line", 1), ("slice", 1), ("surface", 1), ("plane", 3), ("trajectory", 4)]
)
def test_chosen_parts_have_the_values_of_all_and_no_other_part_is_read(name: str, count: int) -> None:
    states = [state(drawn(i, make_mlp), str(i)) for i in range(count)]
    data = classes((5,))
    whole = subject(make_mlp, states, data, initial=lambda: drawn(9, make_mlp))
    train = subject(make_mlp, states, {"train": data["train"]}, initial=lambda: drawn(9, make_mlp))
    everything, chosen = analyze(whole, name=name, points=3), analyze(whole, name=name, points=3, parts=("train",))
    assert any("test_loss" in row for row in everything.profile)
    assert not any("test_loss" in row for row in chosen.profile)
    assert repr(chosen) == repr(analyze(train, name=name, points=3))
    assert all(everything.values[key] == value for key, value in chosen.values.items() if value == value)


def test_parts_are_one_analysis_in_any_order_and_a_picture_needs_the_train_part() -> None:
    args, wrong = registry.analyses["barrier"].check({"parts": ["test", "train", "test"]})
    assert (args, wrong) == ({"parts": ("train", "test")}, [])
    assert registry.analyses["barrier"].check({"parts": "test"}) == ({"parts": ("test",)}, [])
    ((_, said),) = registry.analyses["plane"].check({"parts": ["test"]})[1]
    assert "add `train`" in said


def test_the_eigenvectors_of_the_support_are_those_of_lanczos() -> None:
    given = quadratic(torch.tensor([3.0, -1.0, 2.0, 0.5]))
    surface = given.surface(None)
    surface.load(surface.point(given.states[0].masked()))
    _, vectors = top_eigenvectors(curvature(surface), partial(given.generator, "eigenvectors"), Memo(), "one")
    assert torch.allclose(vectors.abs(), torch.eye(4)[:2], atol=1e-4)
