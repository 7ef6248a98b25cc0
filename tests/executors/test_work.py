"""One worker: it leaves by its time, by a number of jobs or by a signal, with what it has in hand saved."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lottery import device
from lottery.catalogue.executors._workers import Launch
from lottery.catalogue.executors.local import _gpus, local
from lottery.cli import work as command
from lottery.errors import UsageError
from lottery.executors import worker
from lottery.executors.time_limit import LEAST, SAVES, TimeLimit
from lottery.executors.work import Limits, work_on
from lottery.runner.events import Request
from lottery.signals import Stop
from lottery.store.store import Store
from lottery.words import seconds_of
from tests.support.clocks import until
from tests.support.forked import command_here
from tests.support.micro import micro, micro_text


class Limit:
    """A time limit whose clock a test puts forward."""

    def __init__(self, seconds: float):
        self.now, self.stop = 100.0, Stop()
        self.limit = TimeLimit(seconds, self.stop, lambda: self.now)

    def up_at(self, now: float) -> bool:
        self.now = 100 + now
        self.limit.look()
        return self.stop.time_is_up


def test_time_is_up_when_no_more_is_left_than_a_save_takes() -> None:
    known = Limit(1000)
    known.stop.saved(2.0)
    known.stop.saved(1.0)  # the longest counts
    assert not known.up_at(1000 - SAVES * 2 - 0.1)
    assert known.up_at(1000 - SAVES * 2)
    quick = Limit(1000)
    quick.stop.saved(0.001)
    assert not quick.up_at(1000 - LEAST - 0.1)
    assert quick.up_at(1000 - LEAST)
    unknown = Limit(1000)
    assert not unknown.up_at(969)
    assert unknown.up_at(970)
    short = Limit(100)
    assert not short.up_at(89)
    assert short.up_at(90)


def test_a_training_that_can_be_stopped_seldom_is_told_sooner() -> None:
    slow = Limit(1000)
    slow.stop.saved(2.0)
    slow.limit.pause()
    slow.now += 40
    slow.limit.note()  # one step took that long
    slow.now += 500
    slow.limit.pause()  # nothing was in hand
    slow.now += 1
    slow.limit.note()
    assert not slow.up_at(1000 - SAVES * 2 - 40 - 0.1)
    assert slow.up_at(1000 - SAVES * 2 - 40)


def request(folder: Path, *changes: str) -> tuple[Request, Store]:
    recipe = micro("seeds=2", *changes)
    return Request(recipe, folder, folder, "cpu", deterministic=True), Store(folder)


def test_a_worker_leaves_after_its_number_of_jobs_and_says_what_is_left(tmp_path: Path) -> None:
    asked, store = request(tmp_path)
    left = work_on([asked], Limits(jobs=3), Stop(), store=store)
    assert (left.own, left.outcome.count("done"), len(list(store.keys()))) == (3, 3, 3)
    total = left.outcome.total
    assert left.sentence() == (
        f"3 jobs run here; it has run as many as it was to, {total - 3} of {total} jobs left: start another worker"
    )
    assert store.leases.held() == {}
    rest = work_on([asked], Limits(jobs=100), Stop(), store=store)
    assert (rest.own, rest.sentence()) == (total - 3, f"{total - 3} jobs run here; no job is left")


def test_a_worker_without_the_device_that_jobs_need_takes_none_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The jobs of a recipe need the same, so that they are refused together, and none is noted as failed."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    asked, store = request(tmp_path, "train.engine=graph")
    for where in ("cpu", "auto"):
        with pytest.raises(UsageError, match="graph works on a CUDA device only"):
            work_on([replace(asked, device=where)], Limits(), Stop(), store=store)
    assert list(tmp_path.iterdir()) == []


def test_a_worker_whose_time_is_up_has_saved_and_its_lease_is_free(tmp_path: Path) -> None:
    asked, store = request(tmp_path, "train.length=200000it", "train.engine=dense", "seeds=1")
    began = time.monotonic()
    left = work_on([asked], Limits(seconds=2.0), Stop(), store=store)
    assert time.monotonic() - began < 60  # of a training of half an hour
    assert left.why == "its time is up"
    (key,) = [job.key for job in left.outcome.plan.jobs.values() if store.checkpoint_step(job.key)]
    assert store.holder(key) is None
    assert store.state(key) == "interrupted"


def test_the_command_saves_at_the_signal_of_a_scheduler_and_at_the_end_of_its_stdin(tmp_path: Path) -> None:
    (recipe := tmp_path / "micro.yaml").write_text(micro_text("train.length=200000it", "train.engine=dense"))
    given = ["work", str(recipe), "--store", str(tmp_path / "store"), "--device", "cpu", "--tied"]
    given += ["--checkpoint-seconds", "0"]
    store, steps = Store(tmp_path / "store"), [0]
    for leave in ("signal", "stdin"):
        reading, writing = os.pipe()
        if (worker := os.fork()) == 0:
            os.close(writing)
            os.dup2(reading, 0)
            command_here(given, os.open(tmp_path / f"{leave}.log", os.O_WRONLY | os.O_CREAT))
        os.close(reading)
        until(lambda: any(step > steps[-1] for step in saved(store).values()))
        if leave == "signal":
            os.kill(worker, signal.SIGUSR1)
        else:
            os.close(writing)
        number = signal.SIGUSR1 if leave == "signal" else signal.SIGTERM
        assert os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) == 128 + number
        assert "continue with: lottery work" in (tmp_path / f"{leave}.log").read_text().splitlines()[-1]
        (step,) = saved(store).values()
        assert step > steps[-1]
        steps.append(step)
        assert store.leases.held() == {}


def saved(store: Store) -> dict[str, int]:
    """The steps of the newest checkpoints, by key."""
    return {key: store.checkpoint_step(key) or 0 for key in store.checkpoints.jobs()}


@pytest.mark.parametrize(
    ("text", "seconds"), [("90min", 5400), ("2h", 7200), ("1d12h", 129_600), ("1h30min", 5400), ("45s", 45)]
)
def test_times_are_written_with_their_units(text: str, seconds: int) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "2", "0h", "h", "1.5h", "-1h", "1h 30min", "30min1h", "2 h", "1m"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no time; write 90min, 2h or 1d12h"):
        command._seconds(text)


def launch(folder: Path, *options: str) -> Launch:
    return Launch(("true", *options), folder, folder)


@pytest.mark.parametrize(
    ("there", "inherited", "workers", "each", "shares"),
    [
        (4, None, 2, None, ["0", "1"]),
        (4, None, 2, 2, ["0,1", "2,3"]),
        (2, "5,3", 2, None, ["5", "3"]),
        (2, "GPU-8a, GPU-1b", 2, None, ["GPU-8a", "GPU-1b"]),
        (2, None, 3, None, ["0", "1", "0"]),
        (2, None, 3, 0, [""]),
        (0, None, 3, None, [None, None, None]),
        (0, "", 3, None, [None, None, None]),
    ],
)
def test_each_worker_of_a_machine_has_a_gpu_of_its_own_as_far_as_there_are(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    there: int,
    inherited: str | None,
    workers: int,
    each: int | None,
    shares: list[str | None],
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
    monkeypatch.delenv(device.GPUS, raising=False)
    if inherited is not None:
        monkeypatch.setenv(device.GPUS, inherited)
    assert _gpus(workers, each) == shares
    assert [record.getMessage() for record in caplog.records] == (
        ["3 workers share 2 GPUs"] if (there, workers, each) == (2, 3, None) else []
    )


def test_more_gpus_than_there_are_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    with pytest.raises(UsageError, match="2 workers of gpus: 2 need 4 GPUs, 3 are here"):
        local(launch(tmp_path), workers=2, gpus=2)
    local(launch(tmp_path, "--device", "cpu"), workers=2, gpus=2)  # takes none


@pytest.mark.parametrize(
    ("there", "kind", "own", "over"),
    [(2, "auto", "1", 2), (4, "cuda", "3", 4), (0, "auto", None, 0), (4, "cpu", "", 0), (4, "cuda:2", None, 1)],
)
def test_each_process_of_a_run_has_a_gpu_of_its_own_and_none_where_it_trains_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch, there: int, kind: str, own: str | None, over: int
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
    monkeypatch.setenv(device.GPUS, "")
    monkeypatch.delenv(device.GPUS)
    assert worker._take_gpu(3, kind) == over
    assert os.environ.get(device.GPUS) == own


def test_a_worker_that_comes_for_another_gets_the_gpu_that_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv(device.GPUS, raising=False)
    script = f"echo $$ ${device.GPUS}; read line"
    workers = local(Launch(("sh", "-c", script), tmp_path, tmp_path), workers=2)
    said = lambda number: (tmp_path / f"worker-{number}.log").read_text().split()  # noqa: E731
    workers.start(2)
    until(lambda: said(1) and said(2))
    (_, first), (second, gpu) = said(1), said(2)
    assert (first, gpu) == ("0", "1")
    os.kill(int(second), signal.SIGKILL)  # this one, and no other process that is a child of the tests'
    until(lambda: workers.alive() == 1)
    assert [ended.code for ended in workers.ended()] == [-9]
    workers.start(1)
    assert until(lambda: said(3))[1] == "1"
    workers.close()
    assert workers.alive() == 0 and [ended.code for ended in workers.ended()] == [-15, -15]
