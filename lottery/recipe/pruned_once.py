"""Levels at which the control that prunes at once is the ticket itself, so that there is nothing to compare."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from lottery import registry
from lottery.registry import Problem

if TYPE_CHECKING:
    from lottery.recipe.schema import BranchSpec, PruneSpec


def is_the_ticket(branch: BranchSpec, prune: PruneSpec, level: int) -> bool:
    """True if this control of this level has the ticket's mask, start and training to the byte.

    So it is with a control that prunes the trained dense network once (trait `once`) where the ticket is pruned from
    the trained dense network as well: at level 1, and at every density of `prune.one_shot`. Rewind modes, scopes,
    `rates`, `densities` and rounds are the same for both. A criterion that draws its scores draws others for each.
    """
    if branch.name not in registry.branches or not registry.branches[branch.name].traits.once:
        return False
    if prune.criterion.name not in registry.criteria:
        return False
    criterion = registry.criteria[prune.criterion.name]
    draws = criterion.traits.draws
    if bool(criterion.code) if draws is None else draws:  # a plugin's may, unless it says that it does not
        return False
    return prune.when == "trained" and (level == 1 or prune.one_shot is not None)


def levels_of(branch: BranchSpec, prune: PruneSpec) -> list[int]:
    """Return the levels at which the plan has a control: those asked for, where it is not the ticket itself."""
    sparse = range(1, prune.deepest + 1)
    asked = sparse if branch.levels is None else [level for level in sparse if level in branch.levels]
    return [level for level in asked if not is_the_ticket(branch, prune, level)]


def about_controls_that_are_tickets(valid: Mapping[str, Any]) -> Iterator[Problem]:
    """Refuse a control that would be the ticket itself at each level that is asked for."""
    prune = valid.get("prune")
    if prune is None:
        return
    for index, branch in enumerate(valid.get("branches", ())):
        asked = range(1, prune.deepest + 1) if branch.levels is None else branch.levels
        if not asked or not all(is_the_ticket(branch, prune, level) for level in asked):
            continue
        itself = f"at level 1 {branch.name} is the ticket itself, pruned once from the dense network"
        if prune.one_shot is not None:
            told = f"tickets of prune.one_shot are pruned once from the dense network, as {branch.name} is"
            yield ("branches", index), f"{told}; leave the branch out"
        elif branch.levels is None:
            yield ("branches", index), f"{itself}; raise prune.levels, or leave the branch out"
        else:
            yield ("branches", index, "levels"), f"{itself}; name a level from 2 on"
