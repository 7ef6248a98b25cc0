"""Analyses beside the other features of a recipe: processes, precision, engines, ways of pruning and of rewinding."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lottery.analysis.views import rows_of
from lottery.plan.handover import pack_plan, unpack_plan
from lottery.plan.jobs import Job
from lottery.plan.kinds import MEASUREMENT_FILE, Kind
from lottery.recipe.load import restore_recipe
from lottery.results.study import study_of
from lottery.runner.context import RunContext
from lottery.runner.measure import Measuring
from lottery.runner.starting_point import starting_point
from lottery.store.store import Store
from tests.support.analyses import asking, measured
from tests.support.calls import Call, call
from tests.support.micro import finished, micro, micro_text, prepared
from tests.support.plugs import Plugs, plugs

__all__ = ["call", "plugs"]
ASKED = asking(
    "{name: barrier, points: 3, examples: 100, bn: reset}",
    "{name: smoothness, along: 3, points: 1, examples: 50}",
    "{name: plane, points: 3, examples: 50}",
)
FEATURES = {
    "learning rates that are chosen": ("tune={trials: 2, seeds: [7]}", "train.optimizer=[adam]", "prune.levels=1"),
}
MORE = {
    "pruning in the course of training": (
        "prune={when: training, during: {start: 2it, end: 10it, every: 2it}, fraction: 0.5, levels: 1}",
    ),
    "a rewound learning rate": ("rewind={to: 4it, mode: lr}", "prune.levels=1"),
    "fine-tuning": ("rewind={to: 4it, mode: finetune}", "finetune.rate=0.1", "prune.levels=1"),
    "bf16": ("train.precision=bf16", "prune.levels=1"),
    "the sparse engine": ("train.engine=sparse", "prune.levels=1"),
    "the background engine": ("train.engine=background", "prune.levels=1"),
    "adaptive levels": ("prune={fraction: 0.5, levels: auto}", "compare={margin: 5}", "seeds=4"),
    "pruning at initialization": ("prune={when: init, criterion: snip, levels: 1, fraction: 0.5}",),
    "one shot": ("prune={one_shot: [0.5, 0.2]}",),
    "a trunk of its own": ("branches=[{name: reinit, trunk: own}]", "prune.levels=2"),
    "two rewind points": ("rewind=[init, 4it]", "prune.levels=1"),
    "transfer": ("train.optimizer=[{name: adam, lr: 3e-3}, {name: sgd, lr: 0.1}]", "transfer={}", "prune.levels=1"),
    "regression": ("data={name: matrix_factorization, validation: 50}", "prune.levels=1"),
    "augmentation and smoothed labels": ("train.label_smoothing=0.1", "data.augment={crop: 1}", "prune.levels=1"),
    "batch normalization": ("model.norm=batch", "prune.levels=1"),
    "no validation split": ("data.validation=0", "prune.levels=1"),
    "whole batches": ("data={name: digits, validation: 200, limit: 100}", "train.batch_size=all", "prune.levels=1"),
}


def analyses(context: RunContext) -> list[Job]:
    return [job for job in context.plan if job.kind is Kind.ANALYSIS]


@pytest.mark.parametrize("feature", [*FEATURES, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE)])
def test_analyses_run_with_each_feature_and_by_hand_they_are_the_same(feature: str, tmp_path: Path, call: Call) -> None:
    """The tables have rows for the dense network and the ticket, and each job is found by the keys of its networks."""
    changes = {**FEATURES, **MORE}[feature]
    context = measured(tmp_path / "store", *changes, ASKED)
    study = study_of(context.plan, context.store)
    for view in ("barrier", "smoothness", "plane", "connected"):
        assert rows_of(study, view), view
    for job in (job for job in analyses(context) if job.analysis and job.analysis.name in ("smoothness", "plane")):
        assert job.analysis is not None
        texts = [f"{look.key}{f'/{look.mask}' * bool(look.mask)}" for look in job.looks]
        first, *others = dict.fromkeys(texts)
        keys = [f"{name}={value}" for name, value in job.analysis.component.args.items()]
        keys += ["along=3"] * (job.analysis.name == "smoothness")
        words = [word for other in others for word in ("--with", other)]
        shown = call("analyze", first, job.analysis.name, *keys, *words, "--store", tmp_path / "store")
        assert (shown.code, shown.err) == (0, "")
        assert job.key in shown.out


HANDED_OVER = (  # a model and an analysis of a plugin, and a margin that is no part of a key
    "prune.levels=1",
    "model={name: theirs, units: 6}",
    asking(
        "{name: barrier, points: 3, between: dense-ticket, margin: 5}",
        "{name: hessian, eigenvalues: 2, examples: 100, steps: 4, probes: 2}",
        "{name: units, of: [dense, ticket]}",
    ),
)


def test_a_plan_that_was_handed_over_measures_the_same_bytes(tmp_path: Path, plugs: Plugs) -> None:
    """As workers receive it, with the recipe; that they have a plugin's analyses is in plugins/test_plugins.py."""
    plugs.load("theirs", PLUGIN)
    recipe = micro(*HANDED_OVER)
    one, two = (prepared(recipe, tmp_path / name) for name in ("1", "2"))
    two = replace(two, plan=unpack_plan(pack_plan(two.plan), restore_recipe(recipe.canonical())))
    assert two.plan.recipe == recipe
    assert [job.key for job in analyses(two)] == [job.key for job in analyses(one)]
    assert len(analyses(one)) == 1 + 2 + 2
    finished(one)
    finished(two)
    for job in analyses(one):
        assert one.store.read(job.key, MEASUREMENT_FILE) == two.store.read(job.key, MEASUREMENT_FILE)


@pytest.mark.slow
def test_processes_measure_the_same_bytes_as_one(tmp_path: Path, plugs: Plugs, call: Call) -> None:
    plugs.write("theirs.py", PLUGIN)
    recipe = tmp_path / "r.yaml"
    recipe.write_text(micro_text("seeds=2", *HANDED_OVER))
    where = ("--device", "cpu", "--deterministic", "--plugin", "theirs")
    for jobs in (1, 2):
        done = call("run", recipe, "--jobs", jobs, "--store", tmp_path / f"{jobs}", *where)
        assert done.code == 0, done.err
    one, two = (Store(tmp_path / name) for name in ("1", "2"))
    keys = [each.key for each in one.manifests() if each.kind == Kind.ANALYSIS]
    assert len(keys) == 2 + 4 + 4
    for key in keys:
        assert one.read(key, MEASUREMENT_FILE) == two.read(key, MEASUREMENT_FILE)


PLUGIN = '''
from torch import nn

from lottery.landscape.subject import Measurement
from lottery.registry import analyses, models


@models.register("theirs", source="test")
def theirs(input_shape, classes, *, units: int = 4):
    """A small network."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, units), nn.Tanh(), nn.Linear(units, classes))


@analyses.register("units", source="test", units={"weights": ""})
def units(subject, memo) -> Measurement:
    """Number of coordinates."""
    return Measurement({"weights": subject.surface(subject.states[0].mask, 10).size})
'''


def test_a_finished_ticket_starts_where_its_training_started(tmp_path: Path) -> None:
    """The start that an analysis reads from the store is the one that the training was given."""
    for rewind in ("init", "4it", "{to: 4it, mode: lr}"):
        context = measured(tmp_path / rewind[:3], f"rewind={rewind}", "prune.levels=1")
        ticket = next(job for job in context.plan if job.kind is Kind.TICKET)
        weights, mask, first = Measuring(context, ticket, 0.0)._start(ticket)
        start = starting_point(context, ticket)
        assert mask == start.mask
        assert first == start.spec.first
        expected = start.mask.apply(start.weights)
        assert all(weights[name].equal(expected[name]) for name in expected)
