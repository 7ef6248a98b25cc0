"""Checks of a recipe that its schema cannot express: keys that contradict each other, things given twice, lengths.

Each check looks only at sections that are valid by themselves, so that one mistake is told once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lottery import registry
from lottery.recipe.analysis_rules import about_analyses
from lottery.recipe.audit_fields import FIELDS, FIXED
from lottery.recipe.claim_rules import about_claims
from lottery.recipe.conflicts import conflicts
from lottery.recipe.criterion_rules import about_criterion
from lottery.recipe.entry_rules import about_entries
from lottery.recipe.rank_rules import about_ranks
from lottery.recipe.rewind_search import about_rewind_search
from lottery.registry import Problem, suggest
from lottery.values import Duration, plain

if TYPE_CHECKING:
    from lottery.recipe.schema import CompareSpec, PruneSpec

# the table's own columns: no branch may be called so
COLUMNS = ("dense", "ticket", "optimizer", "lr", "density", "rewind", "note")
Path = tuple[str | int, ...]


SUFFIXES = ("_std", "_n", "_diverged", "_step", "_diff")  # of the columns beside each column


def exclusions(data: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield the keys of a recipe's raw data that must not be given together."""
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
    """Yield what `levels: auto` needs and has not, and what does not go with it."""
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
    """Yield what is wrong between the sections of a recipe, of which `valid` has those that are valid by themselves."""
    train, prune, tune, transfer = (valid.get(name) for name in ("train", "prune", "tune", "transfer"))
    rewinds, branches = valid.get("rewind", ()), valid.get("branches", ())
    optimizers = train.optimizer if train else ()
    yield from conflicts(valid)
    yield from _twice(("metrics",), valid.get("metrics", ()))
    yield from _twice(("seeds",), valid.get("seeds", ()))
    yield from _twice(("tune", "seeds"), tune.seeds if tune else ())
    yield from _twice(("rewind",), [(str(rewind.to), rewind.mode) for rewind in rewinds if rewind.auto is None])
    if all(optimizer.name in registry.optimizers for optimizer in optimizers):
        yield from _twice(("train", "optimizer"), [registry.optimizers.identity(each) for each in optimizers])
    if all(branch.name in registry.branches for branch in branches):
        yield from _twice(("branches",), [(registry.branches.identity(b.component), b.trunk) for b in branches])
    if train:
        yield from _beyond(("train", "schedule", "warmup"), train.schedule.warmup, train.length)
        for index, rewind in enumerate(rewinds):
            yield from _beyond(("rewind", index, "to"), rewind.to, train.length)
        if prune and prune.during is not None:
            yield from _beyond(("prune", "during", "end"), prune.during.end, train.length, last=True)
    if prune:
        yield from _about_pruning(prune)
        yield from about_criterion(prune, valid.get("data"), valid.get("model"))
        yield from _too_deep(("transfer", "levels"), transfer.levels if transfer else (), prune)
        for index, branch in enumerate(branches):
            yield from _too_deep(("branches", index, "levels"), branch.levels, prune)
    yield from _about_labels([branch.label for branch in branches], valid.get("metrics", ()))
    yield from about_entries(valid)
    yield from about_ranks(valid)
    yield from _about_allowed(valid.get("compare"))
    yield from about_analyses(valid)
    yield from about_rewind_search(valid)
    if valid.get("replicates") is not None:
        yield from about_claims(valid)


def _about_allowed(compare: CompareSpec | None) -> Iterator[Problem]:
    """Yield the items of `compare.allow` that are no fields which the audit compares."""
    allowed = compare.allow if compare is not None else ()
    for index, name in enumerate(allowed):
        path = ("compare", "allow", index)
        if name in FIXED:
            yield path, f"{name} cannot be allowed to differ: {FIXED[name]}; leave it out"
        elif name not in FIELDS:
            yield path, f"there is no field {name!r}{suggest(name, FIELDS)} (docs/fairness.md lists them)"
    yield from _twice(("compare", "allow"), allowed)


def _too_deep(path: Path, levels: Sequence[int] | None, prune: PruneSpec) -> Iterator[Problem]:
    """Refuse levels that are deeper than the last one of the trunk."""
    for index, level in enumerate(levels or ()):
        if level > prune.deepest:
            way = "raise prune.levels" if prune.auto is None else "raise prune.frontier.most_levels"
            yield (*path, index), f"the trunk has levels 1 to {prune.deepest}, no {level}; {way}"


def _about_pruning(prune: PruneSpec) -> Iterator[Problem]:
    """Yield the layers' rates that cannot be kept, and densities that are given twice."""
    scope = prune.scope if "scope" in prune.model_fields_set else f"{prune.scope}, {prune.criterion.name}'s own,"
    for pattern, rate in prune.rates.items():
        path = ("prune", "rates", pattern)
        if prune.scope != "layer" and rate not in (0, 1):
            yield path, f"with scope {scope} a rate is 0 (left alone) or 1, not {rate:g}; or write `scope: layer`"
        elif prune.one_shot is None and rate * prune.fraction >= 1:
            yield path, f"{rate:g} times the fraction {prune.fraction:g} leaves nothing; stay below 1"
    yield from _twice(("prune", "one_shot"), prune.one_shot or ())


def _about_labels(labels: list[str], metrics: Sequence[str]) -> Iterator[Problem]:
    """Refuse controls whose columns have the same name, or that of one of the table's own columns."""
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
    """Refuse a point at which nothing of the training is left; with `last`, its last step is one that may be named."""
    if point and point.unit == length.unit and point.value >= length.value + last:
        yield path, f"{point} leaves nothing of the training, train.length {length}; choose an earlier point"


def _twice(path: tuple[str | int, ...], items: Iterable[Any]) -> Iterator[Problem]:
    """Refuse items of a list that are there already."""
    seen: dict[str, int] = {}
    for index, item in enumerate(items):
        first = seen.setdefault(json.dumps(plain(item), sort_keys=True), index)
        if first < index:
            yield (*path, index), f"the same as item {first}; every one may be given once"
