"""Pairs that share a seed are not independent of each other."""

from __future__ import annotations

import pytest

from lottery.statistics.independent import independent_means


def of(*pairs: tuple[tuple[int, ...], float]) -> dict[frozenset[int], float]:
    return independent_means((frozenset(seeds), value) for seeds, value in pairs)


def test_pairs_within_a_seed_are_one_value() -> None:
    found = of(((0,), 1.0), ((0,), 3.0), ((1,), 5.0), ((0,), 5.0))
    assert found == {frozenset({0}): 3.0, frozenset({1}): 5.0}


@pytest.mark.parametrize("seeds", [2, 3, 4, 5, 8])
def test_a_ring_of_seeds_has_half_as_many_independent_pairs(seeds: int) -> None:
    ring = [((seed, (seed + 1) % seeds), float(seed)) for seed in range(seeds)]
    found = of(*ring)
    assert len(found) == seeds // 2
    assert sum(map(len, found)) == len(frozenset().union(*found))


def test_both_directions_of_a_pair_are_one_value() -> None:
    assert of(((0, 1), 1.0), ((1, 0), 2.0)) == {frozenset({0, 1}): 1.5}
