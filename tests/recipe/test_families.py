"""Families of claims: how many there are, what is said of them, and how they are corrected."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.stats

from lottery.analysis.cells import declared
from lottery.plan.frontier import rule
from lottery.recipe.families import acting, counted, families
from lottery.recipe.schema import CompareSpec
from lottery.report.parts import parts
from lottery.results.study import Study
from lottery.verdicts.decisions import DenseDifferences, decide
from tests.support.studies import Recorded, dense, hand, made, ticket, view_of

MARGIN = "compare={margin: 1}"
ALL = "compare={margin: 1, families: all}"
TWO = "train.optimizer=[{name: adam}, {name: sgd, lr: 0.1}]"


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], 5),  # matching, losing, better, equivalent, winning
        (["data.validation=0"], 4),  # nothing stops early
        (["rewind=[init, 20it]"], 9),  # no winning from a later point
        (["rewind={to: init, mode: lr}"], 4),
        ([TWO], 10),
        (["branches=[reinit, shuffle]"], 9),  # two words more for each control
        (["branches=[reinit, noise]"], 7),  # noise stands for no claim
        (["branches=[one_shot]", "prune.levels=2"], 7),
        (["branches=[one_shot]", "prune.levels=2", "prune.when=init"], 5),  # tickets are pruned at once themselves
        ([TWO, "rewind=[init, 20it]", "branches=[reinit, shuffle]"], 2 * (5 + 4 + 2 * 4)),
        (["prune.levels=0"], 0),
    ],
    ids=str,
)
def test_each_optimizer_rewind_point_opponent_and_word_is_a_family(overrides: list[str], expected: int) -> None:
    assert families(hand(MARGIN, *overrides).recipe) == expected


def test_families_are_counted_in_a_sentence_with_the_false_claims_to_be_expected() -> None:
    recipe = hand(MARGIN, TWO, "rewind=[init, 20it]", "branches=[reinit]").recipe
    assert families(recipe) == 26
    assert counted(recipe).startswith(
        "26 families of claims at 5 %: up to 1.3 false claims expected; compare.families: all corrects that"
    )
    assert counted(hand(TWO).recipe) == counted(hand(MARGIN, "prune.levels=0").recipe) == ""
    corrected = counted(hand(ALL, TWO, "rewind=[init, 20it]", "branches=[reinit]").recipe)
    assert corrected.startswith("26 families of claims, each at 0.192 %: the chance of any false claim is 5 % at most")


def test_corrected_families_have_an_equal_share_of_what_may_be_wrong() -> None:
    each, together = (hand(TWO, compare) for compare in (MARGIN, ALL))
    for planned, alpha in ((each, 0.05), (together, 0.005)):
        study = Study(planned, {}, Recorded(planned))
        assert declared(study).alpha == pytest.approx(alpha, abs=1e-12)
    assert acting(hand().recipe) is None


def test_the_walk_of_levels_auto_spends_its_share() -> None:
    recipe = hand("prune.levels=auto", "seeds=8", ALL, "branches=[reinit]").recipe
    assert families(recipe) == 2  # matching and losing; claims against controls are withheld
    assert rule(recipe).alpha == pytest.approx(0.025)


def rows(compare: str) -> list[dict[str, Any]]:
    planned = hand("seeds=6", "branches=[reinit]", compare)
    points = (-1.0, -0.5, -0.9, -0.2, -0.7, -0.6)
    found = made(planned, *(dense(seed, 0.5) for seed in range(6)))
    found |= made(planned, *(ticket(seed, 0.5 + point / 100, step=90) for seed, point in enumerate(points)))
    found |= made(planned, *(({"kind": "reinit", "seed": seed}, {"accuracy": 0.4}) for seed in range(6)))
    explained = " ".join(p.explanation for p in parts(planned.recipe) if p.name in ("verdicts", "claims"))
    return [*view_of("verdicts", planned, found), *view_of("claims", planned, found), {"explained": explained}]


def test_correction_over_families_acts_on_verdicts_claims_bounds_and_what_the_report_says() -> None:
    (verdict, claim, told), (strict, strict_claim, said) = rows(MARGIN), rows(ALL)
    assert (verdict["verdict"], strict["verdict"]) == ("matching", "inconclusive")
    assert 0.05 / 7 < verdict["p_matching"] == strict["p_matching"] < 0.05
    assert strict["bound"] < -0.01 < verdict["bound"]
    assert strict["low"] < verdict["low"]
    assert (claim["verdict"], strict_claim["verdict"]) == ("superior", "inconclusive")  # p is 1/64 with six seeds
    assert "7 families of claims at 5 %: up to 0.35 false claims expected" in told["explained"]
    assert "the one-sided 99.2857 % lower bound" in said["explained"] and "each at 0.714 %" in said["explained"]
    assert "one-sided 99.2857 % for all densities of a control" in said["explained"]


def test_with_corrected_families_any_false_claim_of_a_study_is_as_rare_as_one_of_a_family() -> None:
    """Six optimizers without any spread between them in truth: each at the margin."""
    draws, count, experiments = np.random.default_rng(4), 12, 2000
    bare, shared = CompareSpec(margin=0.2), CompareSpec(margin=0.2, confidence=1 - 0.05 / count)
    wrong = np.zeros(2)
    for _ in range(experiments):
        cells = [DenseDifferences(list(row)) for row in draws.normal(-0.002, 0.002, (6, 5))]
        for place, spec in enumerate((bare, shared)):
            verdicts = {decide([cell], spec, may_win=False)[0].verdict for cell in cells}
            wrong[place] += bool(verdicts & {"matching", "losing"})
    once, together = wrong / experiments
    assert once == pytest.approx(1 - 0.9**6, abs=0.03)  # matching or losing, six times
    assert together <= 0.05 + 3 * (0.05 * 0.95 / experiments) ** 0.5


@pytest.mark.parametrize(("compare", "verdict"), [(MARGIN, "matching"), (ALL, "inconclusive")])
def test_a_density_that_only_the_correction_over_families_keeps_from_being_shown_says_so(
    compare: str, verdict: str
) -> None:
    """By scipy p is 0.03 that tickets are not more than a point below dense; five families leave 0.01 to each."""
    points = [-0.74 + each for each in (-0.4, -0.2, 0.0, 0.1, 0.2, 0.3)]
    p = scipy.stats.ttest_1samp(points, -1, alternative="greater").pvalue
    assert 0.01 < p < 0.05
    planned = hand("seeds=6", compare)
    found = made(planned, *(dense(seed, 0.5, end=0.5) for seed in range(6)))
    for seed, point in enumerate(points):
        found |= made(planned, ticket(seed, 0.5 + point / 100, end=0.5 + point / 100))
    (row,) = view_of("verdicts", planned, found)
    assert (row["verdict"], row["p_matching"]) == (verdict, pytest.approx(p))
    told = "shown by itself at 95 %, but not after the correction over all families" in row["reason"]
    assert told is (verdict == "inconclusive")
