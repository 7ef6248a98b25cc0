"""Learning-rate policies: the multiplier of the learning rate at a step."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field

from lottery.registry import schedules
from lottery.spec import Duration


@schedules.register("constant", source="Robbins & Monro 1951")
def constant(step: int, total: int) -> float:
    """The same learning rate throughout."""
    return 1.0


@schedules.register("multi_step", source="He et al. 2015")
def multi_step(
    step: int, total: int, *, at: tuple[Duration, ...], factor: Annotated[float, Field(gt=0)] = 0.1
) -> float:
    """Times `factor` at each of the steps `at`.

    The lengths arrive resolved to steps; `at` counts from the start of training, warm-up included."""
    return float(factor ** sum(step >= milestone.value for milestone in at))


@schedules.register("cosine", source="Loshchilov & Hutter 2017")
def cosine(step: int, total: int, *, floor: Annotated[float, Field(ge=0, le=1)] = 0.0) -> float:
    """Half a cosine from 1 at step 0 to `floor` at the last step."""
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(step, total) / max(1, total)))


def warmed_up(multiplier: float, step: int, warmup: int) -> float:
    """The multiplier times a linear ramp: (step + 1)/warmup before step `warmup`, 1 from there (Goyal et al. 2017).

    Composes with each schedule: the schedule itself still counts from step 0."""
    return multiplier * min(1.0, (step + 1) / warmup) if warmup else multiplier
