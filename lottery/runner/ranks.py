"""The part of the ranks above 0 in a run: they train what rank 0 tells them to, and decide and save nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from lottery.device import machine, prepared
from lottery.distributed.group import ALONE, Group, open_group
from lottery.distributed.place import Place
from lottery.errors import Interrupted, MachineError
from lottery.plan.handover import pack_plan, unpack_plan
from lottery.pruning.masking import HeldMask, masked
from lottery.runner.assemble import assemble
from lottery.runner.events import Event, Outcome, SweptOutcome
from lottery.runner.messages import Order, unpack_mask, unpack_start, unpack_state
from lottery.runner.resume import restore
from lottery.runner.run import work
from lottery.runner.timelines import timeline_of
from lottery.runner.together import check_same_mask, check_same_weights, failing_together, told
from lottery.training.trainer import Stopped, Training

if TYPE_CHECKING:
    from lottery.pruning.gradual import Gradual
    from lottery.runner.context import RunContext

_OUTCOME, _SIGNAL = "outcome", "signal"


@contextmanager
def opened(place: Place | None, device: str) -> Iterator[Group]:
    """Open the group of the ranks of which this process has a place; that of one process where it has none."""
    if place is None:
        yield ALONE
        return
    where = machine(device, ranks=place.size, ranks_here=place.ranks_here, local_rank=place.local_rank).device
    with open_group(place.rank, place.size, place.local_rank, where, place.meeting, place.ranks_here) as group:
        yield group


@contextmanager
def leading(group: Group, outcome: Outcome) -> Iterator[None]:
    """Tell the other ranks at the end of the `with` block, in which rank 0 runs the jobs, how it went.

    An error that is no signal ends this process, which they notice.
    """
    try:
        yield
    except Interrupted as interrupted:
        if group.size > 1:
            group.tell({_SIGNAL: str(interrupted.signal_number).encode()})
        raise
    if group.size > 1:
        words = {"ended": outcome.ended, "messages": outcome.messages}
        group.tell({_OUTCOME: json.dumps(words).encode(), "plan": pack_plan(outcome.plan).encode()})


def lead(contexts: Sequence[RunContext], outcome: Outcome | SweptOutcome) -> Iterator[Event]:
    """Yield the events of all plans, which this process runs; where it is rank 0 of several, one after the other.

    The outcome is filled meanwhile by who takes the events.
    """
    group = contexts[0].group
    if group.size == 1:
        yield from work(*contexts)
        return
    for context, point in zip(contexts, outcome.points, strict=True):
        with leading(group, point):
            yield from work(context)


def follow(context: RunContext) -> Outcome:
    """Take part in each training that rank 0 begins, and return how the run ended there.

    Raises:
        Interrupted: The run was told to stop, and rank 0 has saved.
        RankLost: Another rank is gone, or met what this one did not.
    """
    recipe = context.plan.recipe
    while True:
        messages = context.group.tell(None)
        if _SIGNAL in messages:
            raise Interrupted(int(messages[_SIGNAL]))
        context = replace(context, plan=unpack_plan(messages["plan"], recipe))
        if _OUTCOME in messages:
            return Outcome(context.plan, **json.loads(messages[_OUTCOME]))
        _attempt(context, messages)


def _attempt(context: RunContext, messages: Mapping[str, bytes]) -> None:
    """Take part in a training; where it fails, it does so on all ranks, and rank 0 has the word for it."""
    try:
        _train(context, unpack_start(messages))
    except (MachineError, MemoryError):
        raise
    except Exception:
        return


def _train(context: RunContext, order: Order) -> None:
    job, start = context.plan.jobs[order.job], order.start
    with prepared(context.machine, context.plan.recipe.train.precision), failing_together(context.group):
        training = assemble(context, job, start, timeline_of(context, job, start))
        with masked(training.model, start.mask, training.optimizer, training.restrict) as held:
            check_same_mask(context.group, held.mask)
            state, until = unpack_state(told(context.group))
            if state is not None:
                restore(state, training, held)
            if start.gradual is not None:
                training.after_step = _pruner(context, training, held, start.gradual)
            try:
                _advance(context, training, until)
            finally:
                training.after_step = lambda step: False  # the other holds the training: a cycle
            training.check_weights()
            check_same_weights(context.group, training.model.state_dict())
        if order.measured is not None:
            training.metrics(test=order.measured)


def _advance(context: RunContext, training: Training, until: int | None) -> None:
    for step in training.steps():
        if step == until:
            break
        if context.told_to_stop():
            raise Stopped


def _pruner(context: RunContext, training: Training, held: HeldMask, gradual: Gradual) -> Callable[[int], bool]:
    """Return what prunes where rank 0 does, and what it does."""

    def after_step(step: int) -> bool:
        if not gradual.due(step):
            return False
        training.check_weights()
        held.tighten(unpack_mask(told(context.group)["mask"]))
        check_same_mask(context.group, held.mask)
        return True

    return after_step
