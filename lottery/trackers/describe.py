"""Trainings of a plan as trackers show them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from lottery.catalogue.trackers._tracker import Training
from lottery.plan.kinds import Kind
from lottery.values import Chosen, said

if TYPE_CHECKING:
    from lottery.catalogue.trackers._tracker import Value
    from lottery.plan.jobs import Job, Plan

# the training to a rewind point is the beginning of the dense network's, which has its curve
TRACKED = (Kind.TRIAL, Kind.DENSE, Kind.TICKET, Kind.BRANCH, Kind.CHILD)


def describe(plan: Plan, job: Job, point: str = "") -> Training:
    """Return a training of the plan in words and values.

    Args:
        plan: The plan.
        job: One of its jobs, of a kind in `TRACKED`.
        point: The plan in words among those of a sweep.
    """
    config = {name: value for name, value in _config(plan, job, point) if value not in ("", None)}
    name = f"{point}: {job.label}" if point else job.label
    return Training(job.key, plan.recipe.name, name, job.kind.value, config)


def _config(plan: Plan, job: Job, point: str) -> Iterator[tuple[str, Value]]:
    """Yield the values that a person filters by, the key first, by which `lottery show` finds the job."""
    recipe = plan.recipe
    yield "key", job.key
    yield "study", recipe.name
    yield "point", point
    yield "kind", job.kind.value
    yield "seed", job.seed
    yield "level", job.level
    yield "optimizer", job.trained_by
    yield from _plain("optimizer", job.optimizer.args)
    yield "rewind", job.rewind.label if job.rewind is not None else ""
    yield "control", job.branch.label if job.branch is not None and job.transfer is None else ""
    yield "sample", job.sample if job.branch is not None and job.transfer is None else ""
    yield "retrained_with", job.transfer_label
    yield "data", said(recipe.data.component)
    yield "model", said(recipe.model)
    yield "length", str(recipe.train.length)
    yield "batch_size", recipe.train.batch_size


def _plain(prefix: str, arguments: Mapping[str, object]) -> Iterator[tuple[str, Value]]:
    for name, value in arguments.items():
        if not isinstance(value, Chosen):
            yield f"{prefix}.{name}", value if isinstance(value, (str, int, float, bool)) else said(value)
