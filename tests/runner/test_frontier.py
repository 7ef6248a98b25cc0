"""A recipe with `levels: auto` on real images: stopped, continued, shared with fixed recipes, failing and damaged."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import lottery
from lottery.cli.main import main
from lottery.plan.jobs import Plan
from lottery.recipe.load import parse_recipe
from lottery.recipe.schema import Recipe
from lottery.results.study import study
from lottery.runner.events import Outcome, Request
from lottery.runner.execute import execute
from lottery.verdicts.frontier import decided, sentences
from tests.support.micro import micro_text
from tests.support.restarts import contents, run_until_stopped

TEXT = micro_text(
    "train.batch_size=32",
    "train.evaluate_every=6it",
    "prune={fraction: 0.3, levels: auto, frontier: {most_levels: 2, first_seeds: 3}}",
    "seeds=[4, 0, 2, 1]",
    "branches=[shuffle]",
    "compare={margin: 30}",
)
FIRST = 3 * (1 + 1 + 1 + 1)  # jobs of the first round: for each of 3 seeds rewind point, dense, ticket, shuffle


def recipe(*overrides: str) -> Recipe:
    return parse_recipe(TEXT, "walk.yaml", overrides)


def run(store: Path, *overrides: str, **options: Any) -> Outcome:
    return lottery.run(recipe(*overrides), store=store, device="cpu", deterministic=True, **options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Plan], Outcome]:
    """The uninterrupted run: its store, the plans it told of, how it ended."""
    store, plans = tmp_path_factory.mktemp("whole"), list[Plan]()
    outcome = run(store, on_plan=plans.append)
    return store, plans, outcome


def test_the_plan_grows_with_the_results_until_the_walk_is_over(whole: tuple[Path, list[Plan], Outcome]) -> None:
    store, plans, outcome = whole
    assert len(plans[0]) == FIRST and len(plans) > 1
    assert all(before.jobs.keys() < after.jobs.keys() for before, after in pairwise(plans))
    assert outcome.exit_code == 0 and outcome.count("done") == outcome.total == len(plans[-1])
    found = study(recipe(), store=store)
    assert found.plan.jobs.keys() == plans[-1].jobs.keys() and not found.missing
    (steps,) = decided(found).values()
    assert steps[-1].decision != "open"
    assert len(lottery.table(recipe(), store=store, view="frontier")) == len(steps) + 1
    assert run(store).count("found") == len(plans[-1])


@pytest.mark.parametrize("steps", [30, FIRST * 12 - 40])
def test_a_run_that_is_stopped_goes_on_to_the_same_jobs_and_the_same_decisions(
    whole: tuple[Path, list[Plan], Outcome], tmp_path: Path, steps: int
) -> None:
    run_until_stopped(Request(recipe(), tmp_path, tmp_path, "cpu", deterministic=True, checkpoint_seconds=0), steps)
    assert contents(tmp_path).keys() < contents(whole[0]).keys()
    run(tmp_path)
    assert contents(tmp_path) == contents(whole[0])
    assert sentences(study(recipe(), store=tmp_path)) == sentences(study(recipe(), store=whole[0]))


def test_a_fixed_recipe_shares_its_jobs_with_the_walk(whole: tuple[Path, list[Plan], Outcome], tmp_path: Path) -> None:
    grid = ("prune={fraction: 0.3, levels: 2}",)
    fixed = shutil.copytree(whole[0], tmp_path / "store")
    assert run(fixed, *grid).count("found") == len(whole[1][-1])
    (sentence,) = sentences(study(recipe(), store=fixed))  # the rule looks at no more than it asked for
    assert [sentence] == sentences(study(recipe(), store=whole[0]))


def test_a_damaged_result_is_computed_again(whole: tuple[Path, list[Plan], Outcome], tmp_path: Path) -> None:
    store = shutil.copytree(whole[0], tmp_path / "store")
    ticket = next(job for job in whole[1][-1] if job.kind == "ticket")
    (path,) = (store / "jobs").rglob(f"{ticket.key}/metrics.json")
    path.write_bytes(path.read_bytes()[:-9])
    assert run(store).exit_code == 0
    assert contents(store) == contents(whole[0])


def test_a_failing_ticket_leaves_the_walk_open_and_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(context: Any, job: Any) -> Iterator[Any]:
        if job.kind == "ticket" and job.seed == 0:
            raise RuntimeError("no such luck")
        return execute(context, job)

    monkeypatch.setattr("lottery.runner.run.execute", failing)
    outcome = run(tmp_path)
    assert (outcome.exit_code, outcome.count("failed"), outcome.total) == (1, 1, FIRST)
    assert "Level 1 is open: it wants 3 of the 4 seeds now" in sentences(study(recipe(), store=tmp_path))[0]


def test_dense_networks_that_all_diverge_end_the_walk(tmp_path: Path) -> None:
    outcome = run(tmp_path, "train.optimizer={name: sgd, lr: 1e30}")
    assert outcome.exit_code == 1
    (steps,) = decided(study(recipe("train.optimizer={name: sgd, lr: 1e30}"), store=tmp_path)).values()
    assert [(step.decision, step.seeds) for step in steps] == [("dense diverged", 3)]


def test_plan_lists_what_is_known_and_says_what_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "walk.yaml"
    path.write_text(TEXT)
    monkeypatch.setattr(sys, "argv", ["lottery", "plan", str(path), "--store", str(tmp_path / "no"), "--device", "cpu"])
    with pytest.raises(SystemExit) as ended:
        main()
    out = capsys.readouterr().out
    assert ended.value.code == 0
    assert f"0 jobs done, {FIRST} missing" in out
    assert "Level 1 is open: it wants 3 of the 4 seeds now; what follows, their results decide." in out


@pytest.mark.slow
def test_several_processes_walk_as_one_does(whole: tuple[Path, list[Plan], Outcome], tmp_path: Path) -> None:
    plans: list[Plan] = []
    outcome = run(tmp_path, jobs=3, on_plan=plans.append)
    assert outcome.exit_code == 0 and outcome.total == len(whole[1][-1])
    assert plans[-1].jobs.keys() == whole[1][-1].jobs.keys()
    assert contents(tmp_path) == contents(whole[0])
