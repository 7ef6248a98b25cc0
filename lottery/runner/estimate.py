"""Estimates of the time that a plan will take, from finished jobs or a few timed steps, and of the disk space."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Hashable, Iterable
from dataclasses import replace
from itertools import chain, count, islice
from typing import TYPE_CHECKING, TypeVar

from lottery import registry
from lottery.device import prepared
from lottery.engines.cuda_graph import WARM_UP, GraphEngine
from lottery.network.build import prunable
from lottery.plan.analyses import START
from lottery.plan.kinds import Kind
from lottery.pruning.mask import Mask
from lottery.pruning.masking import masked
from lottery.recipe.readings import READINGS
from lottery.recipe.tuning import default_range
from lottery.runner import step_times
from lottery.runner.analysis_costs import TYPICAL, examples_of, seconds_of
from lottery.runner.assemble import training_of
from lottery.runner.states import missing_steps, step_of
from lottery.runner.timelines import planned_timeline, trained_steps, whole_timeline
from lottery.runner.work_left import Estimate
from lottery.values import Chosen, Component

if TYPE_CHECKING:
    from lottery.plan.jobs import Job
    from lottery.runner.context import RunContext
    from lottery.training.trainer import Training

Group = TypeVar("Group", bound=Hashable)

FIXED_BYTES = 16_384  # a job's folder, manifest and description
CURVE_ROW_BYTES = 180
STATE_COPIES = 5  # a checkpoint: weights, those of the two chosen steps, two moments
SKIPPED_STEPS = 2  # the first ones allocate memory
TIMED_STEPS = 12
TIMED_SECONDS = 3.0  # after which no further step is timed
SOURCES = (  # of the times of steps, the surest first
    "from finished jobs",
    "from finished jobs of other recipes in the store",
    "from a few steps timed here before",
    "from a few steps timed now",
)
_, OTHERS, KEPT, NOW = range(len(SOURCES))


def estimate(
    context: RunContext, counted: Collection[str] = (), others: step_times.OtherJobs | None = None
) -> Estimate:
    """Return what is left to do and what it takes.

    A training takes as long as finished ones of the plan; where there are none, as others of the store of the same
    network and optimizer; where there are none either, as a few steps that were timed here in the last week or are now.

    Jobs whose keys are among those `counted` are left out, as another estimate has them. Several estimates share
    `others`, so that the store is read once for all.
    """
    others = others or step_times.OtherJobs(context.store, context.machine)
    missing = [job for job in missing_jobs(context) if job.key not in counted]
    at_level = _measured(context, _network)
    measured = _measured(context, lambda job: job.optimizer_index)
    per_step = dict(measured)
    trained = [job for job in missing if job.kind is not Kind.ANALYSIS]
    sources = {0} if trained else set[int]()
    for place in sorted({job.optimizer_index for job in trained} - set(measured)):
        per_step[place], source = _known(context, place, others)
        sources.add(source)
    by_job, told = seconds_of(context, [job for job in missing if job.kind is Kind.ANALYSIS])
    # sparser networks may train faster: of the same level where one has finished
    by_job |= {
        job.key: at_level.get(_network(job), per_step[job.optimizer_index]) * _left(context, job) for job in trained
    }
    return Estimate(
        done=sum(key not in counted for key in context.plan.jobs) - len(missing),
        missing=len(missing),
        seconds=sum(by_job.values()),
        measured=told and max(sources, default=0) < KEPT,
        source=SOURCES[max([*sources, 0 if told else NOW])],
        need_bytes=disk_bytes(context, missing),
        free_bytes=context.store.free_bytes(),
        by_job=by_job,
    )


def least_sure(estimates: Iterable[Estimate]) -> str:
    """Return the source of several estimates in words, the least sure of those that have work left."""
    return max((each.source for each in estimates if each.missing), key=SOURCES.index, default=SOURCES[0])


def missing_jobs(context: RunContext) -> list[Job]:
    """Return the jobs of the plan that have no result in the store."""
    return [job for job in context.plan if context.store.find(job.key) is None]


def disk_bytes(context: RunContext, missing: list[Job]) -> int:
    """Return the bytes that the missing jobs of the plan will take, checkpoints included."""
    if not missing:
        return 0
    network = context.networks.blank()
    weights = sum(value.numel() * value.element_size() for value in network.state_dict().values())
    masks = sum(parameter.numel() for parameter in prunable(network).values()) // 8
    wholes = [whole_timeline(context, optimizer) for optimizer in context.plan.recipe.train.optimizer]
    rows = max(int(whole.total // whole.evaluate_every) for whole in wholes) + 2
    fixed = FIXED_BYTES + rows * CURVE_ROW_BYTES
    state, kept = STATE_COPIES * weights, len(READINGS) * weights
    sizes = (
        fixed
        + state * job.kind.keeps_state
        + kept * job.keeps_weights
        + masks * job.keeps_mask
        + (weights + masks) * len(job.moments)
        for job in missing
    )
    total: int = sum(sizes) + 3 * state * context.jobs
    return total


def steps_of(context: RunContext) -> dict[str, int]:
    """Return the number of steps that each job of the plan trains itself, by its key."""
    return {job.key: _steps(context, job) for job in context.plan}


def _left(context: RunContext, job: Job) -> int:
    """Return the number of steps that a missing job trains itself now, or what stands for them."""
    return _again(context, job) if job.kind is Kind.STATES else _steps(context, job)


def _steps(context: RunContext, job: Job) -> int:
    """Return the number of steps that a job trains itself; of an analysis, as many as take about its time."""
    if job.kind is Kind.ANALYSIS:
        batch = whole_timeline(context, job.optimizer).batch_size
        return max(1, round(examples_of(context, job).times(TYPICAL) / batch))
    return trained_steps(context, job)


def _again(context: RunContext, job: Job) -> int:
    """Return the number of steps of a finished training that have to be run again for states that it did not keep."""
    assert job.parent is not None
    if context.store.find(job.parent) is None:
        return 0
    training = context.plan.jobs[job.parent]
    planned = planned_timeline(context, training)
    known = (step_of(moment, planned) for moment in job.moments if moment != START)
    missing = missing_steps(context.store, job, (step for step in known if step is not None))
    return max(missing) - planned.first if missing else 0


def _network(job: Job) -> tuple[int, int]:
    """Return what the time of a step depends on: the optimizer, and the level of the network's mask."""
    longer = job.branch is not None and registry.branches[job.branch.name].traits.longer
    return job.optimizer_index, 0 if longer else job.level


def _measured(context: RunContext, group: Callable[[Job], Group]) -> dict[Group, float]:
    """Return the seconds of one step over the finished trainings of each group, evaluation and commits included.

    Those in lockstep count only in a group that has no others: their seconds are shares.
    """
    found: dict[bool, dict[Group, tuple[float, int]]] = {True: {}, False: {}}
    for job in context.plan:
        manifest = context.store.find(job.key) if job.kind is Kind.TRIAL or job.kind.measured else None
        if manifest is not None and manifest.status == "done":
            sums = found[manifest.in_lockstep]
            seconds, steps = sums.get(group(job), (0.0, 0))
            sums[group(job)] = seconds + manifest.seconds, steps + _steps(context, job)
    sums = found[True] | found[False]
    return {here: seconds / steps for here, (seconds, steps) in sums.items() if steps}


def _known(context: RunContext, place: int, others: step_times.OtherJobs) -> tuple[float, int]:
    """Return the seconds of one step of an optimizer of which no training of the plan has finished, and the source."""
    dense = next(job for job in context.plan if job.kind is Kind.DENSE and job.optimizer_index == place)
    if (seconds := others.seconds(context, dense)) is not None:
        return seconds, OTHERS
    if (seconds := step_times.recall(context, dense)) is not None:
        return seconds, KEPT
    step_times.keep(context, dense, seconds := _timed(context, place))
    return seconds, NOW


def dense_training(context: RunContext, place: int) -> Training:
    """Return a dense training with this optimizer, to be tried by itself and thrown away."""
    job = next(job for job in context.plan if job.kind is Kind.DENSE and job.optimizer_index == place)
    if isinstance(job.optimizer.args.get("lr"), Chosen):  # not chosen yet: the time of a step does not depend on it
        low, high = default_range(job.optimizer)
        job = replace(job, optimizer=Component(job.optimizer.name, {**job.optimizer.args, "lr": (low * high) ** 0.5}))
    return training_of(replace(context, cohort=None), job)


def _timed(context: RunContext, place: int) -> float:
    """Return the seconds of one step of an optimizer's dense training, from a few steps run now and thrown away."""
    with prepared(context.machine, context.plan.recipe.train.precision):
        training = dense_training(context, place)
        with masked(training.model, Mask({}), training.optimizer):
            passes = (training.data.epoch(epoch, training.timeline.batch_size) for epoch in count())
            batches = chain.from_iterable(passes)
            recorded = isinstance(training.engine, GraphEngine)  # in a step that takes as long as hundreds
            for x, y in islice(batches, WARM_UP + 1 if recorded else SKIPPED_STEPS):
                training.engine.step(x, y)
            began, done = time.perf_counter(), 0
            while done < TIMED_STEPS and (not done or time.perf_counter() - began < TIMED_SECONDS):
                training.engine.step(*next(batches)).item()
                done += 1
    return (time.perf_counter() - began) / done
