"""Rules of criteria: the scope and rounds that a criterion brings along, and what it cannot score."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lottery import registry
from lottery.registry import Problem
from lottery.traits import Scope


def own_scope(prune: dict[str, Any]) -> Scope:
    """Return the scope of a recipe that names none.

    It is the criterion's own, but `layer` if the recipe gives the density of each layer. `prune` are the fields of the
    section that come before.
    """
    if prune["densities"] is not None or prune["criterion"].name not in registry.criteria:
        return "layer"
    return registry.criteria[prune["criterion"].name].traits.scope


def own_rounds(criterion: str) -> int:
    """Return how often scores are computed on the way to a level if a recipe does not say."""
    return registry.criteria[criterion].traits.rounds


def about_criterion(prune: Any, data: Any, model: Any) -> Iterator[Problem]:
    """Yield what is wrong between a recipe's criterion and its data or model, each of which may be None."""
    name, here = prune.criterion.name, ("prune", "criterion")
    if name not in registry.criteria:
        return
    entry = registry.criteria[name]
    wanted = entry.all_arguments(prune.criterion.args).get("examples")
    if data and data.limit is not None and isinstance(wanted, int) and wanted > data.limit:
        path = (*here, "examples") if "examples" in prune.criterion.args else here
        yield path, too_few(name, wanted, data.limit)
    gated = model and model.name in registry.models and registry.models[model.name].traits.gates
    if gated and entry.traits.paths:
        yield here, no_path_sum(name, model.name)


def too_few(criterion: str, wanted: int, there: int) -> str:
    """Return what to tell a user whose criterion looks at more examples than there are."""
    return f"{criterion} looks at {wanted} examples, the seed trains on {there}; write `examples: {there}` or less"


def no_path_sum(criterion: str, model: str) -> str:
    """Return what to tell a user whose network has no path sums."""
    return (
        f"{criterion} scores sums over paths of weights, and {model} multiplies what it computes, as gates and "
        "attention do; name another criterion"
    )
