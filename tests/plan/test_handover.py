"""A plan that a process is handed is the one it would have made itself, or it says that it is not."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from lottery.errors import UsageError
from lottery.executors import worker
from lottery.executors.worker import Line
from lottery.plan import handover
from lottery.plan.expand import plan
from lottery.plan.handover import pack_plan, unpack_plan
from lottery.plan.keys import digest
from lottery.runner.resume import as_json
from lottery.signals import Stop
from tests.support.micro import micro

STUDIES = {
    "controls": micro("rewind=[init, 4it]", "branches=[reinit, {name: same_sign, trunk: own, samples: 2}]", "seeds=2"),
    "tuned and retrained": micro(
        "train.optimizer=[{name: adam, rates: [1e-4, 1e-2]}, {name: momentum, weight_decay: 0.01}]",
        "tune={trials: 2, seeds: [7]}",
        "transfer=all",
    ),
    "retrained": micro(
        "train.optimizer=[{name: adam, lr: 1e-3}, {name: sam, optimizer: {name: momentum}, lr: 0.1}]", "transfer=all"
    ),
    "densities": micro("prune={densities: {output: 0.5}, levels: 2}"),
    "partners": micro("branches=[transplant]", "seeds=2"),
}
RECIPE = micro("rewind=[init, 4it]", "branches=[reinit, {name: same_sign, trunk: own}]", "prune.rates={output: 0.25}")


@pytest.mark.parametrize("study", STUDIES)
def test_a_plan_that_was_handed_over_is_the_one_that_is_made_anew(study: str) -> None:
    recipe = STUDIES[study]
    planned = plan(recipe, "1" * 64)
    handed = unpack_plan(pack_plan(planned), recipe)
    assert handed == planned and list(handed.jobs) == list(planned.jobs)
    assert [job.key for job in handed] == [digest(job.identity) for job in handed]
    assert [job.label for job in handed] == [job.label for job in planned]
    assert [as_json(job.identity) for job in handed] == [as_json(job.identity) for job in planned]


@pytest.mark.parametrize("name", ["__version__", "SCHEMA"])
def test_a_plan_of_another_version_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    packed = pack_plan(plan(RECIPE, "1" * 64))
    monkeypatch.setattr(handover, name, 0)
    with pytest.raises(UsageError, match="lottery or a plugin was changed while this run was starting"):
        unpack_plan(packed, RECIPE)


def test_a_plan_of_another_source_of_a_plugin_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = pack_plan(plan(RECIPE, "1" * 64))
    monkeypatch.setattr("lottery.registry.plugins", lambda: {"theirs": "0123456789abcdef"})
    with pytest.raises(UsageError, match="a plugin was changed"):
        unpack_plan(packed, RECIPE)


def test_a_worker_that_finds_other_data_than_the_plan_was_made_for_trains_nothing(tmp_path: Path) -> None:
    """In this process, what a worker does with a request; executors/test_processes.py has real ones do it."""
    ours, theirs = socket.socketpair()
    packed = pack_plan(plan(RECIPE, "1" * 64))
    request = {
        "recipes": [["", RECIPE.canonical()]],
        "data": str(tmp_path),
        "store": str(tmp_path / "store"),
        "device": "cpu",
        "jobs": 2,
        "deterministic": True,
        "checkpoint_seconds": 60.0,
        "plugins": [],
        "number": 0,
    }
    with ours, theirs:
        line = Line(theirs, Stop())
        said = worker._last_words(lambda: worker._serve(request, json.dumps([packed]).encode(), Stop(), line))
    assert said == {
        "end": "error",
        "kind": "DataError",
        "message": f"{tmp_path}: the data were changed while this run was starting; start it again",
        "exit_code": 2,
    }
    assert not (tmp_path / "store" / "jobs").exists()
