"""Rates that `mode: finetune` may train at: never about 0, and never those of `mode: lr` under another name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from lottery import registry
from lottery.errors import UsageError
from lottery.recipe.learning_rate import multiplier, peak
from lottery.registry import Problem
from lottery.values import Component, Duration

if TYPE_CHECKING:
    from lottery.recipe.schema import Recipe
    from lottery.recipe.types import FinetuneSpec, RewindSpec

LEAST_RATE = 1e-3  # of the peak: what a schedule that ends below it would fine-tune at trains nothing
STEPS_PER_EPOCH = 1_000  # where the data are not read, of lengths in epochs: the shape of a schedule, not its length
LOOKS = 256  # steps at which a schedule is looked at
Steps = Callable[[Duration], int]


def contradictions(data: Mapping[str, Any], valid: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield what is wrong with fine-tuning in a recipe's raw data, as far as the sections in `valid` tell."""
    train, rewinds, finetune = valid.get("train"), valid.get("rewind", ()), valid.get("finetune")
    if finetune is not None and rewinds and all(rewind.mode != "finetune" for rewind in rewinds):
        yield ("finetune",), "is for `rewind: {to: ..., mode: finetune}`; write that mode, or leave it out"
    if train is None or (data.get("finetune") is not None and finetune is None):
        return
    schedules: list[tuple[tuple[str | int, ...] | None, Component, Duration | None]] = [
        (None, train.schedule.component, train.schedule.warmup)
    ]
    for index, branch in enumerate(valid.get("branches", ())):
        if isinstance(schedule := branch.component.args.get("schedule"), Component):
            schedules.append((("branches", index, "schedule"), schedule, None))
    for path, schedule, warmup in schedules:
        if schedule.name not in registry.schedules or registry.schedules.check(schedule)[1]:
            continue  # said elsewhere
        for index, rewind in enumerate(rewinds):
            if rewind.mode == "finetune" and _in_one_unit(schedule, warmup, train.length, rewind.to):
                wrong = _wrong(schedule, warmup, train.length, rewind, finetune, _without_data)
                if wrong:
                    yield path or ("rewind", index, "mode"), wrong


def check(recipe: Recipe, steps: Steps) -> None:
    """Check fine-tuning as `contradictions` does, with the number of steps that each length has on these data.

    Raises:
        UsageError: A ticket cannot be fine-tuned after one of the schedules.
    """
    schedule = recipe.train.schedule
    own = [branch.component.args.get("schedule") for branch in recipe.branches]
    every = [(schedule.component, schedule.warmup), *((each, None) for each in own if isinstance(each, Component))]
    for rewind in recipe.rewind:
        for component, warmup in every if rewind.mode == "finetune" else ():
            if wrong := _wrong(component, warmup, recipe.train.length, rewind, recipe.finetune, steps):
                raise UsageError(f"rewind: {rewind.to} (finetune): {wrong}")


def _wrong(
    schedule: Component,
    warmup: Duration | None,
    length: Duration,
    rewind: RewindSpec,
    finetune: FinetuneSpec | None,
    steps: Steps,
) -> str:
    """Return why a ticket cannot be fine-tuned after this schedule; empty if it can.

    Args:
        schedule: The schedule of the training, or a control's own.
        warmup: How long the learning rate rises at first.
        length: Of the whole training.
        rewind: The rewind point.
        finetune: The recipe's section, None if it has none.
        steps: Returns the number of steps of a length.
    """
    total, first, warm = steps(length), steps(rewind.to), steps(warmup) if warmup else 0
    if max(first, warm) >= total:
        return ""  # said elsewhere
    rate = multiplier(schedule, warm, total, steps)
    last = rate(total - 1) / peak(rate, total)
    if finetune is None and last < LEAST_RATE:
        return (
            f"the schedule {schedule.name} ends at {last:.2g} of its peak, at which nothing is trained; "
            "say at which share of the peak to fine-tune: `finetune: {rate: 0.01}`"
        )
    if first >= warm and _is_one_rate(rate, warm, total, finetune):
        return (
            f"the schedule {schedule.name} has one rate throughout, so that fine-tuning is `mode: lr` under another "
            "name; write that mode, or another rate as `finetune: {rate: 0.1}`"
        )
    return ""


def trains_as_lr(recipe: Recipe, rewind: RewindSpec) -> bool:
    """True if fine-tuning from this point has the learning rates that `mode: lr` has, as far as lengths tell alone.

    After the last step of a staircase both modes train at one rate: their tickets are equal, not two methods that
    agree.
    """
    schedule, warmup, length = recipe.train.schedule.component, recipe.train.schedule.warmup, recipe.train.length
    if rewind.mode != "finetune" or not _in_one_unit(schedule, warmup, length, rewind.to):
        return False
    total, first, warm = (_without_data(each) if each else 0 for each in (length, rewind.to, warmup))
    rate = multiplier(schedule, warm, total, _without_data)
    return warm <= first < total and _is_one_rate(rate, first, total, recipe.finetune)


def _is_one_rate(rate: Callable[[int], float], first: int, total: int, finetune: FinetuneSpec | None) -> bool:
    """True if the schedule has the rate of fine-tuning from one step to the end."""
    last = rate(total - 1)
    if any(rate(step) != last for step in range(first, total, -(-(total - first) // LOOKS))):
        return False  # most are told here, without a look at the whole schedule
    return finetune is None or finetune.rate * peak(rate, total) == last


def _in_one_unit(schedule: Component, *lengths: Duration | None) -> bool:
    """True if all lengths, the schedule's too, are in steps or all in epochs: their shares need no data."""
    return len({each.unit for each in (*lengths, *_lengths(schedule)) if each is not None and each.value}) == 1


def _without_data(length: Duration) -> int:
    """Return the steps of a length, as if an epoch had 1,000."""
    return length.steps(STEPS_PER_EPOCH)


def _lengths(schedule: Component) -> Iterator[Duration]:
    """Yield the lengths among the arguments of a schedule."""
    for value in schedule.args.values():
        yield from (each for each in (value if isinstance(value, tuple) else (value,)) if isinstance(each, Duration))
