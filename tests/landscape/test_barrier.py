"""Lines between states: barriers by formula and by definition, policies for running statistics, what is refused."""

from __future__ import annotations

from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import update_bn

from lottery import registry
from lottery.errors import UsageError
from lottery.landscape.barrier import barriers, line, shares, summary
from lottery.landscape.memo import Memo
from lottery.landscape.monotone import largest_rise, monotone
from lottery.landscape.subject import Measurement, State, Subject
from lottery.landscape.surface import Surface
from lottery.network.layout import load
from lottery.values import Part
from tests.support.landscapes import classes, drawn, random_mask, same_after_kills, state, subject

make_mlp = partial(registry.models["mlp"].make, (5,), 3, widths=(6, 6), norm="batch")
make_plain = partial(registry.models["mlp"].make, (5,), 3, widths=(6,))


def analyze(name: str, given: Subject, memo: Memo | None = None, **keys: Any) -> Measurement:
    found: Measurement = registry.analyses[name].make(given, memo or Memo(), **keys)
    return found


def test_barriers_of_a_quadratic_are_those_of_its_formula() -> None:
    model = nn.Linear(4, 1, bias=False).double()
    draws = torch.Generator().manual_seed(1)
    x, y = (torch.randn(20, n, generator=draws, dtype=torch.float64) for n in (4, 1))

    def batches(part: Part) -> list[tuple[Tensor, Tensor]]:
        return list(zip(x.split(7), y.split(7), strict=True)) if part != "validation" else []

    surface = Surface(model, lambda part: iter(batches(part)), loss=nn.MSELoss())
    ends = [surface.here().moved(torch.randn(4, generator=draws, dtype=torch.float64)) for _ in range(2)]
    found = summary(line(surface, Memo(), (ends[0], ends[1]), 30, "both"), surface, barriers)
    low, high = sorted(float((x @ end.vector[:, None] - y).square().mean()) for end in ends)
    bend = float((x @ (ends[1].vector - ends[0].vector)).square().mean())  # half of d^T H d
    deepest = max(share * (1 - share) for share in np.linspace(0, 1, 30))
    for part in ("train", "test"):
        assert found[f"{part}_loss_barrier"] == pytest.approx((high - low) / 2, abs=1e-12)
        assert found[f"{part}_loss_line_barrier"] == pytest.approx(0, abs=1e-12)
        assert found[f"{part}_loss_deviation"] == pytest.approx(-bend * deepest, abs=1e-12)
    assert not any("validation" in name or "reset" in name for name in found)


def test_the_three_definitions_differ_where_the_ends_do() -> None:
    assert barriers([1.0, 4.0, 3.0]) == {"barrier": 2.0, "line_barrier": 2.0, "deviation": 2.0}
    assert barriers([0.0, 0.0, 3.0, 9.0, 8.0]) == {"barrier": 5.0, "line_barrier": 3.0, "deviation": 3.0}
    assert barriers([0.0, -3.0, 3.0, 9.0, 8.0]) == {"barrier": 5.0, "line_barrier": 3.0, "deviation": -5.0}
    assert all(np.isnan(value) for value in barriers([0.0, float("nan"), 0.0]).values())
    assert all(value == float("inf") for value in barriers([0.0, float("inf"), 0.0]).values())


def test_the_grid_has_both_ends_exactly() -> None:
    assert shares(30)[0] == 0
    assert shares(30)[-1] == 1
    np.testing.assert_allclose(shares(30), np.linspace(0, 1, 30), rtol=0, atol=1e-15)


def alone(given: Subject, which: State, reset: bool = False) -> dict[str, float]:
    """Loss and error of a state by itself, by torch's own functions."""
    model = given.network()
    load(model, which.masked())
    if reset:
        update_bn([x for x, _ in given.examples("train", None)], model)
    model.eval()
    found: dict[str, float] = {}
    parts: tuple[Part, ...] = ("train", "test")
    for part in parts:
        total, wrong, count = torch.zeros((), dtype=torch.float64), 0, 0
        for x, y in given.examples(part, None):
            with torch.no_grad():
                outputs = model(x)
            total += functional.cross_entropy(outputs, y, reduction="sum").double()
            wrong, count = wrong + int((outputs.argmax(1) != y).sum()), count + len(y)
        found |= {f"{part}_loss": total.item() / count, f"{part}_error": 1 - (count - wrong) / count}
    return found


@pytest.mark.parametrize("masked", [False, True])
def test_the_ends_of_a_line_have_the_values_of_the_states_to_the_bit_and_statistics_those_of_torch(
    masked: bool,
) -> None:
    one, other = drawn(1, make_mlp), drawn(2, make_mlp)
    ticket = state(other, "ticket", random_mask(other, 0) if masked else None)
    given = subject(make_mlp, [state(one), ticket], classes((5,)))
    rows = analyze("barrier", given, points=3).profile
    for at, which in ((0, given.states[0]), (2, ticket)):
        for policy in ("interpolate", "reset"):
            row = [row for row in rows if row["bn"] == policy][at]
            assert row["alpha"] == at / 2
            expected = alone(given, which, reset=policy == "reset")
            assert {name: row[name] for name in expected} == expected
    first, last = given.states[0].masked(), ticket.masked()
    middle = {n: (v + last[n]) / 2 if v.is_floating_point() else v for n, v in first.items()}
    for policy in ("interpolate", "reset"):
        row = [row for row in rows if row["bn"] == policy][1]
        expected = alone(given, State("middle", "", middle), reset=policy == "reset")
        assert {name: row[name] for name in expected} == pytest.approx(expected, abs=1e-6)


def test_a_row_says_how_far_apart_the_ends_are() -> None:
    one, other = drawn(1, make_plain), drawn(2, make_plain)
    mask = random_mask(one, 0)
    values = analyze(
        "barrier", subject(make_plain, [state(one, mask=mask), state(other, "b", mask)], classes((5,)))
    ).values
    a, b = (
        torch.cat([(p[mask[n]] if n in mask else p).detach().flatten() for n, p in model.named_parameters()]).double()
        for model in (one, other)
    )
    assert values["distance"] == pytest.approx(float((a - b).norm()), abs=1e-12)
    assert values["cosine"] == pytest.approx(float(a @ b / a.norm() / b.norm()), abs=1e-12)


def test_a_network_without_running_statistics_is_evaluated_once() -> None:
    memo = Memo()
    given = subject(make_plain, [state(drawn(1, make_plain)), state(drawn(2, make_plain), "b")], classes((5,)))
    found = analyze("barrier", given, memo, points=4)
    assert memo.done == 4
    assert [row["bn"] for row in found.profile] == ["none"] * 4
    assert not any("reset" in name for name in found.values)


def test_every_value_has_a_unit() -> None:
    given = subject(make_mlp, [state(drawn(1, make_mlp)), state(drawn(2, make_mlp), "b")], classes((5,)))
    assert set(analyze("barrier", given, points=2).values) <= set(registry.analyses["barrier"].traits.units)


def test_two_states_of_the_same_content_are_refused() -> None:
    model = drawn(1, make_mlp)
    mask = random_mask(model, 0)
    for pair in ([state(model), state(model, "b")], [state(model, mask=mask), state(model, "b", mask)]):
        with pytest.raises(UsageError, match="have the same weights"):
            analyze("barrier", subject(make_mlp, pair, classes((5,))))
    bad = deepcopy(model)
    with torch.no_grad():
        next(bad.parameters()).fill_(float("nan"))
    with pytest.raises(UsageError, match="have the same weights"):
        analyze("barrier", subject(make_mlp, [state(bad), state(bad, "b")], classes((5,))))


def test_two_states_of_different_shapes_are_refused() -> None:
    wide = drawn(1, partial(registry.models["mlp"].make, (5,), 3, widths=(7,)))
    with pytest.raises(UsageError, match=r"dense .* and wide .* has shape \(6, 5\) in one and \(7, 5\) in the other"):
        analyze("barrier", subject(make_plain, [state(drawn(1, make_plain)), state(wide, "wide")], classes((5,))))


def test_a_diverged_state_gives_nan_that_stays() -> None:
    bad = drawn(2, make_mlp)
    with torch.no_grad():
        bad.get_parameter("output.weight").fill_(float("nan"))
    found = analyze(
        "barrier", subject(make_mlp, [state(drawn(1, make_mlp)), state(bad, "bad")], classes((5,))), points=5
    )
    losses = [float(row["test_loss"]) for row in found.profile]
    assert [np.isnan(loss) for loss in losses] == [False, *[True] * 4] * 2
    assert np.isnan(found.values["test_loss_barrier"])
    assert np.isnan(found.values["distance"])


@pytest.mark.parametrize("align", ["none", "weights", "activations"])
def test_a_stopped_barrier_goes_on_to_the_same_bytes(align: str) -> None:
    one, other = drawn(1, make_mlp), drawn(2, make_mlp)
    states = [state(one, mask=random_mask(one, 0)), state(other, "b", random_mask(other, 1))]
    given = subject(make_mlp, states, classes((5,)))
    assert same_after_kills(lambda memo: analyze("barrier", given, memo, points=4, align=align))


def test_a_path_is_monotone_where_it_never_rises() -> None:
    assert (monotone([3.0, 2.0, 2.0, 1.0]), largest_rise([3.0, 2.0, 2.0, 1.0])) == (1, 0)
    assert (monotone([3.0, 1.0, 2.0, 2.5, 0.0]), largest_rise([3.0, 1.0, 2.0, 2.5, 0.0])) == (0, 1.5)
    assert np.isnan(monotone([3.0, float("nan"), 1.0]))


@pytest.mark.parametrize("masked", [False, True])
def test_the_line_from_the_initialization_begins_there_and_ends_at_the_state(masked: bool) -> None:
    start, end = drawn(1, make_mlp), drawn(2, make_mlp)
    mask = random_mask(end, 0) if masked else None
    given = subject(make_mlp, [state(end, mask=mask)], classes((5,)), initial=lambda: deepcopy(start))
    found = analyze("line", given, points=5)
    rows = [row for row in found.profile if row["bn"] == "interpolate"]
    for row, which in ((rows[0], state(start, "init", mask)), (rows[-1], given.states[0])):
        expected = alone(given, which)
        assert {name: row[name] for name in expected} == expected
    losses = [float(row["train_loss"]) for row in rows]
    assert found.values["train_loss_rise"] == max(b - a for i, a in enumerate(losses) for b in losses[i:])
    assert set(found.values) <= set(registry.analyses["line"].traits.units)
