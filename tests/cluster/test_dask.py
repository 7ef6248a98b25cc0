"""What of Dask the other executors have not: a cluster that is there already, and that starts a lost task again."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from lottery.errors import MachineError
from tests.support.clocks import until
from tests.support.workers import Place, dask_scheduler, dask_worker

distributed = pytest.importorskip("distributed", reason="distributed is not installed")


@pytest.fixture
def cluster() -> Iterator[Any]:
    """Two processes with a thread each, and their scheduler."""
    made: Any = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
    )
    with made:
        yield made


def lives(number: int) -> bool:
    """True for a process that has not ended; one that nobody has waited for has."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


def test_workers_in_a_cluster_outlive_its_processes_and_leave_all_of_them_when_told(
    cluster: Any, tmp_path: Path
) -> None:
    place = Place(tmp_path)
    with closing(place.workers("dask", address=cluster.scheduler_address)) as workers:
        workers.start(4)
        first = until(lambda: len(seen := place.begun()) == 2 and seen.keys())
        assert workers.alive() == 4  # two wait for room

        os.kill(cluster.workers[0].process.pid, signal.SIGKILL)
        until(lambda: len(place.begun()) == 3)  # what it ran runs elsewhere, or in the process that takes its place
        logs = place.folder / "logs"
        until(lambda: any("saved" in log.read_text() for log in logs.iterdir()))  # and its worker has noticed
        assert (workers.alive(), workers.ended()) == (4, [])

        workers.stop()
        until(lambda: workers.alive() == 0)
        codes = [each.code for each in workers.ended()]
    until(lambda: not any(map(lives, place.begun())))
    # all have saved, the one whose process was killed too; Dask may call one cancelled that it had only just placed
    assert sum(log.read_text().count("saved") for log in logs.iterdir()) == len(place.begun())
    assert 143 in codes and set(codes) <= {143, 0, None}, (codes, first)


def test_in_a_cluster_of_its_own_each_worker_has_a_gpu_and_another_one_takes_over_that_of_a_lost_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lottery.device.gpus", lambda: ["3", "GPU-7f"])
    place = Place(tmp_path)
    with closing(place.workers("dask", workers=2)) as workers:
        workers.start(2)
        until(lambda: len(place.begun()) == 2)
        seen = {gpu: number for number, (_, _, gpu, _) in place.begun().items()}
        assert seen.keys() == {"3", "GPU-7f"}
        os.kill(seen["3"], signal.SIGKILL)
        until(workers.ended)
        workers.start(1)
        until(lambda: len(place.begun()) == 3)
        (new,) = place.begun().keys() - seen.values()
        assert place.begun()[new][2] == "3"


@pytest.mark.slow  # two commands of Dask's take seconds to start
def test_a_scheduler_that_is_gone_is_told_where_workers_are_to_be_started_again(tmp_path: Path) -> None:
    import dask

    place = Place(tmp_path)
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "5s"}),
        dask_worker(8797),
        dask_scheduler(8797) as scheduler,
        closing(place.workers("dask", address="tcp://127.0.0.1:8797")) as workers,
    ):
        workers.start(1)
        until(place.begun)
        os.killpg(scheduler.pid, signal.SIGKILL)
        (ended,) = until(workers.ended)
        assert (ended.code, ended.in_order) == (None, False)
        client: Any = workers
        until(lambda: client._client.status == "closed")
        with pytest.raises(MachineError, match="the scheduler is gone; when it is there again, run the same command"):
            workers.start(1)
        workers.stop()
        (place.folder / "leave").write_text("0")  # it has gone on, and ends when no job is left


def test_an_address_without_a_scheduler_is_told(tmp_path: Path) -> None:
    import dask

    with (
        dask.config.set({"distributed.comm.timeouts.connect": "300ms"}),
        pytest.raises(MachineError, match=r"executor dask: address tcp://127.0.0.1:9: Timed out"),
    ):
        Place(tmp_path).workers("dask", address="tcp://127.0.0.1:9")
