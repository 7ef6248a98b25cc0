"""From a start and a timeline to a training: its network, optimizer, engine and data put together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import nn

from lottery import registry
from lottery.catalogue.branches._learned import drawn
from lottery.data.loader import Data
from lottery.device import without_compiler
from lottery.distributed.batch_norm import alone, synchronize
from lottery.distributed.share import WHOLE, Share
from lottery.engines.choose import engine_for, refuse
from lottery.errors import Interrupted, UsageError
from lottery.network.layout import load
from lottery.plan.kinds import Kind
from lottery.plan.origins import carries_state
from lottery.plan.timeline import Timeline
from lottery.pruning.start import Spec, Start
from lottery.recipe.learning_rate import multiplier, peak
from lottery.runner.batch_sizes import check_other_model
from lottery.runner.starting_point import resolve_rate, starting_point
from lottery.runner.timelines import steps_in_all, timeline_of
from lottery.seed import noisy, seed_torch, stream
from lottery.training.engine import DenseEngine, Engine
from lottery.training.objective import Batch, Objective, loss_of
from lottery.training.running_statistics import recalibrate
from lottery.training.shared import LocalStatisticsEngine, SharedObjective
from lottery.training.state import load_optimizer
from lottery.training.trainer import Stopped, Training
from lottery.values import Component

if TYPE_CHECKING:
    from lottery.plan.jobs import Job
    from lottery.runner.context import RunContext


def training_of(context: RunContext, job: Job, start: Start | None = None) -> Training:
    """Return the job's training from a start, or from its own starting point, without hooks or checkpoints.

    Raises:
        Interrupted: Where the run is told to stop while something is compiled for it.
    """
    start, _ = resolve_rate(context.store, start or starting_point(context, job))
    return assemble(context, job, start, timeline_of(context, job, start))


def assemble(context: RunContext, job: Job, start: Start, timeline: Timeline) -> Training:
    """Put a training together: network, optimizer, engine and data, each as the start and the timeline say.

    Args:
        context: What all jobs share.
        job: The job that is trained.
        start: Where it starts, its learning rate resolved.
        timeline: Its lengths in steps.

    Raises:
        Interrupted: Where the run is told to stop while something is compiled for it.
        UsageError: Where the recipe's engine, or a control's own network, cannot be trained.
    """
    train = context.plan.recipe.train
    data = context.data(job.seed, start.dataset)
    model = _network(context, job, start)
    optimizer = optimizer_of(start.spec.optimizer, model)
    if start.optimizer_state is not None and (start.mask.density == 1 or carries_state(start.spec.optimizer.as_dict())):
        load_optimizer(optimizer, start.optimizer_state)

    share = Share(context.group.rank, context.group.size, train.accumulate)
    objective = _objective(context, model, data, timeline.batch_size, share)
    return Training(
        model,
        optimizer,
        data,
        _engine(context, start, timeline, objective, optimizer, data),
        timeline,
        seed=job.seed,
        noise=start.spec.noise,
        multiplier=_multiplier(start.spec, timeline, timeline.steps(train.length)),
        results_from=timeline.first + 1 if start.spec.goes_on else timeline.first,
        stopped=context.told_to_stop,
        before_step=_before_step(job, start, timeline, data, objective),
        before_measuring=_recalibration(model, data, timeline, train.precision, start, context.told_to_stop),
        networks=partial(drawn, model),
        measures=context.plan.recipe.metrics if job.kind is not Kind.TRIAL else (),
        group=context.group,
        share=share,
        restrict=objective.hook.restrict if isinstance(objective, SharedObjective) else lambda factors: None,
    )


def _engine(
    context: RunContext,
    start: Start,
    timeline: Timeline,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    data: Data,
) -> Engine:
    """Return the engine of a training; on several ranks the dense one, as a clock would choose for each by itself.

    Raises:
        Interrupted: Where the run is told to stop while something is compiled for it.
        UsageError: Where the recipe's engine cannot train this.
    """
    if isinstance(objective, SharedObjective):
        local = context.plan.recipe.train.batch_norm == "local"
        return (
            LocalStatisticsEngine(objective, optimizer, context.group) if local else DenseEngine(objective, optimizer)
        )
    mask = start.mask if start.mold is None and start.gradual is None else None
    if context.cohort is not None:
        return context.cohort.engine(objective, optimizer, mask)
    wanted = context.plan.recipe.train.engine
    if wanted == "auto" and context.choices.steps is None and not context.machine.deterministic:  # else nobody asks
        context.choices.steps = steps_in_all(context) // context.jobs
    try:
        return engine_for(
            objective,
            optimizer,
            mask,
            wanted,
            context.machine,
            lambda: data.epoch(0, timeline.batch_size),
            steps=timeline.stop - timeline.first,
            batch_size=timeline.batch_size,
            choices=context.choices,
            background=data.background,
            stopped=context.told_to_stop,
        )
    except Stopped as told:
        raise Interrupted(context.stop.signal or 0) from told


def _before_step(job: Job, start: Start, timeline: Timeline, data: Data, objective: Objective) -> Callable[[int], None]:
    """Return what is done before each step: nothing in one process.

    One of several ranks is told the size of the batch, and draws its dropout from a stream of the step and the rank:
    a checkpoint need not have the generators of all ranks.
    """
    if not isinstance(objective, SharedObjective):
        return lambda step: None
    purpose = noisy(f"dropout of rank {objective.share.rank}", start.spec.noise)
    device = objective.parameters[0].device

    def before_step(step: int) -> None:
        begin = step % timeline.steps_per_epoch * timeline.batch_size
        objective.batch = min(timeline.batch_size, data.train_size - begin)
        seed_torch(stream(job.seed, purpose, step), device)

    return before_step


def _network(context: RunContext, job: Job, start: Start) -> nn.Module:
    """Return the network on the device, with the weights of the start."""
    model = context.networks.blank(start.model)
    load(model, start.weights)
    model.to(context.machine.device)
    if any(isinstance(module, nn.Conv2d) for module in model.modules()):
        model.to(memory_format=torch.channels_last)
    if start.mold is not None:
        start.mold(model)
    if context.plan.recipe.train.batch_norm == "sync":
        synchronize(model, context.group)
    if start.model is not None and job.branch is not None:
        check_other_model(model, context.splits_of(start.dataset).input_shape, job.branch.label)
    return model


def _recalibration(
    model: nn.Module, data: Data, timeline: Timeline, precision: str, start: Start, stopped: Callable[[], bool]
) -> Callable[[], None]:
    """Return what measures running statistics anew before each evaluation; nothing where the training itself does.

    The statistics of a mask without training would be those of other networks: of the dense one, or of all masks that
    are drawn in training.
    """
    if not (start.spec.untrained or start.mold is not None):
        return lambda: None

    def examples() -> Iterator[Batch]:
        for batch in data.evaluation("train", max(2, timeline.batch_size)):
            if stopped():
                raise Stopped
            yield batch

    def anew() -> None:
        with alone(model):  # every rank makes the whole pass
            recalibrate(model, examples(), precision)

    return anew


def check_engine(context: RunContext, optimizer: Component) -> None:
    """Raise UsageError where the recipe, or the run, wants an engine for a network that it cannot train."""
    wanted, cohort = context.plan.recipe.train.engine, context.cohort
    if cohort is not None and wanted != "auto":
        raise UsageError(f"--lockstep {cohort.size}: is an engine, and so is train.engine: {wanted}; write auto there")
    if cohort is not None or wanted not in ("auto", "dense"):  # which train all
        data = context.data(context.plan.recipe.seeds[0])
        model = context.networks.blank().to(context.machine.device)
        component = Component(optimizer.name, {**optimizer.args, "lr": 1.0})  # the rate may not be chosen yet
        objective, made = _objective(context, model, data, 1), optimizer_of(component, model)
        if cohort is None:
            refuse(objective, made, wanted, data.background)
        else:
            cohort.refuse(objective, made)


def _objective(context: RunContext, model: nn.Module, data: Data, batch_size: int, share: Share = WHOLE) -> Objective:
    """Return the training loss of a network on the recipe's terms, for one rank with a share of each batch."""
    train = context.plan.recipe.train
    make = Objective if share.size == 1 else partial(SharedObjective, group=context.group, share=share)
    return make(
        model,
        loss_of(regression=data.regression, label_smoothing=train.label_smoothing),
        lambda: data.evaluation("train", batch_size),
        steps_per_epoch=data.steps_per_epoch(batch_size),
        precision=train.precision,
        clip=train.clip,
        accumulate=train.accumulate,
    )


def optimizer_of(component: Component, model: nn.Module) -> torch.optim.Optimizer:
    """Return a fresh optimizer of the model's parameters."""
    args = {name: value for name, value in component.args.items() if name != "batch_size"}
    entry = registry.optimizers[component.name]
    with without_compiler():
        return entry.checked(entry.make(model, **args), torch.optim.Optimizer)


def _multiplier(spec: Spec, timeline: Timeline, total: int) -> Callable[[int], float]:
    """Return the multiplier of the learning rate by step; the schedule has `total` steps before it is drawn out."""
    warmup = timeline.steps(spec.warmup) if spec.warmup else 0
    rate = multiplier(spec.schedule, warmup, total, timeline.steps)
    if spec.last_rate:
        last = rate(total - 1) if spec.finetune_rate is None else spec.finetune_rate * peak(rate, total)
        return lambda step: last
    return lambda step: rate(int(step // spec.stretch))
