"""What a recipe's schema cannot say: the arguments of catalogue entries, and keys that contradict each other."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, get_args

from lottery import registry
from lottery.registry import Problem, Registry, suggest
from lottery.spec import Component, Duration, plain

COLUMNS = ("dense", "ticket", "optimizer", "density", "rewind", "note")  # the table's own: no branch may be called so
SUFFIXES = ("_std", "_n", "_step", "_diff")  # of the columns beside each column

CATALOGUES: dict[tuple[str | int, ...], Registry[Any]] = {  # where a recipe names an entry
    ("data",): registry.datasets,
    ("model",): registry.models,
    ("init",): registry.inits,
    ("train", "optimizer"): registry.optimizers,
    ("train", "schedule"): registry.schedules,
    ("prune", "criterion"): registry.criteria,
    ("branches",): registry.branches,
}
_INNER = {catalogue.singular: catalogue for catalogue in registry.catalogues.values()}


def components(data: Mapping[str, Any], own_keys: Mapping[tuple[str | int, ...], Collection[str]]) -> Iterator[Problem]:
    """What is wrong with the components of a recipe's raw data; their arguments are brought to their types in place.

    `own_keys` are the keys of a section that are not arguments of the entry it names."""
    for path, catalogue in CATALOGUES.items():
        holder: Any = data
        for step in path[:-1]:
            holder = holder.get(step) if isinstance(holder, dict) else None
        value = holder.get(path[-1]) if isinstance(holder, dict) else None
        items = value if isinstance(value, list) else [value]
        checked = [_check(catalogue, item, own_keys.get(path, ())) for item in items]
        for index, (_, problems) in enumerate(checked):
            yield from (((*path, index, *inside), message) for inside, message in problems)
        if isinstance(value, list):
            value[:] = [item for item, _ in checked]
        elif value is not None:
            holder[path[-1]] = checked[0][0]


def _check(catalogue: Registry[Any], value: Any, own: Collection[str]) -> tuple[Any, list[Problem]]:
    """The value with the arguments that its entry makes of those given; itself where the schema will refuse it."""
    try:
        given = Component.parse(value)
    except ValueError:
        return value, []
    kept = {key: item for key, item in given.args.items() if key in own}
    args = {key: item for key, item in given.args.items() if key not in own}
    component, problems = _check_component(catalogue, Component(given.name, args), own)
    return ({"name": component.name, **kept, **component.args} if own else component), problems


def _check_component(
    catalogue: Registry[Any], given: Component, own: Collection[str] = ()
) -> tuple[Component, list[Problem]]:
    if given.name not in catalogue:
        return given, [((), catalogue.unknown(given.name))]
    fields = catalogue[given.name].schema.model_fields
    problems: list[Problem] = []
    args = dict(given.args)
    for key in given.args:
        if key not in fields:
            del args[key]
            problems.append(((key,), f"{given.name} has no key {key!r}{suggest(key, [*fields, *own])}"))
        elif key in _INNER and Component in (fields[key].annotation, *get_args(fields[key].annotation)):
            args[key], inner = _check(_INNER[key], args[key], ())
            problems += [((key, *inside), message) for inside, message in inner]
    component, found = catalogue.check(Component(given.name, args))
    problems += found
    return (given if problems else component), problems


def exclusions(data: Mapping[str, Any]) -> Iterator[Problem]:
    """Keys of a recipe's raw data that must not be given together."""
    prune = data.get("prune")
    if isinstance(prune, dict) and prune.get("one_shot") is not None:
        for key in ("levels", "fraction"):
            if key in prune:
                yield ("prune", key), f"one_shot excludes {key}; its densities say how often and how much is pruned"


def contradictions(valid: Mapping[str, Any]) -> Iterator[Problem]:
    """What is wrong between the sections of a recipe, looking only at those that are valid by themselves."""
    data, train, prune = valid.get("data"), valid.get("train"), valid.get("prune")
    rewinds, branches = valid.get("rewind", ()), valid.get("branches", ())
    if data and valid.get("report") == "early_stop" and not data.validation:
        yield ("report",), "early_stop needs data.validation above 0; hold examples out, or write `report: end`"
    yield from _twice(("seeds",), valid.get("seeds", ()))
    yield from _twice(("rewind",), [(str(rewind.to), rewind.mode) for rewind in rewinds])
    if train:
        known = [optimizer for optimizer in train.optimizer if optimizer.name in registry.optimizers]
        if len(known) == len(train.optimizer):
            yield from _twice(("train", "optimizer"), [registry.optimizers.identity(each) for each in known])
        yield from _beyond(("train", "schedule", "warmup"), train.schedule.warmup, train.length)
        for index, rewind in enumerate(rewinds):
            yield from _beyond(("rewind", index, "to"), rewind.to, train.length)
    if prune:
        yield from _about_pruning(prune)
        for index, branch in enumerate(branches):
            for place, level in enumerate(branch.levels or ()):
                if level > prune.levels:
                    path = ("branches", index, "levels", place)
                    yield path, f"the trunk has levels 1 to {prune.levels}, no {level}; raise prune.levels"
    yield from _about_labels([branch.label for branch in branches])
    known_branches = [branch for branch in branches if branch.name in registry.branches]
    if len(known_branches) == len(branches):
        yield from _twice(("branches",), [registry.branches.identity(branch.component) for branch in branches])


def _about_pruning(prune: Any) -> Iterator[Problem]:
    for pattern, rate in prune.rates.items():
        path = ("prune", "rates", pattern)
        if prune.scope == "global" and rate not in (0, 1):
            yield path, f"with scope global a rate is 0 (left alone) or 1, not {rate:g}; or write `scope: layer`"
        elif prune.one_shot is None and rate * prune.fraction >= 1:
            yield path, f"{rate:g} times the fraction {prune.fraction:g} leaves nothing; stay below 1"
    yield from _twice(("prune", "one_shot"), prune.one_shot or ())


def _about_labels(labels: list[str]) -> Iterator[Problem]:
    for index, label in enumerate(labels):
        first = labels.index(label)
        if first < index:
            yield ("branches", index), f"{label!r} is branch {first} already; name its column with `as: ...`"
        if label in COLUMNS or label.endswith(SUFFIXES):
            yield ("branches", index), f"the table has its own column {label!r}; name this one with `as: ...`"


def _beyond(path: tuple[str | int, ...], point: Duration | None, length: Duration) -> Iterator[Problem]:
    if point and point.unit == length.unit and point.value >= length.value:
        yield path, f"{point} leaves nothing of the training, train.length {length}; choose an earlier point"


def _twice(path: tuple[str | int, ...], items: Iterable[Any]) -> Iterator[Problem]:
    seen: dict[str, int] = {}
    for index, item in enumerate(items):
        first = seen.setdefault(json.dumps(plain(item), sort_keys=True), index)
        if first < index:
            yield (*path, index), f"the same as item {first}; every one may be given once"
