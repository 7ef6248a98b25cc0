"""Checks of what cannot be trained on several ranks, or not on so many: refused before any training."""

from __future__ import annotations

from lottery import registry
from lottery.distributed.share import parts_of
from lottery.errors import UsageError
from lottery.recipe.rank_rules import ONE, refused_on_ranks
from lottery.runner.assemble import optimizer_of
from lottery.runner.batch_sizes import TriedNetwork, trained_batches
from lottery.runner.context import RunContext
from lottery.values import Component


def check_ranks(context: RunContext) -> None:
    """Check that ranks can train all of the study together, and that each can have its share of every batch.

    Their number is that of this run, or the one that the recipe's results are of.

    Raises:
        UsageError: They cannot; the message says which key of the recipe, or how many ranks, to change.
    """
    recipe = context.plan.recipe
    ranks = recipe.train.ranks if recipe.train.batch_norm == "local" else context.group.size
    assert ranks is not None  # which the recipe was refused without
    for path, why in refused_on_ranks(recipe.train, recipe.branches, ranks):
        raise UsageError(f"{'.'.join(map(str, path))}: {why}")
    if ranks == 1:
        return
    inside = [branch.component.args.get("optimizer") for branch in recipe.branches]
    for optimizer in [*recipe.train.optimizer, *(each for each in inside if isinstance(each, Component))]:
        _check_needs(context, optimizer)
    network = TriedNetwork(context, recipe.seeds[0])
    for key, length, size, examples in trained_batches(context):
        part = length // parts_of(length, recipe.train.accumulate)
        if part < ranks:
            raise UsageError(_message(key, length, size, examples, part, ranks))
        share = part // ranks
        if recipe.train.batch_norm == "local" and (refused := network.refusal(share)) is not None:
            raise UsageError(
                f"{key}: a batch of {length} examples leaves {share} for a rank, which {refused.layer} cannot take: "
                f"{refused.why}; write `train.batch_norm: sync`, take fewer ranks, or other sizes"
            )


def check_number(context: RunContext) -> None:
    """Check that this run has the number of ranks that the recipe's results are of, if they depend on it.

    Raises:
        UsageError: It has another.
    """
    train, ranks = context.plan.recipe.train, context.group.size
    if train.batch_norm == "local" and train.ranks != ranks:
        raise UsageError(
            f"train.ranks: with `batch_norm: local` the results are those of {train.ranks} ranks, and this run has "
            f"{ranks}; run with `--ranks {train.ranks}`, or change the recipe, which makes other trainings of it"
        )


def _check_needs(context: RunContext, component: Component) -> None:
    """Raise UsageError for an optimizer from outside that looks at the training loss itself, and does not say how."""
    entry = registry.optimizers[component.name]
    if entry.traits.needs is not None or entry.make.__module__.startswith("lottery."):
        return
    given = Component(component.name, {**component.args, "lr": 1.0})  # the rate may not be chosen yet
    if hasattr(optimizer_of(given, context.networks.blank()), "objective"):
        raise UsageError(
            f"train.optimizer: {component.name} has an attribute `objective`, and its entry does not say what it does "
            f"with it; give it the trait `needs`, or {ONE}"
        )


def _message(key: str, length: int, size: int, examples: int, part: int, ranks: int) -> str:
    """Return the words of an error: which batch is too small, and what to write in its place."""
    whole = f"a batch of {length} examples" if length == size else f"the last of the batches of {size}, {length} of "
    whole += "" if length == size else f"{examples} examples,"
    parts = f" in parts of {part} (train.accumulate)" if part < length else ""
    return f"{key}: {whole}{parts} is less than an example for each of {ranks} ranks; take fewer ranks, or other sizes"
