"""Checks of a plan that need the data or the network, made before any training."""

from __future__ import annotations

import logging

from lottery import registry
from lottery.data.holdout import lost_class
from lottery.errors import UsageError
from lottery.network.build import prunable
from lottery.network.suitability import check_weights
from lottery.plan.kinds import Kind
from lottery.plan.rewind_search import latest_step
from lottery.pruning.mask import Mask
from lottery.recipe import finetuning
from lottery.runner.analysis_checks import check_analyses, check_sizes
from lottery.runner.assemble import check_engine
from lottery.runner.batch_sizes import check_batches
from lottery.runner.context import RunContext
from lottery.runner.criterion_check import check_criterion
from lottery.runner.entry_checks import check_outputs
from lottery.runner.rank_checks import check_ranks
from lottery.runner.stored_level import StoredLevel
from lottery.runner.timelines import whole_timeline
from lottery.values import Component


def check(context: RunContext) -> None:
    """Check what only the model and the data can tell: layers that rates name, lengths in steps.

    Raises:
        UsageError: Where the recipe does not fit them.
    """
    recipe, seed = context.plan.recipe, context.plan.recipe.seeds[0]
    context.check_data(seed)
    network = context.networks.blank()
    mask = Mask.dense(prunable(network))
    check_outputs(context, seed)
    check_weights(recipe, network)
    _check_controls(context)
    for job in context.plan:
        if job.kind is Kind.TICKET and job.seed == seed:
            StoredLevel(context, job).pruning.check(mask)
    if recipe.train.label_smoothing and context.splits.regression:
        raise UsageError("train.label_smoothing: is for classes, the targets of these data are numbers; leave it out")
    _check_metrics(context)
    _check_classes(context)
    for optimizer in recipe.train.optimizer:
        check_engine(context, optimizer)
    check_criterion(context)
    check_analyses(context)
    check_sizes(context)
    _check_lengths(context)
    check_batches(context, seed)
    check_ranks(context)


def _check_controls(context: RunContext) -> None:
    """Raise UsageError where the network lacks what a control needs."""
    for index, branch in enumerate(context.plan.recipe.branches):
        entry = registry.branches[branch.name]
        if entry.traits.suits is not None:
            try:
                entry.traits.suits(context.networks.blank(), entry.all_arguments(branch.component.args))
            except UsageError as error:
                raise UsageError(f"branches.{index}: {branch.label}: {error}") from error


def _check_metrics(context: RunContext) -> None:
    """Raise UsageError where what is measured beside accuracy has no meaning for these data."""
    data, metrics = context.splits, context.plan.recipe.metrics
    if metrics and data.regression:
        raise UsageError(f"metrics: {metrics[0]} is of classes, the targets of these data are numbers; leave it out")
    if "top5" in metrics and data.classes < 6:
        raise UsageError(f"metrics: top5 of {data.classes} classes is always 1; leave it out")


def _check_classes(context: RunContext) -> None:
    """Warn where the split of a seed leaves nothing of a class to train on."""
    recipe, data = context.plan.recipe, context.plan.recipe.data
    if data.stratify or not (data.validation or data.limit):  # where there are all, or some of each
        return
    if lost := lost_class(context.splits.train_y, recipe.seeds, data.validation, data.limit):
        logging.getLogger("lottery").warning(
            "data: the split of seed %d leaves no training example of class %d; `stratify: true` keeps some of each",
            *lost,
        )


def _check_lengths(context: RunContext) -> None:
    """Raise UsageError where a point that the recipe names lies outside the training with one of its optimizers."""
    recipe = context.plan.recipe
    inside = [branch.component.args.get("optimizer") for branch in recipe.branches]
    for optimizer in [*recipe.train.optimizer, *(each for each in inside if isinstance(each, Component))]:
        whole = whole_timeline(context, optimizer)
        total, steps = whole.total, whole.steps
        points = [steps(rewind.to) for rewind in recipe.rewind]
        for rewind, point in zip(recipe.rewind, points, strict=True):
            if point >= total:
                raise UsageError(
                    f"rewind: {rewind.to} is not before the end of training at step {total} ({optimizer.name})"
                )
        if recipe.search is not None and steps(latest := latest_step(recipe)) >= total:
            raise UsageError(
                f"rewind.auto.latest: {latest} is not before the end of training at step {total} ({optimizer.name}); "
                "choose an earlier step"
            )
        for index, analysis in enumerate(recipe.analyses):
            for at in analysis.at or ():
                if steps(at) >= total:
                    raise UsageError(
                        f"analyses.{index}.at: {at} is not before the end of training at step {total} "
                        f"({optimizer.name}); choose an earlier step"
                    )
        _check_other_data(context, optimizer)
        finetuning.check(recipe, steps)
        if (during := recipe.prune.during) is not None:
            start, end = steps(during.start), steps(during.end)
            if not max(start, *points) < end <= total:
                raise UsageError(
                    f"prune.during: from step {start}, or the rewind point, to {end} is no stretch of the {total} "
                    f"steps ({optimizer.name})"
                )


def _check_other_data(context: RunContext, optimizer: Component) -> None:
    """Raise UsageError where nothing is left to train on other data, on which epochs are other steps."""
    recipe = context.plan.recipe
    for index, branch in enumerate(recipe.branches):
        if (dataset := branch.component.args.get("dataset")) is None:
            continue
        there = whole_timeline(context, optimizer, dataset)
        for rewind in recipe.rewind:
            if (point := there.steps(rewind.to)) >= there.total:
                raise UsageError(
                    f"branches.{index}.dataset: on {dataset.name} the rewind point {rewind.to} is step {point} and "
                    f"train.length {recipe.train.length} ends at step {there.total}: nothing is left to train "
                    f"({optimizer.name}); give both in the same unit"
                )
