"""Curves between two states: their shapes, their training against torch's optimizer, barriers that vanish."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from scipy.interpolate import BPoly
from torch import Tensor, nn
from torch.func import functional_call

from lottery import registry
from lottery.landscape.curves import Kind, Training, basis, trained
from lottery.landscape.memo import Memo
from lottery.landscape.subject import Measurement, State, Subject
from tests.support.landscapes import classes, drawn, random_mask, same_after_kills, state, subject

make_mlp = partial(registry.models["mlp"].make, (5,), 3, widths=(6, 6), norm="batch")


class Ring(nn.Module):
    """Outputs are inputs times |w|^2: the weights of loss 0 lie on a circle."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(1, 2))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.w.square().sum()


def ring() -> Subject:
    x = torch.ones(32, 1)
    states = [State("a", "a", {"w": torch.tensor([[1.0, 0.0]])}), State("b", "b", {"w": torch.tensor([[0.0, 1.0]])})]
    return subject(Ring, states, {"train": (x, x), "test": (x, x)}, loss=nn.MSELoss())


def analyze(given: Subject, memo: Memo | None = None, name: str = "curve", **keys: Any) -> Measurement:
    found: Measurement = registry.analyses[name].make(given, memo or Memo(), **keys)
    return found


@pytest.mark.parametrize("bends", [1, 3])
def test_a_bezier_curve_is_that_of_scipy_and_a_chain_goes_through_its_bends(bends: int) -> None:
    control = np.random.default_rng(0).normal(size=(bends + 2, 4))
    curve = BPoly(control[:, None, :], [0, 1])
    for t in np.linspace(0, 1, 13):
        np.testing.assert_allclose(np.array(basis("bezier", bends, float(t))) @ control, curve(t), atol=1e-12)
        expected = [np.interp(t, np.linspace(0, 1, bends + 2), column) for column in control.T]
        np.testing.assert_allclose(np.array(basis("chain", bends, float(t))) @ control, expected, atol=1e-12)
    for kind in ("bezier", "chain"):
        assert basis(kind, bends, 0.0) == [1, *[0] * (bends + 1)]
        assert basis(kind, bends, 1.0) == [*[0] * (bends + 1), 1]


@pytest.mark.parametrize(("kind", "bends"), [("bezier", 1), ("bezier", 2), ("chain", 1), ("chain", 3)])
def test_a_curve_goes_around_the_barrier_of_the_straight_line(kind: str, bends: int) -> None:
    straight = analyze(ring(), name="barrier", points=31).values
    assert straight["train_loss_barrier"] == pytest.approx(0.25)
    found = analyze(ring(), kind=kind, bends=bends, epochs=60, lr=0.05, batch_size=8).values
    assert found["train_loss_barrier"] < 0.02
    assert found["train_loss_highest"] == found["train_loss_barrier"]
    assert found["distance"] == pytest.approx(2**0.5)
    assert 2**0.5 < found["length"] < 1.15 * np.pi / 2
    assert set(found) <= set(registry.analyses["curve"].traits.units)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kind", ["bezier", "chain"])
def test_bends_are_trained_as_torch_trains_them(kind: Kind, masked: bool) -> None:
    models = [drawn(i, make_mlp) for i in range(2)]
    mask = random_mask(models[0], 0) if masked else None
    given = subject(make_mlp, [state(m, str(i), mask) for i, m in enumerate(models)], classes((5,)))
    surface = given.surface(mask, statistics="batch", dtype=torch.float64)
    ends = [surface.point(each.masked()) for each in given.states]
    draws = partial(given.generator, "curve")
    found = trained(surface, Memo(), (ends[0], ends[1]), kind, 2, Training(3, 0.1, 0.9, 16), draws)

    vectors = [end.vector for end in ends]
    bends = nn.Parameter(torch.stack([vectors[0].lerp(vectors[1], share) for share in (1 / 3, 2 / 3)]))
    descent = torch.optim.SGD([bends], lr=0.1, momentum=0.9)
    x, y = (value.double() if value.is_floating_point() else value for value in classes((5,))["train"])
    model = make_mlp().double().train()
    for epoch, rate in enumerate((0.1, 0.1, 0.1 * (1 - (2 / 3 - 0.5) / 0.4 * 0.99))):
        stream = draws(epoch)
        order, at = torch.randperm(40, generator=stream), torch.rand(2, generator=stream, dtype=torch.float64)
        descent.param_groups[0]["lr"] = rate
        for chosen, t in zip((order[:20], order[20:]), at.tolist(), strict=True):
            shares = basis(kind, 2, t)
            points = [vectors[0], *bends, vectors[1]]
            there = torch.stack([share * point for share, point in zip(shares, points, strict=True)]).sum(0)
            descent.zero_grad()
            nn.functional.cross_entropy(
                functional_call(model, surface.spread(there), (x[chosen],)), y[chosen]
            ).backward()
            descent.step()
    torch.testing.assert_close(found, bends.detach(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_a_stopped_curve_goes_on_to_the_same_bytes_and_pruned_weights_are_not_read(norm: str) -> None:
    make = partial(registry.models["mlp"].make, (5,), 3, widths=(6, 6), norm=norm)
    models = [drawn(i, make) for i in range(2)]
    mask = random_mask(models[0], 0)

    def measure(memo: Memo, poison: bool = True) -> Measurement:
        states = [state(m, str(i), mask, poison=poison) for i, m in enumerate(models)]
        return analyze(subject(make, states, classes((5,))), memo, epochs=3, points=5, batch_size=16)

    assert same_after_kills(measure)
    found = measure(Memo())
    assert repr(found) == repr(measure(Memo(), poison=False))
    assert {row["bn"] for row in found.profile} == {"reset" if norm == "batch" else "none"}
    assert ("train_loss_barrier_reset" in found.values) == (norm == "batch")


def test_the_ends_of_a_curve_are_the_states_to_the_bit() -> None:
    given = subject(make_mlp, [state(drawn(i, make_mlp), str(i)) for i in range(2)], classes((5,)))
    rows = analyze(given, epochs=1, points=3).profile
    reset = [row for row in analyze(given, name="barrier", points=2).profile if row["bn"] == "reset"]
    for row, expected in ((rows[0], reset[0]), (rows[-1], reset[-1])):
        assert all(row[key] == expected[key] for key in ("train_loss", "test_loss", "train_error", "test_error"))


def test_a_diverged_state_gives_a_curve_of_nan() -> None:
    bad = drawn(2, make_mlp)
    with torch.no_grad():
        bad.get_parameter("output.weight").fill_(float("nan"))
    given = subject(make_mlp, [state(drawn(1, make_mlp)), state(bad, "bad")], classes((5,)))
    assert np.isnan(analyze(given, epochs=1, points=3).values["train_loss_highest_reset"])
