"""Connected, not connected or undecided: what is said of barriers that were planted, and of those that are measured."""

from __future__ import annotations

import itertools
import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from lottery.analysis.views import rows_of
from lottery.plan.kinds import MEASUREMENT_FILE
from lottery.recipe.analyses import CONNECTED_WITHIN
from lottery.results.study import study_of
from lottery.runner.context import RunContext
from lottery.runner.run import work
from lottery.verdicts.barriers import Barriers, decide
from lottery.verdicts.connected import sentences
from tests.support.analyses import asking, measured
from tests.support.calls import Call, call
from tests.support.forgery import forge
from tests.support.micro import MICRO, micro, micro_text, prepared, problems
from tests.support.plugs import Plugs, plugs

__all__ = ["call", "plugs"]
ENTRY = '''
from lottery.landscape.subject import Measurement
from lottery.registry import analyses

PLANTED = {}


@analyses.register("planted", source="test", looks_at="pair", connects="rise", units={"rise": "points"})
def planted(subject, memo, *, case: int = 0, examples: int | None = None) -> Measurement:
    """A barrier that the test says, by the seed and the name of the second network."""
    rise = PLANTED[subject.seed, subject.states[1].name.split()[0]]
    return Measurement({name: value for name, value in zip(("rise", "rise_reset"), rise)})
'''


Planted = Mapping[tuple[int, str], tuple[float, ...]]  # barriers by seed and network


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with networks of five seeds, whose analyses differ in a number that no other test has."""
    folder = tmp_path_factory.mktemp("trained")
    measured(folder, "seeds=5", *CHANGES, "branches=[reinit]")
    return folder


CHANGES = ("prune.levels=1", "train.length=2it", "train.evaluate_every=2it")
CASES = itertools.count(1)


def planted(folder: Path, plugs: Plugs, barriers: Planted, *changes: str) -> RunContext:
    """A study whose analysis finds these barriers, in fractions, by seed and `ticket` or `reinit`."""
    plugs.load("planting", ENTRY)
    sys.modules["planting"].PLANTED.update(barriers)
    seeds, case = max(seed for seed, _ in barriers) + 1, next(CASES)
    changed = [change.replace("name: planted", f"name: planted, case: {case}") for change in changes]
    return measured(folder, f"seeds={seeds}", *CHANGES, *changed)


def rows(context: RunContext) -> list[Any]:
    return rows_of(study_of(context.plan, context.store), "connected")


DENSE_TICKET = asking("{name: planted, between: dense-ticket}")
LOW, HIGH = (0.001, 0.004, 0.002, 0.0, 0.003), (0.2, 0.25, 0.22, 0.3, 0.28)


def by_seed(values: tuple[float, ...], name: str = "ticket") -> Planted:
    return {(seed, name): (value,) for seed, value in enumerate(values)}


@pytest.mark.parametrize(
    ("values", "verdict", "told"),
    [
        (LOW, "connected", "shown to rise less than 2 points"),
        (HIGH, "not connected", "shown to rise more than 2 points"),
        ((0.0, 0.05, 0.01, 0.03, 0.02), "undecided", "5 independent pairs do not show which side of 2 points it is on"),
        ((0.001, 0.03), "undecided", "2 independent pairs do not show"),
        ((0.001,), "undecided", "1 independent pair can show nothing of the spread; at least 2 are needed"),
        ((0.0, 0.0, 0.0), "undecided", "3 independent pairs do not show"),
        ((0.0, 0.0, 0.0, 0.0, 0.0), "connected", "shown to rise less than 2 points"),
        ((0.001, math.nan, 0.001), "undecided", "1 pair diverged, or has a barrier that is not finite"),
    ],
)
def test_a_verdict_is_what_the_t_test_of_the_barriers_shows(
    values: tuple[float, ...], verdict: str, told: str, trained: Path, plugs: Plugs
) -> None:
    """Equal barriers are judged by their number: a sign test of three is not as sure as 95 %, one of five is."""
    (row,) = rows(planted(trained, plugs, by_seed(values), DENSE_TICKET))
    assert row["verdict"] == verdict
    assert row["reason"].startswith(told)
    assert (row["networks"], row["level"]) == ("dense - ticket", 1)
    known = [value for value in values if math.isfinite(value)]
    assert row["barrier"] == pytest.approx(sum(known) / len(known))
    if len(set(known)) > 1 and len(known) == len(values):
        # 360 test examples: a spread of less than half an example is not believed, and none of these is so small
        test = stats.ttest_1samp(values, CONNECTED_WITHIN / 100)
        less = stats.ttest_1samp(values, CONNECTED_WITHIN / 100, alternative="less")
        floored = np.std(values, ddof=1) < math.sqrt(0.5) / 360
        assert floored or row["p_connected"] == pytest.approx(less.pvalue)
        assert floored or row["high"] == pytest.approx(test.confidence_interval(0.95).high)


def test_the_margin_is_the_recipe_s_and_changes_no_key(trained: Path, plugs: Plugs) -> None:
    strict = planted(trained, plugs, by_seed(LOW), asking("{name: planted, between: dense-ticket, margin: 0.1}"))
    (row,) = rows(strict)
    assert row["verdict"] != "connected"
    case = strict.plan.recipe.analyses[0].component.args["case"]
    usual = asking(f"{{name: planted, case: {case}, between: dense-ticket}}")
    wide = prepared(micro("seeds=5", *CHANGES, usual), trained)
    assert wide.plan.jobs.keys() == strict.plan.jobs.keys()
    assert rows(wide)[0]["verdict"] == "connected"


def test_rows_of_one_table_are_corrected_for_each_other(trained: Path, plugs: Plugs) -> None:
    values = {**by_seed((0.013, 0.012, 0.018, 0.016, 0.019)), **by_seed((0.05, 0.0, 0.1, 0.02, 0.04), "reinit")}
    both = asking("{name: planted, of: [dense, ticket]}", "{name: planted, as: other, of: [dense, reinit]}")
    alone, _ = rows(planted(trained, plugs, values, both, "branches=[reinit]"))
    assert alone["p_connected_adjusted"] == alone["p_connected"] < 0.05
    decided = decide(
        [Barriers((0.013, 0.012, 0.018, 0.016, 0.019), 5), Barriers((0.05, 0.0, 0.1, 0.02, 0.04), 5)], 0.02, 0.05
    )
    assert decided[0].p_connected_adjusted == 2 * decided[0].p_connected


def test_pairs_of_two_seeds_count_where_they_share_none(trained: Path, plugs: Plugs) -> None:
    around = asking("{name: planted, between: seed-seed, levels: 0}")
    (row,) = rows(planted(trained, plugs, by_seed(LOW, "dense"), around))
    assert (row["n"], row["pairs"]) == (2, 5)
    assert row["barrier"] == pytest.approx((LOW[0] + LOW[2]) / 2)


def test_both_policies_for_running_statistics_have_a_row(trained: Path, plugs: Plugs) -> None:
    values = {(seed, "ticket"): pair for seed, pair in enumerate(zip(HIGH, LOW, strict=True))}
    kept, anew = rows(planted(trained, plugs, values, DENSE_TICKET))
    assert (kept["statistics"], kept["verdict"]) == ("interpolated", "not connected")
    assert (anew["statistics"], anew["verdict"]) == ("measured anew", "connected")


def test_a_diverged_network_shows_nothing(tmp_path: Path, plugs: Plugs) -> None:
    plugs.load("planting", ENTRY)
    context = prepared(micro(DENSE_TICKET, "prune.levels=1", "train.optimizer={name: sgd, lr: 1e30}"), tmp_path)
    assert "diverged" in {event.kind for event in work(context)}
    assert rows(context) == []
    assert sentences(study_of(context.plan, context.store)) == []


def test_a_record_that_proves_nothing_withholds_the_verdict(trained: Path, plugs: Plugs) -> None:
    context = planted(trained, plugs, by_seed(LOW), DENSE_TICKET)
    (key,) = [row.made_from for row in rows(context)][:1]
    forge(context.store, key[0], MEASUREMENT_FILE, lambda about: about.update(values={"rise": 0.0, "test": 1.0}))
    (row,) = rows(context)
    assert row["verdict"] == "withheld"
    assert "it has test without having read the test set" in row["reason"]


def test_a_false_claim_is_as_rare_as_the_confidence_says() -> None:
    """Barriers whose mean is the margin itself are called connected in 5 % of studies, and not connected in as many."""
    draws = np.random.default_rng(0).normal(0.02, 0.005, (2000, 5))
    verdicts = [decide([Barriers(list(row), 5)], 0.02, 0.05)[0].verdict for row in draws]
    for word in ("connected", "not connected"):
        assert 0.035 < verdicts.count(word) / 2000 < 0.065


def test_the_verdict_stands_in_run_table_and_report(tmp_path: Path, call: Call) -> None:
    """A measured barrier, end to end."""
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        micro_text("seeds=2", "prune.levels=1", asking("{name: barrier, points: 3, between: dense-ticket}"))
    )
    where = ("--store", tmp_path / "store")
    said = "barrier, adam: dense - ticket: at 50 % "
    assert said in call("run", recipe, *where, "--device", "cpu").out
    (row,) = json.loads(call("table", recipe, *where, "--view", "connected", "--format", "json").out)
    assert row["n"] == 2
    assert row["verdict"] in ("connected", "not connected", "undecided")
    assert call("report", recipe, *where, "-o", tmp_path / "report", "--format", "md").code == 0
    text = (tmp_path / "report" / "report.md").read_text()
    assert "## Connected or not" in text
    assert "barrier, adam: dense - ticket" in text


def test_what_has_no_such_verdict_says_so(tmp_path: Path, call: Call) -> None:
    assert problems("analyses=[{name: hessian, margin: 1}]") == [
        "--set analyses=[{name: hessian, margin: 1}]: analyses.0.margin: hessian has no verdict on whether networks "
        "are connected; leave margin out"
    ]
    context = measured(tmp_path, "prune.levels=0")
    recipe = tmp_path / "r.yaml"
    recipe.write_text(MICRO.replace("levels: 2", "levels: 0"))
    done = call("table", recipe, "--store", context.store.root, "--view", "connected")
    assert (done.code, "add `analyses: [barrier]`" in done.err) == (2, True)
