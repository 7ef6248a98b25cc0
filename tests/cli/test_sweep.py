"""Sweeps on the command line: costs stated before, every point run, one of them chosen where one is needed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.calls import Call, call
from tests.support.micro import MICRO

__all__ = ["call"]
SWEPT = MICRO + "sweep: {model.norm: [none, batch], prune.levels: [0, 1]}\n"


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    for name in ("LOTTERY_STORE", "LOTTERY_DATA"):
        monkeypatch.delenv(name, raising=False)
    Path("swept.yaml").write_text(SWEPT)
    return "swept.yaml"


def test_a_sweep_is_checked_planned_run_and_shown(recipe: str, call: Call) -> None:
    assert call("check", recipe).out.startswith("swept.yaml: fine, 4 points\n")
    before = json.loads(call("plan", recipe, "--device", "cpu", "--json").out)
    counts = [(len(point["jobs"]), point["shared"], point["estimate"]["missing"]) for point in before["points"]]
    assert counts == [(2, 0, 2), (1, 2, 1), (2, 0, 2), (1, 2, 1)]  # at level 1 the dense network is known
    assert before["estimate"]["missing"] == 6
    assert before["estimate"]["seconds"] == pytest.approx(sum(p["estimate"]["seconds"] for p in before["points"]))
    assert before["points"][3]["values"] == {"model.norm": "batch", "prune.levels": 1}
    ran = call("run", recipe, "--device", "cpu")
    assert (ran.code, ran.err.splitlines()[-1]) == (0, "6 done")
    assert ran.err.splitlines()[0].startswith("[1/6] model.norm=none, prune.levels=0: adam seed 0 ")
    assert ran.out == call("table", recipe).out
    plan = call("plan", recipe, "--device", "cpu").out.splitlines()
    assert plan[0] == "6 jobs done, 0 missing"
    plan = plan[plan.index("") + 1 :]
    assert plan[0].split() == ["model.norm", "prune.levels", "jobs", "shared", "done", "missing", "time"]
    assert plan[3].split()[:6] == ["none", "1", "3", "2", "1", "0"]
    assert call("run", recipe, "--device", "cpu").err.splitlines()[-1] == "6 done before"


def test_what_is_done_of_one_recipe_wants_a_point(recipe: str, call: Call) -> None:
    point = ("--point", "model.norm=batch", "--point", "prune.levels=1")
    assert call("run", recipe, "--device", "cpu", *point).code == 0
    for command in (("plot", "schedule"), ("verify",)):
        refused = call(*command, recipe)
        assert (refused.code, "4 points, and this is done of one; choose it with --point" in refused.err) == (2, True)
    assert call("verify", recipe, *point).code == 0
    assert call("plot", "accuracy", recipe, *point).out == "micro-accuracy.png\n"
    drawn = call("plot", "sweep", recipe)
    assert drawn.out == "micro-sweep.png\n"
    assert " are missing in " in drawn.err and drawn.err.splitlines()[0].endswith(f"; lottery run {recipe} runs them")
    assert call("report", recipe, *point, "--format", "json").code == 0
    whole = json.loads(Path("micro-report/report.json").read_text())
    assert "audit" in {section["name"] for section in whole["sections"]}  # as of any other recipe
    table = call("table", recipe, *point, "--format", "csv").out.splitlines()
    assert [line.split(",")[:2] for line in table] == [["model.norm", "prune.levels"], ["batch", "1"]]


def test_a_point_that_is_none_is_refused_in_one_line(recipe: str, call: Call) -> None:
    refused = call("run", recipe, "--point", "model.norm=layer")
    assert (refused.code, refused.err) == (
        2,
        "lottery: --point model.norm=layer: model.norm: is never layer; its values are none, batch\n",
    )
