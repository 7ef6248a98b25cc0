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
    """Check that the network has the derivatives that the recipe's analyses take.

    Raises:
        UsageError: One takes second derivatives, and the network has none.
    """
    curved = [
        (index, analysis)
        for index, analysis in enumerate(context.plan.recipe.analyses)
        if registry.analyses[analysis.name].traits.curvature
    ]
    if not curved:
        return
    data, train = context.data(context.plan.recipe.seeds[0]), context.plan.recipe.train
    x, y = next(data.evaluation("train", EXAMPLES))
    network = context.networks.drawn().to(x.device)
    loss = loss_of(regression=data.regression, label_smoothing=train.label_smoothing)
    surface = Surface(network, lambda part: iter([(x, y)]), loss=loss)
    try:
        surface.hessian_product(torch.ones(surface.size, device=x.device))
    except UsageError as error:
        index, analysis = curved[0]
        raise UsageError(f"analyses.{index}: {analysis.label}: {error}") from error
