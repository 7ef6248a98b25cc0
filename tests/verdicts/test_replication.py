"""Published claims against made-up studies: what holds, what fails, and what the data cannot decide."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

import lottery
from lottery.analysis.views import rows_of
from lottery.cli.main import main
from lottery.errors import RecipeError, UsageError
from lottery.recipe.load import parse_recipe, shipped
from lottery.results.record import Record, records
from lottery.results.study import Study
from lottery.results.sweep import SweptStudy
from lottery.runner.events import Request
from lottery.runner.prepare import prepare
from lottery.runner.run import work
from lottery.verdicts.claims_in_words import claims_in_words
from lottery.verdicts.replication import seeds_needed
from tests.support.studies import HERE, TEXT, Sized, dense, hand, made, record, saying, ticket, view_of

SOURCE = "Frankle & Carbin 2019"
FIRST_CLAIM = {"text": "tickets match", "source": "figure 3", "densities": [0.5], "least": -1.0}


def claimed(*overrides: str, seeds: int = 4, **claim: Any) -> Any:
    """A plan with one claim: by default, that tickets of half the weights are at most 1 point below dense."""
    claim = FIRST_CLAIM | claim
    written = json.dumps({"source": SOURCE, "claims": [claim]})
    return hand(f"seeds={seeds}", f"replicates={written}", *overrides)


def differing(planned: Any, points: Sequence[float], **what: Any) -> dict[str, Any]:
    """Tickets that differ from their dense networks by so many points, seed by seed."""
    trainings = [dense(seed, 0.5 + 0.01 * seed) for seed in range(len(points))]
    trainings += [ticket(seed, 0.5 + 0.01 * seed + point / 100, **what) for seed, point in enumerate(points)]
    return made(planned, *trainings)


@pytest.mark.parametrize(
    ("points", "verdict"),
    [((0.1, -0.2, 0.3, 0.0), "holds"), ((-3.0, -2.5, -3.5, -2.8), "fails"), ((-5.0, 4.0, -3.0, 2.0), "undecided")],
)
def test_a_claim_holds_or_fails_only_where_its_bound_shows_it(points: tuple[float, ...], verdict: str) -> None:
    planned = claimed()
    (row,) = view_of("replication", planned, differing(planned, points))
    low = stats.ttest_1samp(points, -1.0, alternative="greater").pvalue < 0.05
    high = stats.ttest_1samp(points, -1.0, alternative="less").pvalue < 0.05
    assert (low, high) == (verdict == "holds", verdict == "fails")
    assert (row["verdict"], row["here"], row["n"]) == (verdict, verdict, 4)
    interval = stats.ttest_1samp(points, 0).confidence_interval(0.9)  # two one-sided bounds of 95 %
    assert row["bounds"] == "one-sided 95 %"
    assert row["estimate"] == pytest.approx(sum(points) / 4)
    assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high))
    assert row["source"] == f"{SOURCE}, figure 3" and row["claimed"] == "at least -1"


@pytest.mark.parametrize(("against", "examples"), [("dense", math.sqrt(0.5)), (None, 0.5)])
def test_seeds_that_agree_to_an_example_are_judged_with_the_floor_of_the_spread(
    against: str | None, examples: float
) -> None:
    planned = claimed(seeds=5, against=against, least=-0.04 if against else 49.96)
    found = made(planned, *(each for seed in range(5) for each in (dense(seed, 0.5), ticket(seed, 0.5))))
    (bare,) = view_of("replication", planned, found)
    (row,) = view_of("replication", planned, saying(found), Sized(planned, 1000))
    assert (bare["verdict"], row["verdict"]) == ("holds", "undecided")
    assert row["low"] == pytest.approx(row["estimate"] - stats.t.ppf(0.95, 4) * examples / 10 / math.sqrt(5))
    wanted = next(n for n in range(5, 99) if power(0.04, examples / 10, n) >= 0.8)
    assert row["seeds_needed"] == wanted


def power(distance: float, spread: float, n: int) -> float:
    """Of the one-sided t test at 5 %."""
    return float(stats.nct.sf(stats.t.ppf(0.95, n - 1), n - 1, distance / spread * math.sqrt(n)))


def test_a_ratio_of_steps_is_tested_on_its_logarithm() -> None:
    planned, steps = claimed(measure="early_stop_step", least=None, most=0.8), (50, 60, 40, 50)
    found = made(
        planned,
        *(dense(seed, 0.5, step=90) for seed in range(4)),
        *(ticket(seed, 0.5, step=step) for seed, step in enumerate(steps)),
    )
    (row,) = view_of("replication", planned, found)
    interval = stats.ttest_1samp([math.log(step / 90) for step in steps], 0).confidence_interval(0.9)
    assert row["verdict"] == "holds"
    assert row["estimate"] == pytest.approx(math.prod(steps) ** 0.25 / 90)  # the geometric mean
    assert (row["low"], row["high"]) == pytest.approx((math.exp(interval.low), math.exp(interval.high)))


@pytest.mark.parametrize(
    ("censored", "limits", "verdict"),
    [  # dense is last at step 100, the ticket at about 47: a ratio of at most 0.47. Or the other way round
        ("dense", {"least": None, "most": 0.8}, "holds"),
        ("dense", {"least": 0.2, "most": None}, "undecided"),
        ("ticket", {"least": None, "most": 4.0}, "undecided"),
        ("ticket", {"least": 1.5, "most": None}, "holds"),
        ("ticket", {"least": None, "most": 1.5}, "fails"),
    ],
)
def test_a_censored_step_bounds_the_ratio_from_one_side_only(
    censored: str, limits: dict[str, Any], verdict: str
) -> None:
    planned, steps = claimed(measure="early_stop_step", **limits), (40, 50, 60, 40)
    late, early = (dense, ticket) if censored == "dense" else (ticket, dense)
    found = made(
        planned,
        *(late(seed, 0.5, step=100, censored=True) for seed in range(4)),
        *(early(seed, 0.5, step=step) for seed, step in enumerate(steps)),
    )
    (row,) = view_of("replication", planned, found)
    ratio = math.prod(steps) ** 0.25 / 100
    assert (row["verdict"], row["estimate"]) == (verdict, pytest.approx(ratio if late is dense else 1 / ratio))
    assert row["note"].endswith(f"{censored} censored: 4") and row["seeds_needed"] is None  # no number of them would do


def test_an_accuracy_itself_is_claimed_in_points() -> None:
    planned = claimed(against=None, least=50.0, most=60.0)
    found = made(planned, ({"kind": "dense"}, {}), *(ticket(seed, 0.55 + 0.001 * seed) for seed in range(4)))
    (row,) = view_of("replication", planned, found)
    assert row["verdict"] == "holds" and row["estimate"] == pytest.approx(55.15)
    assert row["claimed"] == "at least 50 and at most 60"


def test_a_claim_on_all_densities_needs_each_of_them() -> None:
    planned = claimed("prune.levels=2", densities=[0.5, 0.25])
    near = made(planned, *(dense(seed, 0.5) for seed in range(4)))
    one = near | {k: v for k, v in differing(planned, (0.1, 0.0, 0.2, 0.1)).items() if v.job.level == 1}
    first, second = view_of("replication", planned, one)
    assert (first["here"], second["here"]) == ("holds", "undecided")
    assert first["verdict"] == second["verdict"] == "undecided" and second["note"] == "not trained"
    both = view_of("replication", planned, differing(planned, (0.1, 0.0, 0.2, 0.1)))
    assert [row["verdict"] for row in both] == ["holds", "holds"]


def test_a_claim_on_any_density_pays_for_its_choice() -> None:
    points = (0.0, 1.2, 0.7, 1.9)  # p = 0.049 for a mean above 0: enough once, not as the best of two
    assert 0.025 < stats.ttest_1samp(points, 0, alternative="greater").pvalue < 0.05
    one = claimed(least=0.0)
    assert view_of("replication", one, differing(one, points))[0]["verdict"] == "holds"
    two = claimed("prune.levels=2", densities=[0.5, 0.25], where="any", least=0.0)
    assert {row["verdict"] for row in view_of("replication", two, differing(two, points))} == {"undecided"}


@pytest.mark.parametrize(
    ("where", "limits", "low", "high"),
    [
        ("all", {"least": -5.0}, 0.95, 0.975),
        ("any", {"least": -5.0}, 0.975, 0.95),
        ("all", {"least": None, "most": 5.0}, 0.975, 0.95),
        ("any", {"least": None, "most": 5.0}, 0.95, 0.975),
        ("all", {"least": -5.0, "most": 5.0}, 0.975, 0.975),
    ],
)
def test_the_bounds_that_are_printed_are_those_that_decide(
    where: str, limits: dict[str, Any], low: float, high: float
) -> None:
    points = (0.1, -0.2, 0.3, 0.0)
    planned = claimed("prune.levels=2", densities=[0.5, 0.25], where=where, **limits)
    row = view_of("replication", planned, differing(planned, points))[0]
    mean, error = sum(points) / 4, stats.sem(points)
    assert row["low"] == pytest.approx(mean - stats.t.ppf(low, 3) * error)
    assert row["high"] == pytest.approx(mean + stats.t.ppf(high, 3) * error)
    told = f"{100 * low:g} %" if low == high else f"{100 * low:g} % and {100 * high:g} %"
    assert row["bounds"] == f"one-sided {told}"


def test_a_claim_at_several_densities_is_decided_by_its_printed_bounds() -> None:
    """Whatever is seen: which claims hold and fail follows from the bounds and the limit that the rows show."""
    draws, seen = np.random.default_rng(1), set()
    for where in ("all", "any"):
        planned = claimed("prune.levels=2", densities=[0.5, 0.25], where=where, least=0.0)
        for _ in range(30):
            found = made(planned, ({"kind": "dense"}, {}))
            for level, mean in enumerate(draws.choice([-1.0, 0.0, 1.0], 2), start=1):
                for seed in range(4):
                    value = 0.5 + (mean + draws.normal(0, 0.6)) / 100
                    found |= made(planned, ({"kind": "ticket", "seed": seed, "level": level}, {"accuracy": value}))
            table = view_of("replication", planned, found)
            kept, broken = [row["low"] >= 0 for row in table], [row["high"] < 0 for row in table]
            all_or_any, other = (all, any) if where == "all" else (any, all)
            right = "holds" if all_or_any(kept) else "fails" if other(broken) else "undecided"
            assert {row["verdict"] for row in table} == {right}
            seen.add((where, right))
    assert len(seen) == 6


# What held and should not have: other trainings than the claim is about, or fewer of them.


def longer(record: Record) -> Record:
    """The record of a training of twice as many steps, right in itself."""
    curve = record.metrics["curve"]
    curve += [{**curve[-1], "step": step} for step in range(110, 201, 10)]
    record.metrics["end"]["step"] = 200
    return record


def test_tickets_that_trained_twice_as_long_leave_a_claim_undecided() -> None:
    planned = claimed(least=1.0)
    found = differing(planned, (2.0, 2.1, 1.9, 2.2))
    assert view_of("replication", planned, found)[0]["verdict"] == "holds"
    found = {key: longer(each) if each.job.kind == "ticket" else each for key, each in found.items()}
    (row,) = view_of("replication", planned, found)
    assert (row["verdict"], row["here"], row["seeds_needed"]) == ("undecided", "undecided", None)
    assert "ticket: steps: 200, dense network 100 (seed 0, 1, 2, 3)" in row["note"]
    assert (
        row["estimate"] == pytest.approx(2.05) and row["low"] is row["high"] is None
    )  # seen, and no bound of anything


def test_two_of_five_tickets_that_diverged_leave_a_claim_undecided() -> None:
    points = (2.0, 2.1, 1.9, 2.2, 2.0)
    for allow, low in (("", None), ("seeds", None)):
        planned = claimed(f"compare={{margin: 1, allow: [{allow}]}}", seeds=5)
        found = differing(planned, points) | made(planned, *(ticket(seed, 0.5, diverged=20) for seed in (1, 3)))
        (row,) = view_of("replication", planned, found)
        assert (row["verdict"], row["n"], row["low"], row["seeds_needed"]) == ("undecided", 3, low, None)
        assert "ticket diverged: 2" in row["note"]
        assert ("seed 1: diverged at step 20" in row["note"]) == (not allow)


def test_a_side_that_diverged_is_not_shown_to_be_the_better_one_but_may_be_shown_to_be_worse() -> None:
    allowed = "compare={margin: 1, allow: [seeds]}"
    for lost, points, limits, verdict in (
        (ticket, 2.0, {"least": 0.0}, "undecided"),
        (ticket, -2.0, {"least": 0.0}, "fails"),
        (ticket, -2.0, {"least": None, "most": 0.0}, "holds"),
        (dense, 2.0, {"least": 0.0}, "holds"),
        (dense, -2.0, {"least": 0.0}, "undecided"),
        (ticket, 2.0, {"against": None, "least": 45.0}, "undecided"),
        (ticket, 2.0, {"against": None, "least": None, "most": 60.0}, "holds"),
    ):
        planned = claimed(allowed, seeds=6, **limits)
        seen = [points + 0.1 * (seed % 3) for seed in range(6)]
        found = differing(planned, seen) | made(planned, lost(5, 0.5, diverged=20))
        (row,) = view_of("replication", planned, found)
        assert (row["verdict"], row["n"]) == (verdict, 5), (lost, points, limits)


def test_a_ticket_that_diverged_is_not_shown_to_stop_earlier() -> None:
    planned = claimed("compare={margin: 1, allow: [seeds]}", seeds=6, measure="early_stop_step", least=None, most=0.8)
    steps = (50, 60, 40, 50, 60, 50)
    found = made(
        planned,
        *(dense(seed, 0.5, step=90) for seed in range(6)),
        *(ticket(seed, 0.5, step=step) for seed, step in enumerate(steps)),
    )
    assert view_of("replication", planned, found)[0]["verdict"] == "holds"
    (row,) = view_of("replication", planned, found | made(planned, ticket(5, 0.5, diverged=20)))
    assert (row["verdict"], row["high"]) == ("undecided", None) and row["low"] is not None


def test_two_of_five_seeds_leave_a_claim_undecided() -> None:
    planned = claimed(seeds=5)
    (row,) = view_of("replication", planned, differing(planned, (2.0, 2.1, 1.9, 2.2, 2.0)))
    assert row["verdict"] == "holds"
    (row,) = view_of("replication", planned, differing(planned, (2.0, 2.1)))
    assert (row["verdict"], row["n"], row["seeds_needed"]) == ("undecided", 2, None)
    assert "ticket: 2 of 5 seeds finished; dense: 2 of 5 seeds finished" in row["note"]
    absolute = claimed(seeds=5, against=None, least=50.0)
    (row,) = view_of("replication", absolute, differing(absolute, (2.0, 2.1)))
    assert row["verdict"] == "undecided" and "ticket: 2 of 5 seeds finished" in row["note"]


def test_a_claim_on_any_density_holds_by_one_whatever_hinders_the_others() -> None:
    planned = claimed("prune.levels=2", densities=[0.5, 0.25], where="any", least=0.0)
    found = differing(planned, (2.0, 2.1, 1.9, 2.2))
    lost = {key: each for key, each in found.items() if (each.job.level, each.job.seed) != (2, 3)}
    first, second = view_of("replication", planned, lost)
    assert (first["verdict"], first["here"], second["here"]) == ("holds", "holds", "undecided")
    assert "ticket: 3 of 4 seeds finished" in second["note"]


def test_tickets_of_another_machine_leave_a_claim_undecided() -> None:
    planned = claimed(against=None, least=50.0)
    found = differing(planned, (2.0, 2.1, 1.9, 2.2))
    assert view_of("replication", planned, found)[0]["verdict"] == "holds"
    found = differing(planned, (2.0, 2.1, 1.9, 2.2), environment={**HERE, "device": "NVIDIA H100"})
    (row,) = view_of("replication", planned, found)
    assert row["verdict"] == "undecided" and "ticket: device: NVIDIA H100, dense network cpu" in row["note"]


def test_seeds_that_were_added_by_what_was_seen_decide_no_claim() -> None:
    planned = claimed("prune.levels=auto", "prune.frontier={first_seeds: 4}", "compare={margin: 1}")
    table = view_of("replication", planned, differing(planned, (2.0, 2.1, 1.9, 2.2)))
    assert {row["verdict"] for row in table} == {"undecided"} and "levels: auto adds seeds" in table[0]["note"]


# How many seeds would decide.


def test_an_undecided_claim_says_how_many_seeds_would_decide_it() -> None:
    solver = pytest.importorskip("statsmodels.stats.power").TTestPower()
    points = (0.5, -0.7, 0.9, -0.1)
    planned = claimed(least=0.0)
    (row,) = view_of("replication", planned, differing(planned, points))
    effect = np.mean(points) / np.std(points, ddof=1)
    reached = [solver.power(effect, row["seeds_needed"] + more, 0.05, alternative="larger") for more in (-1, 0)]
    assert reached[0] < 0.8 <= reached[1] and row["claim_seeds_needed"] == row["seeds_needed"]
    (told,) = claims_in_words([row])
    assert f"undecided; {row['seeds_needed']} seeds would decide (level 1 at 50 %)" in told.figures[1]


def test_a_claim_at_several_densities_needs_those_of_the_worst_or_of_the_one_that_can_refute_it() -> None:
    planned = claimed("prune.levels=2", densities=[0.5, 0.25], least=0.0)
    near, nearer, below = (0.9, -0.7, 1.1, 0.1), (0.6, -0.7, 0.9, -0.1), (-0.6, 0.7, -0.9, 0.1)

    def needed(first: Sequence[float], second: Sequence[float]) -> list[tuple[int, int]]:
        found = made(planned, ({"kind": "dense"}, {}))
        for level, points in enumerate((first, second), start=1):
            for seed, point in enumerate(points):
                value = {"accuracy": 0.5 + point / 100}
                found |= made(planned, ({"kind": "ticket", "seed": seed, "level": level}, value))
        table = view_of("replication", planned, found)
        assert {row["verdict"] for row in table} == {"undecided"}
        assert seeds_needed(table) == table[0]["claim_seeds_needed"]
        return [(row["seeds_needed"], row["claim_seeds_needed"]) for row in table]

    (one, claim), (two, _) = needed(near, nearer)
    assert one < two == claim  # all have to be shown
    (one, claim), (two, _) = needed(near, below)
    assert claim == two > one  # one is enough to refute it, at the corrected level


def test_without_spread_a_sign_test_has_to_be_as_sure() -> None:
    planned = claimed(least=0.0, seeds=3)
    (row,) = view_of("replication", planned, differing(planned, (1.0, 1.0, 1.0)))
    assert (row["verdict"], row["seeds_needed"]) == ("undecided", 5)


def test_nothing_hinders_claims_on_trainings_as_they_were_planned(tmp_path: Path) -> None:
    """Controls that train nothing, from other weights or on a trunk of their own, run and audited for real."""
    branches = ["supermask", "{name: same_sign, trunk: own, as: signs}", "{name: random, weights: rewound}"]
    about = [("supermask", None), ("signs", "ticket"), ("ticket", "random"), ("ticket", "dense")]
    written = [
        {"text": f"{one} {other}", "source": "s", "column": one, "against": other, "densities": [0.5], "least": 0.0}
        for one, other in about
    ]
    settings = [f"branches=[{', '.join(branches)}]", "train.length=10it", "train.evaluate_every=5it"]
    settings.append(f"replicates={json.dumps({'source': 's', 'claims': written})}")
    recipe = parse_recipe(TEXT, "hand.yaml", settings)
    context = prepare(Request(recipe, tmp_path, tmp_path / "store", device="cpu", deterministic=True))
    assert {event.kind for event in work(context)} <= {"start", "progress", "done"}
    table = rows_of(Study(context.plan, records(context.plan, context.store), context.store), "replication")
    assert [(row["n"], row["note"]) for row in table] == [(2, "level 1 at 50 %")] * 4


def test_a_density_that_no_level_is_near_is_not_judged() -> None:
    planned = claimed(densities=[0.4])
    (row,) = view_of("replication", planned, differing(planned, (0.1, 0.0, 0.2, 0.1)))
    assert (row["verdict"], row["n"], row["note"]) == ("undecided", 0, "not trained")


def test_claims_are_told_with_their_figures() -> None:
    planned = claimed()
    (told,) = claims_in_words(view_of("replication", planned, differing(planned, (0.1, -0.2, 0.3, 0.0))))
    assert (told.text, told.verdict, told.where) == ("tickets match", "holds", "")
    assert told.figures[0] == "ticket against dense: accuracy, points, claimed at least -1"
    assert told.figures[1].startswith("at 50 %: 0.05 [") and told.figures[1].endswith(
        "holds (level 1 at 50 %; read otherwise: undecided (0) at the end)"
    )


def test_a_recipe_without_claims_has_no_such_table() -> None:
    with pytest.raises(UsageError, match="hand: replicates nothing"):
        view_of("replication", hand(), {})


@pytest.mark.parametrize(
    ("claim", "problem"),
    [
        ({"column": "reinit"}, "no column 'reinit'; there are dense, ticket"),
        ({"least": None}, "claims nothing; write least, most or both"),
        ({"measure": "early_stop_step", "against": None}, "a ratio of steps needs `against`"),
        ({"optimizer": 1}, "no optimizer 1; the last of train.optimizer is 0, counted from 0"),
        ({"against": None, "minus": {}}, "takes nothing off; write optimizer, networks or both"),
        ({"against": None, "minus": {"optimizer": 1}}, "write `optimizer` for the one that it is claimed of"),
        ({"against": None, "optimizer": 0, "minus": {"optimizer": 0}}, "takes the value off itself"),
        ({"optimizer": 0, "minus": {"optimizer": 1}}, "takes two off, minus and dense; write `against: null`"),
        ({"against": None, "minus": {"networks": "dense"}}, "minus.networks are those of an analysis"),
        ({"against": None, "minus": {"optimiser": 1}}, "there is no key 'optimiser' here; did you mean 'optimizer'?"),
        ({"rewind": "5it"}, "no ticket is rewound to 5it; there are 0it"),
    ],
)
def test_a_claim_that_cannot_be_checked_is_refused(claim: dict[str, Any], problem: str) -> None:
    with pytest.raises(RecipeError) as caught:
        claimed(**claim)
    assert problem in str(caught.value) and "replicates.claims.0" in str(caught.value)


def test_the_accuracy_of_another_optimizer_is_taken_off_seed_by_seed() -> None:
    rates = "train.optimizer=[{name: adam, lr: 1e-3}, {name: adam, lr: 1e-2}]"
    gains = (0.5, 1.2, 0.8, 0.7)
    claim: dict[str, Any] = {"against": None, "optimizer": 1, "minus": {"optimizer": 0}, "least": 0.0}
    planned = claimed(rates, **claim)
    trainings = [job for job in planned if job.kind in ("dense", "ticket")]
    accuracy = {job.key: 0.5 + 0.03 * job.seed + 0.01 * gains[job.seed] * job.optimizer_index for job in trainings}
    found = {job.key: record(job, accuracy[job.key]) for job in trainings}
    (row,) = view_of("replication", planned, found)
    low = stats.ttest_1samp(gains, 0).confidence_interval(0.9).low
    assert (row["optimizer"], row["n"], row["verdict"]) == ("adam(lr=0.01)", 4, "holds")
    assert (row["estimate"], row["low"]) == pytest.approx((0.8, low))
    assert row["compared"] == "ticket minus ticket of adam(lr=0.001): accuracy, points"
    assert set(row.made_from) == {job.key for job in trainings if job.kind == "ticket"}


def test_a_seed_that_the_other_optimizer_lacks_leaves_a_claim_undecided() -> None:
    rates = "train.optimizer=[{name: adam, lr: 1e-3}, {name: adam, lr: 1e-2}]"
    planned = claimed(rates, against=None, optimizer=1, minus={"optimizer": 0}, least=-50.0)
    trainings = [job for job in planned if job.kind in ("dense", "ticket")]
    lacking = next(job for job in trainings if job.kind == "ticket" and job.optimizer_index == 0)
    (row,) = view_of("replication", planned, {job.key: record(job) for job in trainings if job is not lacking})
    assert row["verdict"] == "undecided" and "ticket: 3 of 4 seeds finished" in row["note"]


def test_every_paper_names_its_source_and_its_claims() -> None:
    papers = [name for name, path in shipped().items() if path.parent.name == "papers"]
    assert len(papers) >= 7
    for name in papers:
        replicates = lottery.load_sweep(name).replicates
        assert replicates is not None and "arXiv:" in replicates.source
        assert all(claim.source for claim in replicates.claims)


def called(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["lottery", *words])
    with pytest.raises(SystemExit) as left:
        main()
    return int(left.value.code or 0)


def test_what_needs_a_gpu_says_so_and_trains_nothing_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "hand.yaml"
    claim = "{text: t, source: s, densities: [0.5], least: 0}"
    recipe.write_text(TEXT + f"replicates: {{source: s, needs_gpu: true, claims: [{claim}]}}\n")
    store = tmp_path / "store"
    assert called(monkeypatch, "replicate", str(recipe), "--store", str(store), "--device", "cpu") == 0
    told = capsys.readouterr()
    assert told.out.startswith("UNDECIDED  t [s, s]") and "at 50 %: not trained" in told.out
    assert "need a GPU" in told.err and not store.exists()


def test_the_recipes_with_claims_are_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    called(monkeypatch, "replicate")
    assert "lmc2020-resnet20: Frankle, Dziugaite, Roy & Carbin 2020 (arXiv:1912.05671), 3 claims, needs a GPU" in (
        capsys.readouterr().out
    )
    assert called(monkeypatch, "replicate", "quickstart") == 2
    assert "quickstart: has no claims" in capsys.readouterr().err


def test_an_undecided_replication_ends_with_the_command_that_would_decide_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    planned, recipe = claimed(least=0.0), tmp_path / "hand.yaml"
    table = view_of("replication", planned, differing(planned, (0.5, -0.7, 0.9, -0.1)))
    recipe.write_text(TEXT + f"replicates: {json.dumps({'source': SOURCE, 'claims': [FIRST_CLAIM]})}\n")
    monkeypatch.setattr("lottery.verdicts.replication.rows", lambda study: table)
    monkeypatch.setattr(SweptStudy, "missing", 0)
    words = ["replicate", str(recipe), "--judge-only", "--store", str(tmp_path / "s"), "--set", "train.batch_size=20"]
    assert called(monkeypatch, *words) == 0
    told, wanted = capsys.readouterr(), table[0]["claim_seeds_needed"]
    assert f"claimed at least 0; {wanted} seeds would decide it\n" in told.out
    command = f"lottery replicate {recipe} --set train.batch_size=20 --set seeds={wanted} ("
    assert f"{wanted} seeds would decide what more seeds can" in told.err and command in told.err


TWO = "train.optimizer=[{name: adam, lr: 0.01}, {name: lars, lr: 0.01}]"


def test_a_claim_may_compare_the_networks_of_two_optimizers() -> None:
    planned = claimed(TWO, column="dense", against=None, optimizer=0, minus={"optimizer": 1}, densities=[1.0])
    points = (0.1, -0.2, 0.3, 0.0)
    trainings = []
    for seed, point in enumerate(points):
        for index, more in enumerate((point / 100, 0.0)):
            where, what = dense(seed, 0.5 + 0.01 * seed + more)
            trainings.append(({**where, "optimizer": index}, what))
    (row,) = view_of("replication", planned, made(planned, *trainings))
    assert (row["optimizer"], row["level"], row["n"], row["here"]) == ("adam", 0, 4, "holds")
    assert row["compared"] == "dense minus dense of lars: accuracy, points"
    assert row["estimate"] == pytest.approx(sum(points) / 4)
    interval = stats.ttest_1samp(points, 0).confidence_interval(0.9)
    assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high))
