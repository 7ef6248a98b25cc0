"""Means over pairs of seeds: against the jackknife done by hand, scipy, and simulated studies."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy import stats as oracle

from lottery.statistics.network_pairs import balanced, seed_values, t_test


def test_pairs_of_different_seeds_give_the_pseudo_values_of_the_jackknife() -> None:
    rng = np.random.default_rng(0)
    pairs = {pair: float(rng.normal()) for pair in combinations((3, 5, 8, 9, 20), 2)}
    values = seed_values(pairs)
    everything = np.mean(list(pairs.values()))
    assert np.mean(values) == pytest.approx(everything)
    for seed, value in zip((3, 5, 8, 9, 20), values, strict=True):
        others = [number for pair, number in pairs.items() if seed not in pair]
        assert len(others) == 6 and value == pytest.approx(5 * everything - 4 * np.mean(others))
    # the variance of Arvesen 1969, 4 (n - 1) / (n (n - 2)^2) times the sum of squares of the seeds' mean pairs
    means = [np.mean([number for pair, number in pairs.items() if seed in pair]) for seed in (3, 5, 8, 9, 20)]
    variance = 4 * 4 / (5 * 3**2) * sum((mean - everything) ** 2 for mean in means)
    t, p = t_test(values) or (0, 0)
    assert t == pytest.approx(everything / variance**0.5) and p == pytest.approx(2 * oracle.t.sf(abs(t), 4))


def test_pairs_within_a_seed_are_independent_values() -> None:
    pairs = {(4, 4): 0.3, (1, 1): -0.1, (2, 2): 0.2}
    assert seed_values(pairs) == [-0.1, 0.2, 0.3]
    assert t_test(seed_values(pairs)) == pytest.approx(tuple(oracle.ttest_1samp([-0.1, 0.2, 0.3], 0)))


def test_pairs_in_a_ring_have_their_mean_and_no_spread_that_is_too_small() -> None:
    """Each seed with the next: 2,000 rings of five, with an effect of each seed and one of the pair."""
    ring = [(0, 1), (1, 2), (2, 3), (3, 4), (0, 4)]
    rng, wrong = np.random.default_rng(2), 0
    for _ in range(2_000):
        seed = rng.normal(size=5)
        pairs = {(a, b): float(seed[a] + seed[b] + 0.5 * rng.normal()) for a, b in ring}
        values = seed_values(pairs)
        assert np.mean(values) == pytest.approx(np.mean([*pairs.values()]))
        wrong += (t_test(values) or (0.0, 1.0))[1] < 0.05
    assert wrong / 2_000 < 0.065


def test_only_pairs_in_which_all_seeds_are_equally_often_are_balanced() -> None:
    assert balanced([(0, 1), (1, 2), (0, 2)]) and balanced([(1, 1), (4, 4)])
    assert not balanced([(0, 1), (1, 2)]) and not balanced([(0, 0), (1, 2)])


def test_too_few_seeds_or_none_that_differ_say_nothing() -> None:
    assert seed_values({(0, 1): 0.5}) == [] and t_test([]) is None
    assert t_test(seed_values({(0, 0): 0.5})) is None
    assert t_test(seed_values(dict.fromkeys(combinations(range(4), 2), 0.5))) is None
    assert t_test([0.0, 0.0, 0.0]) is None


@pytest.mark.parametrize(("between", "most"), [(0.0, 0.025), (1.0, 0.065)])
def test_the_test_errs_in_a_twentieth_of_studies_at_most_with_or_without_an_effect_of_seeds(
    between: float, most: float
) -> None:
    """Excess of a pair: an effect of each seed and one of the pair; 2,000 studies of five seeds, true mean 0."""
    rng = np.random.default_rng(1)
    wrong, every = 0, list[list[float]]()
    for _ in range(2_000):
        seed = between * rng.normal(size=5)
        pairs = {(a, b): float(seed[a] + seed[b] + 0.5 * rng.normal()) for a, b in combinations(range(5), 2)}
        _, p = t_test(seed_values(pairs)) or (0.0, 1.0)
        wrong += p < 0.05
        every.append([*pairs.values()])
    wrong_of_pairs = int((oracle.ttest_1samp(every, 0, axis=1).pvalue < 0.05).sum())
    assert wrong / 2_000 < most
    assert not between or (wrong / 2_000 > 0.035 and wrong_of_pairs / 2_000 > 0.25)  # as if pairs were independent
