"""Learning-rate policies: the multiplier of the learning rate at a step.

The recipe's rate is the highest of each policy. To add one, write `f(step, total, *, ...) -> float` here, decorated
with `@schedules.register(name, source=...)`: `step` counts from 0 at the start of training, warm-up included, `total`
is the number of steps of the whole training. Arguments that are lengths arrive resolved to steps.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from lottery.registry import schedules
from lottery.values import Duration


def _not_empty(duration: Duration) -> Duration:
    if duration.value == 0:
        raise ValueError(f"{duration} never ends; write at least 1it")
    return duration


Factor = Annotated[float, Field(gt=0)]
Decay = Annotated[float, Field(gt=0, le=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Period = Annotated[Duration, AfterValidator(_not_empty)]


@schedules.register("constant", source="Robbins & Monro 1951")
def constant(step: int, total: int) -> float:
    """The same learning rate throughout."""
    return 1.0


@schedules.register("multi_step", source="He et al. 2015")
def multi_step(step: int, total: int, *, at: tuple[Duration, ...], factor: Factor = 0.1) -> float:
    """Multiplied by `factor` at each of the steps `at`.

    The lengths arrive resolved to steps; `at` counts from the start of training, warm-up included.
    """
    return float(factor ** sum(step >= milestone.value for milestone in at))


@schedules.register("step", source="Krizhevsky et al. 2012")
def step_decay(step: int, total: int, *, every: Period, factor: Decay = 0.1) -> float:
    """Multiplied by `factor` after each `every`: a staircase."""
    return float(factor ** (step // every.value))


@schedules.register("exponential", source="Senior et al. 2013")
def exponential(step: int, total: int, *, every: Period, factor: Decay = 0.5) -> float:
    """Multiplied by `factor` in the course of each `every`, a little at each step; with 0.5 it is the half-life."""
    return float(factor ** (step / every.value))


@schedules.register("inverse_time", source="Robbins & Monro 1951")
def inverse_time(step: int, total: int, *, every: Period, decay: Factor = 1.0) -> float:
    """1 / (1 + decay t), the time t in units of `every`: falls as 1/t."""
    return 1 / (1 + decay * step / every.value)


@schedules.register("inverse_sqrt", source="Polyak & Juditsky 1992; Vaswani et al. 2017")
def inverse_sqrt(step: int, total: int, *, every: Period, decay: Factor = 1.0) -> float:
    """1 / sqrt(1 + decay t), the time t in units of `every`: falls as 1/sqrt(t)."""
    return 1 / math.sqrt(1 + decay * step / every.value)


@schedules.register("polynomial", source="Chen et al. 2017 (poly)")
def polynomial(step: int, total: int, *, power: Factor = 1.0, floor: Share = 0.0) -> float:
    """Decay from 1 at step 0 to `floor` at the last step as (1 - step/total)^power; with power 1 a straight line."""
    return floor + (1 - floor) * float(max(0.0, 1 - step / max(1, total)) ** power)


@schedules.register("cosine", source="Loshchilov & Hutter 2017")
def cosine(step: int, total: int, *, floor: Share = 0.0) -> float:
    """Half a cosine from 1 at step 0 to `floor` at the last step."""
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(step, total) / max(1, total)))


@schedules.register("triangular", source="Smith 2017")
def triangular(
    step: int,
    total: int,
    *,
    half_cycle: Period,
    floor: Share = 0.25,
    mode: Literal["triangular", "triangular2", "exp_range"] = "triangular",
    gamma: Decay = 1.0,
) -> float:
    """Triangles: up from `floor` to 1 in a straight line and down again, each in a `half_cycle`.

    The height is halved after each cycle in `triangular2`, and times `gamma` at each step in `exp_range`.
    """
    cycle, position = divmod(step / half_cycle.value, 2)
    height = {"triangular": 1.0, "triangular2": 0.5**cycle, "exp_range": gamma**step}[mode]
    return float(floor + (1 - floor) * height * (1 - abs(position - 1)))


@schedules.register("sgdr", source="Loshchilov & Hutter 2017")
def sgdr(step: int, total: int, *, first: Period, mult: Annotated[int, Field(ge=1)] = 2, floor: Share = 0.0) -> float:
    """Cosines from 1 to `floor` with warm restarts: the first cycle is `first` long, each next one `mult` times it."""
    length, position = first.value, step
    while position >= length:
        position -= length
        length *= mult
    return float(cosine(position, length, floor=floor))


@schedules.register("one_cycle", source="Smith & Topin 2018")
def one_cycle(
    step: int,
    total: int,
    *,
    up: Annotated[float, Field(gt=0, lt=1)] = 0.3,
    start_div: Annotated[float, Field(ge=1)] = 25.0,
    final_div: Annotated[float, Field(ge=1)] = 1e4,
    anneal: Literal["cosine", "linear"] = "cosine",
) -> float:
    """One rise from 1/start_div to 1 in the share `up` of training, then down to 1/(start_div final_div) at its end.

    The momentum stays as it is; the paper lowers it where the rate is high.
    """
    peak, last = up * total - 1, total - 1
    if step <= peak:
        here, there, way = 1 / start_div, 1.0, step / peak if peak > 0 else 1.0
    else:
        here, there, way = 1.0, 1 / (start_div * final_div), (step - peak) / (last - peak)
    way = min(way, 1.0)
    return there + (here - there) * (0.5 * (1 + math.cos(math.pi * way)) if anneal == "cosine" else 1 - way)
