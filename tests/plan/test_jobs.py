"""Jobs: what each kind keeps, and keys that are those of their identities wherever a job stands."""

from __future__ import annotations

import pytest

from lottery.plan.expand import plan
from lottery.plan.jobs import Plan
from lottery.plan.keys import digest
from lottery.plan.kinds import Kind
from lottery.runner.run import work
from lottery.store.store import Store
from tests.support.micro import micro, prepared

TUNED = (
    "train.optimizer={name: adam}",
    "tune={trials: 2, seeds: [7]}",
    "branches=[reinit, {name: same_sign, trunk: own}]",
    "prune.levels=1",
    "rewind=4it",
)
METRICS = {"job.json", "metrics.json"}
MEASURED = METRICS | {"correct.safetensors"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Store]:
    """A study with a job of each kind that a plan can have, run to its end."""
    context = prepared(micro(*TUNED), tmp_path_factory.mktemp("kinds"))
    assert {event.kind for event in work(context)} <= {"start", "progress", "done"}
    return context.plan, context.store


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (Kind.TRIAL, METRICS),
        (Kind.CHOICE, METRICS),
        (Kind.REWIND, {"job.json", "state.json", "state.safetensors"}),
        (Kind.DENSE, MEASURED | {"weights.safetensors"}),
        (Kind.TICKET, MEASURED | {"weights.safetensors", "mask.safetensors"}),
        (Kind.BRANCH, MEASURED),
    ],
)
def test_a_finished_job_keeps_the_files_of_its_kind(
    finished: tuple[Plan, Store], kind: Kind, expected: set[str]
) -> None:
    planned, store = finished
    jobs = [job for job in planned if job.kind is kind and not job.own_trunk]
    for job in jobs:
        manifest = store.find(job.key)
        assert manifest is not None and manifest.kind == kind.value and type(manifest.kind) is str
        assert manifest.files.keys() - {"best_accuracy.safetensors", "early_stop.safetensors"} == expected
        assert kind.keeps_state == ("state.json" in manifest.files)
        assert job.keeps_weights == ("weights.safetensors" in manifest.files)
        assert job.keeps_mask == ("mask.safetensors" in manifest.files)
        told = b"" if kind.keeps_state else store.read(job.key, "metrics.json")
        assert kind.measured == (b"test_accuracy" in told)
    assert jobs


def test_a_control_with_a_trunk_of_its_own_keeps_what_a_ticket_does(finished: tuple[Plan, Store]) -> None:
    planned, store = finished
    (job,) = [job for job in planned if job.own_trunk]
    manifest = store.find(job.key)
    assert job.kind is Kind.BRANCH and job.keeps_weights and job.keeps_mask
    assert manifest is not None and MEASURED | {"weights.safetensors", "mask.safetensors"} <= manifest.files.keys()


def test_a_key_is_the_hash_of_the_identity_in_the_plan_and_in_every_trunk() -> None:
    planned = plan(micro("rewind=[init, 4it]", "branches=[reinit, {name: same_sign, trunk: own}]"), "0" * 64)
    for key, job in planned.jobs.items():
        assert job.key == key == digest(job.identity)
        if job.kind in (Kind.TICKET, Kind.BRANCH):
            trunk = planned.trunk(job)
            assert [each.key for each in trunk] == [digest(each.identity) for each in trunk]
            assert {(each.rewind, each.point) for each in trunk} == {(job.rewind, job.point)}
            assert trunk[0].kind is Kind.DENSE
