"""Checks of a recipe's analyses that need the network, made before any training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from lottery import registry
from lottery.errors import UsageError
from lottery.landscape.surface import Surface
from lottery.training.objective import loss_of

if TYPE_CHECKING:
    from lottery.runner.context import RunContext

EXAMPLES = 4  # that the derivatives are tried on


def check_analyses(context: RunContext) -> None:
    """Check that the network has what the recipe's analyses need of it.

    Raises:
        UsageError: One takes second derivatives, and the network has none; or it lacks what an entry asks for.
    """
    curvature_tried = False
    for index, analysis in enumerate(context.plan.recipe.analyses):
        entry = registry.analyses[analysis.name]
        try:
            if entry.traits.suits is not None:
                entry.traits.suits(context.networks.blank(), {**entry.defaults, **analysis.component.args})
            if entry.traits.curvature and not curvature_tried:
                curvature_tried = True
                _try_curvature(context)
        except UsageError as error:
            raise UsageError(f"analyses.{index}: {analysis.label}: {error}") from error


def _try_curvature(context: RunContext) -> None:
    """Raise UsageError where the network has no second derivatives."""
    data, train = context.data(context.plan.recipe.seeds[0]), context.plan.recipe.train
    x, y = next(data.evaluation("train", EXAMPLES))
    network = context.networks.drawn().to(x.device)
    loss = loss_of(regression=data.regression, label_smoothing=train.label_smoothing)
    surface = Surface(network, lambda part: iter([(x, y)]), loss=loss)
    surface.hessian_product(torch.ones(surface.size, device=x.device))
