"""A study continued elsewhere: what withholds verdicts is said before anything is trained, rounding withholds none."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from lottery import api, device
from lottery.analysis.engines import how_computed
from lottery.analysis.views import rows_of
from lottery.audit.audit import audit
from lottery.cli.main import main
from lottery.device import Machine
from lottery.plan.jobs import Plan
from lottery.recipe.load import parse_recipe
from lottery.recipe.schema import Recipe
from lottery.results.mixed_environments import foreseen
from lottery.results.record import Record
from lottery.results.study import Study, study
from lottery.runner.events import Request
from lottery.runner.prepare import prepare
from lottery.runner.run import work
from lottery.store.manifest import Manifest
from tests.support.micro import micro_text
from tests.support.restarts import run_until_stopped
from tests.support.studies import HERE, Recorded, dense, everything, hand, made, ticket

TEXT = micro_text(
    "name=continued",
    "model.widths=[16, 8]",
    "train.batch_size=32",
    "train.length=40it",
    "train.evaluate_every=20it",
    "prune.fraction=0.4",
    "seeds=2",
    "compare={margin: 60}",
)
OLD = "0.0.1"


def recipe(*overrides: str) -> Recipe:
    return parse_recipe(TEXT, "continued.yaml", overrides)


def elsewhere(monkeypatch: pytest.MonkeyPatch, **changed: Any) -> None:
    """Have what is trained from now on record another environment."""
    here = Machine.environment
    monkeypatch.setattr(Machine, "environment", lambda self: {**here(self), **changed})


def run(store: Path, *overrides: str, **settings: Any) -> None:
    assert api.run(recipe(*overrides), data="nowhere", store=store, device="cpu", **settings).exit_code == 0


def of_study(store: Path) -> Study:
    return study(recipe(), store=store, data="nowhere")


def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have machines say that they compute on two threads, without the time that these take on shared cores."""
    monkeypatch.setattr(device, "cores", lambda: 2)
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)


def test_a_study_begun_in_one_process_and_continued_in_two_keeps_its_verdicts_and_has_one_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_cores(monkeypatch)
    for jobs, levels in ((1, 1), (2, 2)):
        request = Request(recipe(f"prune.levels={levels}"), Path("nowhere"), tmp_path, device="cpu", jobs=jobs)
        context = prepare(request)
        assert foreseen(context.plan, context.store, context.machine.environment()) == []
        list(work(context))
    whole = of_study(tmp_path)
    assert {r.job.level: r.manifest.environment["threads"] for r in whole.found.values()} == {0: 2, 1: 2, 2: 1}
    assert {row["verdict"] for row in rows_of(whole, "verdicts")} <= {"winning", "matching"}
    assert not any("mixed" in row["note"] or "threads" in row["note"] for row in rows_of(whole, "means"))
    engine, told = how_computed(whole)
    assert engine == "Engine: dense." and "threads (1 and 2)" in told and "rounding" in told
    (summary,) = [row for row in rows_of(whole, "audit") if row["field"] == "compared"]
    assert summary["ok"] and told in summary["note"]


def test_engines_that_differ_withhold_nothing_and_are_noted_in_no_row() -> None:
    planned = hand("prune.levels=2", "seeds=3", "compare={margin: 1}", "train.engine=dense")
    found = everything(planned) | made(planned, ({"kind": "ticket"}, {"environment": {**HERE, "engine": "sparse"}}))
    held = Study(planned, found, Recorded(planned))
    assert audit(held).withheld() == {}
    assert [row["note"] for row in rows_of(held, "means")] == ["", ""]


class Kept(Recorded):
    """A store that has these records, and nothing of what was begun."""

    def __init__(self, plan: Plan, found: dict[str, Record]):
        super().__init__(plan)
        self.found = found

    def find(self, key: str) -> Manifest | None:
        return self.found[key].manifest if key in self.found else None


THEN = {**HERE, "torch": "2.0.0"}


def said_before(*overrides: str, here: dict[str, Any] = HERE, **kept: Any) -> list[str]:
    """What a run in `here` says of a study with three seeds whose dense networks are done, as `kept` has it."""
    planned = hand("seeds=3", "compare={margin: 1}", *overrides)
    return foreseen(planned, Kept(planned, made(planned, ({"kind": "dense"}, kept))), here)


def test_another_torch_is_said_with_what_is_done_what_is_missing_and_both_ways_out() -> None:
    (told,) = said_before(environment=THEN)
    assert "3 trainings of this study ran elsewhere (torch 2.0.0 there, 2.11.0 here), and of those " in told
    assert "compared with them 3 are missing" in told
    assert "--store" in told and """--set 'compare.allow=[torch]'""" in told


@pytest.mark.parametrize("name", ["lottery", "torch", "platform", "device", "pillow", "torchvision"])
def test_what_withholds_is_said_before(name: str) -> None:
    (told,) = said_before(environment={**HERE, name: "another"}, here={**HERE, name: "this"})
    assert f"{name} another there, this here" in told


ROUNDED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"threads": 8}, {}),
    ({"engine": "sparse"}, {}),
    ({"deterministic": False}, {}),
    ({"python": "3.10"}, {"python": "3.12"}),
    ({"numpy": "1"}, {"numpy": "2"}),
    ({"device": "One Processor AVX2"}, {"device": "Another Processor AVX512"}),
    ({"variables": "MKL_CBWR=COMPATIBLE"}, {"variables": "none set"}),
    ({"plugin mine": "a"}, {"plugin mine": "b"}),  # what a plugin computes is in the keys
]


@pytest.mark.parametrize(("then", "now"), ROUNDED)
def test_rounding_withholds_nothing_before_or_after(then: dict[str, Any], now: dict[str, Any]) -> None:
    assert said_before(environment={**HERE, **then}, here={**HERE, **now}) == []
    planned = hand("seeds=3")
    found = everything(planned, environment={**HERE, **then}) | made(
        planned, ({"kind": "ticket"}, {"environment": {**HERE, **now}})
    )
    assert audit(Study(planned, found, Recorded(planned))).withheld() == {}


def test_variables_that_change_precision_and_a_gpu_in_place_of_a_processor_withhold() -> None:
    for then, now, field in (
        ({"variables": "MKL_CBWR=AVX2 NVIDIA_TF32_OVERRIDE=1"}, {"variables": "none set"}, "variables"),
        ({"device": "NVIDIA H100"}, {"device": "Some Processor AVX2"}, "device"),
        ({"device": "NVIDIA H100"}, {"device": "NVIDIA A100"}, "device"),
    ):
        assert said_before(environment={**HERE, **then}, here={**HERE, **now})
        planned = hand("seeds=3")
        there = made(planned, ({"kind": "ticket"}, {"environment": {**HERE, **now}}))
        found = everything(planned, environment={**HERE, **then}) | there
        (reasons,) = audit(Study(planned, found, Recorded(planned))).withheld().values()
        assert all(reason.startswith(f"{field}: ") for reason in reasons)


def test_what_is_allowed_whole_or_of_other_seeds_is_not_said() -> None:
    assert said_before("compare.allow=[torch]", environment=THEN) == []
    planned = hand("seeds=3", "compare={margin: 1}")
    assert foreseen(planned, Kept(planned, everything(planned, environment=THEN)), HERE) == []
    others = [each for seed in (0, 1) for each in (dense(seed, 0.5), ticket(seed, 0.5))]
    begun = made(planned, *[(place, {**what, "environment": THEN}) for place, what in others])
    assert foreseen(planned, Kept(planned, begun), HERE) == []  # seed 2 is trained here from the beginning


def test_without_a_margin_there_is_no_verdict_to_withhold_and_nothing_to_allow() -> None:
    planned = hand()
    (told,) = foreseen(planned, Kept(planned, made(planned, ({"kind": "dense"}, {"environment": THEN}))), HERE)
    assert "the tables will say so" in told and "compare" not in told.partition("compared with them")[2]


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_another_torch_is_said_before_any_training_and_withheld_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, jobs: int
) -> None:
    with monkeypatch.context() as patch:
        elsewhere(patch, torch=OLD)
        run(tmp_path, "prune.levels=1")
    assert caplog.messages == []
    told: list[list[str]] = []
    run(tmp_path, jobs=jobs, on_plan=lambda plan: told.append(list(caplog.messages)))
    ((sentence,),) = told
    assert "4 trainings of this study ran elsewhere" in sentence and f"torch {OLD} there" in sentence
    table = rows_of(of_study(tmp_path), "verdicts")
    assert [row["verdict"] for row in table][1:] == ["withheld"] and "torch" in table[1]["reason"]
    assert "mixed environments" in rows_of(of_study(tmp_path), "means")[1]["note"]


@pytest.mark.parametrize(("deterministic", "said"), [(False, 1), (True, 0)])
def test_a_training_that_would_go_on_from_a_checkpoint_of_elsewhere_is_said_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deterministic: bool, said: int
) -> None:
    """With `--deterministic` it is begun again, and nothing is mixed."""
    with monkeypatch.context() as patch:
        elsewhere(patch, torch=OLD)
        run_until_stopped(Request(recipe("seeds=1"), Path("nowhere"), tmp_path, "cpu", checkpoint_seconds=0), 5)
    context = prepare(Request(recipe("seeds=1"), Path("nowhere"), tmp_path, "cpu", deterministic=deterministic))
    assert len(foreseen(context.plan, context.store, context.machine.environment())) == said


def test_plan_shows_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "continued.yaml"
    path.write_text(TEXT)
    with monkeypatch.context() as patch:
        elsewhere(patch, torch=OLD)
        run(tmp_path / "store", "prune.levels=1", "seeds=1")
    for form in ((), ("--json",)):
        command = ["lottery", "plan", str(path), "--set", "seeds=1", "--store", str(tmp_path / "store"), *form]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as end:
            main()
        out = capsys.readouterr().out
        assert end.value.code in (0, None)
        sentences = json.loads(out)["mixed_environments"] if form else [" ".join(out.split())]
        assert len(sentences) == 1 and f"torch {OLD} there" in sentences[0]


def test_an_ordinary_run_that_was_stopped_and_continued_on_one_machine_is_not_mixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_cores(monkeypatch)
    first = Request(recipe("rewind=5it"), Path("nowhere"), tmp_path, "cpu", checkpoint_seconds=0)
    run_until_stopped(first, 20)
    list(work(prepare(Request(recipe("rewind=5it"), Path("nowhere"), tmp_path, "cpu", jobs=2))))
    whole = study(recipe("rewind=5it"), store=tmp_path, data="nowhere")
    assert any("earlier" in record.manifest.environment for record in whole.found.values())
    assert audit(whole).withheld() == {}
    assert not any("mixed" in row["note"] for row in rows_of(whole, "means"))
