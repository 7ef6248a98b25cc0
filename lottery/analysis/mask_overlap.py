"""The overlap of the masks of two trunks, layer by layer, against what chance alone would give."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations, product
from typing import TYPE_CHECKING

import numpy as np

from lottery.analysis.columns import DENSITY, LEVEL, SEEDS, Column
from lottery.analysis.labels import head, optimizer_labels, rewind_label
from lottery.analysis.layers import ALL, trunks
from lottery.analysis.rows import Row, Values, in_plan_order
from lottery.network.names import layer_name
from lottery.pruning.mask import Mask
from lottery.results.artifacts import read_mask
from lottery.results.study import once
from lottery.statistics.network_pairs import seed_values, t_test

if TYPE_CHECKING:
    from lottery.plan.jobs import Job
    from lottery.results.study import Study

Vector = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


@once
def overlaps(study: Study) -> list[Row]:
    """Return what the masks of two tickets of a level share: a row for each level and layer, and one for all layers.

    `between` says which tickets: two seeds of one optimizer, or one seed of the `optimizer` and the `other`; all
    means are over the `pairs` of these. `overlap` is the size of the intersection over the mean of both sizes (Dice),
    `jaccard` that over the union. Beside them stands what masks with the same densities of layers, drawn at random,
    would share: `overlap_chance` is exact, the hypergeometric mean, and `jaccard_chance` the index of an intersection
    of that size.
    `t` and the two-sided `p` say how sure it is that `overlap` is not `overlap_chance`: the t test over the `n` seeds.
    Pairs that share a seed are not independent, so the pairs of `n` seeds give one value for each seed, see
    `network_pairs.seed_values`; None where these are fewer than 2 (fewer than 3 seeds, between seeds) or all the
    same. The spread is that of real masks: whole rows of a mask are kept or not, so that pairs spread more than the
    hypergeometric variance says. Networks of one seed share their initialization and order of data.
    """
    every, labels = trunks(study), optimizer_labels(study.recipe.train.optimizer)
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
            here, keys = partial(head, study.recipe, rewind_label(rewind)), partial(_keys, study, seeds, level)
            for place, own in masks.items():
                pairs = {(a, b): (own[a], own[b]) for a, b in combinations(sorted(own), 2)}
                about = here(optimizer=labels[place]) | {"between": "seeds", "other": None, LEVEL: level}
                table += (Row(row, keys([place], own)) for row in _overlap_rows(about, pairs))
            for one, two in combinations(masks, 2):
                both = sorted(masks[one].keys() & masks[two].keys())
                pairs = {(seed, seed): (masks[one][seed], masks[two][seed]) for seed in both}
                about = here(optimizer=labels[one])
                about |= {"between": "optimizers", "other": labels[two], LEVEL: level}
                table += (Row(row, keys([one, two], both)) for row in _overlap_rows(about, pairs))
    return table


@dataclass(frozen=True)
class _Packed:
    """A mask with one bit per weight, so that many of them can be held at a time."""

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


def _keys(
    study: Study,
    trunks: Mapping[int, Mapping[int, Mapping[int, Job]]],
    level: int,
    places: Iterable[int],
    seeds: Iterable[int],
) -> tuple[str, ...]:
    """Return the keys of the tickets of a level of these optimizers' places and seeds."""
    return in_plan_order(study, (trunks[place][seed][level].key for place, seed in product(places, seeds)))


def _overlap_rows(about: Values, pairs: Mapping[tuple[int, int], tuple[_Packed, _Packed]]) -> Iterator[Values]:
    """Yield a row for each layer and one for all, from pairs of masks by their seeds; none where there is no pair."""
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
            DENSITY: float((first + second).mean()) / 2 / sizes[layer],
            "layer": layer,
            SEEDS: len({seed for pair in pairs for seed in pair}),
            "pairs": len(pairs),
            Column("overlap", "fraction"): _ratio(shared, (first + second) / 2),
            Column("overlap_chance", "fraction"): _ratio(expected, (first + second) / 2),
            Column("jaccard", "fraction"): _ratio(shared, first + second - shared),
            Column("jaccard_chance", "fraction"): _ratio(expected, first + second - expected),
            "t": t,
            Column("p", "p"): p,
        }


def _beyond_chance(pairs: Iterable[tuple[int, int]], excess: Vector, sizes: Vector) -> Sequence[float | None]:
    """Return t and p of the excess over chance as a share of the masks' mean size; None where a pair is empty."""
    if not (sizes > 0).all():
        return None, None
    return t_test(seed_values(dict(zip(pairs, (excess / sizes).tolist(), strict=True)))) or (None, None)


def _pair(one: _Packed, two: _Packed, layer: str) -> tuple[float, ...]:
    """Return the weights kept by one, by two, by both, and the hypergeometric mean of what chance would give both."""
    first, second = one.kept[layer], two.kept[layer]
    return first, second, one.shared(two, layer), first * second / one.sizes[layer]


def _ratio(parts: Vector, wholes: Vector) -> float | None:
    """Return the mean of the ratios of those pairs that have one."""
    known = wholes > 0
    return float((parts[known] / wholes[known]).mean()) if known.any() else None
