"""How many weights are alive follows from the identities of a chain, and agrees with what pruning itself leaves."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
import torch

from lottery.audit.chain_counts import proven_counts, pruning_of
from lottery.errors import UsageError
from lottery.pruning.iterative import select
from lottery.pruning.mask import Mask

LENET = {"fc1.weight": (300, 784), "fc2.weight": (100, 300), "fc3.weight": (10, 100)}
SMALL = {"a.weight": (7, 9), "b.weight": (5, 7), "c.weight": (3, 5)}


def section(scope: str = "layer", fraction: str = "1/5", rates: Any = (), **more: Any) -> dict[str, Any]:
    return {"scope": scope, "fraction": fraction, "rates": rates, **more}


@pytest.mark.parametrize(("levels", "percent"), [(3, 51.28), (7, 21.07), (12, 6.95), (15, 3.58), (20, 1.19)])
def test_the_densities_of_lenet_are_those_of_the_paper(levels: int, percent: float) -> None:
    *_, last = proven_counts(LENET, [section(rates=[["output", "1/2"]])] * levels)
    assert round(100 * last.alive / 266_200, 2) == percent


SECTIONS = [
    section(),
    section(fraction="1/3", rates=[["b", "0"], ["output", "3/2"]]),
    section("global"),
    section("global", fraction="2/7", rates=[["b", "0"]]),
    section("erk", fraction="3/10"),
    section(fraction="1/4", times=3, when="init"),
    section("global", fraction="1/4", times=3),
    section("erk", fraction="1/4", times=2),
    section(fraction="0", densities=[["a", 0.3], ["c", 0.9]]),
]


@pytest.mark.parametrize("prune", SECTIONS, ids=str)
def test_counts_are_those_that_pruning_by_any_scores_leaves(prune: dict[str, Any]) -> None:
    """Four levels, each pruned by random scores: what is proven holds of each mask, and of none with a weight more."""
    draws = torch.Generator().manual_seed(0)
    mask = Mask({name: torch.ones(shape, dtype=torch.bool) for name, shape in SMALL.items()})
    pruning = pruning_of(prune)
    weights = {name: torch.zeros(shape) for name, shape in SMALL.items()}
    for proven in list(proven_counts(SMALL, [prune] * 4))[1:]:
        mask = select(
            weights,
            mask,
            pruning.takes_part(mask),
            pruning.keep(mask),
            lambda _, kept: {name: torch.rand(SMALL[name], generator=draws) for name in kept},
            rounds=1,
        )
        alive = mask.alive()
        assert list(proven.problems(alive)) == [] and proven.alive == sum(alive.values())
        for name in alive:
            assert list(proven.problems({**alive, name: alive[name] + 1}))


def test_of_global_pruning_only_the_total_of_the_layers_that_take_part_is_proven() -> None:
    *_, last = proven_counts(SMALL, [section("global", fraction="1/2", rates=[["b", "0"]])])
    sizes = {name: math.prod(shape) for name, shape in SMALL.items()}  # 63, 35 and 15
    assert last.layers == {"b.weight": 35} and last.total == 39  # half of 78
    assert list(last.problems({**sizes, "a.weight": 30, "c.weight": 9})) == []
    assert list(last.problems({**sizes, "a.weight": 30, "c.weight": 10})) == [
        "40 weights are alive over a.weight, c.weight, the chain leaves 39"
    ]


def test_a_mask_of_other_layers_is_told_so() -> None:
    (dense,) = proven_counts(SMALL, [])
    assert list(dense.problems({"a.weight": 63})) == [
        "it has the layers a.weight, the network a.weight, b.weight, c.weight"
    ]


@pytest.mark.parametrize("second", [section(), section("erk"), section("global", rates=[["a", "0"]])])
def test_a_chain_that_no_recipe_has_proves_nothing(second: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="no trunk does that"):
        list(proven_counts(SMALL, [section("global"), second]))


def test_half_a_weight_stays() -> None:
    """7 weights, half of them 3.5: three go."""
    *_, last = proven_counts({"a.weight": (7, 1)}, [section(fraction=str(Fraction(1, 2)))])
    assert last.alive == 4
