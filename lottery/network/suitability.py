"""Demands of a recipe on the network's weights that this network cannot meet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lottery import registry
from lottery.errors import UsageError
from lottery.network.layout import Layout
from lottery.network.names import layer_name
from lottery.network.plain_weights import changed_weights
from lottery.network.weights import PRUNABLE, places

if TYPE_CHECKING:
    from torch import nn

    from lottery.recipe.schema import Recipe


def check_plain(model: str, network: nn.Module) -> None:
    """Check that layers compute with their weights as they are, so that what is pruned is zero where it counts.

    Raises:
        UsageError: One changes its weight first.
    """
    if changed := [f"{name} ({type(layer).__name__})" for name, layer in changed_weights(network)]:
        more = f" and {len(changed) - 1} more layers" if len(changed) > 1 else ""
        raise UsageError(
            f"model: {model} changes the weight of {changed[0]}{more} before it is used, as weight standardization "
            "does, so that a pruned weight would not be zero; name another model"
        )


def check_weights(recipe: Recipe, network: nn.Module) -> None:
    """Check that the network has weights that the recipe can prune.

    Raises:
        UsageError: There is nothing to prune, weights are not used as they are, there is no embedding where some are
            asked for, or a mask is to be learned for weights that do not belong to a single layer.
    """
    layout = Layout.of(network)
    if not layout.weights:
        raise UsageError(f"model: {recipe.model.name} has no weight that can be pruned; name another model")
    check_plain(recipe.model.name, network)
    if recipe.prune.embeddings and not any(place.kind == "embedding" for place in places(network)):
        raise UsageError(f"prune.embeddings: {recipe.model.name} has none; leave it out")
    shared = set(layout.same.values())
    foreign = [
        layer_name(name)
        for name, place in layout.weights.items()
        if place.parameter in shared or not isinstance(network.get_submodule(place.path), PRUNABLE)
    ]
    for branch in recipe.branches:
        if foreign and registry.branches[branch.name].traits.learned:
            raise UsageError(
                f"branches: {branch.name} learns masks of linear and convolutional layers with a weight of their own, "
                f"and {', '.join(foreign)} of {recipe.model.name} is no such layer's; leave the control out"
            )
