"""Killed, stopped, starved of disk: every run continues to the same bytes (experiments A1, A5, B1, C1 and G1)."""

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
from tests.support.restarts import contents, finish, start, write_full_recipe

LENGTH = 60


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes], str, float]:
    """The uninterrupted run: recipe, what it committed, its table, the seconds it took."""
    folder = tmp_path_factory.mktemp("whole")
    recipe = write_full_recipe(folder, LENGTH)
    began = time.monotonic()
    table = finish(recipe, folder / "store")
    return recipe, contents(folder / "store"), table, time.monotonic() - began


def training_begun(store: Path, process: subprocess.Popen[str]) -> None:
    while not (store / "partial").exists() and not (store / "jobs").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def kill_and_continue(whole: tuple[Path, dict[str, bytes], str, float], store: Path, moment: float) -> None:
    recipe, expected, table, _ = whole
    process = start(recipe, store)
    training_begun(store, process)
    time.sleep(moment)
    process.kill()
    process.communicate()
    assert finish(recipe, store) == table
    assert contents(store) == expected


def seconds_of_training(seconds: float) -> float:
    return max(0.5, seconds - 4)  # importing and loading are not worth killing


def test_a_run_killed_at_a_moment_continues_to_the_same_bytes(
    whole: tuple[Path, dict[str, bytes], str, float], tmp_path: Path
) -> None:
    kill_and_continue(whole, tmp_path / "store", 0.5 * seconds_of_training(whole[3]))


@pytest.mark.slow
@pytest.mark.parametrize("number", range(30))
def test_a_run_killed_at_any_moment_continues_to_the_same_bytes(
    whole: tuple[Path, dict[str, bytes], str, float], tmp_path: Path, number: int
) -> None:
    draws = random.Random(number)
    kill_and_continue(whole, tmp_path / "store", draws.uniform(0, seconds_of_training(whole[3])))


def test_a_run_killed_again_and_again_gets_there(
    whole: tuple[Path, dict[str, bytes], str, float], tmp_path: Path
) -> None:
    recipe, expected, table, _ = whole
    store = tmp_path / "store"
    for moment in (0.3, 0.7):
        process = start(recipe, store, "--jobs", "2")
        training_begun(store, process)
        time.sleep(moment)
        process.kill()  # its workers notice that it is gone
        process.communicate()
    deadline = time.monotonic() + 15
    while summarize(Store(store)).running and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not summarize(Store(store)).running
    assert finish(recipe, store, "--jobs", "2") == table
    assert contents(store) == expected


@pytest.mark.parametrize(
    ("number", "options"),
    [(signal.SIGTERM, ()), (signal.SIGINT, ("--jobs", "2")), pytest.param(signal.SIGUSR1, (), marks=pytest.mark.slow)],
    ids=str,
)
def test_a_signal_saves_and_leaves_within_ten_seconds_with_the_command_that_continues(
    tmp_path: Path, number: signal.Signals, options: tuple[str, ...]
) -> None:
    recipe, store = write_full_recipe(tmp_path, 100_000), tmp_path / "store"
    process = start(recipe, store, "--checkpoint-seconds", "1000", *options)
    while len(list((store / "jobs").rglob("manifest.json"))) < 4:  # the rewind points; what follows takes minutes
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    time.sleep(1)
    process.send_signal(number)
    began = time.monotonic()
    _, err = process.communicate(timeout=10)
    assert time.monotonic() - began < 10
    assert process.returncode == 128 + number
    assert err.splitlines()[-1].startswith(f"continue with: lottery run {recipe} --store {store}")
    interrupted = summarize(Store(store)).interrupted  # each job in hand was saved at the step it had reached
    assert len(interrupted) == (2 if options else 1)
    assert all((Store(store).checkpoint_step(key) or 0) > 15 for key in interrupted)


@pytest.mark.slow  # what a refused write does in one process is in runner/test_crash.py
def test_a_full_disk_ends_the_run_with_one_line_and_loses_nothing(
    whole: tuple[Path, dict[str, bytes], str, float], tmp_path: Path
) -> None:
    recipe, expected, table, _ = whole
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
def test_several_runs_on_one_store_commit_each_job_once(
    whole: tuple[Path, dict[str, bytes], str, float], tmp_path: Path, count: int
) -> None:
    recipe, expected, table, _ = whole
    store = tmp_path / "store"
    runs = [start(recipe, store) for _ in range(count)]
    for process in runs:
        out, err = process.communicate(timeout=600)
        assert process.returncode == 0, err
        assert out == table
    assert contents(store) == expected
    logs = "".join(path.read_text() for path in (store / "events").iterdir())
    assert "nondeterminism" not in logs
    assert logs.count('"event": "done"') == len([name for name in expected if name.endswith("manifest.json")])


def test_folder_hash_seed_and_locale_leave_the_bytes_as_they_are(
    whole: tuple[Path, dict[str, bytes], str, float], tmp_path: Path
) -> None:
    recipe, expected, table, _ = whole
    elsewhere = tmp_path / "somewhere élse"
    elsewhere.mkdir()
    command = [sys.executable, "-m", "lottery", "run", str(recipe), "--deterministic", "--store", "store"]
    environment = {**os.environ, "PYTHONHASHSEED": "77", "LC_ALL": "C", "LANG": "C", "TZ": "Asia/Tokyo"}
    done = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode("utf-8") == table
    assert contents(elsewhere / "store") == expected
