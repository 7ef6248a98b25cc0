"""Slices and planes: filter norms, the states at their places, quadratics by formula, ranges, holes, components."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import Tensor, nn

from lottery import registry
from lottery.errors import UsageError
from lottery.landscape.directions import filter_normalized, random_direction, scaled
from lottery.landscape.memo import Memo
from lottery.landscape.planes import FACTOR, WIDENED, Around, Box, Through, combined, picture, shape_of
from lottery.landscape.subject import Measurement, State, Subject
from lottery.landscape.surface import Surface
from lottery.landscape.trajectory import components, needed
from lottery.pruning.mask import Mask
from lottery.values import Part
from tests.support.landscapes import classes, drawn, random_mask, same_after_kills, state, subject

make_conv = partial(registry.models["conv2"].make, (1, 8, 8), 3, width=4, hidden=5, norm="batch")
make_mlp = partial(registry.models["mlp"].make, (5,), 3, widths=(6, 6), norm="batch")


def analyze(name: str, given: Subject, memo: Memo | None = None, **keys: Any) -> Measurement:
    found: Measurement = registry.analyses[name].make(given, memo or Memo(), **keys)
    return found


@pytest.mark.parametrize("masked", [False, True])
def test_a_filter_of_a_direction_has_the_norm_of_the_survivors_of_that_of_the_state(masked: bool) -> None:
    model = drawn(1, make_conv)
    alive = dict(random_mask(model, 0))
    alive["conv1.weight"][2] = False  # a filter without survivors
    mask = Mask(alive) if masked else None
    surface = subject(make_conv, [state(model, mask=mask)], classes((1, 8, 8))).surface(mask)
    at = surface.point(state(model, mask=mask).masked()).vector
    drawn_one = random_direction(surface, torch.Generator().manual_seed(3))
    found = surface.spread(filter_normalized(surface, drawn_one, at))
    raw = surface.spread(drawn_one)
    for name, parameter in model.named_parameters():
        if parameter.dim() < 2:
            assert not found[name].any()
            continue
        kept = mask[name] if mask is not None else torch.ones(parameter.shape, dtype=torch.bool)
        for filter_, own, bits, before in zip(found[name], parameter.detach(), kept, raw[name], strict=True):
            assert float(filter_.norm()) == pytest.approx(float(own[bits].norm()), rel=1e-5)
            assert not filter_[~bits].any()
            if bits.any():
                assert float(torch.cosine_similarity(filter_.flatten(), before.flatten(), dim=0)) > 1 - 1e-5
    assert float(scaled(drawn_one, at).norm()) == pytest.approx(float(at.norm()), rel=1e-5)


def test_a_direction_under_a_mask_is_the_dense_one_on_its_survivors() -> None:
    model = drawn(1, make_mlp)
    mask = random_mask(model, 0)
    given = subject(make_mlp, [state(model)], classes((5,)))
    dense, sparse = (
        given.surface(m).spread(random_direction(given.surface(m), given.generator("directions"))) for m in (None, mask)
    )
    for name in dense:
        kept = mask[name] if name in mask else torch.ones_like(dense[name], dtype=torch.bool)
        assert torch.equal(sparse[name], torch.where(kept, dense[name], 0))


def quadratic() -> Surface:
    """The loss w_1^2 + 2 w_2^2, twice the mean over an example for each weight."""
    x = torch.tensor([[2.0**0.5, 0.0], [0.0, 2.0]], dtype=torch.float64)

    def batches(part: Part) -> Iterator[tuple[Tensor, Tensor]]:
        if part == "train":
            yield x, torch.zeros(2, 1, dtype=torch.float64)

    surface = Surface(nn.Linear(2, 1, bias=False).double(), batches, loss=nn.MSELoss())
    surface.load(surface.here().moved(-surface.here().vector))
    return surface


@pytest.mark.parametrize("dimensions", [1, 2])
def test_a_quadratic_has_the_values_of_its_formula_and_is_convex_everywhere(dimensions: int) -> None:
    surface = quadratic()
    axes = torch.eye(2, dtype=torch.float64)[:dimensions]
    middle = surface.here().moved(torch.tensor([0.5, 0.0], dtype=torch.float64))
    box = Box(0, 0, 1.0, 1.0 if dimensions == 2 else 0)
    states = [("here", 0.0, 0.0, middle)]
    at = Around(middle, *axes).at
    rows, values = picture(surface, Memo(), at, box, states=states, points=9, bn="reset", times=0)
    assert len(rows) == 1 + 9**dimensions
    for row in rows:
        x, y = float(row["x"]), float(row["y"])
        assert row["train_loss"] == pytest.approx((0.5 + x) ** 2 + 2 * y**2, abs=1e-14)
    assert values["convex"] == 1
    assert values["minima"] == 1
    assert values["train_loss_lowest"] == pytest.approx(0, abs=1e-14)
    assert values["train_loss_highest"] == pytest.approx(2.25 + (2 if dimensions == 2 else 0))
    assert (values["holes"], values["half_width"]) == (0, 1)


def test_a_range_is_widened_until_the_border_is_high_enough() -> None:
    surface = quadratic()
    axes = torch.eye(2, dtype=torch.float64)
    middle = surface.here().moved(torch.tensor([1.0, 0.0], dtype=torch.float64))

    def half_width(times: float, dimensions: int) -> float:
        box = Box(0, 0, 0.5, 0.5 if dimensions == 2 else 0)
        states = [("here", 0.0, 0.0, middle)]
        at = Around(middle, *axes[:dimensions]).at
        return picture(surface, Memo(), at, box, states=states, points=3, bn="reset", times=times)[1]["half_width"]

    assert half_width(0, 1) == 0.5
    # on the left the loss is (1 - reach)^2, so it is twice the middle's from a reach of 1 + sqrt(2) on
    reaches = [0.5 * FACTOR**step for step in range(WIDENED + 1)]
    assert half_width(2, 1) == next(reach for reach in reaches if (1 - reach) ** 2 >= 2)
    assert half_width(1e6, 1) == reaches[-1]
    # the corner (1 - r)^2 + 2 r^2 and the top 1 + 2 r^2 are higher than the left, (1 - r)^2
    assert half_width(2, 2) == half_width(2, 1)


def test_values_that_are_not_finite_stay_as_holes() -> None:
    losses = np.array([1.0, np.nan, 3.0, 2.0, 3.0, np.inf])
    assert shape_of(losses) == {
        "holes": 1 - 4 / 6, "train_loss_lowest": 1, "train_loss_highest": 3, "convex": 1.0, "minima": 1.0,
    }  # fmt: skip
    nothing = shape_of(np.full((3, 3), np.nan))
    assert nothing["holes"] == 1
    assert np.isnan(nothing["convex"])


def test_a_saddle_is_convex_nowhere_and_a_bumpy_line_has_its_minima() -> None:
    x = np.linspace(-1, 1, 9)
    assert shape_of(x[:, None] ** 2 - x[None, :] ** 2)["convex"] == 0
    assert shape_of(x[:, None] * x[None, :])["convex"] == 0
    assert shape_of(np.cos(np.linspace(0, 6 * np.pi, 61)))["minima"] == 3
    assert shape_of(np.cos(np.linspace(0, 6 * np.pi, 64)))["convex"] == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("bn", ["interpolate", "reset"])
def test_a_plane_through_three_states_has_their_values_at_their_places_to_the_bit(bn: str) -> None:
    masks = [None, random_mask(drawn(1, make_mlp), 0), random_mask(drawn(1, make_mlp), 1)]
    states = [state(drawn(i, make_mlp), str(i), mask) for i, mask in enumerate(masks)]
    given = subject(make_mlp, states, classes((5,)))
    surface = given.surface(None)
    points = [surface.point(each.masked()) for each in states]
    through = Through(points)
    rows = [row for row in analyze("plane", given, points=3, bn=bn, examples=None).profile if row["kind"] == "state"]
    for row, place, point in zip(rows, through.places, points, strict=True):
        assert (row["x"], row["y"]) == place
        there = through.at(*place)
        assert torch.equal(there.vector, point.vector)
        assert all(torch.equal(there.buffers[name], value) for name, value in point.buffers.items())
        surface.load(point)
        if bn == "reset":
            surface.reset_statistics()
        assert {"loss": row["test_loss"], "error": row["test_error"]} == surface.measure("test")


def test_distances_in_a_plane_are_those_between_its_points() -> None:
    given = subject(make_mlp, [state(drawn(i, make_mlp), str(i)) for i in range(3)], classes((5,)))
    surface = given.surface(None, dtype=torch.float64)
    points = [surface.point(each.masked()) for each in given.states]
    through = Through(points)
    places = [*through.places, (-1.3, 2.0), (0.7, -4.0)]
    for x, y in places:
        for other_x, other_y in places:
            apart = float((through.at(x, y).vector - through.at(other_x, other_y).vector).norm())
            assert apart == pytest.approx(np.hypot(x - other_x, y - other_y), abs=1e-9)
    middle = combined(points, (0.5, 0.25, 0.25))
    name = "norm1.running_mean" if "norm1.running_mean" in middle.buffers else next(
        n for n in middle.buffers if n.endswith("running_mean")
    )  # fmt: skip
    expected = 0.5 * points[0].buffers[name] + 0.25 * (points[1].buffers[name] + points[2].buffers[name])
    torch.testing.assert_close(middle.buffers[name], expected)


def test_states_lie_well_inside_their_plane() -> None:
    box = Box.around([(0, 0), (4, 0), (1, 2)], 0.5)
    assert box.at(-1, -1) == (-2, -1)
    assert box.at(1, 1) == (6, 3)


def test_three_states_on_one_line_are_refused() -> None:
    one, other = (state(drawn(i, make_mlp), str(i)) for i in range(2))
    between = {n: (v + other.weights[n]) / 2 if v.is_floating_point() else v for n, v in one.weights.items()}
    states = [one, other, State("between", "key", between)]
    with pytest.raises(UsageError, match="lie on one line"):
        analyze("plane", subject(make_mlp, states, classes((5,))))
    with pytest.raises(UsageError, match="have the same weights"):
        analyze("plane", subject(make_mlp, [one, other, replace(one, name="again")], classes((5,))))


def test_components_are_those_of_sklearn() -> None:
    draws = torch.Generator().manual_seed(0)
    walk = torch.randn(7, 40, generator=draws, dtype=torch.float64).cumsum(0) * torch.linspace(3, 0.1, 40)
    found, expected = components(list(walk)), PCA().fit(walk.numpy())
    np.testing.assert_allclose(found.explained, expected.explained_variance_ratio_[:6], atol=1e-12)
    np.testing.assert_allclose(np.abs(found.directions.numpy() @ expected.components_[:2].T), np.eye(2), atol=1e-10)
    torch.testing.assert_close(found.coordinates, (walk - walk[-1]) @ found.directions.T)
    assert (found.coordinates[0] <= 0).all()
    assert needed(found.explained) == 1 + int((expected.explained_variance_ratio_.cumsum() < 0.9).sum())


def test_a_training_on_a_line_has_no_plane() -> None:
    line = [torch.full((4,), float(i)) for i in range(5)]
    with pytest.raises(UsageError, match="fewer than 2 directions"):
        components(line)


def test_the_plane_of_a_training_goes_through_its_last_state() -> None:
    models = [drawn(i, make_mlp) for i in range(4)]
    mask = random_mask(models[0], 0)
    given = subject(make_mlp, [state(m, f"at {i}", mask) for i, m in enumerate(models)], classes((5,)))
    found = analyze("trajectory", given, points=3, examples=None, times=0)
    last = [row for row in found.profile if row["kind"] == "state"][-1]
    assert (last["x"], last["y"]) == (0, 0)
    surface = given.surface(mask)
    surface.load(surface.point(given.states[-1].masked()))
    surface.reset_statistics()
    assert last["train_loss"] == surface.measure("train")["loss"]
    explained = [float(row["explained"]) for row in found.profile if row["kind"] == "component"]
    vectors = [surface.point(each.masked()).vector.double().numpy() for each in given.states]
    np.testing.assert_allclose(explained, PCA().fit(np.stack(vectors)).explained_variance_ratio_[:3], atol=1e-10)
    assert (found.values["explained_1"], found.values["explained_2"]) == tuple(explained[:2])
    assert set(found.values) <= set(registry.analyses["trajectory"].traits.units)


@pytest.mark.parametrize(("name", "count"), [("slice", 1), ("surface", 1), ("plane", 3), ("trajectory", 4)])
def test_a_picture_is_the_same_after_kills_and_whatever_pruned_weights_are(name: str, count: int) -> None:
    models = [drawn(i, make_mlp) for i in range(count)]
    mask = random_mask(models[0], 0)

    def of(poison: bool) -> Subject:
        states = [state(m, str(i), mask, poison=poison) for i, m in enumerate(models)]
        return subject(make_mlp, states, classes((5,)))

    def measure(memo: Memo, poison: bool = True) -> Measurement:
        return analyze(name, of(poison), memo, points=3, bn="both", examples=20)

    assert same_after_kills(measure, every=3)
    found = measure(Memo())
    assert repr(found) == repr(measure(Memo(), poison=False))
    assert set(found.values) <= set(registry.analyses[name].traits.units)
    assert found.values["holes_reset"] == 0


def test_the_middle_of_a_slice_is_the_state_to_the_bit() -> None:
    given = subject(make_mlp, [state(drawn(1, make_mlp))], classes((5,)))
    rows = analyze("slice", given, points=5, bn="interpolate").profile
    here, middle = rows[0], rows[1 + 2]
    assert middle["x"] == 0
    assert all(middle[key] == here[key] for key in ("train_loss", "test_loss", "train_error", "test_error"))


def test_a_diverged_state_is_a_picture_of_holes() -> None:
    bad = drawn(1, make_mlp)
    with torch.no_grad():
        bad.get_parameter("output.weight").fill_(float("nan"))
    values = analyze("surface", subject(make_mlp, [state(bad)], classes((5,))), points=3).values
    assert values["holes_reset"] == 1
    assert values["half_width"] == 1
