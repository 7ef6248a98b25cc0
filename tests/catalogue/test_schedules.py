"""Learning-rate policies step by step: those of torch where it has them, else a closed form."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

from lottery.recipe.learning_rate import multiplier, warmed_up
from lottery.registry import schedules
from lottery.values import Component, Duration

TOTAL = 60
RATE = 0.3

# What each policy needs beside its defaults: an entry that is not here fails the tests of all of them.
NEEDED: dict[str, dict[str, Any]] = {
    "constant": {},
    "multi_step": {"at": (Duration(10, "it"), Duration(30, "it"))},
    "step": {"every": Duration(7, "it")},
    "exponential": {"every": Duration(7, "it")},
    "inverse_time": {"every": Duration(7, "it")},
    "inverse_sqrt": {"every": Duration(7, "it")},
    "polynomial": {},
    "cosine": {},
    "triangular": {"half_cycle": Duration(7, "it")},
    "sgdr": {"first": Duration(7, "it")},
    "one_cycle": {},
}


def ours(name: str, total: int = TOTAL, **args: Any) -> list[float]:
    args, problems = schedules[name].check(args)
    assert not problems
    return [RATE * schedules[name].make(step, total, **args) for step in range(total)]


def torchs(scheduler: Any, rate: float = RATE, **args: Any) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=rate, momentum=0.9)
    policy, rates = scheduler(optimizer, **args), []
    for step in range(TOTAL):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        if step < TOTAL - 1:
            policy.step()
    return rates


@pytest.mark.parametrize(
    ("name", "args", "scheduler", "theirs"),
    [
        ("step", {"every": "7it", "factor": 0.3}, lr_scheduler.StepLR, {"step_size": 7, "gamma": 0.3}),
        ("multi_step", {"at": ["5it", "31it"]}, lr_scheduler.MultiStepLR, {"milestones": [5, 31]}),
        ("exponential", {"every": "1it", "factor": 0.97}, lr_scheduler.ExponentialLR, {"gamma": 0.97}),
        ("polynomial", {"power": 2.5}, lr_scheduler.PolynomialLR, {"total_iters": TOTAL, "power": 2.5}),
        (
            "polynomial",
            {"floor": 0.2},
            lr_scheduler.LinearLR,
            {"start_factor": 1.0, "end_factor": 0.2, "total_iters": TOTAL},
        ),
        ("cosine", {"floor": 0.1}, lr_scheduler.CosineAnnealingLR, {"T_max": TOTAL, "eta_min": 0.1 * RATE}),
        ("sgdr", {"first": "9it", "mult": 1}, lr_scheduler.CosineAnnealingWarmRestarts, {"T_0": 9}),
        (
            "sgdr",
            {"first": "7it", "mult": 2, "floor": 0.1},
            lr_scheduler.CosineAnnealingWarmRestarts,
            {"T_0": 7, "T_mult": 2, "eta_min": 0.1 * RATE},
        ),
        ("one_cycle", {}, lr_scheduler.OneCycleLR, {"max_lr": RATE, "total_steps": TOTAL}),
        (
            "one_cycle",
            {"up": 0.45, "start_div": 10.0, "final_div": 100.0, "anneal": "linear"},
            lr_scheduler.OneCycleLR,
            {
                "max_lr": RATE,
                "total_steps": TOTAL,
                "pct_start": 0.45,
                "div_factor": 10.0,
                "final_div_factor": 100.0,
                "anneal_strategy": "linear",
            },
        ),
        *(
            (
                "triangular",
                {"half_cycle": "8it", "floor": 0.2, "mode": mode, "gamma": 0.98},
                lr_scheduler.CyclicLR,
                {"base_lr": 0.2 * RATE, "max_lr": RATE, "step_size_up": 8, "mode": mode, "gamma": 0.98},
            )
            for mode in ("triangular", "triangular2", "exp_range")
        ),
    ],
)
def test_a_policy_is_torchs_at_each_step(name: str, args: Any, scheduler: Any, theirs: Any) -> None:
    assert ours(name, **args) == pytest.approx(torchs(scheduler, **theirs), rel=1e-9, abs=1e-12)


def test_the_inverse_policies_are_their_formulas() -> None:
    every, decay = 4, 0.5
    time, root = (ours(name, every="4it", decay=decay) for name in ("inverse_time", "inverse_sqrt"))
    assert time == pytest.approx([RATE / (1 + decay * t / every) for t in range(TOTAL)])
    assert root == pytest.approx([RATE * (1 + decay * t / every) ** -0.5 for t in range(TOTAL)])
    assert time[8] == pytest.approx(RATE / 2) and root[24] == pytest.approx(RATE / 2)


def test_an_exponential_policy_halves_the_rate_in_each_half_life() -> None:
    rates = ours("exponential", every="12it")
    assert [rates[12 * n] for n in range(5)] == pytest.approx([RATE / 2**n for n in range(5)])


def test_each_policy_is_among_those_tested() -> None:
    assert {entry.name for entry in schedules} == set(NEEDED)


@pytest.mark.parametrize("name", NEEDED)
@pytest.mark.parametrize("total", [1, 2, 3, TOTAL])
def test_a_multiplier_is_finite_and_never_above_1(name: str, total: int) -> None:
    values = [schedules[name].make(step, total, **NEEDED[name]) for step in range(total + 1)]
    assert all(math.isfinite(value) and 0 <= value <= 1 for value in values)


@pytest.mark.parametrize("name", NEEDED)
def test_warm_up_ramps_each_policy_up_and_then_leaves_it_alone(name: str) -> None:
    plain = multiplier(Component(name, NEEDED[name]), 0, TOTAL, lambda length: length.value)
    warmed = multiplier(Component(name, NEEDED[name]), 10, TOTAL, lambda length: length.value)
    for step in range(TOTAL):
        assert plain(step) == schedules[name].make(step, TOTAL, **NEEDED[name])
        assert warmed(step) == pytest.approx(plain(step) * min(1, (step + 1) / 10))
        assert warmed(step) == warmed_up(plain(step), step, 10)


def test_lengths_in_epochs_are_resolved_wherever_they_stand() -> None:
    schedule = Component("multi_step", {"at": (Duration(1, "ep"), Duration(25, "it")), "factor": 0.5})
    found = multiplier(schedule, 0, TOTAL, lambda length: length.steps(20))
    assert [found(step) for step in (19, 20, 24, 25)] == [1, 0.5, 0.5, 0.25]


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("step", {"every": "0it"}, "0it never ends; write at least 1it"),
        ("step", {}, "step needs the key 'every'"),
        ("sgdr", {"first": "5it", "mult": 0}, "greater than or equal to 1"),
        ("one_cycle", {"up": 1.0}, "less than 1"),
        ("triangular", {"half_cycle": "5it", "mode": "square"}, "'triangular', 'triangular2' or 'exp_range'"),
    ],
)
def test_a_key_that_makes_no_policy_is_refused(name: str, args: Any, message: str) -> None:
    _, problems = schedules[name].check(args)
    assert len(problems) == 1 and message in problems[0][1]
