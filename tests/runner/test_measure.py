"""Analyses are run: the states they look at are those of the trainings, and a killed one goes on to the same bytes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lottery.analysis.measurements import NOT_REPEATED
from lottery.analysis.views import rows_of
from lottery.errors import Interrupted
from lottery.network.layout import state_of
from lottery.plan.jobs import Job, Plan
from lottery.plan.kinds import MEASUREMENT_FILE, STATES_FILE, WEIGHTS_FILE, Kind, state_file
from lottery.pruning.mask import Mask
from lottery.pruning.masking import masked
from lottery.results.measured_values import read_value
from lottery.results.study import study_of
from lottery.runner.assemble import training_of
from lottery.runner.context import RunContext
from lottery.runner.run import work
from lottery.runner.starting_point import starting_point
from lottery.runner.states import Kept, unpack_state
from lottery.signals import Stop
from lottery.training.trainer import Training
from tests.support.analyses import asking, load, measured
from tests.support.micro import finished, micro, prepared
from tests.support.plugs import Plugs, plugs

__all__ = ["plugs"]
STEPS = {"1/3": 4, "2/3": 8, "end": 12}
CONTROLS = "branches=[reinit]"


def of_kind(plan: Plan, kind: Kind) -> list[Job]:
    return [job for job in plan if job.kind is kind]


def states_by_hand(context: RunContext, job: Job) -> dict[int, dict[str, Tensor]]:
    """The states of a training after each step, from a training of its own."""
    start, training, found = starting_point(context, job), training_of(context, job), {}
    with masked(training.model, start.mask, training.optimizer):
        for _ in training.steps():
            found[training.step] = {name: value.clone() for name, value in state_of(training.model).items()}
    return found


def stored_states(context: RunContext, job: Job) -> dict[int, dict[str, Tensor]]:
    """The states that a job of kind STATES names, from the files of the jobs that have them."""
    moments = context.store.read_json(job.key, STATES_FILE)["moments"]
    return {
        about["step"]: unpack_state(context.store.read(about["holder"] or job.key, state_file(about["step"])))[0]
        for moment, about in moments.items()
        if moment != "start"
    }


def equal(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name].cpu()) for name in one)


@pytest.mark.parametrize("rewind", ["init", "4it"])
@pytest.mark.parametrize("when", ["along", "afterwards"])
def test_states_along_a_training_are_its_own_to_the_bit(when: str, rewind: str, tmp_path: Path, plugs: Plugs) -> None:
    """Kept while the networks are trained, or trained again for a recipe that asks once all is finished."""
    load(plugs)
    changes = (CONTROLS, f"rewind={rewind}", "prune.levels=1")
    if when == "afterwards":
        measured(tmp_path, *changes)
    context = measured(tmp_path, *changes, "keep={of: [dense, ticket, reinit], at: [4 points]}")
    jobs = of_kind(context.plan, Kind.STATES)
    assert len(jobs) == 3
    for job in jobs:
        assert job.parent is not None
        training = context.plan.jobs[job.parent]
        by_hand, stored = states_by_hand(context, training), stored_states(context, job)
        first = 4 if training.kind is Kind.TICKET and rewind == "4it" else 0  # fresh weights have nothing to go back to
        assert set(stored) == {first + round((12 - first) * part / 3) for part in (1, 2, 3)}
        assert all(equal(stored[step], by_hand[step]) for step in stored)
        if training.keeps_weights and training.kind is Kind.DENSE:
            assert equal(stored[12], context.store.read_tensors(training.key, WEIGHTS_FILE))
        assert context.store.read_json(job.key, STATES_FILE)["same"] is True


def test_a_training_that_goes_another_way_when_it_is_run_again_is_said(
    tmp_path: Path, plugs: Plugs, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(plugs)
    measured(tmp_path, "prune.levels=1")
    monkeypatch.setattr("lottery.runner.assemble._multiplier", lambda *args: lambda step: 0.99)
    asked = (asking("{name: walk, along: 3}"), "keep=[2it]")  # of which 2 lies before the first evaluation
    context = measured(tmp_path, "prune.levels=1", *asked)
    listed = [context.store.read_json(job.key, STATES_FILE) for job in of_kind(context.plan, Kind.STATES)]
    assert [each["same"] for each in listed] == [False] * 4
    assert {row["note"] for row in rows_of(study_of(context.plan, context.store), "walk")} == {NOT_REPEATED}


def test_states_of_pruning_in_the_course_of_training_have_the_mask_of_their_step(tmp_path: Path) -> None:
    gradual = "prune={when: training, during: {start: 2it, end: 10it, every: 2it}, fraction: 0.5, levels: 1}"
    context = measured(tmp_path, gradual, "keep={of: ticket, at: [4it, 12it]}")
    (job,) = of_kind(context.plan, Kind.STATES)
    assert job.parent is not None
    densities = [unpack_state(context.store.read(job.parent, state_file(step)))[1].density for step in (4, 12)]
    assert 0.5 < densities[0] < 1
    assert densities[1] == pytest.approx(0.5, abs=1e-3)


def test_a_killed_training_keeps_the_same_states(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = ("keep={of: [dense, ticket], at: [4it, 8it]}", "prune.levels=1")
    whole = measured(tmp_path / "whole", *changes)
    stop, kills, original = Stop(), [3, 5, 9, 3, 5, 9], Kept.offer  # before, between and after the states of each

    def offer(self: Kept, step: int, training: Training, mask: Mask) -> None:
        original(self, step, training, mask)
        if kills and step == kills[0]:
            del kills[0]
            stop.signal = 15

    monkeypatch.setattr(Kept, "offer", offer)
    context = prepared(micro(*changes), tmp_path / "killed", stop=stop)
    while kills:
        with pytest.raises(Interrupted):
            list(work(context))
        stop.signal = None
    finished(context)
    for job in of_kind(whole.plan, Kind.STATES):
        assert job.parent is not None
        for name in (state_file(4), state_file(8)):
            assert whole.store.read(job.parent, name) == context.store.read(job.parent, name)


def test_a_killed_analysis_goes_on_to_the_same_bytes(tmp_path: Path, plugs: Plugs) -> None:
    module = load(plugs)
    changes = (asking("{name: norms, of: ticket, levels: 1}"), "prune.levels=1")
    whole = measured(tmp_path / "whole", *changes)
    (job,) = of_kind(whole.plan, Kind.ANALYSIS)
    assert module.CALLS == [0, 1, 2]
    stop = Stop()
    module.STOP.update(at=1, stop=stop)
    context = prepared(micro(*changes), tmp_path / "killed", stop=stop)
    with pytest.raises(Interrupted):
        list(work(context))
    module.STOP.clear()
    stop.signal = None
    finished(context)
    assert module.CALLS == [0, 1, 2, 0, 1, 2]
    assert whole.store.read(job.key, MEASUREMENT_FILE) == context.store.read(job.key, MEASUREMENT_FILE)
    assert context.store.load_checkpoint(job.key) is None


def test_workers_measure_the_same_bytes(tmp_path: Path, plugs: Plugs) -> None:
    """Each analysis is deterministic, so that two runs of a recipe commit equal files."""
    load(plugs)
    changes = (asking("norms", "gap", "{name: walk, along: 3}"), "seeds=2")
    one, two = (measured(tmp_path / name, *changes) for name in ("one", "two"))
    jobs = of_kind(one.plan, Kind.ANALYSIS)
    assert len(jobs) == (2 + 4) + (1 + 4 + 2 + 2) + (2 + 4)
    for job in jobs:
        assert one.store.read(job.key, MEASUREMENT_FILE) == two.store.read(job.key, MEASUREMENT_FILE)


def test_numbers_that_are_not_finite_stay_so_and_the_table_says_where(tmp_path: Path, plugs: Plugs) -> None:
    load(plugs)
    context = measured(tmp_path, asking("{name: broken, of: dense}"), "seeds=2")
    for job in of_kind(context.plan, Kind.ANALYSIS):
        about = json.loads(context.store.read(job.key, MEASUREMENT_FILE))
        assert read_value(about["values"]["value"]) == float("inf")
        assert about["profile"] == [{"a": "nan", "b": "-inf"}]
    (row,) = rows_of(study_of(context.plan, context.store), "broken")
    assert row["value"] is None
    assert row["note"] == "value is not finite in 2 of 2"


def test_a_table_has_means_over_seeds_of_what_was_measured(tmp_path: Path, plugs: Plugs) -> None:
    load(plugs)
    context = measured(tmp_path, asking("{name: norms, of: [dense, reinit]}"), CONTROLS, "seeds=2", "prune.levels=1")
    dense, reinit = rows_of(study_of(context.plan, context.store), "norms")
    for row, name in ((dense, "dense"), (reinit, "reinit")):
        jobs = [job for job in of_kind(context.plan, Kind.ANALYSIS) if job.looks[0].name == name]
        norms = [json.loads(context.store.read(job.key, MEASUREMENT_FILE))["values"]["norm"] for job in jobs]
        assert (row["networks"], row["n"]) == (name, 2)
        assert row["norm"] == pytest.approx(sum(norms) / 2)
        assert row["norm_std"] == pytest.approx(abs(norms[0] - norms[1]) / 2**0.5)
    assert (dense["density"], reinit["density"]) == (1.0, pytest.approx(0.5, abs=1e-3))


def test_a_diverged_network_is_said_in_its_row(tmp_path: Path, plugs: Plugs) -> None:
    load(plugs)
    optimizers = "train.optimizer=[{name: adam, lr: 3e-3}, {name: sgd, lr: 1e30}]"
    context = prepared(micro(optimizers, asking("norms"), "prune.levels=1"), tmp_path)
    ends = {event.kind for event in work(context)}
    assert {"diverged", "blocked"} <= ends
    rows = rows_of(study_of(context.plan, context.store), "norms")
    notes = {(row["optimizer"], row["networks"]): row["note"] for row in rows}
    assert notes["adam", "dense"] == ""
    assert notes["sgd", "dense"] == "diverged: 1 of 1 networks"


def test_the_cost_of_analyses_is_in_the_plan(tmp_path: Path, plugs: Plugs) -> None:
    load(plugs)
    from lottery.runner.estimate import steps_of

    context = prepared(micro(asking("{name: norms, of: dense, examples: 500}")), tmp_path)
    (job,) = of_kind(context.plan, Kind.ANALYSIS)
    assert steps_of(context)[job.key] == 4 * 500 / 50


def test_a_measurement_that_two_analyses_ask_for_stands_in_both_tables(tmp_path: Path, plugs: Plugs) -> None:
    load(plugs)
    asked = asking("{name: norms, of: [dense, ticket]}", "{name: norms, as: more, of: [ticket, reinit]}")
    context = measured(tmp_path, asked, CONTROLS, "prune.levels=1")
    assert len(of_kind(context.plan, Kind.ANALYSIS)) == 3
    study = study_of(context.plan, context.store)
    assert [row["networks"] for row in rows_of(study, "norms")] == ["dense", "ticket"]
    assert [row["networks"] for row in rows_of(study, "more")] == ["ticket", "reinit"]


SORTED = """
from dataclasses import replace

from lottery.landscape.subject import Measurement


@datasets.register("by_class", source="test")
def by_class(root):
    digits = datasets["digits"].make(root)
    order = digits.test_y.argsort(stable=True)
    return replace(digits, test_x=digits.test_x[order], test_y=digits.test_y[order])


@analyses.register("seen", source="test", units={"test_seen": ""}, test=("test_*",))
def seen(subject, memo, *, examples: int | None = None) -> Measurement:
    labels = [int(label) for _, y in subject.examples("test", examples) for label in y]
    return Measurement({"test_seen": len(labels)}, [{"test_label": label} for label in labels])
"""


def test_few_examples_of_a_test_set_that_goes_class_by_class_are_the_same_of_all_classes_for_each_seed(
    tmp_path: Path, plugs: Plugs
) -> None:
    plugs.load("sorting", SORTED)
    asked = asking("{name: seen, of: dense, examples: 120}", "{name: seen, as: whole, of: dense}")
    context = measured(tmp_path, "data={name: by_class, validation: 200}", "prune.levels=0", "seeds=2", asked)
    labels: dict[str, list[list[float]]] = {"seen": [], "whole": []}
    for job in of_kind(context.plan, Kind.ANALYSIS):
        assert job.analysis is not None
        profile = context.store.read_json(job.key, MEASUREMENT_FILE)["profile"]
        labels[job.analysis.label].append([row["test_label"] for row in profile])
    assert labels["seen"][0] == labels["seen"][1] and len(labels["seen"][0]) == 120
    assert min(map(labels["seen"][0].count, range(10))) >= 4  # of about 36 each, a third is drawn
    assert labels["whole"][0] == labels["whole"][1] == sorted(labels["whole"][0]) and len(labels["whole"][0]) == 360
