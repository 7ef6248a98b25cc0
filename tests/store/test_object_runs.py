"""Runs on an object store give what one in a folder gives: killed at any moment, crashed anywhere, many at once."""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from lottery.cli.main import main
from lottery.errors import MachineError
from lottery.runner.events import Request
from lottery.runner.prepare import prepare
from lottery.runner.run import work
from lottery.store.store import Store
from tests.support.clocks import until
from tests.support.faults import Crash, Disk, crash_after, crash_before, refuses
from tests.support.micro import micro_text
from tests.support.places import Ground, ground, look_always
from tests.support.restarts import Undisturbed, finish_here, full_recipe, start, undisturbed
from tests.support.s3_server import BUCKET, S3Server, s3_server

PLACE = "s3://bucket/runs"
SMALL = ("seeds=1", "prune.levels=1", "branches=[reinit]", "train.optimizer=[{name: adam, lr: 3e-3}]")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[S3Server]:
    with s3_server() as found:
        for name, value in found.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("LOTTERY_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        yield found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """The run in a folder."""
    return undisturbed(tmp_path_factory.mktemp("whole"), 20, *SMALL)


def committed(objects: dict[str, bytes]) -> dict[str, bytes]:
    """Return what `restarts.contents` does of a folder: files by their names there, manifests without times."""
    found = {}
    for path, data in objects.items():
        shelf, key, name = path.split("/")[1:]
        if name == "manifest.json":
            manifest = json.loads(data)
            kept = {each: manifest[each] for each in ("key", "kind", "status", "parent", "files")}
            found[f"{shelf}/{key}/{name}"] = json.dumps(kept, sort_keys=True).encode()
        else:
            found[f"{shelf}/{key}/{name[:-65]}"] = data
    valid = {path.rpartition("/")[0] for path in found if path.endswith("/manifest.json")}
    return {path: data for path, data in found.items() if path.rpartition("/")[0] in valid}


def jobs_of(server: S3Server) -> dict[str, bytes]:
    paths = [path for path in server.objects if path.startswith("runs/jobs/")]
    return committed({path.removeprefix("runs/"): server.objects[path][0] for path in sorted(paths)})


def test_a_run_on_an_object_store_prints_the_table_and_keeps_the_bytes_of_one_in_a_folder(
    whole: Undisturbed, server: S3Server, capsys: pytest.CaptureFixture[str]
) -> None:
    assert finish_here(whole.recipe, PLACE) == whole.table and jobs_of(server) == whole.expected
    until(lambda: not any(path.startswith(("runs/leases/", "runs/partial/")) for path in list(server.objects)))
    before = dict(server.objects)
    server.requests.clear()
    assert finish_here(whole.recipe, PLACE) == whole.table
    asked = [(method, path) for method, path in server.requests if "/events/" not in path]
    noted = [method for method, path in asked if path.startswith("runs/studies/")]
    assert noted == ["GET", "PUT"]  # that the study was run again
    assert len(asked) <= 8 and [method for method, _ in asked if method != "GET"] == ["PUT"]
    assert {path: data for path, data in server.objects.items() if "/jobs/" in path} == {
        path: data for path, data in before.items() if "/jobs/" in path
    }
    for command in (["status"], ["gc"], ["verify"], ["table", str(whole.recipe)], ["plan", str(whole.recipe)]):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["lottery", *command, "--store", PLACE])
            try:
                main()
            except SystemExit as left:
                assert not left.code, command
    said = capsys.readouterr().out
    assert f"{PLACE}: 4 jobs finished" in said and "4 jobs checked, 0 damaged" in said


@pytest.mark.slow
@pytest.mark.parametrize("number", range(30))
def test_a_run_killed_at_a_random_request_continues_to_the_same_bytes(
    whole: Undisturbed, server: S3Server, number: int
) -> None:
    """As executors/test_kill.py does it in a folder; 78 requests are made before the last of the jobs is committed."""
    left, reached = iter(range(random.Random(number).randrange(3, 75))), threading.Event()

    def fault(method: str, path: str) -> str | None:
        if next(left, None) is None:
            reached.set()
        return None

    server.fault = fault
    process = start(whole.recipe, PLACE)
    while not reached.wait(0.05):
        assert process.poll() is None, process.communicate()
    process.kill()
    process.communicate()
    server.fault = lambda method, path: None
    assert finish_here(whole.recipe, PLACE) == whole.table
    assert jobs_of(server) == whole.expected and not [path for path in server.objects if "/quarantine/" in path]


@pytest.mark.slow
@pytest.mark.parametrize("width", [2, 8])
def test_processes_on_one_object_store_commit_each_job_once(whole: Undisturbed, server: S3Server, width: int) -> None:
    commits: Counter[str] = Counter()
    put = server.put

    def counted(key: str, data: bytes) -> str:
        commits[key] += key.startswith("runs/jobs/") and key.endswith("manifest.json")
        return put(key, data)

    server.put = counted  # type: ignore[method-assign]
    processes = [start(whole.recipe, PLACE) for _ in range(width)]
    for process in processes:
        out, err = process.communicate(timeout=600)
        assert process.returncode == 0, err
        assert out == whole.table
    assert {count for count in commits.values() if count} == {1} and jobs_of(server) == whole.expected


# Time


LENET = (  # ten trainings of about two seconds on one core, and what each seed begins with
    "data={name: mnist, validation: 5000, limit: 20000}",
    "model=lenet",
    "train={optimizer: {name: sgd, lr: 0.1}, batch_size: 128, length: 1000it, evaluate_every: 1000it}",
    "prune.levels=1",
    "seeds=5",
)
LATENCY, TURNS, MOST = 0.05, 3, 1.3  # seconds of each request; turns of both; of the time in a folder, at most


@pytest.mark.slow
@pytest.mark.data
def test_a_first_run_where_each_request_takes_fifty_milliseconds_is_at_most_so_much_longer(
    server: S3Server, tmp_path: Path, real_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (recipe := tmp_path / "lenet.yaml").write_text(micro_text(*LENET))
    server.latency = LATENCY

    def seconds(place: Path | str) -> float:
        """Of the whole command, from its start to its table."""
        command = [sys.executable, "-m", "lottery", "run", str(recipe), "--store", str(place), "--device", "cpu"]
        began = time.monotonic()
        subprocess.run([*command, "--data", str(real_data), "--deterministic"], check=True, capture_output=True)
        return time.monotonic() - began

    turns = []
    for turn in range(TURNS):
        monkeypatch.setenv("LOTTERY_CACHE", str(tmp_path / f"cache-{turn}"))
        turns.append((seconds(tmp_path / f"store-{turn}"), seconds(f"s3://{BUCKET}/{turn}")))
    print(turns)  # shown by -rP
    assert statistics.median(objects / folder for folder, objects in turns) <= MOST, turns


# A2 and B1 of a whole run: a crash or a refusal at each request


STUDY = (*SMALL, "train.schedule=constant", "rewind=2it")


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ground]:
    look_always(monkeypatch)
    with ground("memory", tmp_path) as found:
        yield found


def run_on(store: Store) -> None:
    request = Request(full_recipe(6, *STUDY), Path("nowhere"), store.name, "cpu", deterministic=True)
    list(work(prepare(request, store=store)))


@pytest.mark.slow
@pytest.mark.parametrize("fault", [crash_before, crash_after, refuses(5)])
def test_a_crash_or_a_refusal_at_any_request_of_a_run_loses_nothing(
    tmp_path: Path, memory: Ground, monkeypatch: pytest.MonkeyPatch, fault: Callable[..., Any]
) -> None:
    run_on(memory.open())
    memory.rest()
    expected = {path: data for path, data in memory.contents().items() if path.startswith("jobs/")}
    number = done = 0
    while not done:
        with ground("memory", tmp_path / str(number)) as place, pytest.MonkeyPatch.context() as patch:
            disk = Disk(patch)
            disk.arm(number, fault)
            store = place.open()
            with suppress(Crash, MachineError):
                run_on(store)
            with suppress(Crash):  # what it had begun in the background
                place.rest()
            done = len(disk.seen) <= number
            disk.heal()
            for path in place.contents():
                if path.startswith("leases/"):  # of this process, which is not as dead as it plays
                    place.put(path, None)
            assert committed(jobs_in(place)).items() <= committed(expected).items()
            run_on(place.open())
            place.rest()
            assert committed(jobs_in(place)) == committed(expected) and place.quarantine() == {}
        number += 1
    assert number > 30


def jobs_in(place: Ground) -> dict[str, bytes]:
    return {path: data for path, data in place.contents().items() if path.startswith("jobs/")}
