"""Densities of layers: the formula of RigL, and counts that are exact."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lottery import registry
from lottery.errors import UsageError
from lottery.network.build import prunable
from lottery.pruning.layer_densities import counts, erk, uniform

LENET = {"fc1.weight": (300, 784), "fc2.weight": (100, 300), "output.weight": (10, 100)}
Shapes = dict[str, tuple[int, ...]]


def resnet20() -> Shapes:
    model = registry.models["resnet20"].make((3, 32, 32), 10)
    return {name: tuple(weight.shape) for name, weight in prunable(model).items()}


def rigl(shapes: Shapes, sparsity: float) -> dict[str, float]:
    """Densities as Evci et al. 2020 find them: solve for epsilon, make the layers above 1 dense, and again."""
    dense: set[str] = set()
    while True:
        ones = sum(math.prod(s) * (1 - sparsity) for n, s in shapes.items() if n not in dense)
        zeros = sum(math.prod(s) * sparsity for n, s in shapes.items() if n in dense)
        raw = {n: sum(s) / math.prod(s) for n, s in shapes.items() if n not in dense}
        epsilon = (ones - zeros) / sum(p * math.prod(shapes[n]) for n, p in raw.items())
        highest = max(raw.values())
        if epsilon * highest <= 1:
            return {n: 1.0 if n in dense else epsilon * raw[n] for n in shapes}
        dense |= {n for n, p in raw.items() if p == highest}


@pytest.mark.parametrize("density", ["0.01", "0.1", "0.3", "0.5", "0.8", "0.98"])
@pytest.mark.parametrize("shapes", [LENET, resnet20()], ids=["lenet", "resnet20"])
def test_erk_is_the_formula_of_rigl_and_has_the_density_asked_for_exactly(shapes: Shapes, density: str) -> None:
    found = erk(shapes, Fraction(density))
    assert {n: float(d) for n, d in found.items()} == pytest.approx(rigl(shapes, 1 - float(density)), rel=1e-9)
    sizes = {n: math.prod(s) for n, s in shapes.items()}
    assert sum(found[n] * sizes[n] for n in shapes) == Fraction(density) * sum(sizes.values())
    assert list(found) == list(shapes)


def test_the_worked_example_of_erk_on_lenet_at_a_fifth() -> None:
    """Raw 1084/235200, 400/30000, 110/1000: the output layer is full, the others share 53,240 - 1,000 by 1084 : 400."""
    found = erk(LENET, Fraction(1, 5))
    expected = {
        "fc1.weight": Fraction(52_240 * 1084, 1484 * 235_200),
        "fc2.weight": Fraction(52_240 * 400, 1484 * 30_000),
        "output.weight": Fraction(1),
    }
    assert found == expected


def test_everything_is_kept_at_density_1() -> None:
    assert set(erk(LENET, Fraction(1)).values()) == {Fraction(1)}
    assert uniform(LENET, Fraction(1, 3)) == dict.fromkeys(LENET, Fraction(1, 3))


shapes_strategy = st.lists(
    st.one_of(st.tuples(*[st.integers(1, 40)] * 2), st.tuples(*[st.integers(1, 12)] * 2, *[st.integers(1, 3)] * 2)),
    min_size=1,
    max_size=8,
).map(lambda shapes: {f"layer{i}": shape for i, shape in enumerate(shapes)})
shares = st.fractions(Fraction(0), Fraction(1), max_denominator=1000)


@given(shapes_strategy, shares, shares)
def test_no_layer_gains_weights_while_the_network_gets_sparser(shapes: Shapes, a: Fraction, b: Fraction) -> None:
    low, high = erk(shapes, min(a, b)), erk(shapes, max(a, b))
    assert all(low[name] <= high[name] <= 1 for name in shapes)


@given(shapes_strategy, shares, shares, st.sampled_from([erk, uniform]))
def test_counts_are_exact_over_all_and_within_one_of_each_layers_share(
    shapes: Shapes, density: Fraction, sparser: Fraction, rule: object
) -> None:
    assert callable(rule)
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    total = math.floor(density * sum(sizes.values()) + Fraction(1, 2))
    densities = rule(shapes, Fraction(total, sum(sizes.values())))
    kept = counts(shapes, densities, total)
    assert sum(kept.values()) == total
    assert all(abs(kept[n] - densities[n] * sizes[n]) < 1 and kept[n] <= sizes[n] for n in shapes)
    fewer = math.floor(sparser * total)
    again = counts(shapes, rule(shapes, Fraction(fewer, sum(sizes.values()))), fewer, most=kept)
    assert sum(again.values()) == fewer
    assert all(again[n] <= kept[n] for n in shapes)


def test_the_weights_left_over_go_to_the_largest_remainders_and_the_first_among_equals() -> None:
    shapes: Shapes = {"a": (1, 10), "b": (1, 10), "c": (1, 10)}
    densities = {"a": Fraction("0.12"), "b": Fraction("0.16"), "c": Fraction("0.12")}
    assert counts(shapes, densities, 4) == {"a": 1, "b": 2, "c": 1}
    assert counts(shapes, densities, 5) == {"a": 2, "b": 2, "c": 1}
    assert counts(shapes, densities, 5, most={"a": 1, "b": 1, "c": 10}) == {"a": 1, "b": 1, "c": 3}


@pytest.mark.parametrize("total", [2, 31])
def test_a_total_that_does_not_fit_the_layers_is_refused(total: int) -> None:
    shapes: Shapes = {"a": (1, 10), "b": (1, 10), "c": (1, 10)}
    with pytest.raises(UsageError, match="cannot share out"):
        counts(shapes, uniform(shapes, Fraction("0.12")), total)
