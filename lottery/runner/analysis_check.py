"""A check of a recipe's analyses that needs the network, made before any training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from lottery import registry
from lottery.device import prepared
from lottery.errors import UsageError
from lottery.landscape.surface import Surface
from lottery.training.objective import loss_of

if TYPE_CHECKING:
    from lottery.runner.context import RunContext
    from lottery.training.objective import Batch


def check_analyses(context: RunContext) -> None:
    """Check that the network has the derivatives that the recipe's analyses take.

    Raises:
        UsageError: Where it has no second derivatives, and one of them takes some.
    """
    recipe = context.plan.recipe
    curved = [index for index, each in enumerate(recipe.analyses) if registry.analyses[each.name].traits.curvature]
    if not curved:
        return
    data, device = context.data(recipe.seeds[0]), context.machine.device
    x, y = next(data.evaluation("train", 2))
    batch: Batch = x[:2], y[:2]
    loss = loss_of(regression=data.regression, label_smoothing=recipe.train.label_smoothing)
    with prepared(context.machine, "fp32"):
        network = context.networks.network(recipe.seeds[0]).to(device)
        surface = Surface(network, lambda part: iter([batch]), loss=loss)
        try:
            surface.hessian_product(torch.ones(surface.size, device=device))
        except UsageError as error:
            raise UsageError(f"analyses.{curved[0]}: {error}") from error
