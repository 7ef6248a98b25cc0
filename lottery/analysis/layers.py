"""Where tickets come from: the share of each layer that survives from level to level, and its weights."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from lottery.analysis.columns import DENSITY, LEVEL, SEEDS, Column
from lottery.analysis.labels import head, optimizer_labels, rewind_label
from lottery.analysis.rows import Row, in_plan_order
from lottery.errors import DataError
from lottery.files.arrays import decode_arrays
from lottery.meanwhile import Meanwhile
from lottery.network.names import layer_name
from lottery.plan.kinds import STATE_FILE, WEIGHTS_FILE, Kind
from lottery.pruning.mask import Mask
from lottery.results.artifacts import read_mask, unpack_arrays
from lottery.results.study import Study, once
from lottery.store.open import open_store
from lottery.structure.chain import LayerPaths, chain_paths, is_chain, makes_chain

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import nn

    from lottery.plan.jobs import Job, Plan
    from lottery.recipe.types import RewindSpec
    from lottery.runner.context import RunContext

    Arrays = Mapping[str, NDArray[Any]]  # weights by the names of the method


ALL = "all"  # the layer that stands for all of them together

MOST_SIGNS = 20_000_000  # of initial weights that a second process draws, a byte each

Trunks = dict[tuple[int, "RewindSpec"], dict[int, dict[int, "Job"]]]  # optimizer's place, rewind -> seed -> level


@once
def layers(study: Study) -> list[Row]:
    """Return a row for each optimizer, rewind point (where there are several), level and layer, and one for all layers.

    Level 0 is the dense network. Each column is the mean over the `n` seeds whose training is finished: `density` and
    `kept` weights; `effective_density`, which counts only weights on a path from input to output, and `dead_units`,
    as a `dead_share` of all too (see `connectivity.paths`; None where the data are not there, which alone know the
    shape of the input, unless the network is a chain of fully connected layers); `survival`, the share of the level
    above's weights that are kept. The start is the rewind point: `start_rank` is the mean rank of the kept weights
    among all of their layer by absolute value there, between 0 (smallest) and 1, ties shared, so that 0.5 says that
    pruning took small and large ones alike; `sign_change_share` is that of the kept weights whose sign at the end of
    training is another than at the start (one that is exactly 0 at either has not changed); `start_magnitude` and
    `end_magnitude` are their mean absolute values at both. Where some rewind point is not the initialization,
    `init_sign_change_share` counts from there (None without the data). Under a weight normalization all these are of
    the weights that the layers compute with. None where a layer has nothing left to take a share of.
    """
    structure = _Structure(study)
    tops = [next(iter(levels.values())) for seeds in trunks(study).values() for levels in seeds.values()]
    with structure.drawing(tops):
        return _rows(study, structure)


def _rows(study: Study, structure: _Structure) -> list[Row]:
    labels = optimizer_labels(study.recipe.train.optimizer)
    table: list[Row] = []
    for (place, rewind), seeds in trunks(study).items():
        measured: dict[int, list[dict[str, _Counts]]] = {}
        counted: dict[int, list[str]] = {}
        for levels in seeds.values():
            for level, counts, keys in _history(structure, levels):
                measured.setdefault(level, []).append(counts)
                counted.setdefault(level, []).extend(keys)
        for level, found in sorted(measured.items()):
            about = head(study.recipe, rewind_label(rewind), optimizer=labels[place]) | {LEVEL: level}
            made_from = in_plan_order(study, counted[level])
            for layer in found[0]:
                shares = _mean([counts[layer].row() for counts in found])
                if all(rewind.to.value == 0 for rewind in study.recipe.rewind):
                    del shares["init_sign_change_share"]  # it would say the same again
                table.append(Row({**about, "layer": layer, SEEDS: len(found), **shares}, made_from))
    return table


@dataclass(frozen=True)
class _Counts:
    """Counts of a layer; their sums over layers are those of the network. None: not known."""

    size: int
    kept: int
    effective: int | None
    above: int | None  # kept at the level above, and how many of these still are
    survived: int | None
    ranks: float | None  # sums over the kept weights
    start: float | None
    end: float | None
    changed: int | None
    changed_since_init: int | None
    units: int | None
    dead: int | None

    def __add__(self, other: _Counts) -> _Counts:
        pairs = {field.name: (getattr(self, field.name), getattr(other, field.name)) for field in fields(self)}
        sums: dict[str, Any] = {name: None if a is None or b is None else a + b for name, (a, b) in pairs.items()}
        return _Counts(**sums)

    def row(self) -> dict[str, float | None]:
        """Return the shares and counts under the names of their columns."""
        return {
            DENSITY: _share(self.kept, self.size),
            "kept": self.kept,
            Column("effective_density", "density"): _share(self.effective, self.size),
            Column("survival", "fraction"): _share(self.survived, self.above),
            Column("sign_change_share", "fraction"): _share(self.changed, self.kept),
            Column("init_sign_change_share", "fraction"): _share(self.changed_since_init, self.kept),
            "start_rank": _share(self.ranks, self.kept),
            "start_magnitude": _share(self.start, self.kept),
            "end_magnitude": _share(self.end, self.kept),
            "dead_units": self.dead,
            Column("dead_share", "fraction"): _share(self.dead, self.units),
        }


def _share(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole


def _mean(shares: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """Return the mean of each column over the seeds that have a value there; equal counts stay integers."""
    known = {name: [value for row in shares if (value := row[name]) is not None] for name in shares[0]}
    return {
        name: None if not values else values[0] if len(set(values)) == 1 else statistics.fmean(values)
        for name, values in known.items()
    }


class _Structure:
    """What of the network itself is needed: paths, initializations, weights behind a weight normalization.

    Paths through a chain of fully connected layers follow from the masks. Of other networks, and for the rest, the
    network is built when it is first asked for; where the data are not there, which alone know the shape of the input,
    what needs it is None.
    """

    def __init__(self, study: Study):
        self.study = study
        self._drawing: Meanwhile[dict[int, Arrays] | None] | None = None

    @contextmanager
    def drawing(self, jobs: Sequence[Job]) -> Iterator[None]:
        """Have a second process draw what `initial` will return, while this one reads files: torch is imported for it.

        Only the signs, and those of so many weights as a process can send at once; behind a weight normalization more
        than signs is needed.
        """
        later = {job.seed: job for job in jobs if job.rewind is not None and job.rewind.to.value}
        sizes = [self.study.found[job.key].metrics["sizes"] for job in later.values()]
        plain = all(".parametrizations." not in name for each in sizes for name in each)
        if not later or not plain or sum(sum(each.values()) for each in sizes) > MOST_SIGNS:
            yield
            return
        study = self.study
        asked = partial(_drawn, study.plan, study.store.name, study.data, later, list(sizes[0]))
        with Meanwhile(asked, study.ahead) as self._drawing:
            yield

    @cached_property
    def _signs(self) -> dict[int, Arrays] | None:
        return None if self._drawing is None else self._drawing.value()

    @cached_property
    def _context(self) -> RunContext | None:
        from lottery.runner.finished_study import context_of  # imports torch

        try:
            return context_of(self.study)
        except DataError as error:
            logging.getLogger("lottery").warning("%s; what needs the shape of the input is left out", error)
            return None

    @cached_property
    def _network(self) -> nn.Module | None:
        return None if self._context is None else self._context.networks.blank()

    def paths(self, mask: Mask) -> Mapping[str, LayerPaths] | None:
        """Return the weights and units that a mask leaves on a path from input to output."""
        if makes_chain(self.study.recipe.model) and is_chain(mask.shapes()):
            return chain_paths(mask)
        if self._context is None or self._network is None:
            return None
        from lottery.structure.connectivity import paths

        found = paths(self._network, mask, self._context.splits.input_shape)
        effective, units = found.effective.alive(), found.units
        return {name: LayerPaths(effective[name], len(units[name].works), units[name].dead) for name in mask}

    def weights(self, job: Job, mask: Mask, state: Arrays | None) -> Arrays | None:
        """Return the weights that layers compute with, by mask name; those that are pruned may have any value."""
        if state is None or all(name in state and ".parametrizations." not in name for name in mask):
            return state
        if self._context is None:
            return None
        import torch

        from lottery.runner.finished_study import level_of

        tensors = mask.apply({name: torch.from_numpy(value) for name, value in state.items()})
        return {name: value.numpy() for name, value in level_of(self.study, job).effective(tensors).items()}

    def initial(self, job: Job) -> Arrays | None:
        """Return the weights as the network's init draws them, or numbers of the same signs; None without the data."""
        return self.state(job) if self._signs is None else self._signs[job.seed]

    def state(self, job: Job) -> Arrays | None:
        """Return the network's state as its init draws it; None without the data."""
        if self._context is None:
            return None
        from lottery.network.layout import state_of

        state = state_of(self._context.networks.network(job.seed))
        return {name: value.detach().numpy() for name, value in state.items()}


def _drawn(
    plan: Plan, store: str, data: Path | None, jobs: Mapping[int, Job], names: Sequence[str]
) -> dict[int, Arrays] | None:
    """Return the signs of the initial weights by seed; None without the data."""
    structure = _Structure(Study(plan, {}, open_store(store), data))
    states = {seed: structure.state(job) for seed, job in jobs.items()}
    return {
        seed: {name: np.sign(state[name]).astype(np.int8) for name in names}
        for seed, state in states.items()
        if state is not None
    } or None


def _history(structure: _Structure, levels: Mapping[int, Job]) -> Iterator[tuple[int, dict[str, _Counts], list[str]]]:
    """Yield each finished level of one seed's trunk, with what is counted by the names of layers.

    Beside it are the keys of the trainings whose masks and weights were counted.
    """
    study, (job, *_) = structure.study, levels.values()
    assert job.point is not None and job.rewind is not None
    state = _read(study, job.point, STATE_FILE)
    start = {name.removeprefix("model/"): value for name, value in state.items() if name.startswith("model/")}
    init = structure.initial(job) if job.rewind.to.value else start
    every = Mask.full({name: start[name].shape for name in study.found[job.key].metrics["sizes"]})
    ranks = _ranks(every, structure.weights(job, every, start))
    above: tuple[Job, Mask] | None = None
    for level, job in sorted(levels.items()):
        end, mask = _read(study, job.key, WEIGHTS_FILE), every
        if job.kind is Kind.TICKET:
            mask = read_mask(study.store, job.key)
            end = unpack_arrays(end, mask)
        states = [structure.weights(job, mask, state) for state in (start, end, init)]
        before, keys = None, [job.key]
        if above is not None and above[0].level == level - 1:
            before = above[1]
            keys += [above[0].key] * bool(above[0].level)  # the mask of the dense network is known without it
        yield level, _counted(mask, before, structure.paths(mask), ranks, *states), keys
        above = job, mask


def _read(study: Study, key: str, name: str) -> Arrays:
    """Return the tensors of a file of a finished job."""
    return decode_arrays(study.store.read(key, name))[0]


def _ranks(every: Mask, weights: Arrays | None) -> Arrays | None:
    """Return the rank of each weight among those of its layer by absolute value, between 0 and 1; 0.5 on average."""
    if weights is None:
        return None
    return {name: (mean_ranks(np.abs(weights[name])) - 0.5) / size for name, size in every.sizes().items()}


def mean_ranks(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return the ranks of values from 1 on, flattened; equal ones share the mean of theirs."""
    # not scipy.stats.rankdata: importing it takes longer than all ranks of a study
    _, place, counts = np.unique(values.ravel(), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    mean: NDArray[np.float64] = (last - (counts - 1) / 2)[place]
    return mean


def _counted(
    mask: Mask,
    above: Mask | None,
    found: Mapping[str, LayerPaths] | None,
    ranks: Arrays | None,
    start: Arrays | None,
    end: Arrays | None,
    init: Arrays | None,
) -> dict[str, _Counts]:
    counts: dict[str, _Counts] = {}
    sizes, kept, flat = mask.sizes(), mask.alive(), mask.flat()
    before, survived = (None, None) if above is None else (above.alive(), above.shared(mask))
    for name in mask:
        own, ended, drawn, rank = (
            None if every is None else every[name].ravel()[flat[name]].astype(np.float64)
            for every in (start, end, init, ranks)
        )
        counts[layer_name(name)] = _Counts(
            size=sizes[name],
            kept=kept[name],
            effective=None if found is None else found[name].effective,
            above=None if before is None else before[name],
            survived=None if survived is None else survived[name],
            ranks=None if rank is None else float(rank.sum()),
            start=None if own is None else float(np.abs(own).sum()),
            end=None if ended is None else float(np.abs(ended).sum()),
            changed=_changes(own, ended),
            changed_since_init=_changes(drawn, ended),
            units=None if found is None else found[name].units,
            dead=None if found is None else found[name].dead,
        )
    total, *others = counts.values()
    for layer in others:
        total += layer
    return {**counts, ALL: total}


def _changes(one: NDArray[Any] | None, other: NDArray[Any] | None) -> int | None:
    """Return the number of weights whose sign differs."""
    return None if one is None or other is None else int(np.count_nonzero(np.sign(one) * np.sign(other) < 0))


def trunks(study: Study) -> Trunks:
    """Return the finished tickets, and their dense networks as level 0 with the rewind point of the trunk."""
    trunks: Trunks = {}
    for job in study.plan:
        if job.kind is not Kind.TICKET or job.rewind is None:
            continue
        for each in (study.plan.trunk(job)[0], job):
            record = study.found.get(each.key)
            if record is not None and record.diverged is None:
                trunks.setdefault((job.optimizer_index, job.rewind), {}).setdefault(job.seed, {})[each.level] = each
    return trunks
