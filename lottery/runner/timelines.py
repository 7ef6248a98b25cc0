"""The timeline of a job: from its start, or as the plan foresees it before the start is known."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from lottery.plan.kinds import Kind
from lottery.plan.origins import origin_of
from lottery.plan.timeline import Timeline, make_timeline
from lottery.values import Component, Duration

if TYPE_CHECKING:
    from lottery.plan.jobs import Job
    from lottery.pruning.start import Start
    from lottery.runner.context import RunContext


def timeline_of(context: RunContext, job: Job, start: Start) -> Timeline:
    """Return the timeline of the training that begins at this start.

    A start past step 0 is the rewind point as the start's optimizer, with its batch size, counts it on the start's
    data. What a control trains is known from its start alone: one of a plugin need not declare it.
    """
    spec, first = start.spec, None
    if spec.first:
        first = job.rewind.to if job.rewind is not None else Duration(spec.first, "it")
    return make_timeline(
        context.plan.recipe,
        spec.optimizer,
        context.sizes(start.dataset).train,
        first=first,
        stop=_stop(job),
        stretch=spec.stretch,
        untrained=spec.untrained,
    )


def steps_in_all(context: RunContext) -> int:
    """Return the number of steps that the jobs of the plan train, finished ones too."""
    return sum(trained_steps(context, job) for job in context.plan)


def trained_steps(context: RunContext, job: Job) -> int:
    """Return the number of steps that a job trains for the first time, by its planned timeline; 0 where it has none."""
    if job.kind in (Kind.CHOICE, Kind.STATES, Kind.ANALYSIS):
        return 0
    planned = planned_timeline(context, job)
    if job.kind.on_dense_trajectory:  # goes on from the furthest point before it
        points = (context.plan.jobs[key] for key in job.needs if context.plan.jobs[key].kind is Kind.REWIND)
        reached = (planned.steps(point.rewind.to) for point in points if point.rewind is not None)
        return planned.stop - max((step for step in reached if step <= planned.stop), default=0)
    return planned.stop - planned.first


def planned_timeline(context: RunContext, job: Job) -> Timeline:
    """Return the timeline that the plan foresees for a job, by what its control declares in `plan.origins`.

    A control that declares nothing counts as a ticket.
    """
    recipe = context.plan.recipe
    own = job.branch.component.args if job.branch is not None else {}
    declared, first = "", None
    if job.rewind is not None and job.kind is not Kind.REWIND:
        declared = "" if job.branch is None else origin_of(job.branch.component, job.rewind.mode).steps
        first = None if declared in ("T", "n T") else job.rewind.to
    return make_timeline(
        recipe,
        own.get("optimizer") or job.optimizer,
        context.sizes(own.get("dataset")).train,
        first=first,
        stop=_stop(job),
        stretch=search_length(context, job) if declared == "n T" else 1,
        untrained=declared == "0",
    )


def whole_timeline(context: RunContext, optimizer: Component, dataset: Component | None = None) -> Timeline:
    """Return the timeline of a dense network's training, on the recipe's data where no others are named."""
    return make_timeline(context.plan.recipe, optimizer, context.sizes(dataset).train)


def search_length(context: RunContext, job: Job) -> Fraction:
    """Return how many trainings of full length found this ticket, or the one that this branch leaves, its own included.

    The dense network is one; a ticket that goes back to step k of T trains (T - k)/T of one, and so do those above it.
    A ticket pruned before or in the course of its training needs no other network than itself: it is one.
    """
    if context.plan.recipe.prune.when != "trained":
        return Fraction(1)
    assert job.rewind is not None
    whole = whole_timeline(context, job.optimizer)
    total, first = whole.total, whole.steps(job.rewind.to)
    return 1 + (len(context.plan.trunk(job)) - 1) * Fraction(total - first, total)


def _stop(job: Job) -> Duration | None:
    return job.rewind.to if job.kind is Kind.REWIND and job.rewind is not None else None
