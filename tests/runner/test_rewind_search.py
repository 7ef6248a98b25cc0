"""Recipes with `rewind: auto` are run: they look for the earliest stable step, and go on with it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from lottery.analysis.rewind_search import rows, sentences
from lottery.analysis.views import rows_of
from lottery.api import run
from lottery.errors import Interrupted, UsageError
from lottery.plan.kinds import MEASUREMENT_FILE, Kind
from lottery.plan.rewind_search import search_plan
from lottery.results.rewind_search import search_in
from lottery.results.study import study, study_of
from lottery.runner.context import RunContext
from lottery.runner.run import work
from lottery.signals import Stop
from lottery.values import Duration
from tests.support.micro import finished, micro, prepared
from tests.support.restarts import contents

# at this rate copies of the first state end in other minima, those of later ones in the same
FAST = ("train.optimizer={name: adam, lr: 3e-2}", "train.length=80it", "train.evaluate_every=80it", "prune.levels=1")
AUTO = "rewind={auto: {density: 1, pairs: 2, latest: 40it, halvings: 2, tolerance: 0.05}}"


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> RunContext:
    """A study that looked for its rewind point, run to its end."""
    return finished_search(prepared(micro(AUTO, *FAST), tmp_path_factory.mktemp("auto")))


def finished_search(context: RunContext) -> RunContext:
    ends = {event.kind for event in work(context)}
    assert ends <= {"start", "progress", "done", "found", "planned"}, ends
    return context


def test_the_recipe_goes_on_with_the_earliest_stable_step(ran: RunContext) -> None:
    search = search_in(ran.plan.recipe, ran.plan.fingerprint, ran.store)
    assert [trial.at.value for trial in search.trials][:3] == [0, 40, 20]
    assert not search.trials[0].stable and search.trials[1].stable
    assert search.found is not None and search.found.value > 0
    done = study_of(ran.plan, ran.store)
    assert [rewind.to for rewind in done.recipe.rewind] == [search.found]
    by_hand = study(micro(f"rewind={search.found}", *FAST), store=ran.store)
    assert list(done.plan.jobs) == list(by_hand.plan.jobs)
    assert done.missing == by_hand.missing == 0
    (row,) = rows_of(done, "means")
    assert row["rewind"] == str(search.found)
    assert row["ticket_n"] == 1


def test_each_step_is_judged_by_the_mean_over_its_pairs_on_training_examples(ran: RunContext) -> None:
    search = search_in(ran.plan.recipe, ran.plan.fingerprint, ran.store)
    for trial in search.trials:
        jobs = [j for j in search_plan(ran.plan.recipe, ran.plan.fingerprint, trial.at) if j.kind is Kind.ANALYSIS]
        values = [ran.store.read_json(job.key, MEASUREMENT_FILE)["values"]["train_error_barrier"] for job in jobs]
        assert list(trial.instabilities) == values
        assert trial.stable == (sum(values) / 2 <= 0.05)
        for job in jobs:
            about = ran.store.read_json(job.key, MEASUREMENT_FILE)
            told = [*about["values"], *(name for row in about["profile"] for name in row)]
            assert not [name for name in told if "test" in name or "validation" in name]


def test_step_uncertainty_and_cost_are_told(ran: RunContext) -> None:
    done = study_of(ran.plan, ran.store)
    (said,) = sentences(done)
    found, search = str(done.recipe.rewind[0].to), search_in(done.recipe, done.plan.fingerprint, done.store)
    assert f"the dense network: the earliest stable step found is {found} (" in said
    assert "2 pairs" in said and "at most 5 points on the train examples" in said
    assert f"and at {found} at the latest, if what is stable stays so" in said
    table = rows(done)
    assert [row["decision"] for row in table].count("found") == 1
    assert table[0]["step"] == "init"
    children = {j.key for t in search.trials for j in search_plan(done.recipe, done.plan.fingerprint, t.at)}
    trained = [m for m in done.store.manifests() if m.key in children and m.kind in ("child", "rewind", "dense")]
    assert f"Trainings of the search: {len(trained)} (" in said


def test_the_audit_says_on_which_seeds_the_point_was_looked_for(ran: RunContext) -> None:
    done = study_of(ran.plan, ran.store)
    notes = [row["note"] for row in rows_of(done, "audit") if row["field"] == "rewind"]
    found = done.recipe.rewind[0].to
    assert notes == [f"the rewind point {found} was looked for on seed 0 of these, by the error on train examples"]


def test_a_second_run_trains_nothing(ran: RunContext) -> None:
    context = prepared(micro(AUTO, *FAST), ran.store.root)
    assert {event.kind for event in work(context)} == {"found"}
    assert list(context.plan.jobs) == list(study_of(ran.plan, ran.store).plan.jobs)


def test_a_killed_search_finds_the_same_step_with_the_same_bytes(ran: RunContext, tmp_path: Path) -> None:
    stop, starts = Stop(), 0
    context = prepared(micro(AUTO, *FAST), tmp_path, stop=stop)
    for _ in range(15):
        with suppress(Interrupted):
            for event in work(context):
                starts += event.kind == "start"
                if event.kind == "start" and starts % 3 == 0 and starts < 40:
                    stop.signal = 15
        stop.signal = None
    finished_search(context)
    assert contents(context.store.root) == contents(ran.store.root)


def test_where_no_step_is_stable_nothing_more_is_trained(tmp_path: Path) -> None:
    strict = "rewind={auto: {density: 1, pairs: 1, latest: 2it, tolerance: 1e-9}}"
    context = finished_search(prepared(micro(strict, *FAST), tmp_path))
    done = study_of(context.plan, context.store)
    assert not [job for job in done.plan if job.kind is Kind.TICKET]
    (said,) = sentences(done)
    assert "no step up to 2it is stable" in said and "nothing more is trained. Raise rewind.auto.latest" in said
    assert [row["decision"] for row in rows(done)] == ["unstable", "unstable"]


def test_copies_that_diverge_are_not_stable(tmp_path: Path) -> None:
    wild = ("train.optimizer={name: sgd, lr: 1e30}", "rewind={auto: {density: 1, pairs: 1, latest: 2it}}")
    context = prepared(micro(*wild), tmp_path)
    list(work(context))
    search = search_in(context.plan.recipe, context.plan.fingerprint, context.store)
    assert [(trial.at.value, trial.mean) for trial in search.trials] == [(0, float("inf")), (2, float("inf"))]
    assert "no step up to 2it is stable (inf points, 1 pair;" in sentences(study_of(context.plan, context.store))[0]


def test_tickets_of_a_level_are_looked_at_with_the_trunk_that_is_rewound_to_each_step(tmp_path: Path) -> None:
    loose = "rewind={auto: {density: 0.5, pairs: 1, latest: 4it, tolerance: 0.99}}"
    context = prepared(micro(loose, "branches=[reinit]"), tmp_path)
    (said,) = sentences(study_of(context.plan, context.store))
    assert "tickets of level 1 (density 50 %): init is looked at now; what follows, its result decides" in said
    assert "5 steps up to 4it" not in said and "6 steps up to 4it at most" in said
    finished_search(context)
    done = study_of(context.plan, context.store)
    assert done.recipe.rewind[0].to == Duration(0, "it")
    assert done.missing == 0
    assert {job.kind for job in done.plan if job.level == 2} == {Kind.TICKET, Kind.BRANCH}


def test_a_recipe_that_gives_its_rewind_points_has_no_search(tmp_path: Path) -> None:
    done = study_of(finished(prepared(micro("prune.levels=0"), tmp_path)).plan, prepared(micro(), tmp_path).store)
    assert sentences(done) == []
    with pytest.raises(UsageError, match="its rewind points are given, none was looked for; write `rewind: auto`"):
        rows_of(done, "rewind")


def test_a_latest_step_after_the_end_is_refused_before_any_training(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"rewind\.auto\.latest: 1ep is not before the end of training at step 12"):
        prepared(micro("rewind={auto: {latest: 1ep}}"), tmp_path)


@pytest.mark.slow
def test_several_processes_find_the_same_step(ran: RunContext, tmp_path: Path) -> None:
    options: dict[str, Any] = {"store": tmp_path, "data": tmp_path, "device": "cpu", "deterministic": True}
    outcome = run(micro(AUTO, *FAST), jobs=2, **options)
    assert outcome.exit_code == 0
    assert contents(tmp_path) == contents(ran.store.root)


def test_no_job_of_the_search_reads_the_test_set(ran: RunContext) -> None:
    search = search_in(ran.plan.recipe, ran.plan.fingerprint, ran.store)
    for trial in search.trials:
        for job in search_plan(ran.plan.recipe, ran.plan.fingerprint, trial.at):
            if job.kind is Kind.ANALYSIS:
                assert ran.store.read_json(job.key, MEASUREMENT_FILE)["read"] == ["train"]
