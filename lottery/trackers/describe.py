"""Trainings of a plan as trackers show them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from lottery.analysis.labels import optimizer_labels, rewind_label, said
from lottery.catalogue.trackers._tracker import Training
from lottery.plan.kinds import Kind
from lottery.values import Chosen

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
    return Training(job.key, plan.recipe.name, " ".join(filter(None, _words(plan, job, point))), job.kind.value, config)


def _words(plan: Plan, job: Job, point: str) -> Iterator[str]:
    if point:
        yield f"{point}:"
    yield optimizer_labels(plan.recipe.train.optimizer)[job.optimizer_index]
    yield f"seed {job.seed}"
    if job.kind is Kind.TRIAL:
        yield f"trial lr {job.optimizer.args.get('lr')}"
        return
    yield f"level {job.level}" if job.level else "dense"
    if job.rewind is not None and (len(plan.recipe.rewind) > 1 or job.kind is Kind.CHILD):
        yield f"rewound to {rewind_label(job.rewind)}" if job.level else f"from {rewind_label(job.rewind)}"
    yield _control(job)
    if job.kind is Kind.CHILD:
        yield f"noise {job.noise}"


def _control(job: Job) -> str:
    """Return the control with the number of its sample; empty for a ticket and the dense network."""
    if job.branch is None:
        return ""
    if job.transfer is not None:
        return f"retrained with {said(job.branch.component.args['optimizer'])}"
    return f"{job.branch.label} {job.sample}"


def _config(plan: Plan, job: Job, point: str) -> Iterator[tuple[str, Value]]:
    """Yield the values that a person filters by, the key first, by which `lottery show` finds the job."""
    recipe = plan.recipe
    yield "key", job.key
    yield "study", recipe.name
    yield "point", point
    yield "kind", job.kind.value
    yield "seed", job.seed
    yield "level", job.level
    yield "optimizer", optimizer_labels(recipe.train.optimizer)[job.optimizer_index]
    yield from _plain("optimizer", job.optimizer.args)
    yield "rewind", rewind_label(job.rewind) if job.rewind is not None else ""
    yield "control", job.branch.label if job.branch is not None and job.transfer is None else ""
    yield "sample", job.sample if job.branch is not None and job.transfer is None else ""
    yield (
        "retrained_with",
        said(job.branch.component.args["optimizer"]) if job.transfer is not None and job.branch else "",
    )
    yield "data", said(recipe.data.component)
    yield "model", said(recipe.model)
    yield "length", str(recipe.train.length)
    yield "batch_size", recipe.train.batch_size


def _plain(prefix: str, arguments: Mapping[str, object]) -> Iterator[tuple[str, Value]]:
    for name, value in arguments.items():
        if not isinstance(value, Chosen):
            yield f"{prefix}.{name}", value if isinstance(value, (str, int, float, bool)) else said(value)
