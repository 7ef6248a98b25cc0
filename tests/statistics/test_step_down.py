"""The step-down maximum test against brute force and closed forms; its level, and the power of the seeds asked for."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from scipy import stats as oracle

from lottery.statistics import paired
from lottery.statistics.step_down import adjusted, seeds_needed
from tests.simulations.controls_power import CORRECTIONS, STUDIES, rates, studies

Array = Any
ALPHA = 0.05
ISSUE = np.array(  # ticket less random mask of the quickstart: five seeds, levels 1 to 5
    [
        [0.014, 0.026, 0.063, 0.087, 0.191],
        [-0.045, 0.013, 0.067, 0.083, 0.173],
        [0.021, 0.045, 0.038, 0.091, 0.197],
        [0.024, 0.021, 0.061, 0.135, 0.195],
        [-0.011, 0.022, 0.068, 0.133, 0.163],
    ]
)


def by_brute_force(differences: Array, statistic: Any) -> list[float]:
    """Westfall & Young's procedure word for word: a maximum over the densities left, flip by flip."""
    flipped = [differences * np.array(signs)[:, None] for signs in itertools.product([1, -1], repeat=len(differences))]
    seen = statistic(differences)
    found, most, left = [0.0] * len(seen), 0.0, list(range(len(seen)))
    for density in sorted(left, key=lambda column: -seen[column]):
        beaten = [max(statistic(values)[column] for column in left) >= seen[density] - 1e-9 for values in flipped]
        most = max(most, sum(beaten) / len(beaten))
        found[density] = most
        left.remove(density)
    return found


def t_statistic(values: Array) -> Array:
    return oracle.ttest_1samp(values, 0).statistic


def mean(values: Array) -> Array:
    return values.mean(axis=0)


@pytest.mark.parametrize("statistic", [mean, t_statistic])
def test_the_quickstarts_mask_control_is_shown_at_all_densities_but_the_first(statistic: Any) -> None:
    assert by_brute_force(ISSUE, statistic) == [0.5, 1 / 32, 1 / 32, 1 / 32, 1 / 32]
    assert adjusted(ISSUE) == [0.5, 1 / 32, 1 / 32, 1 / 32, 1 / 32]
    assert paired.fixed_sequence([paired.sign_flip(list(column)) for column in ISSUE.T]) == [0.5] * 5  # as it was
    assert min(adjusted(-ISSUE)) > 0.5


@pytest.mark.parametrize("seed", range(6))
def test_p_values_are_those_of_the_maximum_of_t_over_all_flips(seed: int) -> None:
    draws = np.random.default_rng(seed)
    values = draws.normal(size=(6, 1)) + draws.normal(size=(6, 4)) * [1, 0.1, 3, 1] + [0.0, 0.2, 1.0, 2.0]
    assert adjusted(values) == pytest.approx(by_brute_force(values, t_statistic))


def test_a_single_density_is_tested_by_sign_flips_of_its_mean() -> None:
    for n in (3, 6, 20):
        values = np.random.default_rng(n).normal(0.5, 1, n)
        assert adjusted(values[:, None]) == [pytest.approx(paired.sign_flip(list(values)))]


def test_values_without_spread_are_no_division_by_zero() -> None:
    values = np.array([[0.0, 0.01, 0.02, 0.01]] * 5)
    assert adjusted(values) == [1.0, 1 / 32, 1 / 32, 1 / 32]
    assert adjusted(np.zeros((5, 2))) == [1.0, 1.0]
    assert seeds_needed(values, ALPHA, 0.8) == [None, 5, 5, 5]


def test_a_density_with_as_clear_a_loss_costs_one_flip_more() -> None:
    values = np.array([[0.01, -0.01]] * 5)  # all signs turned, the loss looks as clear as the gain
    assert adjusted(values) == [2 / 32, 1.0] and adjusted(-values) == [1.0, 2 / 32]
    assert seeds_needed(values, ALPHA, 0.8) == [6, None]


def test_a_density_is_as_sure_as_its_own_seeds_allow_and_one_without_values_is_no_test_to_the_others() -> None:
    values = np.column_stack([np.full(6, 0.02), [0.01] * 5 + [math.nan], [math.nan] * 6])
    assert adjusted(values) == [1 / 64, 1 / 32, 1.0]
    assert adjusted(values[:, :2]) == [1 / 64, 1 / 32]
    assert adjusted(np.full((0, 2), math.nan)) == [1.0, 1.0]


def test_p_rises_from_the_largest_statistic_on() -> None:
    draws = np.random.default_rng(5)
    for _ in range(50):
        values = draws.normal(0.5, 1, (7, 5))
        order = np.argsort(-t_statistic(values))
        found = np.array(adjusted(values))[order]
        assert (np.diff(found) >= 0).all()
        alone = [paired.sign_flip(list(column)) for column in values.T]
        assert (found >= np.array(alone)[order] - 1e-12).all()


def test_drawn_flips_come_near_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(8).normal(0.5, 1, (12, 4))
    exact = adjusted(values)
    monkeypatch.setattr(paired, "EXACT", 11)
    assert adjusted(values) == pytest.approx(exact, abs=0.01)  # three standard errors of 20,000 draws


def allowed(studies: int) -> float:
    return ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / studies)


def test_unfinished_seeds_leave_the_test_exact() -> None:
    draws, wrong = np.random.default_rng(11), 0
    for _ in range(STUDIES):
        values = draws.normal(size=(7, 1)) + draws.normal(size=(7, 4))  # no difference at any density
        values[draws.random(values.shape) < 0.2] = math.nan  # whatever their sign
        wrong += min(adjusted(values)) <= ALPHA
    assert 0.02 <= wrong / STUDIES <= allowed(STUDIES)


def test_lost_seeds_of_one_sign_would_not() -> None:
    """Why a side that diverged is not tested: 9 in 10 of the seeds in which it was worse are not there."""
    draws, wrong = np.random.default_rng(12), 0
    for _ in range(500):
        values = draws.normal(size=(10, 1)) + draws.normal(size=(10, 4))
        values[(values < 0) & (draws.random(values.shape) < 0.9)] = math.nan
        wrong += min(adjusted(values)) <= ALPHA
    assert wrong / 500 > 0.4


def test_few_seeds_are_asked_for_where_the_test_has_the_power() -> None:
    """Independent draws of the mean, spread and correlation seen, tested with so many seeds and with one fewer."""
    draws = np.random.default_rng(2)
    seen = draws.normal(size=(8, 1)) + draws.normal(size=(8, 3)) + [0.6, 2.2, 3.0]
    needed = seeds_needed(seen, ALPHA, 0.8)
    spread = np.linalg.cholesky(np.cov(seen.T))
    first, second, third = (0 if count is None else count for count in needed)
    assert first > 16 and 0 < second <= 10 and 0 < third <= 10
    for density in (1, 2):
        n = needed[density]
        assert n is not None
        power = [0.0, 0.0]
        for place, seeds in enumerate((n, n - 1)):
            for _ in range(1000):
                values = seen.mean(axis=0) + draws.normal(size=(seeds, 3)) @ spread.T
                power[place] += (adjusted(values)[density] <= ALPHA) / 1000
        assert power[0] >= 0.8 - 0.06 and (n == 5 or power[1] <= 0.8 + 0.06)


def test_many_seeds_are_asked_for_by_the_level_that_the_other_densities_leave() -> None:
    apart = np.random.default_rng(3).normal(size=(40, 5))
    apart = np.linalg.qr(apart - apart.mean(axis=0))[0] * math.sqrt(39)  # uncorrelated, spread 1, mean 0
    needed = seeds_needed(apart + 0.4, ALPHA, 0.8)
    bonferroni, alone = (paired.seeds_needed(1, 0.4, 1 - level, 0.8) for level in (ALPHA / 5, ALPHA))
    assert alone == 41 and bonferroni is not None
    assert all(n is not None and bonferroni - 3 <= n <= bonferroni + 1 for n in needed)
    together = np.repeat(apart[:, :1], 5, axis=1) + 0.4  # the same at each density
    assert all(n is not None and abs(n - alone) <= 1 for n in seeds_needed(together, ALPHA, 0.8))
    assert seeds_needed(-apart - 0.4, ALPHA, 0.8) == [None] * 5


@pytest.mark.slow
@pytest.mark.parametrize("name", list(studies()))
def test_no_correction_errs_more_often_than_stated(name: str) -> None:
    """Skewed differences, of which docs/statistics.md warns, are left to the table there."""
    if "samples" in name:
        pytest.skip("differences are not symmetric")
    for n in (5, 6, 8, 10):
        for correction, (wrong, _) in rates(studies()[name], n).items():
            assert wrong <= allowed(STUDIES), (correction, n)


@pytest.mark.slow
def test_the_step_down_test_shows_more_than_holm_and_than_a_sequence_in_the_wrong_order() -> None:
    assert CORRECTIONS[0] == "step-down, t"
    for name in ("growing", "shrinking"):
        found = rates(studies()[name], 5)
        wrong_way = "dense to sparse" if name == "growing" else "sparse to dense"
        assert found["step-down, t"][1] > 50 > 1 > found["Holm"][1]
        assert found["step-down, t"][1] > found[wrong_way][1] + 40
