"""Where tickets come from: what of each layer survives from level to level, and what the masks of two trunks share."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from lottery.analysis.accuracy import Row, head, optimizer_labels, rewind_label
from lottery.errors import DataError
from lottery.files.tensors import part
from lottery.network.layout import state_of
from lottery.network.weights import layer_name
from lottery.pruning.mask import Mask
from lottery.results.artifacts import read_mask, read_state, unpack
from lottery.results.study import once
from lottery.statistics.network_pairs import seed_values, t_test
from lottery.structure.connectivity import paths

if TYPE_CHECKING:
    from lottery.plan.jobs import Job
    from lottery.recipe.types import RewindSpec
    from lottery.results.study import Study
    from lottery.structure.connectivity import Paths

Vector = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

ALL = "all"  # the layer that stands for all of them together

Trunks = dict[tuple[int, "RewindSpec"], dict[int, dict[int, "Job"]]]  # optimizer's place, rewind -> seed -> level


@once
def layers(study: Study) -> list[Row]:
    """A row for each optimizer, rewind point (where there are several), level and layer, and one for all layers.

    Level 0 is the dense network. Each column is the mean over the `n` seeds whose training is finished: `density` and
    `kept` weights; `effective_density`, which counts only weights on a path from input to output, and `dead_units`,
    as a `dead_share` of all too (see `connectivity.paths`; None where the data are not there, since they alone know
    the shape of the input); `survival`, the share of the level above's weights that are kept. The start is the rewind
    point: `start_rank` is the mean rank of the kept weights among all of their layer by absolute value there, between
    0 (smallest) and 1, ties shared, so that 0.5 says that pruning took small and large ones alike;
    `sign_change_share` is that of the kept weights whose sign at the end of training is another than at the start (one
    that is exactly 0 at either has not changed); `start_magnitude` and `end_magnitude` are their mean absolute values
    at both. Where some rewind point is not the initialization, `init_sign_change_share` counts from there (None
    without the data). Under a weight normalization all these are of the weights that the layers compute with. None
    where a layer has nothing left to take a share of."""
    structure = _Structure(study)
    labels = optimizer_labels(study.recipe.train.optimizer)
    table: list[Row] = []
    for (place, rewind), seeds in _trunks(study).items():
        measured: dict[int, list[dict[str, _Counts]]] = {}
        for levels in seeds.values():
            for level, counts in _history(structure, levels):
                measured.setdefault(level, []).append(counts)
        for level, found in sorted(measured.items()):
            about = head(study.recipe, rewind_label(rewind), optimizer=labels[place]) | {"level": level}
            for layer in found[0]:
                shares = _mean([counts[layer].row() for counts in found])
                if all(rewind.to.value == 0 for rewind in study.recipe.rewind):
                    del shares["init_sign_change_share"]  # it would say the same again
                table.append({**about, "layer": layer, "n": len(found), **shares})
    return table


@once
def overlaps(study: Study) -> list[Row]:
    """A row for each level and layer, and one for all layers: what the masks of two tickets of that level share.

    `between` says of which: two seeds of one optimizer, or one seed of the `optimizer` and the `other`; all means are
    over the `pairs` of these. `overlap` is the size of the intersection over the mean of both sizes (Dice), `jaccard`
    that over the union. Beside them stands what masks with the same densities of layers, drawn at random, would share:
    `overlap_chance` is exact, the hypergeometric mean, and `jaccard_chance` the index of an intersection of that size.
    `t` and the two-sided `p` say how sure it is that `overlap` is not `overlap_chance`: the t test over the `n` seeds.
    Pairs that share a seed are not independent, so the pairs of `n` seeds give one value for each seed, see
    `pair_statistics.seed_values`; None where these are fewer than 2 (fewer than 3 seeds, between seeds) or all the
    same. The spread is that of real masks: whole rows of a mask are kept or not, so that pairs spread more than the
    hypergeometric variance says. Networks of one seed share their initialization and order of data."""
    every, labels = _trunks(study), optimizer_labels(study.recipe.train.optimizer)
    table: list[Row] = []
    for rewind in dict.fromkeys(rewind for _, rewind in every):
        seeds = {place: found for (place, own), found in every.items() if own == rewind}
        for level in sorted({level for found in seeds.values() for jobs in found.values() for level in jobs} - {0}):
            masks = {
                place: {
                    seed: _Packed.of(read_mask(study.store, jobs[level].key))
                    for seed, jobs in found.items()
                    if level in jobs
                }
                for place, found in seeds.items()
            }
            here = partial(head, study.recipe, rewind_label(rewind))
            for place, own in masks.items():
                pairs = {(a, b): (own[a], own[b]) for a, b in combinations(sorted(own), 2)}
                about = here(optimizer=labels[place]) | {"between": "seeds", "other": None, "level": level}
                table += _overlap_rows(about, pairs)
            for one, two in combinations(masks, 2):
                both = sorted(masks[one].keys() & masks[two].keys())
                pairs = {(seed, seed): (masks[one][seed], masks[two][seed]) for seed in both}
                about = here(optimizer=labels[one])
                about |= {"between": "optimizers", "other": labels[two], "level": level}
                table += _overlap_rows(about, pairs)
    return table


@dataclass(frozen=True)
class _Counts:
    """What is counted in a layer; sums of layers are those of the network. None: not known."""

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
        return {
            "density": _share(self.kept, self.size),
            "kept": self.kept,
            "effective_density": _share(self.effective, self.size),
            "survival": _share(self.survived, self.above),
            "sign_change_share": _share(self.changed, self.kept),
            "init_sign_change_share": _share(self.changed_since_init, self.kept),
            "start_rank": _share(self.ranks, self.kept),
            "start_magnitude": _share(self.start, self.kept),
            "end_magnitude": _share(self.end, self.kept),
            "dead_units": self.dead,
            "dead_share": _share(self.dead, self.units),
        }


def _share(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole


def _mean(shares: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """Of each column over those seeds that have a value there; counts that are the same in all of them stay counts."""
    known = {name: [value for row in shares if (value := row[name]) is not None] for name in shares[0]}
    return {
        name: None if not values else values[0] if len(set(values)) == 1 else statistics.fmean(values)
        for name, values in known.items()
    }


class _Structure:
    """What needs the network itself: paths, initializations, weights behind a weight normalization.

    Nothing without the data."""

    def __init__(self, study: Study):
        self.study, self.known = study, True
        try:
            bench = study.bench
            self._network, self._shape = bench.blank(), bench.data(study.recipe.seeds[0]).input_shape
        except DataError as error:
            logging.getLogger("lottery").warning("%s; what needs the shape of the input is left out", error)
            self.known = False

    def paths(self, mask: Mask) -> Paths | None:
        return paths(self._network, mask, self._shape) if self.known else None

    def weights(self, job: Job, mask: Mask, state: Mapping[str, Tensor] | None) -> Mapping[str, Tensor] | None:
        """The weights that layers compute with, by mask name; those that are pruned are 0."""
        if state is None:
            return None
        state = mask.apply(state)
        if all(name in state and ".parametrizations." not in name for name in mask):
            return state
        return self.study.level(job).effective(state) if self.known else None

    def initial(self, job: Job) -> Mapping[str, Tensor] | None:
        """The network's state as its init draws it."""
        return state_of(self.study.bench.network(job.seed)) if self.known else None


def _history(structure: _Structure, levels: Mapping[int, Job]) -> Iterator[tuple[int, dict[str, _Counts]]]:
    """Of each finished level of one seed's trunk what is counted, by the names of layers."""
    study, (job, *_) = structure.study, levels.values()
    assert job.point is not None and job.rewind is not None
    state, _ = read_state(study.store, job.point)
    start = part(state, "model/")
    init = structure.initial(job) if job.rewind.to.value else start
    every = Mask.dense({name: start[name] for name in study.found[job.key].metrics["sizes"]})
    ranks = _ranks(every, structure.weights(job, every, start))
    above: tuple[int, Mask] | None = None
    for level, job in sorted(levels.items()):
        end, mask = study.store.read_tensors(job.key, "weights.safetensors"), every
        if job.kind == "ticket":
            mask = read_mask(study.store, job.key)
            end = unpack(end, mask)
        states = [structure.weights(job, mask, state) for state in (start, end, init)]
        before = above[1] if above is not None and above[0] == level - 1 else None
        yield level, _counted(mask, before, structure.paths(mask), ranks, *states)
        above = level, mask


def _ranks(every: Mask, weights: Mapping[str, Tensor] | None) -> dict[str, Tensor] | None:
    """Of each weight of a layer its rank by absolute value among them, between 0 and 1; 0.5 on average."""
    if weights is None:
        return None
    return {
        name: torch.from_numpy((rankdata(weights[name].abs().double().numpy(), axis=None) - 0.5) / size).view(
            weights[name].shape
        )
        for name, size in every.sizes().items()
    }


def _counted(
    mask: Mask,
    above: Mask | None,
    found: Paths | None,
    ranks: Mapping[str, Tensor] | None,
    start: Mapping[str, Tensor] | None,
    end: Mapping[str, Tensor] | None,
    init: Mapping[str, Tensor] | None,
) -> dict[str, _Counts]:
    counts: dict[str, _Counts] = {}
    for name, bits in mask.items():
        own, ended, drawn, rank = (
            None if every is None else every[name][bits].double() for every in (start, end, init, ranks)
        )
        counts[layer_name(name)] = _Counts(
            size=bits.numel(),
            kept=int(bits.sum()),
            effective=None if found is None else int(found.effective[name].sum()),
            above=None if above is None else int(above[name].sum()),
            survived=None if above is None else int((above[name] & bits).sum()),
            ranks=None if rank is None else float(rank.sum()),
            start=None if own is None else float(own.abs().sum()),
            end=None if ended is None else float(ended.abs().sum()),
            changed=_changes(own, ended),
            changed_since_init=_changes(drawn, ended),
            units=None if found is None else len(found.units[name].works),
            dead=None if found is None else found.units[name].dead,
        )
    total, *others = counts.values()
    for layer in others:
        total += layer
    return {**counts, ALL: total}


def _changes(one: Tensor | None, other: Tensor | None) -> int | None:
    """How many signs differ."""
    return None if one is None or other is None else int((one.sign() * other.sign() < 0).sum())


def _trunks(study: Study) -> Trunks:
    """The finished tickets, and their dense networks as level 0 with the rewind point of the trunk."""
    trunks: Trunks = {}
    for job in study.plan:
        if job.kind != "ticket" or job.rewind is None:
            continue
        for each in (study.plan.trunk(job)[0], job):
            record = study.found.get(each.key)
            if record is not None and record.diverged is None:
                trunks.setdefault((job.place, job.rewind), {}).setdefault(job.seed, {})[each.level] = each
    return trunks


@dataclass(frozen=True)
class _Packed:
    """A mask with eight weights a byte: what many of can be held at a time."""

    bits: Mapping[str, np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]  # by the names of layers
    kept: Mapping[str, int]
    sizes: Mapping[str, int]

    @classmethod
    def of(cls, mask: Mask) -> _Packed:
        bits = {layer_name(name): packed.numpy() for name, packed in mask.pack()[0].items()}
        kept, sizes = ({layer_name(n): c for n, c in counts.items()} for counts in (mask.alive(), mask.sizes()))
        return cls(bits, kept, sizes)

    def shared(self, other: _Packed, layer: str) -> int:
        return int(np.bitwise_count(self.bits[layer] & other.bits[layer]).sum())


def _overlap_rows(about: Row, pairs: Mapping[tuple[int, int], tuple[_Packed, _Packed]]) -> Iterator[Row]:
    """For each layer and all, from these pairs of masks by their seeds; none where there is no pair."""
    if not pairs:
        return
    (some, _), *_ = pairs.values()
    counts = {layer: np.array([_pair(a, b, layer) for a, b in pairs.values()]) for layer in some.bits}
    counts[ALL] = np.stack([counts[layer] for layer in some.bits]).sum(0)
    sizes = {**some.sizes, ALL: sum(some.sizes.values())}
    for layer, (first, second, shared, expected) in ((layer, c.T) for layer, c in counts.items()):
        t, p = _beyond_chance(pairs, shared - expected, (first + second) / 2)
        yield {
            **about,
            "density": float((first + second).mean()) / 2 / sizes[layer],
            "layer": layer,
            "n": len({seed for pair in pairs for seed in pair}),
            "pairs": len(pairs),
            "overlap": _ratio(shared, (first + second) / 2),
            "overlap_chance": _ratio(expected, (first + second) / 2),
            "jaccard": _ratio(shared, first + second - shared),
            "jaccard_chance": _ratio(expected, first + second - expected),
            "t": t,
            "p": p,
        }


def _beyond_chance(pairs: Iterable[tuple[int, int]], excess: Vector, sizes: Vector) -> Sequence[float | None]:
    """t and p of the excess over chance as a share of the masks' mean size; None where a pair of masks is empty."""
    if not (sizes > 0).all():
        return None, None
    return t_test(seed_values(dict(zip(pairs, (excess / sizes).tolist(), strict=True)))) or (None, None)


def _pair(one: _Packed, two: _Packed, layer: str) -> tuple[float, ...]:
    """Kept by one, by two, by both, and the hypergeometric mean of what chance would give both."""
    first, second = one.kept[layer], two.kept[layer]
    return first, second, one.shared(two, layer), first * second / one.sizes[layer]


def _ratio(parts: Vector, wholes: Vector) -> float | None:
    """The mean of the ratios of those pairs that have one."""
    known = wholes > 0
    return float((parts[known] / wholes[known]).mean()) if known.any() else None
