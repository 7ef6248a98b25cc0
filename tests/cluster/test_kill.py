"""Each executor under fire: workers are killed every few seconds and the run once; nothing is lost or done twice."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from lottery.store.maintenance import summarize
from lottery.store.store import Store
from tests.support.clocks import until
from tests.support.micro import micro_text
from tests.support.restarts import (
    Undisturbed,
    contents,
    finish_here,
    finished_jobs,
    start,
    undisturbed,
    write_full_recipe,
)
from tests.support.workers import CLUSTERS, usable

LENGTH = 100  # steps
EVERY = 1.0  # seconds between two kills at least


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    return undisturbed(tmp_path_factory.mktemp("quiet"), LENGTH, "prune.levels=2")


@pytest.fixture(params=["local", *CLUSTERS])
def executor(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    return usable(request.param, tmp_path, monkeypatch)


def workers_of(store: Path) -> list[int]:
    """Return the process numbers of the workers on a store."""
    found = []
    for each in Path("/proc").iterdir():
        with suppress(OSError):
            words = (each / "cmdline").read_bytes().split(b"\0")
            if words[3:4] == [b"work"] and str(store).encode() in words:
                found.append(int(each.name))
    return found


@contextmanager
def killing(store: Path) -> Iterator[list[int]]:
    """Kill a random worker every few seconds, of those that have begun; yields their numbers as they fall.

    Where this machine has so much to do that no job has ended since, it waits for one.
    """
    over, killed, draws = threading.Event(), list[int](), random.Random(0)

    def kill() -> None:
        finished = 0
        while not over.wait(EVERY):
            begun = {int(path.name.split("-")[-2]) for path in (store / "events").glob("*")}
            living = sorted(begun.intersection(workers_of(store)))
            if living and finished_jobs(store) > finished:
                finished = finished_jobs(store)
                killed.append(draws.choice(living))
                with suppress(ProcessLookupError):
                    os.kill(killed[-1], signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


@pytest.mark.slow
def test_killed_workers_and_a_killed_run_leave_the_bytes_of_a_quiet_one_and_no_job_done_twice(
    quiet: Undisturbed, tmp_path: Path, executor: str
) -> None:
    store, on = tmp_path / "a store", ("--on", f"{{name: {executor}, workers: 3}}")
    with killing(store) as killed:
        first = start(quiet.recipe, store, *on)
        until(lambda: finished_jobs(store) >= quiet.jobs // 3, first)
        first.kill()
        first.communicate()
        second = start(quiet.recipe, store, *on)
        out, err = second.communicate(timeout=900)
    assert second.returncode == 0, err
    assert len(killed) >= 3
    assert out == quiet.table
    assert contents(store) == quiet.expected
    logs = [json.loads(line) for path in (store / "events").iterdir() for line in path.read_text().splitlines()]
    assert "nondeterminism" not in {entry["event"] for entry in logs}
    done = Counter(entry["key"] for entry in logs if entry["event"] == "done")
    assert set(done.values()) == {1}
    until(lambda: not workers_of(store))


@pytest.mark.slow
def test_a_signal_to_the_run_saves_what_its_workers_have_in_hand(tmp_path: Path, executor: str) -> None:
    recipe, store = write_full_recipe(tmp_path, 1_000_000), tmp_path / "a store"
    run = start(recipe, store, "--checkpoint-seconds", "100000", "--on", f"{{name: {executor}, workers: 2}}")
    until(lambda: len(summarize(Store(store)).running) == 2, run)
    run.send_signal(signal.SIGTERM)
    _, err = run.communicate(timeout=60)
    assert run.returncode == 128 + signal.SIGTERM, err
    if executor == "slurm":  # its workers go on, and the run says how they are ended
        assert len(workers_of(store)) == 2
        (command,) = [line.partition("; ")[2] for line in err.splitlines() if " ends them" in line]
        subprocess.run(command.removesuffix(" ends them").split(), check=True)
    until(lambda: not workers_of(store))
    summary = summarize(Store(store))
    assert not summary.running
    assert len(summary.interrupted) == 2


@pytest.mark.slow  # that Slurm does send the signal is in test_slurm.py
def test_a_worker_whose_time_is_up_saves_and_another_one_goes_on_from_there(tmp_path: Path, executor: str) -> None:
    recipe, store = tmp_path / "micro.yaml", tmp_path / "a store"
    recipe.write_text(micro_text("prune.levels=1", "train.length=2000it", "train.evaluate_every=500it"))
    table = finish_here(recipe, tmp_path / "quiet")
    options = ("--checkpoint-seconds", "100000", "--on", f"{{name: {executor}, workers: 1}}")
    run = start(recipe, store, *options)
    until(lambda: "dense" in started(store), run)
    (first,) = workers_of(store)
    os.kill(first, signal.SIGUSR1)
    out, err = run.communicate(timeout=600)
    assert run.returncode == 0, err
    assert (out, contents(store)) == (table, contents(tmp_path / "quiet"))
    assert len(list((store / "events").iterdir())) == 2
    assert started(store).count("dense") == 2


def started(store: Path) -> list[str]:
    """Return the last word of each job that was started or gone on with."""
    logs = [line for path in (store / "events").glob("*") for line in path.read_text().splitlines()]
    return [entry["label"].split()[-1] for entry in map(json.loads, logs) if entry["event"] == "start"]
