"""Checks of a recipe's criterion that need the data or the network, made before any training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from lottery import registry
from lottery.data.holdout import split
from lottery.errors import UsageError
from lottery.network.build import own_parameters, prunable
from lottery.pruning.path_sums import sums_paths
from lottery.recipe.criterion_rules import no_path_sum, too_few

if TYPE_CHECKING:
    from lottery.runner.context import RunContext


def check_criterion(context: RunContext) -> None:
    """Check that the data and the network have what the recipe's criterion looks at.

    Raises:
        UsageError: Where it needs more examples than there are, or another network.
    """
    recipe = context.plan.recipe
    given, entry = recipe.prune.criterion, registry.criteria[recipe.prune.criterion.name]
    if not recipe.prune.deepest:
        return
    args, size = entry.all_arguments(given.args), context.sizes().train
    if (args.get("examples") or 0) > size:
        raise UsageError(f"prune.criterion: {too_few(given.name, args['examples'], size)}")
    if "per_class" in args:
        _check_classes(context, given.name, args["per_class"])
    if entry.traits.paths:
        network = context.networks.blank()
        own_parameters(network, prunable(network))
        if not sums_paths(network.to(context.machine.device), context.splits.input_shape):
            raise UsageError(f"prune.criterion: {no_path_sum(given.name, recipe.model.name)}")


def _check_classes(context: RunContext, criterion: str, wanted: int) -> None:
    """Raise UsageError where a seed does not train on so many examples of each class."""
    data, splits = context.plan.recipe.data, context.splits
    if splits.regression:
        raise UsageError(
            f"prune.criterion: {criterion} takes {wanted} examples of each class, and the targets of these data are "
            "numbers; name another criterion, such as snip"
        )
    for seed in context.plan.recipe.seeds:
        _, kept = split(splits.train_y, seed, data.validation, data.limit, data.stratify)
        counts = torch.bincount(splits.train_y[kept], minlength=splits.classes)
        least = int(counts.argmin())
        if (there := int(counts[least])) < wanted:
            way = f"write `per_class: {there}` or less" if there else "name another criterion"
            raise UsageError(
                f"prune.criterion: {criterion} takes {wanted} examples of each class, seed {seed} trains on {there} of "
                f"class {least}; {way}, or give it more data"
            )
