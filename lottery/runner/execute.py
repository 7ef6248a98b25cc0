"""One job from its start to its commit: trained with checkpoints between steps, and ended in one of a few ways."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from lottery.catalogue.branches._learned import masks
from lottery.device import prepared
from lottery.errors import Interrupted
from lottery.files.tensors import encode
from lottery.network.layout import state_of
from lottery.plan.analyses import START
from lottery.plan.kinds import (
    CORRECT_FILE,
    IDENTITY_FILE,
    MASK_FILE,
    MEASUREMENT_FILE,
    METRICS_FILE,
    STATE_FILE,
    STATE_VALUES_FILE,
    STATES_FILE,
    Kind,
)
from lottery.pruning.gradual import Gradual
from lottery.pruning.mask import Mask
from lottery.pruning.masking import HeldMask, masked
from lottery.recipe.tuning import choose
from lottery.results.artifacts import kept_states, pack, pack_correct, stored_state
from lottery.runner.assemble import assemble
from lottery.runner.context import RunContext
from lottery.runner.mask_shape import shape_of
from lottery.runner.measure import Measuring
from lottery.runner.messages import pack_mask, pack_start
from lottery.runner.resume import Clock, as_json, resume
from lottery.runner.starting_point import resolve_rate, starting_point
from lottery.runner.states import (
    Kept,
    chosen_states,
    evaluated_after,
    keeping,
    kept_by,
    listing,
    missing_steps,
    same_curve,
    steps_of_moments,
)
from lottery.runner.timelines import timeline_of
from lottery.runner.together import check_same_mask, check_same_weights, failing_together, told
from lottery.store.manifest import Status
from lottery.training.trainer import Diverged, Stopped, Training

if TYPE_CHECKING:
    from lottery.plan.jobs import Job
    from lottery.plan.timeline import Timeline
    from lottery.pruning.start import Start


REPORT_SECONDS = 0.5  # between two reports of a training's progress


@dataclass(frozen=True)
class Progress:
    """The progress of a training.

    Attributes:
        step: The step just done.
        first: The step that this session began with.
        total: The step at which the training ends.
        row: The last row of its curve.
        seconds: Time since step `first`.
        images_per_second: Training examples a second since the last report.
        rows: Rows of its curve that are new since the last report; the first report of a session has all rows so far.
    """

    step: int
    first: int
    total: int
    row: Mapping[str, Any]
    seconds: float  # since step `first`
    images_per_second: float
    rows: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class Result:
    """The end of a job: its metrics, where it has some, and the other files that it leaves in the store."""

    status: Status
    metrics: Mapping[str, Any] | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)


def execute(context: RunContext, job: Job, start: Start | None = None) -> Iterator[Progress | None]:
    """Run one job whose needs are done, and commit it; a diverged training is committed as that.

    It goes on from the job's newest checkpoint where there is one. It yields its progress, and None where it waits for
    the next step of the context's cohort.

    Args:
        context: What all jobs share.
        job: The job.
        start: Where its training starts, if not where the plan says.

    Raises:
        Interrupted: After saving, when `context.stop` is set.
    """
    began = time.monotonic()
    if job.kind is Kind.CHOICE:
        result = _choose(context, job)
        commit(context, job, result, time.monotonic() - began, context.machine.environment())
        return
    if job.kind is Kind.ANALYSIS:
        yield from _measure(context, job, began)
        return
    trained = job
    if job.kind is Kind.STATES:
        assert job.parent is not None
        trained = context.plan.jobs[job.parent]
    with prepared(context.machine, context.plan.recipe.train.precision):
        start, chosen = resolve_rate(context.store, start or starting_point(context, trained))
        timeline = timeline_of(context, trained, start)
        if job.kind is Kind.STATES and (found := found_states(context, job, timeline)) is not None:
            commit(context, job, found, time.monotonic() - began, context.machine.environment())
            return
        if context.group.size > 1:
            context.group.tell(pack_start(context.plan, trained, start, measured=_measured_on(job)))
        with failing_together(context.group):
            training = assemble(context, trained, start, timeline)
            start = replace(start, weights={}, optimizer_state=None)  # the network has them now: no second copy of them
            clock = Clock(context, job, training, began)
            try:
                result = yield from _train(context, job, start, training, clock)
            except Stopped as stopped:
                clock.save()
                raise Interrupted(context.stop.signal or 0) from stopped
            except Diverged as diverged:
                result = _diverged(training, start.mask, diverged.step)
    if result.metrics is not None and job.kind is not Kind.STATES:
        result = replace(result, metrics={**result.metrics, **chosen})
    commit(context, job, result, clock.seconds(), clock.environment())
    context.store.drop_checkpoints(job.key)


def commit(context: RunContext, job: Job, result: Result, seconds: float, environment: dict[str, Any]) -> None:
    """Put the result into the store, with the job's identity, seconds and environment."""
    metrics = {} if result.metrics is None else {METRICS_FILE: as_json(result.metrics)}
    context.store.commit(
        job.key,
        {IDENTITY_FILE: as_json(job.identity), **metrics, **result.files},
        kind=job.kind.value,
        status=result.status,
        parent=job.parent,
        label=context.label(job),
        seconds=seconds,
        environment=environment,
    )


def _choose(context: RunContext, job: Job) -> Result:
    """Return the best of the learning rates that were tried; diverged where each of them did."""
    measures: dict[float, list[dict[str, float] | None]] = {}
    steps = []
    for key in job.needs:
        metrics = context.store.read_json(key, METRICS_FILE)
        rate = context.plan.jobs[key].optimizer.args["lr"]
        diverged = "diverged" in metrics
        measures.setdefault(rate, []).append(None if diverged else metrics[context.plan.recipe.report])
        steps += [metrics["diverged"]] if diverged else []
    tune = context.plan.recipe.tune
    assert tune is not None
    chosen = choose(list(measures.items()), tune.by)
    if chosen is None:
        return Result("diverged", {"diverged": min(steps), "rates": sorted(measures)})
    return Result("done", chosen)


def _train(
    context: RunContext, job: Job, start: Start, training: Training, clock: Clock
) -> Generator[Progress | None, None, Result]:
    """Train under the start's mask, from the furthest state there is, and return what comes out."""
    mask = Mask({}) if start.mold else start.mask
    with masked(training.model, mask, training.optimizer, training.restrict) as held:
        clock.held = held if start.gradual else None
        steps = {} if job.kind is not Kind.STATES else steps_of_moments(context.store, job, training.timeline)
        clock.kept = kept_by(context, job, training.timeline)
        if steps:
            clock.kept = Kept(frozenset(missing_steps(context.store, job, steps.values())))
        until = evaluated_after(context.store, job, max(clock.kept.steps)) if steps else None
        check_same_mask(context.group, held.mask)
        clock.past = resume(context, job, training, held, clock.kept, until)
        if start.gradual is not None:
            training.after_step = _pruner(context, training, held, start.gradual)
        if not start.mold:
            training.after_step = keeping(clock.kept, training, held, training.after_step)
        try:
            yield from _advance(context, training, clock, until)
        finally:
            training.after_step = lambda step: False  # the other holds the training: a cycle, whose memory would stay
        training.check_weights()
        check_same_weights(context.group, training.model.state_dict())
    if steps:
        return _trained_states(context, job, training, clock.kept, steps)
    if job.kind.keeps_state:
        return _state(training)
    result = _measured(job, training, masks(training.model) if start.mold else [held.mask])
    if not context.plan.moments.get(job.key) or start.mold:
        return result
    states = {**clock.kept.files, **chosen_states(context, job, training, held.mask)}
    return replace(result, files={**result.files, **states})


def found_states(context: RunContext, job: Job, timeline: Timeline) -> Result | None:
    """Return the result of a job of kind STATES whose training kept them all; None where it has to be run again."""
    steps = steps_of_moments(context.store, job, timeline)
    if missing_steps(context.store, job, _looked_up(steps)):
        return None
    return Result("done", None, {STATES_FILE: listing(steps, dict.fromkeys(steps.values(), job.parent), True)})


def _looked_up(steps: Mapping[str, int]) -> list[int]:
    """Return the steps of moments that have a file: the start of a training is computed whenever it is asked for."""
    return [step for moment, step in steps.items() if moment != START]


def _trained_states(context: RunContext, job: Job, training: Training, kept: Kept, steps: Mapping[str, int]) -> Result:
    """Return the result of a job of kind STATES after its training was run again for those that it had not kept."""
    assert job.parent is not None
    own = {step for step in _looked_up(steps) if step in kept.steps}
    holders = {step: None if step in own else job.parent for step in steps.values()}
    same = same_curve(context.store.read_json(job.parent, METRICS_FILE), training)
    return Result("done", None, {STATES_FILE: listing(steps, holders, same), **kept.files})


def _measure(context: RunContext, job: Job, began: float) -> Iterator[Progress]:
    """Run an analysis and commit its measurement.

    Raises:
        Interrupted: After saving, when `context.stop` is set.
    """
    with prepared(context.machine, "fp32"):
        measuring = Measuring(context, job, began)
        try:
            for parts in measuring.run():
                yield Progress(parts, 0, 0, {}, time.monotonic() - began, 0.0)
        except Stopped as stopped:
            measuring.save()
            raise Interrupted(context.stop.signal or 0) from stopped
    result = Result("done", None, {MEASUREMENT_FILE: measuring.result})
    commit(context, job, result, measuring.seconds(), context.machine.environment())
    context.store.drop_checkpoints(job.key)


def _pruner(context: RunContext, training: Training, held: HeldMask, gradual: Gradual) -> Callable[[int], bool]:
    """Return what prunes after the steps at which it is due, and raises Diverged where weights are not finite then.

    Of several ranks, the first one decides, and tells the others.
    """

    def after_step(step: int) -> bool:
        if not gradual.due(step):
            return False
        training.check_weights()
        found: list[Mask] = []

        def decided() -> dict[str, bytes]:
            found.append(gradual.mask(step, state_of(training.model), held.mask))
            return {"mask": pack_mask(found[0])} if context.group.size > 1 else {}

        told(context.group, decided)
        held.tighten(found[0])
        check_same_mask(context.group, held.mask)
        return True

    return after_step


def _advance(
    context: RunContext, training: Training, clock: Clock, until: int | None = None
) -> Iterator[Progress | None]:
    """Train to the end, or to a step, reporting the progress every `REPORT_SECONDS` and saving checkpoints when due.

    None is yielded where the training waits for a step that is done with those of others.

    Raises Stopped where the run is told to stop.
    """
    first, shown, shown_step = training.step, time.monotonic(), training.step
    began, told = shown, 0
    for step in training.steps():
        if step is None:
            clock.share()
            yield None
            continue
        if step == until:
            return
        if context.told_to_stop():
            raise Stopped
        now = time.monotonic()
        clock.save_if_due(now)
        if now - shown >= REPORT_SECONDS:
            speed = (step - shown_step) * training.timeline.batch_size / (now - shown)
            curve = training.curve
            yield Progress(step, first, training.timeline.stop, curve[-1], now - began, speed, curve[told:])
            shown, shown_step, told = now, step, len(curve)


def _diverged(training: Training, mask: Mask, step: int) -> Result:
    """Return the result of a training whose loss, weights or statistics are not finite at this step."""
    return Result("diverged", {"diverged": step, "curve": training.curve, **shape_of(training.model, [mask])})


def _measured_on(job: Job) -> bool | None:
    """Return True if a job's network is measured on the test split at the end, False without it, None if not at all."""
    return None if job.kind is Kind.STATES or job.kind.keeps_state else job.kind is not Kind.TRIAL


def _state(training: Training) -> Result:
    """Return the result of a training to a rewind point: its state."""
    tensors, values = training.state()
    files = {STATE_FILE: encode(stored_state(training.model, tensors)), STATE_VALUES_FILE: as_json(values)}
    return Result("done", None, files)


def _measured(job: Job, training: Training, found: Sequence[Mask]) -> Result:
    """Return the result of a finished training.

    Metrics of every job, of a trial without the test set; one bit for each test example that says whether it was
    recognized; mask and weights, at the end and at the chosen steps, of trunks only, which alone are built upon.
    """
    metrics = {**shape_of(training.model, found), **training.metrics(test=bool(_measured_on(job)))}
    files: dict[str, bytes] = {}
    if training.correct:
        files[CORRECT_FILE] = encode(*pack_correct(training.correct))
    if job.keeps_weights:
        mask = Mask({})
        if job.keeps_mask:
            (mask,) = found
            files[MASK_FILE] = encode(*mask.pack())
        for name, state in kept_states(training).items():
            files[name] = encode(pack(state, mask) if mask else state)
    return Result("done", metrics, files)
