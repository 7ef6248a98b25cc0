"""One job: find its starting point in the store, train, checkpoint between steps, commit."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from lottery.catalogue.branches._learned import masks
from lottery.device import prepared
from lottery.errors import Interrupted
from lottery.files.tensors import encode
from lottery.network.layout import Layout, state_of
from lottery.pruning.gradual import Gradual
from lottery.pruning.mask import Mask
from lottery.pruning.masking import Held, masked
from lottery.recipe.tuning import choose
from lottery.results.artifacts import kept_states, pack, pack_correct, stored_state
from lottery.results.resolution import CORRECT
from lottery.runner.assemble import training_of
from lottery.runner.context import RunContext
from lottery.runner.resume import Clock, as_json, resume
from lottery.runner.starting_point import starting_point
from lottery.store.manifest import Status
from lottery.training.running_statistics import finite
from lottery.training.trainer import Diverged, Stopped, Training
from lottery.values import Chosen

if TYPE_CHECKING:
    from lottery.plan.jobs import Job
    from lottery.pruning.start import Start


@dataclass(frozen=True)
class Progress:
    """Where a training is: the step just done of `total`, and the last row of its curve."""

    step: int
    first: int
    total: int
    row: Mapping[str, Any]
    seconds: float  # since step `first`
    images_per_second: float


def execute(context: RunContext, job: Job, start: Start | None = None) -> Iterator[Progress]:
    """Run one job whose needs are done, and commit it; a diverged training is committed as that.

    It starts at `start`, where the plan says if none is given. Goes on from the job's newest checkpoint where there is
    one. Raises Interrupted after saving when `context.stop` is
    set.
    """
    began = time.monotonic()
    if job.kind == "choice":
        files, status = _choice(context, job)
        _commit(context, job, files, status, time.monotonic() - began, context.machine.environment())
        return
    with prepared(context.machine, context.plan.recipe.train.precision):
        start = start or starting_point(context, job)
        training = training_of(context, job, start)
        clock = Clock(context, job, training, began)
        mask = start.mask
        start = replace(start, weights={}, optimizer_state=None)  # the network has them now: no second copy of them
        try:
            with masked(training.model, Mask({}) if start.mold else start.mask, training.optimizer) as held:
                clock.held = held if start.gradual else None
                clock.past = resume(context, job, training, held)
                if start.gradual is not None:
                    training.after_step = _pruner(training, held, start.gradual)
                yield from _advance(context, training, clock)
                _check_weights(training)
            found = masks(training.model) if start.mold else [held.mask]
            files = _state_files(training) if job.kind == "rewind" else _result_files(job, training, found)
            status = "done"
        except Stopped as stopped:
            clock.save()
            raise Interrupted(context.stop.signal or 0) from stopped
        except Diverged as diverged:
            result = {"diverged": diverged.step, "curve": training.curve, **_shape(training, [mask])}
            files, status = {"metrics.json": as_json(result)}, "diverged"
    if "metrics.json" in files and isinstance(rate := start.spec.optimizer.args.get("lr"), Chosen):
        chosen = context.store.read_json(rate.key, "metrics.json")
        about = {"lr": chosen["lr"], "lr_edge": chosen["edge"]}
        files["metrics.json"] = as_json({**json.loads(files["metrics.json"]), **about})
    _commit(context, job, files, status, clock.seconds(), clock.environment())
    context.store.drop_checkpoints(job.key)


def _commit(
    context: RunContext, job: Job, files: dict[str, bytes], status: Status, seconds: float, environment: dict[str, Any]
) -> None:
    context.store.commit(
        job.key,
        {"job.json": as_json(job.identity), **files},
        kind=job.kind,
        status=status,
        parent=job.parent,
        label=job.label,
        seconds=seconds,
        environment=environment,
    )


def _choice(context: RunContext, job: Job) -> tuple[dict[str, bytes], Status]:
    """The best of the learning rates that were tried; diverged where each of them did."""
    measures: dict[float, list[dict[str, float] | None]] = {}
    steps = []
    for key in job.needs:
        metrics = context.store.read_json(key, "metrics.json")
        rate = context.plan.jobs[key].optimizer.args["lr"]
        diverged = "diverged" in metrics
        measures.setdefault(rate, []).append(None if diverged else metrics[context.plan.recipe.report])
        steps += [metrics["diverged"]] if diverged else []
    tune = context.plan.recipe.tune
    assert tune is not None
    chosen = choose(list(measures.items()), tune.by)
    if chosen is None:
        return {"metrics.json": as_json({"diverged": min(steps), "rates": sorted(measures)})}, "diverged"
    return {"metrics.json": as_json(chosen)}, "done"


def _pruner(training: Training, held: Held, gradual: Gradual) -> Callable[[int], bool]:
    """Prunes after the steps at which it is due. Raises Diverged where weights are not finite then."""

    def after_step(step: int) -> bool:
        if not gradual.due(step):
            return False
        _check_weights(training)
        held.tighten(gradual.mask(step, state_of(training.model), held.mask))
        return True

    return after_step


def _advance(context: RunContext, training: Training, clock: Clock) -> Iterator[Progress]:
    first, shown, shown_step = training.step, time.monotonic(), training.step
    began = shown
    for step in training.steps():
        if context.stop.signal is not None:
            raise Stopped
        now = time.monotonic()
        clock.save_if_due(now)
        if now - shown >= 0.5:
            speed = (step - shown_step) * training.batch_size / (now - shown)
            yield Progress(step, first, training.stop, training.curve[-1], now - began, speed)
            shown, shown_step = now, step


def _check_weights(training: Training) -> None:
    """NaN weights are never pruned from, and no statistics of them are kept. Raises Diverged."""
    weights_are_finite = all(bool(torch.isfinite(p).all()) for p in training.model.parameters())
    if not (weights_are_finite and finite(training.statistics)):
        raise Diverged(training.step)


def _state_files(training: Training) -> dict[str, bytes]:
    tensors, values = training.state()
    return {"state.safetensors": encode(stored_state(training.model, tensors)), "state.json": as_json(values)}


def _result_files(job: Job, training: Training, found: Sequence[Mask]) -> dict[str, bytes]:
    """Return the files of a finished training by name.

    Metrics of every job, of a trial without the test set; a bit for each test example that says whether it was
    recognized; mask and weights, at the end and at the chosen steps, of trunks only, which alone are built upon.
    """
    files = {"metrics.json": as_json({**_shape(training, found), **training.metrics(test=job.kind != "trial")})}
    if training.correct:
        files[CORRECT] = encode(*pack_correct(training.correct))
    if job.kind in ("dense", "ticket", "retraining") or job.own_trunk:
        mask = Mask({})
        if job.kind != "dense":
            (mask,) = found
            files["mask.safetensors"] = encode(*mask.pack())
        for name, state in kept_states(training).items():
            files[name] = encode(pack(state, mask) if mask else state)
    return files


def _shape(training: Training, found: Sequence[Mask]) -> dict[str, Any]:
    """Of one mask, or the means over those that were drawn; collapsed is a layer that is empty in any of them."""
    left = Layout.of(training.model).left
    return {**_counted(found), **({"never_pruned": left} if left else {})}


def _counted(found: Sequence[Mask]) -> dict[str, Any]:
    if len(found) == 1:
        (mask,) = found
        return {"density": mask.density, "alive": mask.alive(), "sizes": mask.sizes(), "collapsed": mask.collapsed()}
    sizes, count = found[0].sizes(), len(found)
    alive = {name: sum(mask.alive()[name] for mask in found) / count for name in sizes}
    collapsed = [name for name in sizes if any(name in mask.collapsed() for mask in found)]
    return {
        "density": sum(mask.density for mask in found) / count,
        "alive": alive,
        "sizes": sizes,
        "collapsed": collapsed,
    }
