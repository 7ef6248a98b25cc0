"""What `rewind: auto` looks at, as far as the recipe tells, and checks of what goes with it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lottery import registry
from lottery.registry import Problem
from lottery.values import Duration

if TYPE_CHECKING:
    from lottery.recipe.schema import PruneSpec, TrainSpec
    from lottery.recipe.types import RewindSearchSpec, RewindSpec

DENSITY = 0.2  # of the tickets that are looked at where the recipe says nothing
SHARE = 10  # of the training that may be over at the latest step is one in so many, where the recipe says nothing


def nominal_densities(prune: PruneSpec) -> list[float]:
    """Return the densities of the levels by the recipe's fraction or `one_shot`, that of the dense network first."""
    if prune.one_shot is not None:
        return [1.0, *sorted(prune.one_shot, reverse=True)]
    return [(1 - prune.fraction) ** level for level in range(prune.deepest + 1)]


def level_of(prune: PruneSpec, search: RewindSearchSpec) -> int:
    """Return the level whose tickets are looked at, 0 for the dense network."""
    wanted = DENSITY if search.density is None else search.density
    nominal = nominal_densities(prune)
    return min(range(len(nominal)), key=lambda level: abs(math.log(nominal[level] / wanted)))


def latest_of(train: TrainSpec, search: RewindSearchSpec) -> Duration:
    """Return the last step that is looked at, in the unit in which steps are looked for."""
    return search.latest or Duration(max(1, train.length.value // SHARE), train.length.unit)


def without_noise(valid: Mapping[str, Any]) -> bool:
    """Return True if nothing is drawn in training: full batches, no augmentation, and no dropout that can be told."""
    train, data, model = (valid.get(name) for name in ("train", "data", "model"))
    if train is None or data is None or model is None or model.name not in registry.models:
        return False
    sizes = [optimizer.args.get("batch_size", train.batch_size) for optimizer in train.optimizer]
    entry = registry.models[model.name]
    known = entry.make.__module__.startswith("lottery.") and not entry.all_arguments(model.args).get("dropout")
    return known and data.augment is None and all(size == "all" for size in sizes)


NO_NOISE = "with full batches, and without augmentation and dropout, copies of a state differ by rounding alone"


def about_rewind_search(valid: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield what is wrong with `rewind: auto`; `valid` has the sections that are valid by themselves."""
    rewinds: Sequence[RewindSpec] = valid.get("rewind") or ()
    for index, rewind in enumerate(rewinds):
        if rewind.auto is None:
            continue
        here = ("rewind", index)
        if len(rewinds) > 1:
            yield here, "auto finds one point for the recipe; leave the others out, or write each of them"
        if rewind.mode != "weights":
            yield (
                (*here, "mode"),
                f"auto looks for a step that weights go back to, {rewind.mode} leaves them; leave it out",
            )
        if without_noise(valid):
            yield here, f"{NO_NOISE}; write the rewind point, or a train.batch_size"
        yield from _about_sections((*here, "auto"), rewind.auto, valid)


def _about_sections(
    here: tuple[str | int, ...], search: RewindSearchSpec, valid: Mapping[str, Any]
) -> Iterator[Problem]:
    train, prune, data, seeds = (valid.get(name) for name in ("train", "prune", "data", "seeds"))
    if train is not None:
        if len(train.optimizer) > 1:
            yield here, "the step depends on the optimizer, and this recipe has several; write one recipe for each"
        latest = search.latest
        if latest is not None and latest.unit == train.length.unit and latest.value >= train.length.value:
            yield (
                (*here, "latest"),
                f"{latest} leaves nothing of the training, train.length {train.length}; choose an earlier step",
            )
    if prune is not None:
        yield from _about_pruning(here, search, prune)
    if seeds is not None and search.seeds > len(seeds):
        yield (*here, "seeds"), f"the recipe has {len(seeds)}, not {search.seeds}; write fewer"
    if data is not None and search.part == "validation" and not data.validation:
        yield (*here, "part"), "validation needs data.validation above 0; hold examples out, or write train"


def _about_pruning(here: tuple[str | int, ...], search: RewindSearchSpec, prune: PruneSpec) -> Iterator[Problem]:
    if prune.auto is not None:
        yield here, "the levels are looked for as well; write a number as prune.levels, or the rewind point"
        return
    if search.density == 1:
        return
    if prune.when == "training":
        yield here, "a ticket that is pruned in the course of its training has no state to copy; write `density: 1`"
    elif prune.densities is not None:
        yield here, "with prune.densities no level has one density; write `density: 1`, the dense network's"
    elif search.density is not None and search.density < (last := nominal_densities(prune)[-1]) * (1 - 1e-9):
        yield (
            (*here, "density"),
            f"the last level has {last:.4g}, {search.density:g} is sparser; raise prune.levels, or write at least that",
        )
