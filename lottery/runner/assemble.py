"""From a job to its training: where it starts, what scores its weights, which network, optimizer and data it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import nn

from lottery import registry
from lottery.catalogue.branches._learned import drawn
from lottery.data.loader import Data
from lottery.engines.choose import engine_for, refuse
from lottery.errors import Interrupted
from lottery.network.layout import load
from lottery.plan.origins import carries_state
from lottery.pruning.start import Spec, Start
from lottery.recipe.learning_rate import multiplier, peak
from lottery.runner.batch_sizes import check_other_model
from lottery.runner.context import loss_of
from lottery.runner.starting_point import starting_point
from lottery.training.objective import Batch, Objective
from lottery.training.running_statistics import recalibrate
from lottery.training.state import load_optimizer
from lottery.training.trainer import Stopped, Training
from lottery.values import Component, Duration

if TYPE_CHECKING:
    from lottery.plan.jobs import Job
    from lottery.runner.context import RunContext


def training_of(context: RunContext, job: Job, start: Start | None = None) -> Training:
    """The job's training, from its starting point, without hooks or checkpoints. Raises Interrupted where the context
    is told to stop while something is compiled for it.
    """
    start = start or starting_point(context, job)
    train, device = context.plan.recipe.train, context.machine.device
    data = context.data(job.seed, start.dataset)
    model = context.blank(start.model)
    load(model, start.weights)
    model.to(device)
    if any(isinstance(module, nn.Conv2d) for module in model.modules()):
        model.to(memory_format=torch.channels_last)
    if start.mold is not None:
        start.mold(model)
    component = context.optimizer(start.spec.optimizer)
    optimizer = optimizer_of(component, model)
    if start.optimizer_state is not None and (start.mask.density == 1 or carries_state(component.as_dict())):
        load_optimizer(optimizer, start.optimizer_state)
    batch_size = context.batch_size(component, job.seed, start.dataset)
    if start.model is not None and job.branch is not None:
        check_other_model(model, data.input_shape, job.branch.label)

    def steps(length: Duration) -> int:
        return context.steps(length, job.seed, component, start.dataset)

    stretch, first = start.spec.stretch, start.spec.first
    total = int(steps(train.length) * stretch)  # a stretch is of whole steps
    if first and job.rewind:
        first = steps(job.rewind.to)  # as this optimizer, with its batch size, counts it on these data
    stop = steps(job.rewind.to) if job.kind == "rewind" and job.rewind else total
    stop = first if start.spec.untrained else stop

    def stopped() -> bool:
        return context.stop.signal is not None

    def training_examples() -> Iterator[Batch]:
        for batch in data.evaluation("train", max(2, batch_size)):
            if stopped():
                raise Stopped
            yield batch

    def recalibrated() -> None:
        recalibrate(model, training_examples(), train.precision)

    # the statistics of these would be those of other networks: the dense one, or those of all masks drawn in training
    mask_alone = start.spec.untrained or start.mold is not None
    try:
        engine = engine_for(
            _objective(context, model, data, batch_size),
            optimizer,
            start.mask if start.mold is None and start.gradual is None else None,
            train.engine,
            context.machine,
            lambda: data.epoch(0, batch_size),
            steps=stop - first,
            background=data.background,
            stopped=stopped,
        )
    except Stopped as told:
        raise Interrupted(context.stop.signal or 0) from told
    return Training(
        model,
        optimizer,
        data,
        engine,
        seed=job.seed,
        first=first,
        stop=stop,
        total=total,
        batch_size=batch_size,
        evaluate_every=steps(train.evaluate_every) * stretch,
        multiplier=_multiplier(start.spec, steps(train.length), steps),
        results_from=first + 1 if start.spec.goes_on else first,
        stopped=stopped,
        before_measuring=recalibrated if mask_alone else lambda: None,
        networks=partial(drawn, model),
        measures=context.plan.recipe.metrics if job.kind != "trial" else (),
    )


def check_engine(context: RunContext, optimizer: Component) -> None:
    """Raises UsageError where the recipe wants an engine for a network that it cannot train."""
    wanted = context.plan.recipe.train.engine
    if wanted not in ("auto", "dense"):  # which train all
        data, model = context.data(context.plan.recipe.seeds[0]), context.blank().to(context.machine.device)
        component = Component(optimizer.name, {**optimizer.args, "lr": 1.0})  # the rate may not be chosen yet
        refuse(_objective(context, model, data, 1), optimizer_of(component, model), wanted, data.background)


def _objective(context: RunContext, model: nn.Module, data: Data, batch_size: int) -> Objective:
    train = context.plan.recipe.train
    return Objective(
        model,
        loss_of(context, data),
        lambda: data.evaluation("train", batch_size),
        steps_per_epoch=data.steps_per_epoch(batch_size),
        precision=train.precision,
        clip=train.clip,
        accumulate=train.accumulate,
    )


def optimizer_of(component: Component, model: nn.Module) -> torch.optim.Optimizer:
    args = {name: value for name, value in component.args.items() if name != "batch_size"}
    optimizer = registry.optimizers[component.name].make(model, **args)
    assert isinstance(optimizer, torch.optim.Optimizer)
    return optimizer


def _multiplier(spec: Spec, total: int, steps: Callable[[Duration], int]) -> Callable[[int], float]:
    rate = multiplier(spec.schedule, steps(spec.warmup) if spec.warmup else 0, total, steps)
    if spec.last_rate:
        last = rate(total - 1) if spec.finetune_rate is None else spec.finetune_rate * peak(rate, total)
        return lambda step: last
    return lambda step: rate(int(step // spec.stretch))
