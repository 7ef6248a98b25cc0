"""What a recipe is said to be able to claim, against all results of few test examples, and against made-up studies."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from lottery.analysis.labels import rewind_label
from lottery.audit.audit import audit
from lottery.audit.planned_steps import withheld_fields
from lottery.recipe.claims import ClaimSpec
from lottery.recipe.load import parse_recipe, shipped
from lottery.recipe.pruned_once import levels_of
from lottery.recipe.schema import CompareSpec, Recipe
from lottery.recipe.sweep import load_sweep
from lottery.results.resolution import floor
from lottery.results.study import study_of
from lottery.verdicts import decisions, published_claims, superiority, transfers
from lottery.verdicts.decisions import DenseDifferences
from lottery.verdicts.fewest_seeds import Scale, against_dense, fewest, of_claim, of_transfers
from lottery.verdicts.prospects import Look, Prospect, matching_spread, prospects
from lottery.verdicts.prospects_in_words import sentences
from lottery.verdicts.published_claims import Observed
from lottery.verdicts.superiority import Pairs, can_show, least_seeds
from lottery.verdicts.transfers import TransferDifferences
from tests.support.calls import Call, call
from tests.support.micro import finished, micro, micro_text, prepared
from tests.support.studies import Sized, dense, everything, hand, made, saying, view_of

__all__ = ["call"]
EXAMPLES = 6  # of the test set of the small worlds: accuracies are sixths
DENSE = ("matching", "losing", "better", "equivalent")


def found_of(recipe: Recipe, floor: float = 0.0) -> dict[tuple[str, str, str], Prospect]:
    return {(each.word, each.against, each.rewind): each for each in prospects(recipe, Look(floor))}


def every_difference(seeds: int) -> Iterator[tuple[float, ...]]:
    """Yield all differences of accuracy that so many seeds can have on the small test set, in any order of seeds."""
    counts = range(-EXAMPLES, EXAMPLES + 1)
    for each in itertools.combinations_with_replacement(counts, seeds):
        yield tuple(count / EXAMPLES for count in each)


def said(decision: decisions.MatchingDecision) -> set[str]:
    words = {word for word in ("better", "equivalent") if getattr(decision, word)}
    return words | {"winning": {"winning", "matching"}}.get(decision.verdict, {decision.verdict})


@pytest.mark.parametrize(
    ("word", "family", "densities"),
    [
        *((word, 1, "fixed_sequence") for word in DENSE),
        *(("matching", 3, densities) for densities in ("holm", "fallback")),
        pytest.param("equivalent", 3, "holm", marks=pytest.mark.slow),
        pytest.param("better", 3, "fallback", marks=pytest.mark.slow),
        pytest.param("losing", 3, "fallback", marks=pytest.mark.slow),
    ],
)
def test_no_results_of_one_seed_less_give_a_verdict_and_some_of_the_fewest_do(
    word: str, family: int, densities: str
) -> None:
    compare = CompareSpec(margin=30, densities=densities)  # type: ignore[arg-type]

    def shown(differences: tuple[float, ...]) -> bool:
        cells = [DenseDifferences(differences)] * family
        return any(
            word in said(each) for each in decisions.decide(cells, compare, may_win=False, floor=floor(EXAMPLES))
        )

    least = fewest(partial(against_dense, word, compare, family, floor(EXAMPLES), 10))
    assert least is not None and 2 <= least <= 5
    assert any(shown(each) for each in every_difference(least))
    assert not any(shown(each) for each in every_difference(least - 1))


def test_equivalence_within_a_margin_of_a_coarse_test_set_takes_more_seeds_than_matching() -> None:
    compare, least = CompareSpec(margin=0.1), dict[str, int | None]()
    for word in DENSE:
        least[word] = fewest(partial(against_dense, word, compare, 1, floor(1000), 10))
    assert (least["matching"], least["equivalent"]) == (2, 4)
    near = [[count / 1000 for count in each] for each in itertools.combinations_with_replacement(range(-3, 4), 3)]
    decided = (decisions.decide([DenseDifferences(each)], compare, may_win=False, floor=floor(1000)) for each in near)
    assert not any(each[0].equivalent for each in decided)


@pytest.mark.parametrize(("evaluations", "confidence"), [(3, 0.95), (4, 0.9), (1, 0.9)])
def test_no_early_stop_steps_of_one_seed_less_give_winning_and_some_of_the_fewest_do(
    evaluations: int, confidence: float
) -> None:
    compare = CompareSpec(margin=1, confidence=confidence)
    stops = [(step, step == evaluations) for step in range(1, evaluations + 1)]
    pairs = [(ours, theirs, late, later) for (ours, late), (theirs, later) in itertools.product(stops, stops)]

    def shown(n: int) -> bool:
        values = [1.0] * (n - 1) + [0.999]
        cells = ([DenseDifferences(values, early=each)] for each in itertools.combinations_with_replacement(pairs, n))
        return any(decisions.decide(cell, compare, may_win=True)[0].verdict == "winning" for cell in cells)

    least = fewest(partial(against_dense, "winning", compare, 1, 0.0, evaluations), most=8)
    if least is None:
        assert not any(shown(n) for n in range(1, 6)) and evaluations == 1
    else:
        assert shown(least) and not shown(least - 1)


@pytest.mark.parametrize("controls", ["step_down", "holm", "fixed_sequence"])
@pytest.mark.parametrize("family", [1, 2, 4])
def test_no_differences_to_a_control_of_one_seed_less_are_a_claim(controls: str, family: int) -> None:
    compare = CompareSpec(margin=1, controls=controls)  # type: ignore[arg-type]
    least, draws = least_seeds(compare, family), np.random.default_rng(0)
    assert least == {"holm": {1: 5, 2: 6, 4: 7}}.get(controls, {1: 5, 2: 5, 4: 5})[family]

    def shown(table: np.ndarray) -> bool:
        cells = [Pairs(dict(enumerate(map(float, column)))) for column in table.T]
        return any(each.verdict != "inconclusive" for each in superiority.decide(cells, compare))

    assert shown(np.ones((least, family)))
    for _ in range(150):
        table = draws.choice([-2.0, -1.0, 0.0, 1.0, 3.0], size=(least - 1, family), p=[0.05, 0.05, 0.1, 0.4, 0.4])
        assert not shown(table)
    assert not shown(np.ones((least - 1, family))) and not shown(-np.ones((least - 1, family)))


def test_where_flips_are_drawn_more_seeds_show_no_more() -> None:
    """2^-16 is below a 40,000th, the least p of 20,000 drawn flips is not: 16 seeds can show what 17 cannot."""
    compare = CompareSpec(margin=1, confidence=1 - 1 / 40_000)
    assert (can_show(compare, 1, 16), can_show(compare, 1, 17), can_show(compare, 1, 100)) == (True, False, False)
    assert least_seeds(compare, 1) == 16
    assert least_seeds(CompareSpec(margin=1, confidence=1 - 1e-7), 1) is None


def test_no_transferred_ticket_of_one_seed_less_gets_a_verdict() -> None:
    compare = CompareSpec(margin=30)

    def shown(differences: tuple[float, ...]) -> bool:
        found = transfers.decide([TransferDifferences(differences)] * 6, compare, floor(EXAMPLES))
        return found[0].verdict == "matching"

    least = fewest(partial(of_transfers, "matching", compare, 6, floor(EXAMPLES)))
    assert least is not None and any(map(shown, every_difference(least)))
    assert not any(map(shown, every_difference(least - 1)))


CLAIM = {"text": "it diverges", "source": "figure 1", "column": "dense", "against": None, "densities": [1.0]}


@pytest.mark.parametrize(
    ("limits", "holds", "fails"),
    [
        ({"most": 10.0}, 29, 2),
        ({"least": 90.0}, 29, 2),
        ({"least": 50.0}, 5, 5),
        ({"least": 20.0, "most": 80.0}, 10, 14),
    ],
)
def test_a_share_of_seeds_is_decided_by_as_many_seeds_as_its_exact_bounds_take(
    limits: dict[str, float], holds: int, fails: int
) -> None:
    """Of n seeds of which none diverged the bound is 1 - 0.05^(1/n): below 10 % from 29 on."""
    claim = ClaimSpec.model_validate({**CLAIM, "measure": "diverged", **limits})
    scale = Scale(0.0, 100.0, counted="share")
    for word, expected in (("holds", holds), ("fails", fails)):
        assert fewest(partial(of_claim, word, claim, 0.95, scale), rising=False) == expected

        def shown(n: int, word: str = word) -> bool:
            each = ([100.0] * ones + [0.0] * (n - ones) for ones in range(n + 1))
            seen = (Observed(0, 1.0, values, counted="share") for values in each)
            return any(published_claims.decide(claim, one, 0.95)[0] == word for one in seen)

        assert shown(expected) and not any(shown(n) for n in range(1, expected))


@pytest.mark.parametrize("limits", [{"least": 20.0}, {"most": -20.0}, {"least": -15.0, "most": 15.0}])
def test_a_published_difference_is_not_decided_by_one_seed_less(limits: dict[str, float]) -> None:
    claim = ClaimSpec.model_validate(
        {**CLAIM, "column": "ticket", "against": "dense", "densities": [0.5, 0.2], **limits}
    )
    scale = Scale(-100.0, 100.0, 100 / EXAMPLES, 100 * floor(EXAMPLES))
    for word in ("holds", "fails"):
        least = fewest(partial(of_claim, word, claim, 0.95, scale))
        assert least is not None

        def shown(n: int, word: str = word) -> bool:
            each = ([100 * value for value in differences] for differences in every_difference(n))
            seen = (Observed(1, 0.5, values, floor=100 * floor(EXAMPLES)) for values in each)
            return any(published_claims.decide(claim, one, 0.95)[0] == word for one in seen)

        assert shown(least) and not shown(least - 1)


# Recipes.


def planned(*overrides: str) -> Recipe:
    return hand("compare={margin: 1}", *overrides).recipe


@pytest.mark.parametrize(("seeds", "verdict"), [(6, "inconclusive"), (7, "superior")])
def test_the_seeds_that_holm_takes_are_those_that_a_made_up_study_takes(seeds: int, verdict: str) -> None:
    settings = (f"seeds={seeds}", "prune.levels=4", "branches=[reinit]", "compare={margin: 1, controls: holm}")
    study_plan = hand(*settings)
    clear = everything(study_plan, accuracy=0.9) | made(study_plan, ({"kind": "reinit"}, {"accuracy": 0.1}))
    assert {row["verdict"] for row in view_of("claims", study_plan, clear)} == {verdict}
    found = found_of(study_plan.recipe)["superior", "reinit", ""]
    assert (found.fewest, found.can, found.family) == (7, verdict == "superior", 4)
    if not found.can:
        why = (
            "6 seeds cannot show it: p of the sign-flip test is 1/64 at least, times 4 by Holm's procedure; it takes 7"
        )
        assert found.why == f"{why} seeds or more"


@pytest.mark.parametrize("seeds", [1, 2])
def test_two_seeds_that_nearly_agree_are_shown_to_match_in_a_made_up_study_and_one_is_not(seeds: int) -> None:
    study_plan = hand(f"seeds={seeds}", "prune.levels=2", "compare={margin: 1}")
    found = everything(study_plan, accuracy=0.5) | made(
        study_plan, *(dense(seed, 0.4 + seed / 1000) for seed in range(seeds))
    )
    rows = view_of("verdicts", study_plan, saying(found), Sized(study_plan, 1000))
    prospect = found_of(study_plan.recipe, floor(1000))["matching", "dense", ""]
    assert prospect.fewest == 2 and prospect.can == (seeds == 2)
    assert {row["verdict"] for row in rows} == {"matching" if prospect.can else "inconclusive"}


@pytest.mark.parametrize("densities", ["fixed_sequence", "holm", "fallback"])
def test_the_spread_that_matching_is_shown_with_is_that_of_simulated_studies(densities: str) -> None:
    """Tickets are as good as dense networks, 5 densities that are all alike in a seed; the first is judged."""
    recipe = planned("seeds=6", "prune.levels=5", f"compare={{margin: 1, densities: {densities}, power: 0.7}}")
    spread, draws = matching_spread(recipe), np.random.default_rng(1)
    assert spread is not None and recipe.compare is not None
    shown = 0
    for column in draws.normal(0, spread, (600, 6)):
        cells = [DenseDifferences(list(column)), *[DenseDifferences([-1.0, -0.9, -1.0, -0.8, -1.0, -0.7])] * 4]
        shown += decisions.decide(cells, recipe.compare, may_win=False)[0].verdict == "matching"
    assert shown / 600 == pytest.approx(0.7, abs=0.06)


def test_all_families_together_take_more_seeds() -> None:
    settings = ("seeds=5", "branches=[reinit, shuffle]")
    each = found_of(planned(*settings))
    every = found_of(planned(*settings, "compare={margin: 1, families: all}"))
    assert each["superior", "reinit", ""].fewest == 5 and each["superior", "reinit", ""].can
    assert every["superior", "reinit", ""].fewest == 8  # 9 families: 2^-8 is below 0.05 / 9
    assert "it takes 8 seeds or more" in every["inferior", "shuffle", ""].why


def test_winning_is_for_tickets_of_the_initialization_with_a_validation_split() -> None:
    found = found_of(planned("rewind=[init, 10it]"))
    assert found["winning", "dense", "init"].can
    assert "rewound to their initialization alone" in found["winning", "dense", "10it"].why
    (why,) = (each.why for each in prospects(planned("data.validation=0"), Look()) if each.word == "winning")
    assert why.startswith("without data.validation")


def test_levels_auto_leaves_matching_and_losing_and_no_claims() -> None:
    found = prospects(planned("prune.levels=auto", "seeds=6", "branches=[reinit]"), Look())
    assert [(each.word, each.can, each.fewest) for each in found if each.against == "dense"] == [
        ("matching", True, 4),
        ("losing", True, 4),
    ]
    assert all(each.why.startswith("levels: auto") for each in found if each.against == "reinit")


def test_networks_of_two_seeds_are_half_as_many_independent_pairs() -> None:
    found = prospects(micro("seeds=3", "analyses=[{name: barrier, between: [seed-seed, dense-ticket]}]"), Look())
    connected = {each.against: each for each in found if each.word == "connected"}
    assert {name: (each.seeds, each.can) for name, each in connected.items()} == {
        "barrier, dense - dense of another seed": (1, False),
        "barrier, ticket - ticket of another seed": (1, False),
        "barrier, dense - ticket": (3, True),
    }


CONTROLS = (
    "branches=[reinit, same_sign, constant, shuffle, {name: shuffle, weights: rewound, as: held}, small_dense, random, "
    "{name: random, weights: rewound, as: kept}, {name: random, weights: mode, as: moded}, one_shot, "
    "{name: reinit, trunk: own}, longer_dense, noise, supermask]"
)
REWINDS = "rewind=[init, 4it, {to: init, mode: lr}, {to: 4it, mode: lr}, {to: 4it, mode: finetune}]"


@pytest.mark.slow
@pytest.mark.parametrize("allow", [[], ["own_steps"], ["own_steps", "steps"]], ids=len)
def test_controls_that_are_said_to_give_no_claim_are_those_whose_claims_the_audit_withholds(
    tmp_path: Path, allow: list[str]
) -> None:
    recipe = micro(
        *("data.validation=0", "train.schedule={name: multi_step, at: [6it], factor: 0.1}", REWINDS),
        *(CONTROLS, f"compare={{margin: 1, allow: {allow}}}"),
    )
    context = finished(prepared(recipe, tmp_path))
    withheld: dict[tuple[str, str], set[str]] = {}
    for finding in audit(study_of(context.plan, context.store)).findings:
        if not finding.allowed_by:
            withheld.setdefault((finding.cell[1], finding.cell[3]), set()).add(finding.field)
    foreseen = {
        (rewind_label(rewind), branch.label): set(fields)
        for rewind in recipe.rewind
        for branch in recipe.branches
        if (fields := withheld_fields(recipe, branch, rewind, levels_of(branch, recipe.prune)))
    }
    assert foreseen == withheld
    assert bool(foreseen) == (len(allow) < 2)


# In words.


def test_check_says_what_the_seeds_can_show_and_what_they_cannot(tmp_path: Path, call: Call) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(
        micro_text("seeds=3", "prune.levels=4", "branches=[reinit, shuffle]", "compare={margin: 1, controls: holm}")
    )
    lines = call("check", path).out.splitlines()
    assert lines == [
        f"{path}: fine",
        "3 seeds can show: matching, losing, better or equivalent against dense",
        "no claim: winning against dense: 3 seeds cannot show it; it takes 5 or more",
        "no claim: superior or inferior to reinit, shuffle: 3 seeds cannot show it: p of the sign-flip test is 1/8 at "
        "least, times 4 by Holm's procedure; it takes 7 seeds or more",
    ]
    table = json.loads(call("check", path, "--claims", "--json").out)
    assert {(row["shows"], row["of"]): row["fewest"] for row in table}["superior", "reinit"] == 7
    text = call("check", path, "--claims").out
    assert "fewest" in text.splitlines()[1] and "times 4 by Holm's procedure" in text


def test_controls_that_train_other_steps_are_named_with_what_allows_them() -> None:
    recipe = parse_recipe(micro_text("rewind=4it", "seeds=5", "branches=[reinit, shuffle]", "compare={margin: 1}"), "r")
    (found,) = (each for each in prospects(recipe, Look()) if (each.word, each.against) == ("superior", "reinit"))
    assert found.why.endswith("withheld without `compare: {allow: [own_steps]}`") and found.fewest is None
    assert found_of(recipe)["superior", "shuffle", ""].can


@pytest.mark.parametrize(("mode", "fields"), [("weights", "own_steps"), ("lr", "own_steps, steps")])
def test_a_control_that_has_a_key_for_its_tickets_steps_is_named_with_it(mode: str, fields: str) -> None:
    changes = (f"rewind={{to: 4it, mode: {mode}}}", "seeds=5", "compare={margin: 1}")

    def why(branch: str) -> str:
        recipe = parse_recipe(micro_text(*changes, f"branches=[{branch}]"), "r")
        return next(each.why for each in prospects(recipe, Look()) if each.word == "superior")

    allowed = f"`compare: {{allow: [{fields}]}}`"
    assert why("random").endswith(f"withheld without {allowed}; with `weights: mode` it trains the same steps")
    assert why("{name: random, weights: mode}") == ""
    assert why("reinit").endswith(f"withheld without {allowed}")


def test_what_the_points_of_a_sweep_can_show_names_a_point_that_stands_alone(tmp_path: Path, call: Call) -> None:
    path = tmp_path / "rewinding.yaml"
    path.write_text(micro_text("seeds=3", "compare={margin: 1}", "sweep.rewind=[init, 4it]"))
    told = call("check", path).out
    assert "at rewind=init: 3 seeds can show" in told and "at rewind=4it: no claim: winning against dense" in told


@pytest.mark.slow
def test_every_shipped_recipe_is_told_what_it_can_claim_in_few_lines() -> None:
    for name in shipped():
        told = sentences(load_sweep(name))
        assert len(told) <= 16, name
