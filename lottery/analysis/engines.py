"""The engines that computed the trainings of a table, by density and in words, as the records have them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from lottery.analysis.cells import column_of
from lottery.analysis.environments import roundings
from lottery.analysis.labels import density_label, optimizer_labels
from lottery.words import listed

if TYPE_CHECKING:
    from lottery.results.study import Study

ByDensity = dict[float, set[frozenset[str]]]  # the engines of one training are a set, as others may go on with it
# What tells trainings of one density apart by their engine, the simplest first: places in `_Trained.whose`
GROUPINGS: tuple[tuple[int, ...], ...] = ((), (1,), (2,), (0,), (1, 2), (0, 1, 2))


def how_computed(*studies: Study, labels: Sequence[str] = ()) -> list[str]:
    """Return in sentences what computed the trainings of a table: engines, and what else differs in rounding only.

    Args:
        studies: The studies of the table; a training that they share counts once.
        labels: A label for each study where there are several; the names of their recipes if none are given.
    """
    names = labels or [study.recipe.name for study in studies]
    return [*_engines(list(_trained(studies, names))), *roundings(*studies)]


@dataclass(frozen=True)
class _Trained:
    """A finished training: the labels of its study, optimizer and network, its density and its engines."""

    whose: tuple[str, str, str]
    density: float
    engines: frozenset[str]


def _trained(studies: Sequence[Study], names: Sequence[str]) -> Iterator[_Trained]:
    for name, study in zip(names, studies, strict=True):
        optimizers = optimizer_labels(study.recipe.train.optimizer)
        for key, record in study.found.items():
            job = record.job
            if record.manifest.key != key:  # nothing was trained, as all learning rates that were tried diverged
                continue
            optimizer = optimizers[job.optimizer_index if job.transfer is None else job.transfer]
            engines = frozenset(record.manifest.engines)
            yield _Trained((name, optimizer, column_of(job)), float(f"{record.density:.4g}"), engines)


def _engines(trainings: Sequence[_Trained]) -> list[str]:
    """Return the sentences on engines; where a density had several that nothing tells apart, they name these."""
    if not trainings:
        return []
    for grouping in GROUPINGS:
        groups = _grouped(trainings, grouping)
        if all(len(engines) == 1 for group in groups.values() for engines in group.values()):
            break
    else:
        groups = _grouped(trainings, ())
    merged = _merged(groups)
    told = [_sentence(names if len(merged) > 1 else (), engines) for names, engines in merged]
    if any(len(engines) > 1 for group in groups.values() for engines in group.values()):
        told[-1] += " The engine of each training is told by lottery table --view long."
    if len({training.engines for training in trainings}) > 1:
        told[-1] += " Engines differ in rounding only, so their trainings are compared."
    return told


def _grouped(trainings: Sequence[_Trained], grouping: Sequence[int]) -> dict[tuple[str, ...], ByDensity]:
    """Return the engines of each density, for each of the groups that these labels make."""
    groups: dict[tuple[str, ...], ByDensity] = {}
    for training in trainings:
        group = groups.setdefault(tuple(training.whose[place] for place in grouping), {})
        group.setdefault(training.density, set()).add(training.engines)
    return groups


def _merged(groups: Mapping[tuple[str, ...], ByDensity]) -> list[tuple[list[str], ByDensity]]:
    """Return the groups with their names, those as one that had the same engines at the densities that they share."""
    merged: list[tuple[list[str], ByDensity]] = []
    for labels, engines in groups.items():
        for names, others in merged:
            if all(others.get(density, found) == found for density, found in engines.items()):
                names.append(" ".join(labels))
                others.update(engines)
                break
        else:
            merged.append(([" ".join(labels)], dict(engines)))
    return merged


def _sentence(names: Sequence[str], engines: ByDensity) -> str:
    """Return the sentence on one group: its engines from the highest density to the lowest."""
    words = {density: " and ".join(sorted(frozenset().union(*found))) for density, found in engines.items()}
    runs = [(engine, list(run)) for engine, run in groupby(sorted(words, reverse=True), key=lambda d: words[d])]
    whose = f" of {listed(names)}" if names else ""
    if len(runs) == 1:
        engine = runs[0][0]
        return f"Engine{'s' if ' and ' in engine else ''}{whose}: {engine}."
    (first, densities), *others = runs
    parts = [f"{first} at {'a density' if len(densities) == 1 else 'densities'} of {_range(densities)}"]
    parts += [f"{engine} at {_range(run)}" for engine, run in others[:-1]]
    last, run = others[-1]
    parts.append(f"{last} below" if len(run) > 1 else f"{last} at {_range(run)}")
    return f"Engines{whose}: {', '.join(parts)}."


def _range(densities: Sequence[float]) -> str:
    """Return densities that fall, in percent: `100 to 51.2 %`."""
    first, last = density_label(densities[0]), density_label(densities[-1])
    return first if len(densities) == 1 else f"{first.removesuffix(' %')} to {last}"
