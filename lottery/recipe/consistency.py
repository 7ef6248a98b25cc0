"""What a recipe's schema cannot say: keys that contradict each other, and settings an entry cannot work with."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from lottery import registry
from lottery.recipe.audit_fields import FIELDS, FIXED
from lottery.recipe.claim_rules import about_claims
from lottery.recipe.criterion_rules import about_criterion
from lottery.recipe.entry_rules import about_entries
from lottery.recipe.readings import CHOSEN
from lottery.recipe.tuning import learning_rates
from lottery.registry import Problem, suggest
from lottery.traits import BranchTraits
from lottery.values import Component, Duration, plain

# the table's own: no branch may be called so
COLUMNS = ("dense", "ticket", "optimizer", "lr", "density", "rewind", "note")
Path = tuple[str | int, ...]

MOST_POOL = 200  # seeds of a recipe with `levels: auto`; the bounds of its tests are computed look after look

SUFFIXES = ("_std", "_n", "_diverged", "_step", "_diff")  # of the columns beside each column


def exclusions(data: Mapping[str, Any]) -> Iterator[Problem]:
    """Keys of a recipe's raw data that must not be given together."""
    prune = data.get("prune")
    if not isinstance(prune, dict):
        return
    if prune.get("one_shot") is not None:
        for key in ("levels", "fraction", "densities"):
            if prune.get(key) is not None:
                yield ("prune", key), f"one_shot excludes {key}; its densities say how often and how much is pruned"
    if prune.get("densities") is not None:
        for key in ("fraction", "rates", "scope"):
            if key in prune:
                yield (
                    ("prune", key),
                    f"densities exclude {key}; they say what is kept of each layer at the last level",
                )
    yield from _against_auto(data, prune)


def _against_auto(data: Mapping[str, Any], prune: Mapping[str, Any]) -> Iterator[Problem]:
    """What `levels: auto` needs, and what does not go with it."""
    if prune.get("levels") != "auto":
        if prune.get("frontier") is not None:
            yield ("prune", "frontier"), "frontier is for `levels: auto`; write that, or leave it out"
        return
    if data.get("compare") is None:
        yield (
            ("prune", "levels"),
            "auto looks for the densities that match within a margin; add `compare: {margin: ...}`, percentage points",
        )
    if prune.get("densities") is not None:
        yield ("prune", "densities"), "these are reached at the last level, which auto leaves open; write its number"
    if data.get("transfer") is not None:
        yield (
            ("transfer",),
            "retrains tickets of given levels, which auto leaves open; write a number as prune.levels",
        )


def contradictions(valid: Mapping[str, Any]) -> Iterator[Problem]:
    """What is wrong between the sections of a recipe, looking only at those that are valid by themselves."""
    data, train, prune = valid.get("data"), valid.get("train"), valid.get("prune")
    rewinds, branches = valid.get("rewind", ()), valid.get("branches", ())
    report = valid.get("report")
    if data and report in CHOSEN and not data.validation:
        yield ("report",), f"{report} needs data.validation above 0; hold examples out, or write `report: end`"
    yield from _about_split(data)
    yield from _about_crops(data)
    yield from _twice(("metrics",), valid.get("metrics", ()))
    yield from _twice(("seeds",), valid.get("seeds", ()))
    yield from _twice(("rewind",), [(str(rewind.to), rewind.mode) for rewind in rewinds])
    if train:
        known = [optimizer for optimizer in train.optimizer if optimizer.name in registry.optimizers]
        if len(known) == len(train.optimizer):
            yield from _twice(("train", "optimizer"), [registry.optimizers.identity(each) for each in known])
        yield from _about_optimizers(train, branches)
        yield from _beyond(("train", "schedule", "warmup"), train.schedule.warmup, train.length)
        for index, rewind in enumerate(rewinds):
            yield from _beyond(("rewind", index, "to"), rewind.to, train.length)
    if prune:
        yield from _about_pruning(prune, rewinds)
        yield from about_criterion(prune, data, valid.get("model"))
        if train and prune.during is not None:
            yield from _beyond(("prune", "during", "end"), prune.during.end, train.length, last=True)
    yield from _about_labels([branch.label for branch in branches], valid.get("metrics", ()))
    yield from _about_tuning(valid)
    yield from _about_branches(valid)
    yield from about_entries(valid)
    yield from about_claims(valid)
    yield from _about_allowed(valid)
    yield from _about_frontier(valid)
    known_branches = [branch for branch in branches if branch.name in registry.branches]
    if len(known_branches) == len(branches):
        yield from _twice(("branches",), [(registry.branches.identity(b.component), b.trunk) for b in branches])


def _about_split(data: Any) -> Iterator[Problem]:
    if data is not None and data.stratify and not data.validation and data.limit is None:
        yield ("data", "stratify"), "shares out data.validation and data.limit by class, and neither is given; add one"


def _about_crops(data: Any) -> Iterator[Problem]:
    """Windows of images as they are in their files need data that stay there."""
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


def _about_allowed(valid: Mapping[str, Any]) -> Iterator[Problem]:
    """What may differ between ticket and dense network is a field that the audit compares."""
    compare = valid.get("compare")
    for index, name in enumerate(compare.allow if compare is not None else ()):
        path = ("compare", "allow", index)
        if name in FIXED:
            yield path, f"{name} cannot be allowed to differ: {FIXED[name]}; leave it out"
        elif name not in FIELDS:
            yield path, f"there is no field {name!r}{suggest(name, FIELDS)} (docs/fairness.md lists them)"
    yield from _twice(("compare", "allow"), compare.allow if compare is not None else ())


def _about_frontier(valid: Mapping[str, Any]) -> Iterator[Problem]:
    prune, compare, seeds = valid.get("prune"), valid.get("compare"), valid.get("seeds")
    if prune is None or prune.auto is None:
        return
    first = prune.auto.first_seeds
    if seeds is not None and not first <= len(seeds) <= MOST_POOL:
        yield (
            ("seeds",),
            f"with prune.levels auto these are the pool of which as many as needed are used, {first} "
            f"(prune.frontier.first_seeds) to {MOST_POOL}, not {len(seeds)}",
        )
    if compare is not None and compare.densities != "fixed_sequence":
        yield (
            ("compare", "densities"),
            "prune.levels auto tests one density after the other, from dense to sparse; write fixed_sequence",
        )
    for index, branch in enumerate(valid.get("branches", ())):
        if branch.name in registry.branches and registry.branches[branch.name].traits.partner:
            yield (
                ("branches", index),
                f"{branch.name} takes the mask of the next seed, which prune.levels auto may not reach; write a number",
            )


def _about_optimizers(train: Any, branches: Sequence[Any]) -> Iterator[Problem]:
    """Settings of the training that an optimizer, or one inside it, cannot work with."""
    for index, optimizer in enumerate(train.optimizer):
        yield from _about_optimizer(train, ("train", "optimizer", index), optimizer)
    for index, branch in enumerate(branches):
        optimizer, here = branch.component.args.get("optimizer"), ("branches", index, "optimizer")
        if isinstance(optimizer, Component):
            yield from _about_optimizer(train, here, optimizer)
            if "rates" in optimizer.args:
                yield (
                    (*here, "rates"),
                    "rates are for train.optimizer, where tune searches; write lr",
                )


def _about_optimizer(train: Any, here: Path, optimizer: Component) -> Iterator[Problem]:
    own = "batch_size" in optimizer.args
    size = optimizer.args["batch_size"] if own else train.batch_size
    where = (*here, "batch_size") if own or here[0] == "branches" else ("train", "batch_size")
    settings = {
        "accumulate": (train.accumulate > 1, ("train", "accumulate")),
        "clip": (train.clip is not None, ("train", "clip")),
        "bf16": (train.precision == "bf16", ("train", "precision")),
        "batch_size": (size != "all", where),
    }
    for path, component in [((), optimizer), *optimizer.within()]:
        if component.name not in registry.optimizers:
            continue
        name, traits, place = component.name, registry.optimizers[component.name].traits, (*here, *path)
        refused = traits.refuses
        for setting, (given, key) in settings.items():
            if given and setting in refused:
                yield key, f"{name} cannot work with this: {refused[setting]}"
        package = traits.package
        if package and importlib.util.find_spec(package) is None:
            yield place, f"{name} needs {package}, not installed here: pip install 'lottery[curvature]'"
        if path and not traits.nests:
            yield place, f"{name} evaluates the loss itself and cannot work inside {optimizer.name}"
        own_rate = path and not registry.optimizers[optimizer.name].traits.inner_lr
        for argument in ("batch_size", "rates", *(["lr"] if own_rate else [])):
            if path and argument in component.args:
                yield (*place, argument), f"is {optimizer.name}'s to have, not that of {name} inside it"


def _about_tuning(valid: Mapping[str, Any]) -> Iterator[Problem]:
    data, train, tune, transfer = (valid.get(name) for name in ("data", "train", "tune", "transfer"))
    for index, optimizer in enumerate(train.optimizer if train else ()):
        here = ("train", "optimizer", index)
        if tune and "lr" in optimizer.args:
            yield (*here, "lr"), "tune chooses the learning rate; leave lr out, or give the range to search as `rates`"
        if not tune and "rates" in optimizer.args and "tune" in valid:
            yield (
                (*here, "rates"),
                "rates are the range that tune searches; write lr, or add `tune: {}`",
            )
    if tune:
        if data and not data.validation:
            yield ("tune",), "learning rates are chosen on the validation split; hold examples out with data.validation"
        yield from _twice(("tune", "seeds"), tune.seeds)
        for index, optimizer in enumerate(train.optimizer if train else ()):
            if optimizer.name in registry.optimizers and len(learning_rates(tune, optimizer)) < tune.trials:
                path = ("train", "optimizer", index, "rates")
                yield path, f"holds fewer than {tune.trials} rates that differ in four digits; widen it"
        for index, seed in enumerate(tune.seeds):
            if seed in valid.get("seeds", ()):
                yield ("tune", "seeds", index), f"seed {seed} is one of the recipe's; tune on seeds of its own"
    if transfer:
        if train and len(train.optimizer) < 2:
            yield ("transfer",), "there is one optimizer only; list at least two in train.optimizer"
        yield from _too_deep(("transfer", "levels"), transfer.levels, valid.get("prune"))
        known = (
            [registry.optimizers.identity(o) for o in train.optimizer if o.name in registry.optimizers] if train else []
        )
        for index, branch in enumerate(valid.get("branches", ())):
            other = branch.component.args.get("optimizer") if branch.name == "retrain" else None
            if other is not None and other.name in registry.optimizers and registry.optimizers.identity(other) in known:
                yield ("branches", index), "transfer retrains with this optimizer already; leave the branch out"


def _about_branches(valid: Mapping[str, Any]) -> Iterator[Problem]:
    data, model, prune, seeds = (valid.get(name) for name in ("data", "model", "prune", "seeds"))
    for index, branch in enumerate(valid.get("branches", ())):
        here = ("branches", index)
        yield from _too_deep((*here, "levels"), branch.levels, prune)
        traits = registry.branches[branch.name].traits if branch.name in registry.branches else BranchTraits()
        if traits.partner and seeds and len(seeds) == 1:
            yield here, f"{branch.name} takes the mask of another seed; give at least two seeds"
        if traits.longer and prune and prune.when != "trained":
            yield (
                here,
                f"with prune.when {prune.when} a ticket costs one training, as `dense` does; leave the branch out",
            )
        known = registry.models[model.name].traits if model and model.name in registry.models else None
        if traits.scales and model and known is not None and known.scaled is None:
            yield here, f"{branch.name} needs a model whose width can be scaled; {model.name} has none"
        dataset = branch.component.args.get("dataset")
        if data and dataset is not None and plain(dataset) == plain(data.component):
            yield (*here, "dataset"), "is the recipe's own data; name another data set of the same shapes"


def _too_deep(path: tuple[str | int, ...], levels: Sequence[int] | None, prune: Any) -> Iterator[Problem]:
    for place, level in enumerate(levels or ()):
        if prune and level > prune.deepest:
            way = "raise prune.levels" if prune.auto is None else "raise prune.frontier.most_levels"
            yield (*path, place), f"the trunk has levels 1 to {prune.deepest}, no {level}; {way}"


def _about_pruning(prune: Any, rewinds: Sequence[Any]) -> Iterator[Problem]:
    scope = prune.scope if "scope" in prune.model_fields_set else f"{prune.scope}, {prune.criterion.name}'s own,"
    for pattern, rate in prune.rates.items():
        path = ("prune", "rates", pattern)
        if prune.scope != "layer" and rate not in (0, 1):
            yield path, f"with scope {scope} a rate is 0 (left alone) or 1, not {rate:g}; or write `scope: layer`"
        elif prune.one_shot is None and rate * prune.fraction >= 1:
            yield path, f"{rate:g} times the fraction {prune.fraction:g} leaves nothing; stay below 1"
    yield from _twice(("prune", "one_shot"), prune.one_shot or ())
    if prune.densities is not None and prune.levels == 0:
        yield ("prune", "levels"), "densities are reached at the last level, and there is none; write at least 1"
    if prune.when != "trained":
        for index, rewind in enumerate(rewinds):
            if rewind.mode != "weights":
                yield (
                    ("rewind", index, "mode"),
                    f"with prune.when {prune.when} no trained network is there to go on from",
                )
    if prune.when == "training" and prune.during is None:
        yield ("prune",), "when: training needs `during: {start: ..., end: ..., every: ...}`"
    if prune.during is not None:
        during = prune.during
        if prune.when != "training":
            yield (
                ("prune", "during"),
                "during is for `when: training`; write that, or leave it out",
            )
        elif prune.rounds is not None:
            yield ("prune", "rounds"), "in the course of training, `during` says how often the scores are computed"
        if during.start.unit == during.end.unit and during.start.value >= during.end.value:
            yield ("prune", "during", "end"), f"{during.end} is not after the start, {during.start}"


def _about_labels(labels: list[str], metrics: Sequence[str]) -> Iterator[Problem]:
    own = (*SUFFIXES, *(f"_{metric}" for metric in metrics))
    for index, label in enumerate(labels):
        first = labels.index(label)
        if first < index:
            yield ("branches", index), f"{label!r} is branch {first} already; name its column with `as: ...`"
        if label in COLUMNS or label.endswith(own):
            yield ("branches", index), f"the table has its own column {label!r}; name this one with `as: ...`"


def _beyond(
    path: tuple[str | int, ...], point: Duration | None, length: Duration, last: bool = False
) -> Iterator[Problem]:
    """A point at which nothing of the training is left; with `last`, its last step is one that may be named."""
    if point and point.unit == length.unit and point.value >= length.value + last:
        yield path, f"{point} leaves nothing of the training, train.length {length}; choose an earlier point"


def _twice(path: tuple[str | int, ...], items: Iterable[Any]) -> Iterator[Problem]:
    seen: dict[str, int] = {}
    for index, item in enumerate(items):
        first = seen.setdefault(json.dumps(plain(item), sort_keys=True), index)
        if first < index:
            yield (*path, index), f"the same as item {first}; every one may be given once"
