"""Least squares: a quadratic of a given condition number, and how fast full gradients converge on it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lottery import registry
from lottery.data.load import load
from lottery.data.splits import Splits, fingerprint
from lottery.errors import UsageError
from lottery.landscape.memo import Memo
from lottery.landscape.subject import Measurement, State, Subject
from lottery.network.build import build_model
from lottery.values import Component

ROOT = math.sqrt(100)


def quadratic(**keys: Any) -> Splits:
    return load(Component("least_squares", keys), Path("/nowhere"))


def line(size: int = 20) -> nn.Module:
    """Return a linear map of depth 1 that starts at standard normal weights."""
    init = Component("naive", {"std": 1.0})
    return build_model(Component("deep_linear", {"depth": 1}), (size,), 1, init=init, seed=0).double()


def trajectory(name: str, steps: int, every: int, **keys: float) -> Subject:
    """Return the states of a training by full gradients on a quadratic of condition number 100."""
    splits, model = quadratic(size=20), line()
    x, y = (torch.as_tensor(part).double() for part in (splits.train_x, splits.train_y))
    optimizer = registry.optimizers[name].make(model, **keys)
    states = []
    for step in range(steps + 1):
        if step % every == 0:
            weights = {key: value.clone() for key, value in model.state_dict().items()}
            states.append(State(f"dense at {step}it", "key", weights, step=step))
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()

    def examples(part: str, count: int | None) -> Iterator[tuple[Tensor, Tensor]]:
        yield from ((x[:7], y[:7]), (x[7:], y[7:])) if part == "train" else ()

    return Subject(states, 0, line, line, nn.MSELoss(), examples)


def descent(subject: Subject, memo: Memo | None = None, **keys: Any) -> Measurement:
    found: Measurement = registry.analyses["descent"].make(subject, memo or Memo(), **keys)
    return found


def test_the_hessian_of_a_linear_map_has_the_condition_number_and_its_minimum_is_zero() -> None:
    splits = quadratic(size=30, condition=1000)
    x, y = (torch.as_tensor(part).double() for part in (splits.train_x, splits.train_y))
    weight = torch.linalg.solve(x, y).squeeze(1).requires_grad_()
    loss = nn.functional.mse_loss(x @ weight, y.squeeze(1))
    assert loss.item() < 1e-12
    hessian = torch.autograd.functional.hessian(lambda w: nn.functional.mse_loss(x @ w, y.squeeze(1)), weight.detach())
    values, vectors = torch.linalg.eigh(hessian)
    expected = 1000 ** torch.linspace(-1, 0, 30, dtype=torch.float64)
    assert torch.allclose(values, expected, rtol=1e-3)
    assert vectors.abs().max() < 0.5, "an eigenvector lies along a coordinate"
    assert splits.regression and splits.classes == 1 and torch.equal(splits.train_y, splits.test_y)


def test_a_quadratic_is_that_of_its_seed() -> None:
    assert fingerprint(quadratic()) == fingerprint(quadratic(size=50, condition=100, seed=0))
    assert fingerprint(quadratic()) != fingerprint(quadratic(seed=1))
    assert torch.equal(torch.as_tensor(quadratic().train_x), torch.as_tensor(quadratic(seed=1).train_x))


@pytest.mark.parametrize(
    ("name", "keys", "expected"),
    [
        ("gd", {"lr": 2 / (1 + 1 / 100)}, 99 / 101),
        ("momentum", {"lr": 4 / (1 + 1 / ROOT) ** 2, "momentum": ((ROOT - 1) / (ROOT + 1)) ** 2}, 9 / 11),
        ("nesterov", {"lr": 1.0, "momentum": (ROOT - 1) / (ROOT + 1)}, 1 - 1 / ROOT),
    ],
)
def test_full_gradients_converge_at_the_rates_of_theory(name: str, keys: dict[str, float], expected: float) -> None:
    """With the best momentum the slowest mode falls as t rate^t: a bit slower, the less so the later."""
    steps = 400 if name == "gd" else 120
    found = descent(trajectory(name, steps, steps // 4, **keys), since=0.5).values
    slower = 1 if name == "gd" else 2 ** (2 / steps)
    assert expected * 0.998 < found["gradient_rate"] < expected * slower * 1.002
    assert found["loss_rate"] == pytest.approx(found["gradient_rate"] ** 2, rel=0.02)


def test_a_rate_is_over_the_states_since_the_share_and_a_stopped_measurement_goes_on_to_the_same() -> None:
    subject = trajectory("gd", 40, 10, lr=1.0)
    kept: list[dict[str, Tensor]] = []
    whole = descent(subject, Memo(after=lambda memo: kept.append(dict(memo.parts))), since=0.3)
    norms = [float(row["gradient_norm"]) for row in whole.profile]
    assert whole.values["gradient_rate"] == pytest.approx((norms[4] / norms[2]) ** (1 / 20))
    assert all(repr(descent(subject, Memo(parts), since=0.3)) == repr(whole) for parts in kept) and len(kept) == 5
    with pytest.raises(UsageError, match=r"no state lies between 0\.9 of the training and its end; raise `along`"):
        descent(subject, since=0.9)


def test_what_is_not_finite_has_no_rate() -> None:
    subject = trajectory("gd", 2, 1, lr=1.0)
    broken = {name: torch.full_like(value, math.nan) for name, value in subject.states[1].weights.items()}
    states = [subject.states[0], State("dense at 1it", "key", broken, step=1), subject.states[2]]
    found = descent(Subject(states, 0, line, line, nn.MSELoss(), subject.examples))
    assert math.isnan(found.values["gradient_rate"]) and math.isnan(found.values["loss_rate"])
