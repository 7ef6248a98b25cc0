"""Checks of a plan that need the data or the network, made before any training."""

from __future__ import annotations

import logging
from functools import partial

from lottery.data.holdout import lost_class
from lottery.errors import UsageError
from lottery.network.build import prunable
from lottery.network.suitability import check_weights
from lottery.plan.jobs import other_data
from lottery.pruning.mask import Mask
from lottery.recipe import finetuning
from lottery.runner.assemble import check_engine
from lottery.runner.batch_sizes import check_batches
from lottery.runner.context import RunContext
from lottery.runner.criterion_check import check_criterion
from lottery.runner.stored_level import StoredLevel
from lottery.values import Component


def check(context: RunContext) -> None:
    """What only the model and the data can tell: layers that rates name, lengths in steps. Raises UsageError."""
    recipe, seed = context.plan.recipe, context.plan.recipe.seeds[0]
    network = context.blank()
    mask = Mask.dense(prunable(network))
    check_weights(recipe, network)
    for job in context.plan:
        if job.kind == "ticket" and job.seed == seed:
            StoredLevel(context, job).pruning.check(mask)
    for dataset in other_data(recipe):
        context.data(seed, dataset)
    if recipe.train.label_smoothing and context.data(seed).regression:
        raise UsageError("train.label_smoothing: is for classes, the targets of these data are numbers; leave it out")
    _check_metrics(context, seed)
    _check_classes(context)
    for optimizer in recipe.train.optimizer:
        check_engine(context, optimizer)
    check_criterion(context)
    _check_lengths(context, seed)
    check_batches(context, seed)


def _check_metrics(context: RunContext, seed: int) -> None:
    """What is measured beside accuracy has a meaning for these data."""
    data, metrics = context.data(seed), context.plan.recipe.metrics
    if metrics and data.regression:
        raise UsageError(f"metrics: {metrics[0]} is of classes, the targets of these data are numbers; leave it out")
    if "top5" in metrics and data.classes < 6:
        raise UsageError(f"metrics: top5 of {data.classes} classes is always 1; leave it out")


def _check_classes(context: RunContext) -> None:
    """Say it where the split of a seed leaves nothing of a class to train on."""
    recipe, data = context.plan.recipe, context.plan.recipe.data
    if data.stratify or not (data.validation or data.limit):  # where there are all, or some of each
        return
    if lost := lost_class(context.splits.train_y, recipe.seeds, data.validation, data.limit):
        logging.getLogger("lottery").warning(
            "data: the split of seed %d leaves no training example of class %d; `stratify: true` keeps some of each",
            *lost,
        )


def _check_lengths(context: RunContext, seed: int) -> None:
    """Points of the training that the recipe names, in steps of each optimizer it trains with."""
    recipe = context.plan.recipe
    inside = [branch.component.args.get("optimizer") for branch in recipe.branches]
    for optimizer in [*recipe.train.optimizer, *(each for each in inside if isinstance(each, Component))]:
        total = context.steps(recipe.train.length, seed, optimizer)
        points = [context.steps(rewind.to, seed, optimizer) for rewind in recipe.rewind]
        for rewind, point in zip(recipe.rewind, points, strict=True):
            if point >= total:
                raise UsageError(
                    f"rewind: {rewind.to} is not before the end of training at step {total} ({optimizer.name})"
                )
        _check_other_data(context, seed, optimizer)
        finetuning.check(recipe, partial(context.steps, seed=seed, optimizer=optimizer))
        if (during := recipe.prune.during) is not None:
            start, end = (context.steps(length, seed, optimizer) for length in (during.start, during.end))
            if not max(start, *points) < end <= total:
                raise UsageError(
                    f"prune.during: from step {start}, or the rewind point, to {end} is no stretch of the {total} "
                    f"steps ({optimizer.name})"
                )


def _check_other_data(context: RunContext, seed: int, optimizer: Component) -> None:
    """A rewind point, or a length, in epochs is another step on other data: something must be left to train."""
    recipe = context.plan.recipe
    for index, branch in enumerate(recipe.branches):
        if (dataset := branch.component.args.get("dataset")) is None:
            continue
        total = context.steps(recipe.train.length, seed, optimizer, dataset)
        for rewind in recipe.rewind:
            if (point := context.steps(rewind.to, seed, optimizer, dataset)) >= total:
                raise UsageError(
                    f"branches.{index}.dataset: on {dataset.name} the rewind point {rewind.to} is step {point} and "
                    f"train.length {recipe.train.length} ends at step {total}: nothing is left to train "
                    f"({optimizer.name}); give both in the same unit"
                )
