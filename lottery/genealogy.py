"""Where tickets come from: what of each layer survives from level to level, and what the masks of two trunks share."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from lottery.connectivity import paths
from lottery.errors import DataError
from lottery.levels import read_state, unpack
from lottery.mask import Mask
from lottery.tables import Row, optimizer_labels, rewind_label
from lottery.tensors import decode
from lottery.trunk import layer_name

if TYPE_CHECKING:
    from lottery.connectivity import Paths
    from lottery.plan import Job
    from lottery.schema import RewindSpec
    from lottery.study import Study

Vector = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

ALL = "all"  # the layer that stands for all of them together

Trunks = dict[tuple[int, "RewindSpec"], dict[int, dict[int, "Job"]]]  # optimizer's place, rewind -> seed -> level


def layers(study: Study) -> list[Row]:
    """A row for each optimizer, rewind point (where there are several), level and layer, and one for all layers.

    Level 0 is the dense network. Each column is the mean over the `n` seeds whose training is finished: `density` and
    `kept` weights; `effective_density`, which counts only weights on a path from input to output, and `dead` units,
    as a `dead_share` of all too (see `connectivity.paths`; None where the data are not there, since they alone know
    the shape of the input); `survival`, the share of the level above's weights that are kept, and `first_survival`,
    that of the first level's; `sign_change_share` of the kept weights whose sign at the end of training is another
    than at the rewind point (one that is exactly 0 at either has not changed); `init_abs` and `end_abs`, the mean
    absolute values of the kept weights at both. Under a weight normalization these are of the weights that the layers
    compute with. None where a layer has nothing left to take a share of."""
    structure = _Structure(study)
    labels = optimizer_labels(study.recipe.train.optimizer)
    table: list[Row] = []
    for (place, rewind), seeds in _trunks(study).items():
        measured: dict[int, list[dict[str, _Counts]]] = {}
        for levels in seeds.values():
            for level, counts in _history(structure, levels):
                measured.setdefault(level, []).append(counts)
        for level, found in sorted(measured.items()):
            about = _place(study, labels[place], rewind) | {"level": level}
            for layer in found[0]:
                shares = [counts[layer].row() for counts in found]
                table.append({**about, "layer": layer, "n": len(shares), **_mean(shares)})
    return table


def overlaps(study: Study) -> list[Row]:
    """A row for each level and layer, and one for all layers: what the masks of two tickets of that level share.

    `between` says of which: two seeds of one optimizer, or one seed of the `optimizer` and the `other`; all means are
    over the `pairs` of these. `overlap` is the size of the intersection over the mean of both sizes, `jaccard` that
    over the union. Beside them stands what masks with the same densities of layers, drawn at random, would share:
    `overlap_chance` is exact, the hypergeometric mean, and `jaccard_chance` the index of an intersection of that size.
    `z` is the excess of the intersections in standard deviations of chance, hypergeometric too; the variances of
    layers add, and those of pairs, since under chance intersections of a mask with several others are uncorrelated.
    None where the densities leave no choice. Networks of different seeds start from different weights: chance is what
    is to be expected of them. Those of one seed share their initialization and order of data."""
    every, labels = _trunks(study), optimizer_labels(study.recipe.train.optimizer)
    table: list[Row] = []
    for rewind in dict.fromkeys(rewind for _, rewind in every):
        seeds = {place: found for (place, own), found in every.items() if own == rewind}
        for level in sorted({level for found in seeds.values() for jobs in found.values() for level in jobs} - {0}):
            masks = {
                place: {seed: _Packed.of(_mask(study, jobs[level])) for seed, jobs in found.items() if level in jobs}
                for place, found in seeds.items()
            }
            for place, own in masks.items():
                pairs = list(combinations(own.values(), 2))
                about = {**_place(study, labels[place], rewind), "between": "seeds", "other": None, "level": level}
                table += _overlap_rows(about, pairs)
            for one, two in combinations(masks, 2):
                pairs = [(masks[one][seed], masks[two][seed]) for seed in masks[one] if seed in masks[two]]
                about = _place(study, labels[one], rewind)
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
    first: int | None  # kept at the first level, and how many of these still are
    still: int | None
    changed: int | None
    init: float | None
    end: float | None
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
            "first_survival": _share(self.still, self.first),
            "sign_change_share": _share(self.changed, self.kept),
            "init_abs": _share(self.init, self.kept),
            "end_abs": _share(self.end, self.kept),
            "dead": self.dead,
            "dead_share": _share(self.dead, self.units),
        }


def _share(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole


def _mean(shares: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """Of each column over those seeds that have a value there."""
    known = {name: [value for row in shares if (value := row[name]) is not None] for name in shares[0]}
    return {name: statistics.fmean(values) if values else None for name, values in known.items()}


class _Structure:
    """What needs the network itself: paths, and weights behind a weight normalization. Nothing without the data."""

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

    def weights(self, job: Job, mask: Mask, state: Mapping[str, Tensor]) -> Mapping[str, Tensor] | None:
        """The weights that layers compute with, by mask name; those that are pruned are 0."""
        if all(name in state and ".parametrizations." not in name for name in mask):
            return state
        return self.study.level(job).effective(state) if self.known else None


def _history(structure: _Structure, levels: Mapping[int, Job]) -> Iterator[tuple[int, dict[str, _Counts]]]:
    """Of each finished level of one seed's trunk what is counted, by the names of layers."""
    study = structure.study
    above: dict[int, Mask] = {}  # the first level and the last one
    for level, job in sorted(levels.items()):
        assert job.point is not None
        start = {n.removeprefix("model/"): t for n, t in read_state(study.store, job.point)[0].items()}
        end = study.store.read_tensors(job.key, "weights.safetensors")
        if job.kind == "dense":
            mask = Mask.dense({name: end[name] for name in study.found[job.key].metrics["sizes"]})
        else:
            mask = _mask(study, job)
            end = unpack(end, mask)
        weights = [structure.weights(job, mask, mask.apply(state)) for state in (start, end)]
        if level == 1:
            above[1] = mask
        yield level, _counted(mask, above.get(level - 1), above.get(1), structure.paths(mask), *weights)
        above = {1: above[1]} if 1 in above else {}
        above[level] = mask


def _counted(
    mask: Mask,
    above: Mask | None,
    first: Mask | None,
    found: Paths | None,
    init: Mapping[str, Tensor] | None,
    end: Mapping[str, Tensor] | None,
) -> dict[str, _Counts]:
    counts: dict[str, _Counts] = {}
    for name, bits in mask.items():
        start, trained = (None if state is None else state[name][bits].double() for state in (init, end))
        changed = None if start is None or trained is None else int((start.sign() * trained.sign() < 0).sum())
        counts[layer_name(name)] = _Counts(
            size=bits.numel(),
            kept=int(bits.sum()),
            effective=None if found is None else int(found.effective[name].sum()),
            above=None if above is None else int(above[name].sum()),
            survived=None if above is None else int((above[name] & bits).sum()),
            first=None if first is None else int(first[name].sum()),
            still=None if first is None else int((first[name] & bits).sum()),
            changed=changed,
            init=None if start is None else float(start.abs().sum()),
            end=None if trained is None else float(trained.abs().sum()),
            units=None if found is None else len(found.units[name].works),
            dead=None if found is None else found.units[name].dead,
        )
    total, *others = counts.values()
    for layer in others:
        total += layer
    return {**counts, ALL: total}


def _trunks(study: Study) -> Trunks:
    """The finished tickets, and their dense networks as level 0 with the rewind point of the trunk."""
    trunks: Trunks = {}
    for job in study.plan:
        if job.kind != "ticket" or job.rewind is None:
            continue
        levels = trunks.setdefault((job.place, job.rewind), {}).setdefault(job.seed, {})
        for each in (study.plan.trunk(job)[0], job):
            record = study.found.get(each.key)
            if record is not None and record.diverged is None:
                levels[each.level] = each
    return trunks


def _place(study: Study, optimizer: str, rewind: RewindSpec) -> Row:
    return {"optimizer": optimizer} | ({"rewind": rewind_label(rewind)} if len(study.recipe.rewind) > 1 else {})


def _mask(study: Study, job: Job) -> Mask:
    return Mask.unpack(*decode(study.store.read(job.key, "mask.safetensors")))


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


def _overlap_rows(about: Row, pairs: Sequence[tuple[_Packed, _Packed]]) -> Iterator[Row]:
    """For each layer and all, from these pairs of masks; none where there is no pair."""
    if not pairs:
        return
    names = list(pairs[0][0].bits)
    counts = {layer: np.array([_pair(a, b, layer) for a, b in pairs]) for layer in names}
    counts[ALL] = np.stack([counts[layer] for layer in names]).sum(0)
    sizes = dict(pairs[0][0].sizes)
    sizes[ALL] = sum(sizes.values())
    for layer, (first, second, shared, expected, variance) in ((layer, c.T) for layer, c in counts.items()):
        spread = float(variance.sum()) ** 0.5
        yield {
            **about,
            "density": float((first + second).mean()) / 2 / sizes[layer],
            "layer": layer,
            "pairs": len(pairs),
            "overlap": _ratio(shared, (first + second) / 2),
            "overlap_chance": _ratio(expected, (first + second) / 2),
            "jaccard": _ratio(shared, first + second - shared),
            "jaccard_chance": _ratio(expected, first + second - expected),
            "z": float((shared - expected).sum()) / spread if spread else None,
        }


def _pair(one: _Packed, two: _Packed, layer: str) -> tuple[float, ...]:
    """Kept by one, by two, by both, and the hypergeometric mean and variance of what chance would give both."""
    size, first, second = one.sizes[layer], one.kept[layer], two.kept[layer]
    mean = first * second / size
    variance = mean * (size - first) * (size - second) / (size * max(1, size - 1))
    return first, second, one.shared(two, layer), mean, variance


def _ratio(parts: Vector, wholes: Vector) -> float | None:
    """The mean of the ratios of those pairs that have one."""
    known = wholes > 0
    return float((parts[known] / wholes[known]).mean()) if known.any() else None
