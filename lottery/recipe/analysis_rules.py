"""Checks of what a recipe's `analyses` and `keep` name: networks, levels, and steps that there are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lottery import registry
from lottery.recipe.analyses import DENSE, PRUNED, TABLES, TICKET, AnalysisSpec
from lottery.recipe.analysis_subjects import Trunks, about_subjects
from lottery.recipe.readings import CHOSEN
from lottery.recipe.rewind_search import NO_NOISE, without_noise
from lottery.registry import Problem, suggest
from lottery.values import point_label

if TYPE_CHECKING:
    from lottery.recipe.schema import BranchSpec, DataSpec, PruneSpec
    from lottery.values import Component

_TAKES = {  # keys of the machinery that each kind of analysis has beside levels and reading
    "state": ("of",),
    "pair": ("of", "between"),
    "three": ("through",),
    "trajectory": ("of", "along"),
    "children": ("of", "at", "pairs"),
}


def about_analyses(valid: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield what is wrong with `analyses` and `keep`; `valid` has the sections that are valid by themselves."""
    branches, data, prune = valid.get("branches"), valid.get("data"), valid.get("prune")
    analyses: Sequence[AnalysisSpec] = valid.get("analyses") or ()
    if (keep := valid.get("keep")) is not None:
        yield from _about_networks(("keep", "of"), keep.of, branches)
        for index, moment in enumerate(keep.at):
            yield from _about_reading(("keep", "at", index), moment, data)
    labels = [analysis.label for analysis in analyses]
    trunks = Trunks.of(valid)
    for index, analysis in enumerate(analyses):
        if analysis.name not in registry.analyses:
            continue
        here = ("analyses", index)
        if (first := labels.index(analysis.label)) < index:
            yield here, f"{analysis.label!r} is analysis {first} already; name its table with `as: ...`"
        if analysis.label in TABLES:
            yield here, f"{analysis.label!r} is another table of each study; name this one otherwise with `as: ...`"
        wrong = [*about_keys(here, analysis)]
        for key in ("of", "through"):
            wrong += _about_networks((*here, key), getattr(analysis, key) or (), branches, analysis.looks_at)
        wrong += _about_levels((*here, "levels"), analysis.levels or (), prune)
        yield from wrong
        yield from _about_reading((*here, "reading"), analysis.reading, data)
        if analysis.reading != "end" and analysis.looks_at == "trajectory":
            yield (*here, "reading"), "a trajectory ends at the end of its training; leave reading out"
        if analysis.looks_at == "children":
            yield from _about_children(here, analysis, valid)
        if trunks is not None and not wrong:
            yield from about_subjects(here, analysis, trunks)
        yield from _about_parts((*here, "parts"), analysis.component.args.get("parts") or (), data)


def about_keys(here: tuple[str | int, ...], analysis: AnalysisSpec) -> Iterator[Problem]:
    """Refuse keys that an analysis of this kind does not have."""
    takes = _TAKES[analysis.looks_at]
    for key in ("of", "between", "through", "along", "at", "pairs"):
        if getattr(analysis, key) is not None and key not in takes:
            yield (
                (*here, key),
                f"{analysis.name} looks at {_IN_WORDS[analysis.looks_at]} and has no {key}; write {' or '.join(takes)}",
            )
    if analysis.margin is not None and not registry.analyses[analysis.name].traits.connects:
        yield (*here, "margin"), f"{analysis.name} has no verdict on whether networks are connected; leave margin out"
    if analysis.looks_at == "pair" and analysis.of is not None and len(analysis.of) != 2:
        yield (*here, "of"), f"a pair has two networks, not {len(analysis.of)}; write two, or `between: ...`"


def _about_children(here: tuple[str | int, ...], analysis: AnalysisSpec, valid: Mapping[str, Any]) -> Iterator[Problem]:
    """Refuse children of what has no state at a step, and of steps that no training goes on from."""
    train, prune = valid.get("train"), valid.get("prune")
    if without_noise(valid):
        yield here, f"{NO_NOISE}; leave {analysis.name} out, or write a train.batch_size"
    rewinds = valid.get("rewind") or ()
    starts = [rewind.to for rewind in rewinds if rewind.auto is None]
    if TICKET in analysis.networks and analysis.at and len(starts) < len(rewinds):
        yield (
            (*here, "at"),
            "tickets train from the point that `rewind: auto` finds; leave at out, or write `of: dense`",
        )
    for index, name in enumerate(analysis.networks):
        if name not in (DENSE, TICKET):
            yield (*here, "of", index), f"the children are those of dense networks and tickets, not of {name}"
    if TICKET in analysis.networks and prune is not None and prune.when == "training":
        yield (*here, "of"), "a ticket that is pruned in the course of its training has no state to copy; write dense"
    for index, at in enumerate(analysis.at or ()):
        path = (*here, "at", index)
        if analysis.at is not None and at in analysis.at[:index]:
            yield path, f"{point_label(at)} is there already"
        if train is not None and at.unit == train.length.unit and at.value >= train.length.value:
            yield path, f"{at} leaves nothing of the training, train.length {train.length}; choose an earlier step"
        elif TICKET in analysis.networks and starts and at not in starts:
            said = ", ".join(map(point_label, starts))
            yield (
                path,
                f"tickets train from {said}, none from {point_label(at)}; add it to `rewind`, or write `of: dense`",
            )


_IN_WORDS = {
    "state": "one network",
    "pair": "two networks",
    "three": "three networks",
    "trajectory": "a training",
    "children": "copies of a state",
}


def _about_networks(
    path: tuple[str | int, ...], names: Sequence[str], branches: Sequence[BranchSpec] | None, looks_at: str = "keep"
) -> Iterator[Problem]:
    """Refuse networks that the recipe does not have, or whose states cannot be looked at."""
    if branches is None:
        return
    controls = {branch.label: branch for branch in branches}
    known = [DENSE, TICKET, *controls, *([PRUNED] if looks_at in ("state", "pair", "three") else [])]
    for index, name in enumerate(names):
        if name in names[:index]:
            yield (*path, index), f"{name!r} is there already"
        elif name not in known:
            yield (*path, index), f"there is no network {name!r}{suggest(name, known)}"
        elif name in controls and (why := out_of_reach(controls[name].component)):
            yield (*path, index), f"{name} {why}, so that it has no state of the recipe's network; leave it out"


def out_of_reach(branch: Component) -> str:
    """Return why a control's states cannot be looked at beside those of tickets; empty where they can."""
    if branch.name not in registry.branches:
        return ""
    traits = registry.branches[branch.name].traits
    if traits.scales:
        return "has another model"
    if traits.learned:
        return "learns its mask"
    if branch.args.get("dataset") is not None:
        return "trains on other data"
    return "trains nothing" if traits.mask_alone else ""


def _about_reading(path: tuple[str | int, ...], moment: str, data: DataSpec | None) -> Iterator[Problem]:
    """Refuse a step that the validation split chooses where there is none."""
    if moment in CHOSEN and data is not None and not data.validation:
        yield path, f"{moment} needs data.validation above 0; hold examples out, or write `end`"


def _about_parts(path: tuple[str | int, ...], parts: Sequence[str], data: DataSpec | None) -> Iterator[Problem]:
    """Refuse to measure on a validation split where there is none."""
    if "validation" in parts and data is not None and not data.validation:
        yield path, "there are no validation examples; set data.validation above 0, or leave `validation` out"


def _about_levels(path: tuple[str | int, ...], levels: Sequence[int], prune: PruneSpec | None) -> Iterator[Problem]:
    """Refuse levels that the trunk does not have."""
    for index, level in enumerate(levels):
        if prune is not None and level > prune.deepest:
            yield (*path, index), f"the trunk has levels 0 to {prune.deepest}, no {level}; raise prune.levels"
