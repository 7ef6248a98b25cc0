"""Checks of what cannot be trained on several ranks, or not on so many: refused before any training."""

from __future__ import annotations

from lottery import registry
from lottery.distributed.share import parts_of
from lottery.errors import UsageError
from lottery.runner.batch_sizes import trained_batches
from lottery.runner.context import RunContext


def check_ranks(context: RunContext) -> None:
    """Check that each rank can have its share of every training of the study.

    Raises:
        UsageError: It cannot; the message says which key of the recipe, or how many ranks, to change.
    """
    recipe, ranks = context.plan.recipe, context.group.size
    if ranks == 1:
        return
    if recipe.train.engine not in ("auto", "dense"):
        raise UsageError(
            f"train.engine: {recipe.train.engine} trains in one process; write dense, or run without --ranks"
        )
    for index, branch in enumerate(recipe.branches):
        if registry.branches[branch.name].traits.learned:
            raise UsageError(
                f"branches.{index}: the masks of {branch.name} are learned by one process; leave the branch out, or "
                "run without --ranks"
            )
    for key, length, size, examples in trained_batches(context):
        part = length // parts_of(length, recipe.train.accumulate)
        if part < ranks:
            raise UsageError(_message(key, length, size, examples, part, ranks))


def _message(key: str, length: int, size: int, examples: int, part: int, ranks: int) -> str:
    """Return the words of an error: which batch is too small, and what to write in its place."""
    whole = f"a batch of {length} examples" if length == size else f"the last of the batches of {size}, {length} of "
    whole += "" if length == size else f"{examples} examples,"
    parts = f" in parts of {part} (train.accumulate)" if part < length else ""
    return f"{key}: {whole}{parts} is less than an example for each of {ranks} ranks; take fewer ranks, or other sizes"
