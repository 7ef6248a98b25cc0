"""`lottery analyze` does one analysis by hand: the very job of a recipe, and a refusal wherever none is possible."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import torch

from lottery.plan.jobs import Job, Plan
from lottery.plan.kinds import MEASUREMENT_FILE, Kind
from lottery.results.stored_training import find_training
from lottery.runner.context import RunContext
from lottery.runner.run import work
from lottery.runner.starting_point import starting_point
from lottery.tickets.export import export
from lottery.tickets.file import read
from lottery.tickets.retrain import retrain
from tests.support.analyses import ENTRIES, measured
from tests.support.calls import Call, Result, call
from tests.support.micro import finished, micro, micro_text, prepared
from tests.support.plugs import Plugs, plugs

__all__ = ["call", "plugs"]
TRAININGS = (
    "rewind=4it",
    "prune.levels=1",
    "branches=[reinit, {name: shuffle, scope: global}]",
    "keep={of: [dense, ticket, reinit], at: [3 points, 8it]}",
)
QUICK = "{name: hessian, eigenvalues: 2, examples: 100, steps: 5, probes: 2, of: ticket}"
HESSIAN = ("hessian", "eigenvalues=2", "examples=100", "steps=5", "probes=2")
ANALYSES = (
    f"analyses=[{QUICK}, {{name: barrier, points: 3, between: dense-ticket}}, "
    "{name: plane, points: 3, examples: 100}, "
    "{name: smoothness, along: 3, points: 2, examples: 50, of: [dense, ticket, reinit]}]"
)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> RunContext:
    """The trainings of the micro recipe, and no analysis."""
    return measured(tmp_path_factory.mktemp("study"), *TRAININGS)


def training(plan: Plan, name: str) -> str:
    """Key of `dense`, `ticket`, or a control."""
    return next(job.key for job in plan if job.kind.measured and name_of(job) == name)


def name_of(job: Job) -> str:
    return job.branch.label if job.branch else "ticket" if job.level else "dense"


@pytest.fixture
def analyze(call: Call, study: RunContext) -> Call:
    """The command on the study's store; `dense`, `ticket` and controls' names stand for their keys."""
    keys = {name: training(study.plan, name) for name in ("dense", "ticket", "reinit", "shuffle")}

    def called(*words: str, store: Path | None = None) -> Result:
        named = [re.sub(r"\b(dense|ticket|reinit|shuffle)\b", lambda found: keys[found[0]], word) for word in words]
        root = store or study.store.root
        return call("analyze", *named, "--store", root, "--data", root, "--device", "cpu", "--deterministic")

    return called


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> RunContext:
    """The same trainings in a store of its own, and the analyses, which their recipe asked for."""
    return measured(tmp_path_factory.mktemp("asked"), *TRAININGS, ANALYSES)


BY_HAND = {
    "hessian": ("ticket", *HESSIAN),
    "barrier": ("dense", "barrier", "points=3", "--with", "ticket"),
    "plane": ("dense", "plane", "points=3", "examples=100", "--with", "ticket", "--with", "dense/ticket"),
    "smoothness": ("ticket", "smoothness", "along=3", "points=2", "examples=50"),
    "smoothness of a control": ("reinit", "smoothness", "along=3", "points=2", "examples=50"),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_a_recipe_finds_what_was_done_by_hand_and_would_have_measured_the_same(
    name: str, analyze: Call, study: RunContext, asked: RunContext
) -> None:
    """A state, a pair, three with a pruned network among them, and trainings from their start, a control's too."""
    done = analyze(*BY_HAND[name])
    assert done.code == 0, done.err
    assert " done in " in done.err
    (job,) = [job for job in asked.plan if job.analysis is not None and job.key in done.out]
    looked_at = asked.plan.jobs[job.looks[-1].key]
    assert job.analysis is not None and (job.analysis.name, name_of(looked_at)) == (
        BY_HAND[name][1],
        "dense" if name == "plane" else "reinit" if "control" in name else "ticket",
    )
    assert study.store.read(job.key, MEASUREMENT_FILE) == asked.store.read(job.key, MEASUREMENT_FILE)
    found = prepared(micro(*TRAININGS, ANALYSES), study.store.root)
    assert list(found.plan.jobs) == list(asked.plan.jobs)


def test_a_result_that_exists_is_shown_and_not_computed_again(analyze: Call, study: RunContext) -> None:
    words = ("reinit@8it", "sharpness", "examples=50")
    first, again = analyze(*words), analyze(*words)
    assert (first.code, again.code) == (0, 0), first.err
    assert " done in " in first.err
    assert again.err == ""
    assert first.out == again.out


def test_json_has_the_whole_measurement(analyze: Call, study: RunContext) -> None:
    words = ("dense", "barrier", "points=3", "--with", "ticket@8it", "--format", "json")
    assert analyze(*words).code == 0
    about = json.loads(analyze(*words).out)
    stored = json.loads(study.store.read(about["key"], MEASUREMENT_FILE))
    assert about["values"] == stored["values"]
    assert [row["alpha"] for row in about["profile"]] == [0.0, 0.5, 1.0]
    assert about["analysis"] == {"name": "barrier", "version": 1, "points": 3}
    assert [(state["name"], state["step"]) for state in about["states"]] == [("dense", 12), ("ticket at 8it", 8)]
    assert about["read"] == ["train", "validation", "test"]


def test_numbers_that_are_not_finite_are_told_in_the_row_and_are_words_in_json(analyze: Call, plugs: Plugs) -> None:
    plugs.load("measuring", ENTRIES)
    table, about = analyze("dense", "broken", "--format", "csv"), analyze("dense", "broken", "--format", "json")
    assert table.out.splitlines()[1].endswith(",inf,value is inf")
    assert json.loads(about.out)["values"] == {"value": "inf"}
    assert json.loads(about.out)["profile"] == [{"a": "nan", "b": "-inf"}]


STOPPED = '''
import os
import signal

from lottery.landscape.subject import Measurement
from lottery.registry import analyses

CALLS = []


@analyses.register("halting", source="test", units={"square": ""})
def halting(subject, memo) -> Measurement:
    """Three parts, of which the second is told to stop the first time."""
    (state,) = subject.states
    vector = subject.surface(state.mask, 10).point(state.weights).vector.double()

    def part(number):
        CALLS.append(number)
        if CALLS == [0, 1]:
            os.kill(os.getpid(), signal.SIGTERM)
            while True:  # until the signal was seen
                memo.values(f"wait {len(memo.parts)}", lambda: {"": 0.0})
        return {"square": float(vector[number::3].square().sum())}

    squares = [memo.values(f"part {number}", lambda: part(number))["square"] for number in range(3)]
    return Measurement({"square": sum(squares)})
'''


def test_one_that_is_stopped_goes_on_with_the_same_words(analyze: Call, plugs: Plugs) -> None:
    plugs.load("halts", STOPPED)
    stopped = analyze("ticket", "halting")
    assert stopped.code == 143
    assert "the state is saved" in stopped.err
    assert "continue with: lottery analyze" in stopped.err
    assert analyze("ticket", "halting").code == 0
    assert sys.modules["halts"].CALLS == [0, 1, 1, 2]


CONTROLS = (
    "branches=[{name: reinit, samples: 2}, shuffle, {name: random, weights: mode}, same_sign, constant, random_signs, "
    "{name: noise, scale: 0.5}, resample, longer_dense, {name: retrain, optimizer: {name: sgd, lr: 0.1}}, "
    "{name: shuffle, as: everywhere, scope: global}, one_shot, transplant]"
)
UNKNOWN = {"everywhere", "one_shot", "transplant"}


@pytest.mark.parametrize("mode", ["lr", pytest.param("weights", marks=pytest.mark.slow)])
def test_controls_start_by_hand_where_their_recipe_starts_them(mode: str, tmp_path: Path) -> None:
    """But for those that depend on how the recipe prunes, or on another seed."""
    context = finished(prepared(micro(f"rewind={{to: 4it, mode: {mode}}}", "seeds=2", CONTROLS), tmp_path))
    seen = set()
    for job in context.plan:
        if job.branch is None or job.seed != 1 or job.level != 2:
            continue
        seen.add(job.branch.label)
        stored = find_training(context.store, job.key)
        assert bool(stored.start_unknown) == (job.branch.label in UNKNOWN)
        if not stored.start_unknown:
            jobs = stored.jobs()
            plan = Plan(stored.recipe, context.plan.fingerprint, jobs)
            alone = RunContext(plan, context.store, context.machine, context.splits)
            ours, theirs = starting_point(alone, jobs[job.key]), starting_point(context, job)
            assert ours.spec.first == theirs.spec.first
            assert all(torch.equal(ours.mask[name], theirs.mask[name]) for name in theirs.mask)
            assert all(torch.equal(ours.weights[name], theirs.weights[name]) for name in theirs.weights)
    assert len(seen) == 13


def losses(call: Call, network: str, *where: object) -> dict[str, float]:
    done = call("analyze", network, "errors", "--device", "cpu", "--format", "json", *where)
    assert done.code == 0, done.err
    values: dict[str, float] = json.loads(done.out)["values"]
    return values


def test_children_of_a_state_are_found_by_their_keys(call: Call, tmp_path: Path) -> None:
    asked = "analyses=[{name: instability, of: [dense, ticket], pairs: 2, points: 3, parts: [train]}]"
    context = measured(tmp_path, "rewind=4it", "prune.levels=1", asked)
    jobs = [job for job in context.plan if job.analysis is not None]
    where = ("--store", tmp_path, "--data", tmp_path)
    for job in jobs:
        one, two = (look.key for look in job.looks)
        shown = call("analyze", one, "instability", "points=3", "parts=train", "--with", two, *where)
        assert (shown.code, shown.err) == (0, "")
        assert job.key in shown.out
    children = [look.key for job in jobs for look in job.looks]
    assert call("analyze", children[0], "barrier", "points=2", "--with", children[2], *where).code == 0
    ticket = training(context.plan, "ticket")  # it starts from the state of the dense children, under its mask
    first = losses(call, f"{ticket}@start", *where)
    assert losses(call, f"{children[-1]}@start", *where) == first
    assert losses(call, f"{children[0]}/{ticket}@start", *where) == first
    assert losses(call, f"{children[0]}@start", *where) != first
    for other in (children[-1], training(context.plan, "dense")):
        refused = call("analyze", children[0], "instability", "--with", other, *where)
        assert refused.code == 2
        assert "instability: looks at two children of one state" in refused.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("ticket hesian", "hesian: no analysis 'hesian'; did you mean 'hessian'? (lottery list analyses)"),
        ("ticket hessian eigenvalus=2", "eigenvalus=2: hessian has no key 'eigenvalus'; did you mean 'eigenvalues'?"),
        ("ticket hessian eigenvalues=many", "eigenvalues=many: input should be a valid integer"),
        ("ticket hessian eigenvalues=0", "eigenvalues=0: input should be greater than or equal to 1"),
        ("ticket hessian eigenvalues", "eigenvalues: write it as KEY=VALUE"),
        ("ticket hessian eigenvalues=2 eigenvalues=3", "eigenvalues=3: eigenvalues is there already, as eigenvalues=2"),
        ("ticket hessian of=small", "of=small: of is for recipes; here the networks are named by their keys"),
        ("ticket hessian along=3", "along=3: hessian looks at one network and has no along"),
        ("ticket hessian --with dense", "hessian: looks at 1 network, not at 2; leave --with out"),
        ("dense barrier", "barrier: looks at 2 networks, not at 1; name 1 more by --with KEY"),
        ("dense barrier --with dense", "barrier: the same state is named twice"),
        ("ticket@8ix hessian", "'8ix' is no length"),
        ("ticket@40it hessian", "step 40 is not between the start of this training, step 4, and its end, step 12"),
        ("ticket@7it hessian", "did not keep its states at 7it (step 7); write them under `keep` in its recipe"),
        ("ticket@8it smoothness", "smoothness: looks at a whole training; leave @8it out"),
        ("ticket smoothness along=4", "did not keep its states at start, 1/3, 2/3, end"),
        ("shuffle smoothness along=3", "starts is known to its recipe alone, as it depends on which layers the recipe"),
        ("dense/reinit hessian", "reinit 0 from 4it, which keeps no mask; name a ticket behind the /"),
        ("0000 hessian", "0000: starts no key in"),
        ("xyz hessian", "'xyz': is no start of a key"),
        ("ticket hessian --format pdf", "--format pdf: there are text, csv"),
    ],
)
def test_bad_input_is_refused_with_the_argument_and_the_way_out(words: str, told: str, analyze: Call) -> None:
    done = analyze(*words.split())
    assert done.code == 2, done.out
    assert told in done.err


def test_a_reading_that_a_training_lacks_is_refused(call: Call, tmp_path: Path) -> None:
    context = measured(tmp_path, "data.validation=0", "prune.levels=1")
    done = call("analyze", f"{training(context.plan, 'dense')}@early_stop", "hessian", "--store", tmp_path)
    assert done.code == 2
    assert "has no early_stop; there are end" in done.err


def test_jobs_that_are_no_networks_are_refused_by_their_kind(analyze: Call, study: RunContext) -> None:
    point = next(job.key for job in study.plan if job.kind is Kind.REWIND)
    assert "is a job of kind rewind, no network; lottery table --view long lists" in analyze(point, "hessian").err


def test_a_ticket_file_that_was_trained_again_is_refused(analyze: Call, study: RunContext, tmp_path: Path) -> None:
    path = tmp_path / "a.ticket"
    path.write_bytes(export(study.store, training(study.plan, "ticket"), tmp_path))
    again = retrain(read(path), tmp_path, tmp_path / "store", device="cpu")
    done = analyze(again.key, "hessian", store=tmp_path / "store")
    assert done.code == 2
    assert "name the ticket that the file was exported from" in done.err


def test_a_job_that_is_not_finished_is_refused(analyze: Call, study: RunContext) -> None:
    key = "f00d" * 16
    study.store.save_checkpoint(key, 3, {"parts": b""})
    try:
        done = analyze("f00d", "hessian")
    finally:
        study.store.drop_checkpoints(key)
    assert done.code == 2
    assert "f00df00df00d: this job is not finished (interrupted); lottery run goes on with it" in done.err


def test_a_diverged_network_is_a_row_and_no_error(call: Call, tmp_path: Path) -> None:
    context = prepared(micro("train.optimizer={name: sgd, lr: 1e30}", "prune.levels=0"), tmp_path)
    assert "diverged" in {event.kind for event in work(context)}
    done = call("analyze", training(context.plan, "dense"), "hessian", "--store", tmp_path, "--format", "csv")
    assert done.code == 0
    assert re.search(r",diverged: [0-9a-f]{12} diverged at step \d+$", done.out.strip())


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ("model.widths=[10, 8]", "were trained with different models"),
        ("model.activation=tanh", "were trained with different models"),
        ("data={name: mnist1d, samples: 500, validation: 200}", "were trained with different data"),
        ("train.evaluate_every=3it", "have the same weights, so that nothing lies between them; choose two states"),
    ],
)
def test_states_that_do_not_go_together_are_refused(other: str, told: str, call: Call, tmp_path: Path) -> None:
    """Networks of other shapes, functions and data, and two trainings that ended in the same weights."""
    one, two = (measured(tmp_path, *changes, "prune.levels=0") for changes in ((), (other,)))
    keys = [training(context.plan, "dense") for context in (one, two)]
    assert keys[0] != keys[1]
    done = call("analyze", keys[0], "barrier", "points=3", "--with", keys[1], "--store", tmp_path, "--data", tmp_path)
    assert done.code in (1, 2)
    assert told in done.err


def test_a_mask_that_leaves_nothing_is_refused(call: Call, tmp_path: Path) -> None:
    context = measured(tmp_path, "prune={fraction: 0.9999, levels: 1}")
    key = training(context.plan, "ticket")
    done = call("analyze", key, *HESSIAN, "--store", tmp_path, "--data", tmp_path, "--device", "cpu")
    assert done.code == 1
    assert (
        "hessian of ticket level 1 from init: the mask leaves no weight: there is no surface to look at; look at"
        in done.err
    )


MODELS = '''
import torch
from torch import nn


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        return gradient


class Small(nn.Module):
    def __init__(self, between):
        super().__init__()
        self.first, self.output, self.between = nn.Linear(64, 8), nn.Linear(8, 10), between

    def forward(self, x):
        return self.output(self.between(torch.tanh(self.first(x.flatten(1)))))


@models.register("once", source="test")
def once(input_shape, classes):
    """A network with a function that is differentiable once."""
    return Small(Once.apply)


def attention(x):
    x = x.unflatten(1, (1, 4, 2))
    return torch.nn.functional.scaled_dot_product_attention(x, x, x).flatten(1)


@models.register("attending", source="test")
def attending(input_shape, classes):
    """A network with fused attention."""
    return Small(attention)
'''


def test_a_network_without_second_derivatives_is_refused_before_any_training(
    call: Call, plugs: Plugs, tmp_path: Path
) -> None:
    plugs.load("mine", MODELS)
    recipe = tmp_path / "once.yaml"
    recipe.write_text(micro_text("model=once", f"analyses=[{{name: line, points: 2}}, {QUICK}]"))
    for command in ("plan", "run"):
        done = call(command, recipe, "--store", tmp_path / "store", "--plugin", "mine")
        assert done.code == 2
        assert "analyses.1: hessian: Small: no second derivative of it can be taken" in done.err
        assert "leave out analyses of curvature" in done.err
    assert not (tmp_path / "store" / "jobs").exists()
    context = measured(tmp_path, "model=once", "prune.levels=1")
    done = call("analyze", training(context.plan, "ticket"), *HESSIAN, "--store", tmp_path, "--device", "cpu")
    assert done.code == 2
    assert "no second derivative of it can be taken" in done.err
    assert call("analyze", training(context.plan, "ticket"), "line", "points=2", "--store", tmp_path).code == 0


def test_fused_attention_has_its_second_derivatives_by_the_plain_kernel(
    call: Call, plugs: Plugs, tmp_path: Path
) -> None:
    plugs.load("mine", MODELS)
    context = measured(tmp_path, "model=attending", "prune.levels=1", f"analyses=[{QUICK}]")
    assert call("analyze", training(context.plan, "ticket"), *HESSIAN, "--store", tmp_path).err == ""


def test_a_network_of_a_plugin_needs_it_as_it_was(call: Call, plugs: Plugs, tmp_path: Path) -> None:
    plugs.load("mine", MODELS)
    key = training(measured(tmp_path, "model=attending", "prune.levels=1").plan, "ticket")
    words = ("analyze", key, *HESSIAN, "--store", tmp_path, "--device", "cpu")
    assert call(*words, "--plugin", "mine").code == 0
    plugs.load("mine", MODELS.replace("fused attention", "attention"))
    done = call(*words, "--plugin", "mine")
    assert done.code == 2
    assert ": needs the plugin mine (source " in done.err
