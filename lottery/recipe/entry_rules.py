"""Checks of what single entries of the catalogues need of the rest of a recipe, or cannot work with."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from lottery import registry
from lottery.recipe.pruned_once import about_controls_that_are_tickets
from lottery.registry import Problem
from lottery.traits import Setting
from lottery.values import Component

if TYPE_CHECKING:
    from lottery.recipe.schema import DataSpec, PruneSpec, TrainSpec

Path = tuple[str | int, ...]

NO_SIZE = "{} no meaning under the norm {}, which sets their size itself"


def about_entries(valid: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield settings that an entry cannot work with; `valid` has the sections that are valid by themselves."""
    yield from _about_crops(valid.get("data"))
    yield from _about_optimizers(valid)
    yield from _about_own_trunks(valid)
    yield from about_controls_that_are_tickets(valid)
    yield from _about_sizes(valid)


def _about_crops(data: DataSpec | None) -> Iterator[Problem]:
    """Refuse windows of images as they are in their files where the data do not stay there."""
    if data is None or data.augment is None or data.augment.random_resized_crop is None:
        return
    here = ("data", "augment", "random_resized_crop")
    if data.augment.crop:
        yield here, "cuts each image, and crop would do so once more; leave one of them out"
    if data.name not in registry.datasets:
        return
    needed = registry.datasets[data.name].traits.crops
    if needed is None:
        yield here, f"{data.name} has all its images at one size and nothing to cut from them; write `crop: 4`"
        return
    missing = [key for key in needed if not data.component.args.get(key)]
    if missing:
        yield here, f"cuts from images in their files, which needs {' and '.join(missing)} in data, beside augment"


def _about_optimizers(valid: Mapping[str, Any]) -> Iterator[Problem]:
    """Refuse settings of the training that an optimizer, or one inside it, cannot work with."""
    if (train := valid.get("train")) is None:
        return
    for index, optimizer in enumerate(train.optimizer):
        yield from _about_optimizer(train, ("train", "optimizer", index), optimizer)
    for index, branch in enumerate(valid.get("branches", ())):
        optimizer, here = branch.component.args.get("optimizer"), ("branches", index, "optimizer")
        if isinstance(optimizer, Component):
            yield from _about_optimizer(train, here, optimizer)
            if "rates" in optimizer.args:
                yield (*here, "rates"), "rates are for train.optimizer, where tune searches; write lr"


def _about_optimizer(train: TrainSpec, here: Path, optimizer: Component) -> Iterator[Problem]:
    own = "batch_size" in optimizer.args
    size = optimizer.args["batch_size"] if own else train.batch_size
    sized_at = (*here, "batch_size") if own or here[0] == "branches" else ("train", "batch_size")
    settings: dict[Setting, tuple[bool, Path]] = {
        "accumulate": (train.accumulate > 1, ("train", "accumulate")),
        "clip": (train.clip is not None, ("train", "clip")),
        "bf16": (train.precision == "bf16", ("train", "precision")),
        "batch_size": (size != "all", sized_at),
    }
    for inside, component in [((), optimizer), *optimizer.within()]:
        if component.name not in registry.optimizers:
            continue
        name, traits, path = component.name, registry.optimizers[component.name].traits, (*here, *inside)
        for setting, (given, key) in settings.items():
            if given and setting in traits.refuses:
                yield key, f"{name} cannot work with this: {traits.refuses[setting]}"
        if traits.package and importlib.util.find_spec(traits.package) is None:
            yield path, f"{name} needs {traits.package}, not installed here: pip install 'lottery[curvature]'"
        if inside and not traits.nests:
            yield path, f"{name} evaluates the loss itself and cannot work inside {optimizer.name}"
        rated_outside = inside and not registry.optimizers[optimizer.name].traits.inner_lr
        for argument in ("batch_size", "rates", *(["lr"] if rated_outside else [])):
            if inside and argument in component.args:
                yield (*path, argument), f"is {optimizer.name}'s to have, not that of {name} inside it"


def _about_own_trunks(valid: Mapping[str, Any]) -> Iterator[Problem]:
    """Refuse `trunk: own` where levels do not follow from each other, or not all of them are given."""
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
            yield (
                ("branches", index, "levels"),
                "a trunk of its own is trained level by level from the first on; write [1, 2, ...] up to the last",
            )


def _without_levels(prune: PruneSpec) -> str:
    """Return why levels do not follow from each other, or are not all trained; empty where they do and are."""
    if prune.one_shot is not None:
        return "with prune.one_shot each density is pruned from the dense network"
    if prune.when != "trained":
        return f"with prune.when {prune.when} no trained network is pruned"
    return "with prune.levels auto not every level is asked of every seed" if prune.auto is not None else ""


def _about_sizes(valid: Mapping[str, Any]) -> Iterator[Problem]:
    """Refuse sizes of weights, and draws of masks or norms, that have no effect in this recipe."""
    model, init = valid.get("model"), valid.get("init")
    norm = str(_norm(model)) if model is not None and model.name in registry.models else ""
    of_weights = norm in registry.normalizations and registry.normalizations[norm].traits.weight
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


def _norm(model: Component) -> Any:
    return registry.models[model.name].all_arguments(model.args).get("norm")
