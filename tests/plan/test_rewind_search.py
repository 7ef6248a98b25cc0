"""The bisection of `rewind: auto`, and the plans of the steps that it looks at."""

from __future__ import annotations

import math

import pytest

from lottery.plan.expand import plan
from lottery.plan.handover import pack_plan, unpack_plan
from lottery.plan.kinds import Kind
from lottery.plan.rewind_search import Search, bisect, rewound_to, search_plan
from lottery.recipe.load import restore_recipe
from lottery.values import Duration
from tests.support.micro import micro, problems

FINGERPRINT = "f" * 64


def it(value: int) -> Duration:
    return Duration(value, "it")


def searched(stable_from: float, latest: int = 1000, halvings: int = 20, known: int = 99) -> tuple[Search, list[int]]:
    """The search for a step that is known, and the steps that it looked at; only so many results are there."""
    looked_at: list[int] = []

    def measure(at: Duration) -> list[float] | None:
        if len(looked_at) == known:
            return None
        looked_at.append(at.value)
        return [0.01, 0.02] if at.value >= stable_from else [0.02, 0.03]

    return bisect(it(latest), halvings, 0.02, measure), looked_at


@pytest.mark.parametrize("step", [1, 2, 3, 500, 501, 777, 999, 1000])
def test_each_step_is_found_and_the_one_before_is_known_to_be_unstable(step: int) -> None:
    found, looked_at = searched(step)
    assert (found.found, found.unstable, found.open) == (it(step), it(step - 1), None)
    assert len(looked_at) <= 2 + math.ceil(math.log2(1000))
    assert len(set(looked_at)) == len(looked_at)


def test_a_network_that_is_stable_at_once_takes_one_look_and_one_that_is_never_stable_two() -> None:
    assert searched(0) == (Search(searched(0)[0].trials, found=it(0)), [0])
    never, looked_at = searched(math.inf)
    assert (never.found, never.unstable, never.open, looked_at) == (None, None, None, [0, 1000])
    assert never.at == it(1000)


def test_halvings_leave_a_bracket_that_holds_the_step() -> None:
    found, looked_at = searched(300, halvings=3)
    assert looked_at == [0, 1000, 500, 250, 375]
    assert (found.found, found.unstable) == (it(375), it(250))


def test_the_search_goes_on_from_what_is_known() -> None:
    whole, looked_at = searched(300, halvings=3)
    for known in range(len(looked_at)):
        part, _ = searched(300, halvings=3, known=known)
        assert part.trials == whole.trials[:known]
        assert part.open == part.at == it(looked_at[known])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_not_stable(value: float) -> None:
    found = bisect(it(4), 4, 0.02, lambda at: [0.0, value] if at.value < 2 else [0.0, 0.02])
    assert (found.found, found.unstable) == (it(2), it(1))


def test_a_mean_near_the_tolerance_is_not_clear() -> None:
    near = bisect(it(4), 4, 0.02, lambda at: [0.0, 0.03, 0.06]).trials[0]
    far = bisect(it(4), 4, 0.02, lambda at: [0.2, 0.25, 0.3]).trials[0]
    assert (near.clear, far.clear) == (False, True)


@pytest.mark.parametrize(
    ("rewind", "level"),
    [("auto", 2), ("{auto: {density: 1}}", 0), ("{auto: {density: 0.55}}", 1), ("{auto: {density: 0.3}}", 2)],
)
def test_the_network_that_is_looked_at_has_the_density_nearest_to_the_one_wanted(rewind: str, level: int) -> None:
    recipe = micro(f"rewind={rewind}")
    jobs = search_plan(recipe, FINGERPRINT, it(4))
    measured = [job for job in jobs if job.kind is Kind.ANALYSIS]
    assert {job.level for job in measured} == {level}
    assert len(measured) == 3
    assert sum(job.kind is Kind.CHILD for job in jobs) == 6
    assert max(job.level for job in jobs) == level
    assert {job.rewind.to for job in jobs if job.kind is Kind.CHILD and job.rewind} == {it(4)}


def test_the_jobs_of_a_step_are_those_of_a_recipe_that_writes_it() -> None:
    """So what was trained in the search is found again by the recipe that goes on, and by one that names the step."""
    by_hand = micro("rewind=4it", "seeds=2", "branches=[reinit]", "keep=end")
    auto = micro("rewind={auto: {seeds: 2}}", "seeds=2", "branches=[reinit]", "keep=end")
    goes_on = plan(rewound_to(auto, it(4)), FINGERPRINT)
    assert list(goes_on.jobs) == list(plan(by_hand, FINGERPRINT).jobs)
    search = search_plan(auto, FINGERPRINT, it(4))
    own = [job.key for job in search if job.kind not in (Kind.CHILD, Kind.ANALYSIS)]
    assert set(own) <= goes_on.jobs.keys()
    assert all(job.kind is not Kind.BRANCH for job in search)


def test_one_seed_is_looked_at_where_no_more_are_asked_for() -> None:
    for rewind in ("auto", "{auto: {density: 1}}"):
        jobs = search_plan(micro(f"rewind={rewind}", "seeds=[5, 6, 7]"), FINGERPRINT, it(4))
        assert {job.seed for job in jobs} == {5}
    one_shot = micro("rewind=auto", "prune={one_shot: [0.5, 0.2, 0.1]}")
    assert {job.level for job in search_plan(one_shot, FINGERPRINT, it(4)) if job.kind is Kind.TICKET} == {2}


def test_a_plan_of_the_search_reaches_another_process_as_it_is() -> None:
    recipe = micro("rewind=auto", "branches=[reinit]", "analyses=[barrier]")
    for found in (search_plan(recipe, FINGERPRINT, it(4)), plan(rewound_to(recipe, it(4)), FINGERPRINT)):
        received = unpack_plan(pack_plan(found), restore_recipe(recipe.canonical()))
        assert received.recipe == found.recipe
        assert [vars(job) | {"key": job.key} for job in received] == [vars(job) | {"key": job.key} for job in found]


def test_a_recipe_reads_its_search_again() -> None:
    for rewind in ("auto", "{auto: {density: 1, latest: 2it}}", "[auto]"):
        recipe = micro(f"rewind={rewind}")
        assert restore_recipe(recipe.canonical()) == recipe
    assert micro("rewind=auto", "rewind.auto.pairs=1").search == micro("rewind={auto: {pairs: 1}}").search
    assert micro("rewind=[init, {to: 4it, mode: lr}]").canonical()["rewind"] == [
        {"to": "0it", "mode": "weights"},
        {"to": "4it", "mode": "lr"},
    ]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["rewind={to: 4it, auto: {}}"], "rewind: auto looks for the point to go back to; leave `to` out"),
        (["rewind={auto: {denstiy: 1}}"], "there is no key 'denstiy' here; did you mean 'density'?"),
        (["rewind={auto: {pairs: 0}}"], "rewind.auto.pairs: input should be greater than or equal to 1"),
        (["rewind=[init, auto]"], "rewind.1: auto finds one point for the recipe; leave the others out"),
        (["rewind={auto: {}, mode: lr}"], "rewind.mode: auto looks for a step that weights go back to, lr leaves them"),
        (["rewind={auto: {latest: 12it}}"], "rewind.auto.latest: 12it leaves nothing of the training"),
        (["rewind={auto: {density: 0.1}}"], "rewind.auto.density: the last level has 0.25, 0.1 is sparser"),
        (["rewind={auto: {seeds: 2}}"], "rewind.auto.seeds: the recipe has 1, not 2; write fewer"),
        (["rewind={auto: {part: validation}}", "data.validation=0"], "rewind.auto.part: validation needs data.validat"),
        (["rewind=auto", "train.batch_size=all"], "rewind: with full batches, and without augmentation and dropout"),
        (["rewind={auto: {part: test}}"], "rewind.auto.part: input should be 'train' or 'validation'"),
        (
            ["rewind=auto", "train.optimizer=[{name: adam, lr: 3e-3}, {name: sgd, lr: 0.1}]"],
            "rewind: the step depends on the optimizer, and this recipe has several; write one recipe for each",
        ),
        (
            ["rewind=auto", "prune.levels=auto", "compare={margin: 1}", "seeds=4"],
            "rewind: the levels are looked for as well; write a number as prune.levels, or the rewind point",
        ),
        (
            ["rewind=auto", "prune={when: training, during: {end: 10it, every: 2it}, levels: 1}"],
            "rewind: a ticket that is pruned in the course of its training has no state to copy; write `density: 1`",
        ),
        (
            ["rewind=auto", "prune={densities: {fc1: 0.5}, levels: 1}"],
            "rewind: with prune.densities no level has one density; write `density: 1`",
        ),
        (
            ["rewind=auto", "analyses=[{name: instability, of: ticket, at: 4it}]"],
            "analyses.0.at: tickets train from the point that `rewind: auto` finds; leave at out, or write `of: dense`",
        ),
    ],
)
def test_a_mistake_is_told_with_its_key_and_a_way_out(changes: list[str], said: str) -> None:
    told = problems(*changes)
    assert any(said in line for line in told), told
