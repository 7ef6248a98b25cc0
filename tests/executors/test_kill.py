"""Killed, stopped, starved of disk: every run continues to the same bytes."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lottery.store.maintenance import summarize
from lottery.store.store import Store
from tests.support.clocks import until
from tests.support.forked import command_here
from tests.support.restarts import (
    Undisturbed,
    contents,
    finish,
    finish_here,
    finished_jobs,
    run_arguments,
    start,
    undisturbed,
    write_full_recipe,
)

LENGTH = 40
SMALL = ("seeds=1", "prune.levels=2")  # 16 jobs, of each kind several


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    return undisturbed(tmp_path_factory.mktemp("whole"), LENGTH, *SMALL)


def run_until_killed(whole: Undisturbed, store: Path, jobs: int, *options: str, seconds: float = 0) -> None:
    """Kill a run so long after so many of its jobs are committed."""
    process = start(whole.recipe, store, *options)
    until(lambda: finished_jobs(store) >= jobs, process)
    time.sleep(seconds)
    process.kill()
    process.communicate()


def check_that_it_continues(whole: Undisturbed, store: Path) -> None:
    assert finish(whole.recipe, store) == whole.table
    assert contents(store) == whole.expected


@pytest.mark.slow  # what a crash does at each operation in one process is in runner/test_crash.py
def test_a_run_killed_half_way_continues_to_the_same_bytes(whole: Undisturbed, tmp_path: Path) -> None:
    run_until_killed(whole, tmp_path / "store", whole.jobs // 2)
    assert finished_jobs(tmp_path / "store") < whole.jobs
    check_that_it_continues(whole, tmp_path / "store")


@pytest.mark.slow
@pytest.mark.parametrize("number", range(30))
def test_a_run_killed_at_any_moment_continues_to_the_same_bytes(
    whole: Undisturbed, tmp_path: Path, number: int
) -> None:
    draws = random.Random(number)
    jobs, seconds = draws.randrange(whole.jobs), draws.uniform(0, 0.5)
    run_until_killed(whole, tmp_path / "store", jobs, seconds=seconds)
    check_that_it_continues(whole, tmp_path / "store")


@pytest.mark.parametrize("kills", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_run_killed_again_and_again_gets_there(whole: Undisturbed, tmp_path: Path, kills: int) -> None:
    store = tmp_path / "store"
    for jobs in ((whole.jobs // 2,), (1, whole.jobs // 2))[kills - 1]:
        run_until_killed(whole, store, jobs, "--jobs", "2")
    until(lambda: not summarize(Store(store)).running)  # its workers notice that it is gone
    assert finish_here(whole.recipe, store) == whole.table
    assert contents(store) == whole.expected


@pytest.mark.parametrize(
    ("number", "options"),
    [  # SIGTERM to a single process is in cli/test_commands.py
        (signal.SIGINT, ("--jobs", "2")),
        pytest.param(signal.SIGTERM, (), marks=pytest.mark.slow),
        pytest.param(signal.SIGUSR1, (), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_a_signal_saves_and_leaves_with_the_command_that_continues(
    tmp_path: Path, number: signal.Signals, options: tuple[str, ...]
) -> None:
    leaves_at_a_signal(tmp_path, number, *options)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_is_obeyed_within_ten_seconds(tmp_path: Path, number: signal.Signals) -> None:
    assert leaves_at_a_signal(tmp_path, number, seconds=1) < 10


def leaves_at_a_signal(folder: Path, number: signal.Signals, *options: str, seconds: float = 0) -> float:
    """Seconds that a run, whose trainings take many minutes, needs to save and leave as it should.

    The signal comes so many seconds after as many trainings have begun as there are processes.
    """
    recipe, store = write_full_recipe(folder, 1_000_000), folder / "store"
    process, width = start(recipe, store, "--checkpoint-seconds", "100000", *options), 2 if options else 1
    until(lambda: started_jobs(store) >= 4 + width, process)  # after the rewind points
    time.sleep(seconds)
    process.send_signal(number)
    began = time.monotonic()
    _, err = process.communicate()
    taken = time.monotonic() - began
    assert process.returncode == 128 + number
    assert err.splitlines()[-1].startswith(f"continue with: lottery run {recipe} --store {store}")
    interrupted = summarize(Store(store)).interrupted  # each job in hand was saved at the step it had reached
    assert len(interrupted) == width
    assert all((Store(store).checkpoint_step(key) or 0) >= 15 + bool(seconds) for key in interrupted)
    return taken


def started_jobs(store: Path) -> int:
    logs = "".join(path.read_text() for path in (store / "events").glob("*"))
    return logs.count('"event": "start"')


@pytest.mark.slow  # what a refused write does in one process is in runner/test_crash.py
def test_a_full_disk_ends_the_run_with_one_line_and_loses_nothing(whole: Undisturbed, tmp_path: Path) -> None:
    recipe, expected, table = whole.recipe, whole.expected, whole.table
    store = tmp_path / "store"
    command = [sys.executable, "-m", "lottery", "run", str(recipe), "--store", str(store), "--deterministic"]
    limited = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, 9_000)),
    )
    assert limited.returncode == 3
    assert len(limited.stderr.strip().splitlines()) == 1 + limited.stderr.count("done in")
    assert str(store) in limited.stderr.strip().splitlines()[-1]
    assert "bytes needed" in limited.stderr
    assert finish(recipe, store) == table
    assert contents(store) == expected


@pytest.mark.parametrize("count", [2, pytest.param(8, marks=pytest.mark.slow)])
def test_several_runs_on_one_store_commit_each_job_once(whole: Undisturbed, tmp_path: Path, count: int) -> None:
    recipe, expected, table = whole.recipe, whole.expected, whole.table
    store = tmp_path / "store"
    runs = dict[int, Path]()
    for number in range(count):
        log = tmp_path / f"{number}.log"
        if (process := os.fork()) == 0:
            command_here(run_arguments(recipe, store), os.open(log, os.O_WRONLY | os.O_CREAT))
        runs[process] = log
    for process, log in runs.items():
        assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0, log.read_text()
        assert table in log.read_text()
    assert contents(store) == expected
    logs = "".join(path.read_text() for path in (store / "events").iterdir())
    assert "nondeterminism" not in logs
    assert logs.count('"event": "done"') == whole.jobs


@pytest.mark.slow
def test_folder_hash_seed_and_locale_leave_the_bytes_as_they_are(whole: Undisturbed, tmp_path: Path) -> None:
    recipe, expected, table = whole.recipe, whole.expected, whole.table
    elsewhere = tmp_path / "somewhere élse"
    elsewhere.mkdir()
    command = [sys.executable, "-m", "lottery", "run", str(recipe), "--deterministic", "--store", "store"]
    environment = {**os.environ, "PYTHONHASHSEED": "77", "LC_ALL": "C", "LANG": "C", "TZ": "Asia/Tokyo"}
    done = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode("utf-8") == table
    assert contents(elsewhere / "store") == expected
    lines = done.stderr.decode("utf-8").splitlines()  # and nothing else is printed by a process of its own
    assert [line.partition("] ")[0] for line in lines] == [f"[{n}/{whole.jobs}" for n in range(1, whole.jobs + 1)] + [
        "Engine: dense.",
        f"{whole.jobs} done",
    ]
