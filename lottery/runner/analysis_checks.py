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
    from lottery.recipe.analyses import AnalysisSpec
    from lottery.runner.context import RunContext

EXAMPLES = 4  # that the derivatives are tried on
ROUNDED = 1.05  # times the weights that a level should have are more than it can have by rounding


def check_analyses(context: RunContext) -> None:
    """Check that there are the steps whose states are kept, and that the network has what the analyses need of it.

    Raises:
        UsageError: A training has no such step; an analysis takes second derivatives, and the network has none; or it
            lacks what an entry asks for, or has more weights than it takes.
    """
    _check_moments(context)
    curvature_tried = False
    for index, analysis in enumerate(context.plan.recipe.analyses):
        entry = registry.analyses[analysis.name]
        try:
            if entry.traits.suits is not None:
                entry.traits.suits(context.networks.blank(), {**entry.defaults, **analysis.component.args})
            if entry.traits.largest is not None:
                _check_size(context, analysis, entry.traits.largest)
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


def _check_size(context: RunContext, analysis: AnalysisSpec, largest: int) -> None:
    """Raise UsageError where it looks at a network that has more weights than it takes, by the densities of the levels.

    Where layers have densities of their own, the dense network alone is looked at.
    """
    prune, network = context.plan.recipe.prune, context.networks.blank()
    densities = [1.0] if prune.densities is not None or prune.rates else nominal_densities(prune)
    every = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    part = sum(parameter.numel() for parameter in prunable(network).values())
    for job in context.plan:
        if job.analysis is None or job.analysis.label != analysis.label:
            continue
        for look in job.looks:
            level = context.plan.jobs[look.mask or look.key].level
            if level >= len(densities):
                continue
            survivors = every - round((1 - densities[level]) * part)
            if survivors > largest * (ROUNDED if level else 1):
                raise UsageError(
                    f"the {look.name} network of level {level} has {'about ' * bool(level)}{survivors:,} weights, and "
                    f"{analysis.name} takes {largest:,} at most; name levels and networks with fewer under `levels` "
                    "and `of`, or a smaller model"
                )


def _try_curvature(context: RunContext) -> None:
    """Raise UsageError where the network has no second derivatives."""
    data, train = context.data(context.plan.recipe.seeds[0]), context.plan.recipe.train
    x, y = next(data.evaluation("train", EXAMPLES))
    network = context.networks.drawn().to(x.device)
    loss = loss_of(regression=data.regression, label_smoothing=train.label_smoothing)
    surface = Surface(network, lambda part: iter([(x, y)]), loss=loss)
    surface.hessian_product(torch.ones(surface.size, device=x.device))
