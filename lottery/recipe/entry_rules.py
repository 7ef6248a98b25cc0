"""Settings of single entries that do not go with the rest of a recipe: own trunks, learned masks, norms of an init."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lottery import registry
from lottery.recipe.pruned_once import about_controls_that_are_tickets
from lottery.registry import Problem
from lottery.values import Component

NO_SIZE = "{} no meaning under the norm {}, which sets their size itself"


def about_entries(valid: Mapping[str, Any]) -> Iterator[Problem]:
    """What is wrong with settings of branches and of the init, looking only at sections that are valid themselves."""
    model, init = valid.get("model"), valid.get("init")
    norm = str(_norm(model)) if model is not None and model.name in registry.models else ""
    of_weights = norm in registry.normalizations and registry.normalizations[norm].traits.weight
    yield from _about_own_trunks(valid)
    yield from about_controls_that_are_tickets(valid)
    for index, branch in enumerate(valid.get("branches", ())):
        args = branch.component.args
        if args.get("draws", 1) != 1 and args.get("evaluate") == "rounded":
            yield ("branches", index, "draws"), "evaluate: rounded knows one mask and draws none; leave draws out"
        sized = branch.name in ("constant", "random_signs") or "constant" in str(args.get("weights"))
        if (sized or args.get("scaled")) and of_weights:
            what = "weights of one size have" if sized else "a scale of weights has"
            yield ("branches", index), NO_SIZE.format(what, norm)
    if init is not None and init.args.get("norms") == "uniform" and (norm == "none" or of_weights):
        yield ("init", "norms"), f"with norm: {norm} the model has no normalization whose weights can be drawn"


def _about_own_trunks(valid: Mapping[str, Any]) -> Iterator[Problem]:
    """Levels that follow from each other, all of them."""
    prune = valid.get("prune")
    for index, branch in enumerate(valid.get("branches", ())):
        if branch.trunk != "own" or branch.name not in registry.branches:
            continue
        here = ("branches", index, "trunk")
        if not registry.branches[branch.name].traits.own_trunk:
            able = ", ".join(entry.name for entry in registry.branches if entry.traits.own_trunk)
            yield here, f"own is for controls that put other weights under the pruned mask ({able}); leave it out"
        elif prune is not None and (why := _without_levels(prune)):
            yield here, f"{why}, so that no level of its own is there to prune again; leave it out"
        if branch.levels is not None and sorted(branch.levels) != list(range(1, len(branch.levels) + 1)):
            path = ("branches", index, "levels")
            yield (
                path,
                "a trunk of its own is trained level by level from the first on; write [1, 2, ...] up to the last",
            )


def _norm(model: Component) -> Any:
    return {**registry.models[model.name].defaults, **model.args}.get("norm")


def _without_levels(prune: Any) -> str:
    """Why levels do not follow from each other, or which are asked for is not known."""
    if prune.one_shot is not None:
        return "with prune.one_shot each density is pruned from the dense network"
    if prune.when != "trained":
        return f"with prune.when {prune.when} no trained network is pruned"
    return "with prune.levels auto not every level is asked of every seed" if prune.auto is not None else ""
