"""What of Slurm the other executors have not: keys that become options, time limits, workers that outlive the run."""

from __future__ import annotations

import json
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from lottery import registry
from lottery.errors import MachineError, UsageError
from tests.support.clocks import until
from tests.support.workers import Place, slurm_here


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    slurm_here(tmp_path, monkeypatch, slots=2, minute=3.0)
    return Place(tmp_path)


def jobs(place: Place) -> list[dict[str, object]]:
    """What the stand-in knows of the jobs in its queue."""
    queue = place.folder.parent / "queue"
    return [json.loads(each.read_text()) for each in sorted(queue.glob("*/about.json"))]


def test_keys_become_options_of_sbatch_and_further_ones_come_last(place: Place) -> None:
    keys = {"partition": "gpu", "account": "us", "qos": "long", "time": "1h30min", "gpus": 2, "cpus": 4}
    with closing(place.workers("slurm", **keys, memory="8G", constraint="a100|h200", options=["--mem=9G"])) as workers:
        workers.start(1)
        (about,) = jobs(place)
        workers.stop()
    assert {name: about[name] for name in ("partition", "account", "qos", "time", "gpus", "cpus_per_task")} == {
        "partition": "gpu",
        "account": "us",
        "qos": "long",
        "time": "90",
        "gpus": "2",
        "cpus_per_task": "4",
    }
    assert (about["mem"], about["constraint"], about["signal"]) == ("9G", "a100|h200", "B:USR1@90")
    script = (place.folder.parent / "queue" / "1_1" / "script").read_text()
    assert "LOKY_MAX_CPU_COUNT=4" in script
    assert script.endswith("--time=5370s")  # of `lottery work`, which starts somewhat later
    assert "CUDA_VISIBLE_DEVICES" not in script  # Slurm says which two


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"options": ["--array=1-9"]}, "'--array=1-9': the executor itself gives --array to sbatch; leave it out"),
        ({"options": ["--arr=1-9"]}, "'--arr=1-9': the executor itself gives --array to sbatch; leave it out"),
        ({"options": ["--mem 4G"]}, "'--mem 4G' is no option of sbatch; write '--name' or '--name=value'"),
        ({"options": ["script.sh"]}, "'script.sh' is no option of sbatch; write '--name' or '--name=value'"),
        ({"time": "2:00:00"}, "'2:00:00' is no time; write 90min, 2h or 1d12h"),
        ({"time": ""}, "'' is no time; write 90min, 2h or 1d12h"),
        ({"workers": 0}, "input should be greater than or equal to 1, not 0"),
        ({"memory": "8 GB"}, "is a whole number with K, M, G or T behind it, such as 8G, not '8 GB'"),
        ({"partitoin": "gpu"}, "slurm has no key 'partitoin'; did you mean 'partition'?"),
    ],
)
def test_what_sbatch_could_not_take_is_said_of_its_key(keys: dict[str, object], said: str) -> None:
    _, wrong = registry.executors["slurm"].check(keys)
    assert [(path[0], message) for path, message in wrong] == [(next(iter(keys)), said)]


def test_without_sbatch_a_line_says_where_there_is_one(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(place.folder))
    with pytest.raises(UsageError, match="no command sbatch here; start this on a login node"):
        place.workers("slurm")


def test_what_sbatch_says_is_told(place: Place) -> None:
    with (
        closing(place.workers("slurm", partition="night")) as workers,
        pytest.raises(UsageError, match="sbatch: invalid partition specified: night"),
    ):
        workers.start(1)


def test_a_scheduler_that_does_not_answer_at_the_start_is_told(place: Place) -> None:
    for name in ("sbatch", "squeue"):
        said = "Unable to contact slurm controller (connect failure)"
        (place.folder.parent / "bin" / name).write_text(f"#!/bin/sh\necho '{name}: error: {said}' >&2\nexit 1\n")
    with (
        closing(place.workers("slurm")) as workers,
        pytest.raises(MachineError, match="sbatch: Unable to contact slurm controller"),
    ):
        workers.start(1)


def test_a_worker_saves_and_leaves_before_its_time_is_up(place: Place) -> None:
    with closing(place.workers("slurm", workers=1, time="1min")) as workers:
        workers.start(1)
        (ended,) = until(workers.ended)
    assert (ended.code, ended.in_order, workers.alive()) == (138, True, 0)  # USR1, and not the TERM of the limit
    assert "saved" in ended.last


def test_those_that_wait_for_room_are_alive_and_never_start_once_told_to_leave(place: Place) -> None:
    with closing(place.workers("slurm", workers=4)) as workers:
        workers.start(4)
        until(lambda: len(place.begun()) == 2)
        assert workers.alive() == 4
        workers.stop()
        until(lambda: workers.alive() == 0)
    assert sorted(str(job["state"]) for job in jobs(place)) == ["CANCELLED"] * 4
    assert len(place.begun()) == 2


@pytest.mark.parametrize(
    ("status", "code"), [("0", 0), ("36608", 143), ("9", -9), ("0:0", 0), ("143:0", 143), ("0:9", -9), ("?", None)]
)
def test_an_exit_code_is_read_in_each_way_that_slurm_writes_it(
    place: Place, monkeypatch: pytest.MonkeyPatch, status: str, code: int | None
) -> None:
    workers = place.workers("slurm")
    squeue = place.folder.parent / "bin" / "squeue"
    squeue.write_text(f"#!/bin/sh\necho 'CLUSTER: here'\necho '7|1|FAILED|{status}|'\n")
    (ended,) = until(workers.ended)
    assert ended.code == code


def test_that_all_wait_in_the_queue_is_told_once(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("STAND_IN_SLOTS", "0")
    with closing(place.workers("slurm")) as workers:
        workers.start(2)
        until(lambda: workers.alive() and caplog.messages)
        name = workers.farewell().rpartition("=")[2]
        workers._next = 0.0  # type: ignore[attr-defined]  # the next look is due
        assert workers.alive() == 2
        workers.stop()
    assert caplog.messages == [f"executor slurm: all workers wait in the queue; squeue --me --name={name} says why"]


def test_a_run_that_is_started_again_finds_its_workers_and_no_one_elses(place: Place) -> None:
    first = place.workers("slurm")
    first.start(2)
    until(lambda: len(place.begun()) == 2)
    first.close()

    second = place.workers("slurm")
    assert second.alive() == 2
    assert Place(place.folder.parent / "other").workers("slurm").alive() == 0
    assert subprocess.run(second.farewell().split(), check=False).returncode == 0
    until(lambda: second.alive() == 0)
    assert [ended.code for ended in second.ended()] == [143, 143]
    third = place.workers("slurm")
    assert (third.alive(), third.ended()) == (0, [])  # what has gone before it is no news to it


def test_a_scheduler_that_does_not_answer_for_a_while_loses_no_worker(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(place.workers("slurm")) as workers:
        workers.start(2)
        until(lambda: len(place.begun()) == 2)
        squeue = place.folder.parent / "bin" / "squeue"
        working = squeue.read_text()
        squeue.write_text("#!/bin/sh\necho 'slurm_load_jobs error: Unable to contact slurm controller' >&2\nexit 1\n")
        assert (workers.alive(), workers.ended()) == (2, [])
        monkeypatch.setattr("lottery.catalogue.executors.slurm.PATIENCE", 0.2)
        squeue.write_text("#!/bin/sh\nexec sleep 30\n")
        assert (workers.alive(), workers.ended()) == (2, [])
        sbatch = squeue.with_name("sbatch")
        sbatch.write_text(squeue.read_text())
        workers.start(1)
        assert caplog.messages == ["executor slurm: sbatch does not answer within 0.2 s; workers are started later"]
        monkeypatch.setattr("lottery.catalogue.executors.slurm.PATIENCE", 30.0)
        squeue.write_text(working)
        (place.folder / "leave").write_text("0")
        assert [ended.code for ended in until(lambda: workers.ended() if not workers.alive() else [])] == [0, 0]


@pytest.mark.cluster
def test_slurm_gives_each_worker_a_gpu_of_its_own_and_has_the_others_wait(tmp_path: Path) -> None:
    place = Place(tmp_path)
    with closing(place.workers("slurm", workers=3, gpus=1)) as workers:
        workers.start(3)
        until(lambda: len(place.begun()) == 2)
        assert sorted(gpu for _, _, gpu, _ in place.begun().values()) == ["0", "1"]
        assert workers.alive() == 3
        workers.stop()
        until(lambda: workers.alive() == 0)
        assert len(place.begun()) == 2
        assert sorted(str(ended.code) for ended in workers.ended()) == ["0", "143", "143"]  # one has never begun


@pytest.mark.cluster
def test_slurm_tells_a_worker_before_its_time_is_up(tmp_path: Path) -> None:
    place = Place(tmp_path)
    with closing(place.workers("slurm", workers=1, time="1min")) as workers:
        workers.start(1)
        until(place.begun)
        (ended,) = until(workers.ended)
    assert (ended.code, ended.in_order) == (138, True)
    assert "saved" in ended.last
