"""The three errors of the networks of a study add up to the test loss; the best fit is one of their seed."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from lottery.analysis.three_errors import Fit, told_apart
from lottery.analysis.views import rows_of
from lottery.plan.kinds import METRICS_FILE
from lottery.pruning.mask import Mask
from lottery.results.study import study_of
from tests.support.analyses import asking, measured
from tests.support.calls import Call, call
from tests.support.micro import micro_text
from tests.support.plugs import Plugs, plugs

__all__ = ["call", "plugs"]
HALF, QUARTER = (Mask({"w": torch.tensor(bits, dtype=torch.bool)}) for bits in ([1, 1, 0, 0], [1, 0, 0, 0]))
OTHER = Mask({"w": torch.tensor([0, 1, 1, 0], dtype=torch.bool)})


def fit(name: str, train: float, mask: Mask | None = None, *, step: int = 10, seed: int = 0, test: float = 1.0) -> Fit:
    values = {"train_loss": train, "test_loss": test, "train_error": train / 2, "test_error": test / 2}
    return Fit(name, seed, step, mask, (name,), values)


def source(of: Fit, *others: Fit) -> str:
    return told_apart(of, [of, *others], "loss").source


def test_the_best_fit_is_the_lowest_of_the_networks_that_contain_this_one() -> None:
    ticket = fit("ticket", 0.5, HALF)
    found = told_apart(ticket, [fit("dense", 0.25), fit("wide", 0.375), ticket], "loss")
    errors = found.errors
    assert (errors.representation, errors.optimization, errors.generalization) == (0.25, 0.25, 0.5)
    assert (found.source, found.best.keys) == ("wider: dense", ("dense",))
    assert source(ticket, fit("smaller", 0.1, QUARTER), fit("elsewhere", 0.1, OTHER)) == "itself"
    assert source(fit("dense", 0.5), fit("ticket", 0.1, HALF)) == "itself"


def test_a_training_of_the_same_mask_counts_where_it_is_at_least_as_long() -> None:
    ticket = fit("ticket", 0.5, HALF)
    assert source(ticket, fit("longer", 0.25, HALF, step=20)) == "longest: longer"
    assert source(ticket, fit("reinit", 0.25, HALF)) == "longest: reinit"
    assert source(ticket, fit("shorter", 0.25, HALF, step=9)) == "itself"
    assert source(ticket, fit("worse", 0.75, HALF, step=20)) == "itself"
    ones = Mask({"w": torch.ones(4, dtype=torch.bool)})  # of a dense control
    assert source(fit("dense", 0.5), fit("longer_dense", 0.25, ones, step=20)) == "longest: longer_dense"


def test_another_seed_and_a_network_that_diverged_are_no_best_fit() -> None:
    ticket = fit("ticket", 0.5, HALF)
    assert source(ticket, fit("dense", 0.25, seed=1), fit("dense", math.nan)) == "itself"
    lost = told_apart(fit("ticket", math.nan, HALF), [fit("dense", 0.25)], "loss").errors
    assert math.isnan(lost.representation) and math.isnan(lost.optimization)


HAND_MADE = '''
from lottery.landscape.subject import Measurement
from lottery.registry import analyses

TRAIN = {"dense": 0.5, "ticket": 0.75, "reinit": 0.625, "longer_dense": 0.25}


@analyses.register(
    "made", source="test", adds_up=True, test=("test_*",),
    units={"train_loss": "", "test_loss": "", "train_error": "fraction", "test_error": "fraction"},
)
def made(subject, memo) -> Measurement:
    """Losses by hand, 1 more with the second seed; those of the test set are 0.125 higher."""
    (state,) = subject.states
    train = TRAIN[state.name] + subject.seed
    next(iter(subject.examples("test", 1)))
    return Measurement(
        {"train_loss": train, "test_loss": train + 0.125, "train_error": train / 4, "test_error": train / 4 + 0.0625}
    )
'''


def test_the_three_errors_of_hand_made_losses_add_up_to_the_test_loss(call: Call, plugs: Plugs, tmp_path: Path) -> None:
    plugs.load("by_hand", HAND_MADE)
    recipe = tmp_path / "a.yaml"
    recipe.write_text(
        micro_text(
            "prune.levels=1",
            "seeds=2",
            "branches=[reinit, longer_dense]",
            asking("{name: made, of: [dense, ticket, reinit, longer_dense]}"),
        )
    )
    where = ("--plugin", "by_hand", "--store", tmp_path, "--data", tmp_path)
    assert call("run", recipe, *where, "--device", "cpu").code == 0
    table = call("table", recipe, "--view", "made", "--format", "csv", *where)
    rows = {row["networks"]: row for row in csv.DictReader(table.out.splitlines())}
    assert {name: errors_in(row, "loss") for name, row in rows.items()} == {
        "dense": (0.75, 0.25, 0.125),
        "ticket": (0.75, 0.5, 0.125),
        "reinit": (0.75, 0.375, 0.125),
        "longer_dense": (0.75, 0.0, 0.125),
    }
    assert errors_in(rows["ticket"], "error") == (0.1875, 0.125, 0.0625)
    assert {name: row["loss_best_fit"] for name, row in rows.items()} == {
        "dense": "longest: longer_dense at level 1",
        "ticket": "wider: longer_dense at level 1",
        "reinit": "wider: longer_dense at level 1",
        "longer_dense": "itself",
    }
    assert "an estimate, no bound" in rows["dense"]["note"]
    assert claimed_in(call, recipe, "error_optimization", *where) == pytest.approx(100 * 0.125)  # in points
    assert claimed_in(call, recipe, "loss_generalization", *where) == pytest.approx(0.125)
    for row in rows.values():
        assert sum(errors_in(row, "loss")) == float(row["test_loss"])
        assert sum(errors_in(row, "error")) == float(row["test_error"])


def claimed_in(call: Call, recipe: Path, value: str, *where: str | Path) -> float:
    """Return the mean of one of the three errors of tickets as a claim about it has it."""
    claim = {"analysis": "made", "networks": "ticket", "value": value, "densities": [0.5], "least": 0}
    claims = json.dumps({"source": "by hand", "claims": [{"text": "a claim", "source": "here", **claim}]})
    words = ("--view", "replication", "--format", "csv", "--set", f"replicates={claims}")
    (row,) = csv.DictReader(call("table", recipe, *words, *where).out.splitlines())
    return float(row["estimate"])


def errors_in(row: Mapping[str, Any], measure: str) -> tuple[float, ...]:
    return tuple(float(row[f"{measure}_{name}"]) for name in ("representation", "optimization", "generalization"))


def test_the_entry_measures_what_trainings_measured_at_their_end(tmp_path: Path) -> None:
    """On the test set; without label smoothing, which the training has."""
    context = measured(tmp_path, "prune.levels=1", "train.label_smoothing=0.2", "analyses=[errors]")
    study = study_of(context.plan, context.store)
    rows = {row["networks"]: row for row in rows_of(study, "errors")}
    assert list(rows) == ["dense", "ticket"]
    for name, row in rows.items():
        job = next(job for job in context.plan if job.kind.measured and bool(job.level) == (name == "ticket"))
        end = context.store.read_json(job.key, METRICS_FILE)["end"]
        assert row["test_loss"] == pytest.approx(end["test_loss"], rel=1e-6)
        assert row["test_error"] == pytest.approx(1 - end["test_accuracy"], abs=1e-12)
        assert sum(errors_in(row, "loss")) == pytest.approx(row["test_loss"], rel=1e-12)
    dense, ticket = rows.values()
    assert dense["loss_best_fit"] == "itself"
    assert ticket["loss_representation"] == min(dense["train_loss"], ticket["train_loss"])
    assert set(ticket.made_from) <= set(context.plan.jobs)
