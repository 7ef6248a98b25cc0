"""Multiplier of the learning rate at each step of a training, from a recipe's schedule and warm-up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lottery.registry import schedules
from lottery.values import Component, Duration


def warmed_up(multiplier: float, step: int, warmup: int) -> float:
    """Return the multiplier times a linear ramp: (step + 1) / warmup before step `warmup`, 1 from there.

    Goyal et al. 2017. It composes with each schedule: the schedule itself still counts from step 0.
    """
    return multiplier * min(1.0, (step + 1) / warmup) if warmup else multiplier


def peak(rate: Callable[[int], float], total: int) -> float:
    """Return the highest multiplier of a training of `total` steps, looked at in at most 20,000 places."""
    return max(rate(step) for step in {*range(0, total, -(-total // 20_000)), total - 1})


def multiplier(
    schedule: Component, warmup: int, total: int, steps: Callable[[Duration], int]
) -> Callable[[int], float]:
    """Return the multiplier at each step of a training as a function of the step.

    Args:
        schedule: The entry with its arguments.
        warmup: Steps of the linear warm-up at the start.
        total: Steps of the whole training.
        steps: Returns the number of steps of a length.
    """

    def resolved(value: Any) -> Any:
        if isinstance(value, Duration):
            return Duration(steps(value), "it")
        return tuple(resolved(item) for item in value) if isinstance(value, (list, tuple)) else value

    args = {name: resolved(value) for name, value in schedule.args.items()}
    policy: Callable[..., float] = schedules[schedule.name].make
    return lambda step: warmed_up(policy(step, total, **args), step, warmup)
