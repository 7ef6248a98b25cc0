"""Rules of trainings on several ranks: what they need of a recipe, and what cannot be done on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from lottery import registry
from lottery.recipe.entry_rules import keeps_statistics
from lottery.registry import Problem
from lottery.values import Component

if TYPE_CHECKING:
    from lottery.recipe.schema import BranchSpec, TrainSpec

Path = tuple[str | int, ...]

ONE = "run on one rank"


def about_ranks(valid: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield what is wrong with a recipe's own number of ranks; `valid` has the sections that are valid."""
    train, model = valid.get("train"), valid.get("model")
    if train is None:
        return
    yield from _about_batch_norm(train, model)
    if train.ranks is not None:
        yield from refused_on_ranks(train, valid.get("branches", ()), train.ranks)


def _about_batch_norm(train: TrainSpec, model: Component | None) -> Iterator[Problem]:
    """Refuse statistics of each rank's share where nobody knows how many there are, or that no layer has."""
    here = ("train", "batch_norm")
    if train.batch_norm == "sync":
        return
    if train.ranks is None or train.ranks == 1:
        yield (
            here,
            "local normalizes each rank's share by itself, so that their number is part of every result; add "
            "`ranks: 2` or more to train, or leave batch_norm out",
        )
    if model is not None and model.name in registry.models and not keeps_statistics(model):
        yield here, f"local changes nothing in {model.name}, which has no statistics over the batch; leave it out"


def refused_on_ranks(train: TrainSpec, branches: tuple[BranchSpec, ...], ranks: int) -> Iterator[Problem]:
    """Yield the keys of a recipe that cannot be run on so many ranks, each with the reason and the way out."""
    if ranks == 1:
        return
    if train.engine not in ("auto", "dense"):
        yield ("train", "engine"), f"{train.engine} trains in one process; write dense, or {ONE}"
    for index, optimizer in enumerate(train.optimizer):
        yield from _about_optimizer(("train", "optimizer", index), optimizer)
    for index, branch in enumerate(branches):
        if isinstance(own := branch.component.args.get("optimizer"), Component):
            yield from _about_optimizer(("branches", index, "optimizer"), own)
        if branch.name in registry.branches and registry.branches[branch.name].traits.learned:
            yield (
                ("branches", index),
                f"the masks of {branch.name} are learned by one process; leave the branch out, or {ONE}",
            )


def _about_optimizer(here: Path, optimizer: Component) -> Iterator[Problem]:
    """Refuse an optimizer that needs the examples themselves, or one inside it that does."""
    components: list[tuple[Path, Component]] = [((), optimizer), *optimizer.within()]
    for inside, component in components:
        if component.name in registry.optimizers and registry.optimizers[component.name].traits.needs == "examples":
            yield (
                (*here, *inside),
                f"{component.name} needs the batch itself, of which each rank has a share only; take another "
                f"optimizer, or {ONE}",
            )
