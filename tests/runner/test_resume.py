"""Where trainings start and go on: learning rates after a rewind, evaluations cut short, other machines' states."""

from __future__ import annotations

import io
import json
import queue
from pathlib import Path
from typing import Any

import pytest
import torch

from lottery import device
from lottery.device import Machine
from lottery.environment import PACKAGES
from lottery.errors import Interrupted
from lottery.executors.processes import ENDED, _read
from lottery.plan.expand import plan
from lottery.results.record import records
from lottery.runner.context import RunContext
from lottery.runner.events import Request
from lottery.runner.prepare import prepare
from lottery.runner.run import work
from lottery.signals import Stop
from lottery.store.maintenance import summarize
from lottery.store.store import Store
from lottery.training.trainer import Training
from tests.support.restarts import contents, full_recipe
from tests.support.studies import view_of

STUDY = ("train.optimizer=[{name: momentum, lr: 0.05}]", "seeds=1", "prune.levels=1", "branches=[shuffle]")


def context_of(store: Path, *overrides: str, stop: Stop | None = None, deterministic: bool = True) -> RunContext:
    request = Request(
        full_recipe(40, *STUDY, *overrides), Path("nowhere"), store, device="cpu", deterministic=deterministic
    )
    return prepare(request, stop)


def test_a_ticket_rewound_into_the_warm_up_has_the_dense_networks_learning_rates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The optimizer's state of the rewind step carries the learning rate of that step: it is not the base rate."""
    used: dict[str, dict[int, float]] = {}
    steps = Training.steps

    def noting(self: Training) -> Any:
        seen = used.setdefault(f"training {len(used)}", {})
        for step in steps(self):
            seen[self.step - 1] = self.optimizer.param_groups[0]["lr"]
            yield step

    monkeypatch.setattr(Training, "steps", noting)
    context = context_of(tmp_path, "train.schedule={name: cosine, warmup: 30it}")
    list(work(context))
    rewind, dense, ticket, shuffle = used.values()
    rates = {**rewind, **dense}
    assert rates[0] == pytest.approx(0.05 / 30)
    assert list(rates) == list(range(40))
    assert ticket == shuffle == {step: rate for step, rate in rates.items() if step >= 15}


def test_a_stop_in_the_middle_of_an_evaluation_continues_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    list(work(context_of(tmp_path / "whole")))
    measure = Training.measure
    for count in range(1, 18):  # each session is told to stop at the start of its count-th evaluation
        stop, seen = Stop(), 0

        def counting(self: Training, part: Any, stop: Stop = stop, count: int = count, **options: Any) -> Any:
            nonlocal seen
            seen += 1
            if seen == count:
                stop.signal = 15
            return measure(self, part, **options)

        with monkeypatch.context() as patch:
            patch.setattr(Training, "measure", counting)
            try:
                list(work(context_of(tmp_path / "stopped", stop=stop)))
                break
            except Interrupted:
                pass
    list(work(context_of(tmp_path / "stopped")))
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")


def test_a_deterministic_run_does_not_go_on_from_another_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    list(work(context_of(tmp_path / "whole")))
    stopped_at_step_5(tmp_path / "moved", monkeypatch)
    name = device._name
    restored: list[int] = []
    restore = Training.restore

    def noting(self: Training, tensors: Any, values: Any) -> None:
        restored.append(values["step"])
        restore(self, tensors, values)

    monkeypatch.setattr(Training, "restore", noting)
    monkeypatch.setattr(device, "_name", lambda _: "another processor")
    list(work(context_of(tmp_path / "moved")))
    assert 5 not in restored
    monkeypatch.setattr(device, "_name", name)
    assert contents(tmp_path / "moved") == contents(tmp_path / "whole")


@pytest.mark.parametrize(("numpy", "goes_on"), [(None, True), ("1.0", False)])
def test_a_checkpoint_from_before_packages_were_recorded_is_gone_on_from_one_of_another_version_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, numpy: str | None, goes_on: bool
) -> None:
    here = Machine.environment
    newer = (*PACKAGES, "variables")

    def then(self: Machine) -> dict[str, Any]:
        recorded = here(self)
        if numpy is None:
            return {name: value for name, value in recorded.items() if name not in newer}
        return {**recorded, "numpy": numpy}

    with monkeypatch.context() as patch:
        patch.setattr(Machine, "environment", then)
        stopped_at_step_5(tmp_path, monkeypatch)
    restored: list[int] = []
    restore = Training.restore

    def noting(self: Training, tensors: Any, values: Any) -> None:
        restored.append(values["step"])
        restore(self, tensors, values)

    monkeypatch.setattr(Training, "restore", noting)
    context = context_of(tmp_path)
    list(work(context))
    assert (5 in restored) is goes_on
    (dense,) = [job for job in context.plan if job.kind == "dense"]
    manifest = Store(tmp_path).find(dense.key)
    assert manifest is not None and set(newer) <= manifest.environment.keys()
    assert ("earlier" in manifest.environment) is goes_on  # that session did not say what it ran on: it is told of
    note = view_of("means", context.plan, records(context.plan, Store(tmp_path)))[0]["note"]
    assert "mixed environments" not in note


def test_a_job_that_moved_between_environments_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped_at_step_5(tmp_path, monkeypatch, deterministic=False)
    monkeypatch.setattr(device, "_name", lambda _: "another processor")
    context = context_of(tmp_path, deterministic=False)
    list(work(context))
    (dense,) = [job for job in context.plan if job.kind == "dense"]
    manifest = Store(tmp_path).find(dense.key)
    assert manifest is not None
    (earlier,) = manifest.environment["earlier"]
    assert (manifest.environment["device"], earlier["device"] != "another processor") == ("another processor", True)
    assert "mixed environments" in view_of("means", context.plan, records(context.plan, Store(tmp_path)))[0]["note"]


def stopped_at_step_5(store: Path, monkeypatch: pytest.MonkeyPatch, deterministic: bool = True) -> None:
    stop = Stop()
    steps = Training.steps

    def stopping(self: Training) -> Any:
        for step in steps(self):
            if step == 5 and self.timeline.stop == 15:
                stop.signal = 15
            yield step

    with monkeypatch.context() as patch:
        patch.setattr(Training, "steps", stopping)
        with pytest.raises(Interrupted):
            list(work(context_of(store, stop=stop, deterministic=deterministic)))
    assert summarize(Store(store)).interrupted


def test_weights_that_are_not_finite_at_the_end_are_a_divergence_not_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = Training.steps

    def spoiling(self: Training) -> Any:
        for step in steps(self):
            if step == self.timeline.total:
                next(self.model.parameters()).data.fill_(float("inf"))
            yield step

    monkeypatch.setattr(Training, "steps", spoiling)
    context = context_of(tmp_path, "data.validation=0", "report=end")
    ends = {event.key: event.kind for event in work(context) if event.kind not in ("start", "progress")}
    assert sorted(ends.values()) == ["blocked", "blocked", "diverged", "done"]


def test_a_damaged_record_of_a_divergence_is_computed_again_and_the_rest_stands(tmp_path: Path) -> None:
    wild = "branches=[{name: retrain, as: wild, optimizer: {name: sgd, lr: 1e30}}, shuffle]"
    context = context_of(tmp_path, wild)
    list(work(context))
    (branch,) = [job for job in context.plan if job.branch and job.branch.label == "wild"]
    path = tmp_path / "jobs" / branch.key[:2] / branch.key / "metrics.json"
    path.write_bytes(path.read_bytes().replace(b"diverged", b"diverger"))
    ends = {
        event.key: event.kind for event in work(context_of(tmp_path, wild)) if event.kind not in ("start", "progress")
    }
    assert sorted(ends.values()) == ["diverged", "found", "found", "found", "found"]


def test_one_shot_tickets_are_the_same_whatever_other_densities_are_asked_for(tmp_path: Path) -> None:
    study = ("prune={one_shot: [0.2], criterion: random}", "branches=[reinit, shuffle]")
    more = ("prune={one_shot: [0.2, 0.5], criterion: random}", "branches=[reinit, shuffle]")
    list(work(context_of(tmp_path / "one", *study)))
    list(work(context_of(tmp_path / "two", *more)))
    assert contents(tmp_path / "one").items() <= contents(tmp_path / "two").items()


def test_the_order_of_rates_is_part_of_the_key_since_the_first_fit_counts() -> None:
    first = full_recipe(40, 'prune.rates={"f*": 0.5, "*1": 0.1}')
    second = full_recipe(40, 'prune.rates={"*1": 0.1, "f*": 0.5}')
    keys = [{job.key for job in plan(recipe, "0" * 64) if job.kind == "ticket"} for recipe in (first, second)]
    assert not keys[0] & keys[1]


def test_half_a_line_of_a_killed_worker_ends_its_events_and_nothing_else() -> None:
    events: queue.Queue[tuple[int, Any]] = queue.Queue()
    _read(3, io.StringIO(json.dumps({"kind": "start"}) + '\n{"kind": "pro'), events)
    assert [events.get_nowait() for _ in range(2)] == [(3, {"kind": "start"}), (3, ENDED)]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    ],
)
def test_out_of_memory_ends_the_run_as_the_machines_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    from lottery.errors import MachineError

    def full(self: Training) -> Any:
        raise error

    context = context_of(tmp_path)
    monkeypatch.setattr(Training, "steps", full)
    with pytest.raises(MachineError, match="out of memory"):
        list(work(context))
