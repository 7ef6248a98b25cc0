"""Checks of a recipe's analyses that need the network, made before any training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from lottery import registry
from lottery.errors import UsageError
from lottery.landscape.surface import Surface
from lottery.network.build import prunable
from lottery.plan.kinds import Kind
from lottery.recipe.rewind_search import nominal_densities
from lottery.runner.states import step_of
from lottery.runner.timelines import planned_timeline
from lottery.training.objective import loss_of

if TYPE_CHECKING:
    from lottery.runner.context import RunContext

EXAMPLES = 4  # that the derivatives are tried on
ROUNDED = 1.05  # times the weights that a level should have are more than it can have by rounding


def check_analyses(context: RunContext) -> None:
    """Check that there are the steps whose states are kept, and that the network has what the analyses need of it.

    Raises:
        UsageError: A training has no such step; an analysis takes second derivatives, and the network has none; or it
            lacks what an entry asks for.
    """
    _check_moments(context)
    curvature_tried = False
    for index, analysis in enumerate(context.plan.recipe.analyses):
        entry = registry.analyses[analysis.name]
        try:
            if entry.traits.suits is not None:
                entry.traits.suits(context.networks.blank(), entry.all_arguments(analysis.component.args))
            if entry.traits.curvature and not curvature_tried:
                curvature_tried = True
                _try_curvature(context)
        except UsageError as error:
            raise UsageError(f"analyses.{index}: {analysis.label}: {error}") from error


def _check_moments(context: RunContext) -> None:
    """Raise UsageError where a state is to be kept at a step that its training does not have."""
    keep = context.plan.recipe.keep
    if keep is None:
        return
    for states in context.plan:
        if states.kind is not Kind.STATES or states.seed != context.plan.recipe.seeds[0]:
            continue
        training = context.plan.jobs[states.parent or ""]
        planned = planned_timeline(context, training)
        for moment in states.moments:
            step = step_of(moment, planned)
            if step is not None and not planned.first <= step <= planned.stop and moment in keep.at:
                raise UsageError(
                    f"keep.at.{keep.at.index(moment)}: {moment} is not between the start of {training.label}, step "
                    f"{planned.first}, and its end, step {planned.stop}; write another, or shares such as `10 points`"
                )


def check_sizes(context: RunContext) -> None:
    """Check that analyses look at networks that are small enough for them, by the densities of the recipe's levels.

    Where layers have densities of their own, the dense network alone is checked; the entry refuses others.

    Raises:
        UsageError: One has more weights than the analysis takes.
    """
    prune, network = context.plan.recipe.prune, context.networks.blank()
    own = prune.densities is not None or prune.rates or prune.embeddings
    densities = [1.0] if own else nominal_densities(prune)
    every = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    part = sum(parameter.numel() for parameter in prunable(network).values())
    labels = [analysis.label for analysis in context.plan.recipe.analyses]
    for job in context.plan:
        if job.analysis is None or (largest := registry.analyses[job.analysis.name].traits.largest) is None:
            continue
        for look in job.looks:
            level = context.plan.jobs[look.mask or look.key].level
            if level >= len(densities):
                continue
            survivors = every - round((1 - densities[level]) * part)
            if survivors > largest * (ROUNDED if level else 1):
                label, name = job.analysis.label, job.analysis.name
                raise UsageError(
                    f"analyses.{labels.index(label)}: {label}: {look.name} of level {level} has "
                    f"{'about ' * bool(level)}{survivors:,} weights, and {name} takes {largest:,} at most; "
                    "name levels and networks with fewer by `levels` and `of`, or a smaller model"
                )


def _try_curvature(context: RunContext) -> None:
    """Raise UsageError where the network has no second derivatives."""
    data, train = context.data(context.plan.recipe.seeds[0]), context.plan.recipe.train
    x, y = next(data.evaluation("train", EXAMPLES))
    network = context.networks.drawn().to(x.device)
    loss = loss_of(regression=data.regression, label_smoothing=train.label_smoothing)
    surface = Surface(network, lambda part: iter([(x, y)]), loss=loss)
    surface.hessian_product(torch.ones(surface.size, device=x.device))
