"""A run whose workers an executor starts: the same table, whoever of them is killed, and nothing is done twice."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from lottery.executors import drive
from lottery.runner.context import RunContext
from lottery.runner.events import Request
from lottery.runner.prepare import prepare
from lottery.runner.watch import Watch
from lottery.signals import Stop
from lottery.store.event_log import EventLog
from lottery.store.store import Store
from lottery.values import Component
from tests.support.calls import Result, call_here
from tests.support.clocks import until
from tests.support.forked import Forked, command_here, register_forked
from tests.support.micro import micro, micro_text, prepared
from tests.support.restarts import Undisturbed, contents

STUDY = ("seeds=2", "branches=[reinit]", "rewind=4it")


def arguments(recipe: Path, store: Path) -> list[str]:
    return ["run", str(recipe), "--store", str(store), "--device", "cpu", "--deterministic"]


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("quiet")
    recipe = folder / "micro.yaml"
    recipe.write_text(micro_text(*STUDY))
    done = call_here(*arguments(recipe, folder / "store"))
    assert done.code == 0, done.err
    return Undisturbed(recipe, contents(folder / "store"), done.out)


def logged(store: Path, event: str) -> int:
    return sum(path.read_text().count(f'"event": "{event}"') for path in (store / "events").glob("*"))


def check(quiet: Undisturbed, store: Path, done: Result) -> None:
    assert done.code == 0, done.err
    assert done.out == quiet.table
    assert contents(store) == quiet.expected
    assert logged(store, "done") == quiet.jobs


def test_workers_of_an_executor_give_the_table_of_a_run_and_its_lines(
    quiet: Undisturbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (made,) = made_by(monkeypatch, quiet, tmp_path)
    assert made.started == 2
    done = call_here(*arguments(quiet.recipe, tmp_path), "--on", "forked")
    assert done.out == quiet.table
    assert done.err == f"Engine: dense.\n{quiet.jobs} done before\n"  # and no worker was started


def made_by(monkeypatch: pytest.MonkeyPatch, quiet: Undisturbed, store: Path) -> list[Forked]:
    made = register_forked(monkeypatch)
    done = call_here(*arguments(quiet.recipe, store), "--on", "forked")
    check(quiet, store, done)
    assert sorted(line.partition("/")[0] for line in done.err.splitlines()[:-2]) == sorted(
        f"[{number}" for number in range(1, quiet.jobs + 1)
    )
    assert done.err.splitlines()[-1] == f"{quiet.jobs} done"
    assert not (store / "workers").exists()  # nobody died, so nobody wants their logs
    return made


def test_jobs_that_workers_have_done_are_told_as_done_where_their_lines_come_late(
    quiet: Undisturbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EventLog, "read", lambda self: iter(()))
    monkeypatch.setattr(drive, "LOOK_SECONDS", 0.1)
    register_forked(monkeypatch)
    done = call_here(*arguments(quiet.recipe, tmp_path), "--on", "forked")
    check(quiet, tmp_path, done)
    assert done.err.splitlines()[-1] == f"{quiet.jobs} done" and len(done.err.splitlines()) == quiet.jobs + 2


def test_a_plan_that_grows_by_its_results_is_done_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grows = ("prune={fraction: 0.5, levels: auto, frontier: {most_levels: 1, first_seeds: 2}}", "compare={margin: 5}")
    (recipe := tmp_path / "micro.yaml").write_text(micro_text(*grows, "seeds=3"))
    whole = call_here(*arguments(recipe, tmp_path / "whole"))
    register_forked(monkeypatch)
    done = call_here(*arguments(recipe, tmp_path / "store"), "--on", "forked")
    assert (done.code, done.out) == (whole.code, whole.out)
    assert contents(tmp_path / "store") == contents(tmp_path / "whole")


def dies_in_its_second_job(number: int) -> None:
    """Have the first two workers kill themselves."""
    if number > 2:
        return
    jobs, log = 0, Store.log

    def deadly(store: Store, event: str, **fields: Any) -> None:
        nonlocal jobs
        jobs += event == "start"
        if jobs == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        log(store, event, **fields)

    Store.log = deadly  # type: ignore[method-assign, assignment]


def test_workers_that_are_killed_are_replaced_and_told_of(
    quiet: Undisturbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = register_forked(monkeypatch, dies_in_its_second_job)
    done = call_here(*arguments(quiet.recipe, tmp_path), "--on", "forked")
    check(quiet, tmp_path, done)
    assert made[0].started == 4
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2 and all(line.startswith("a worker died of signal 9") for line in said)
    assert all("another one is started" in line for line in said)
    assert [*(tmp_path / "workers").rglob("worker-*.log")]


def leaves_after_three_steps(number: int) -> None:
    """Have each worker's time be up soon after it has begun to train."""
    told_to_stop, looks = RunContext.told_to_stop, 0

    def hasty(context: RunContext) -> bool:
        nonlocal looks
        looks += 1
        context.stop.time_is_up |= looks > 3
        return told_to_stop(context)

    RunContext.told_to_stop = hasty  # type: ignore[method-assign, assignment]


@pytest.mark.slow
def test_workers_whose_time_is_up_long_before_a_job_ends_get_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (recipe := tmp_path / "micro.yaml").write_text(micro_text("prune.levels=0", "train.length=24it"))
    here = call_here(*arguments(recipe, tmp_path / "here"))
    made = register_forked(monkeypatch, leaves_after_three_steps)
    done = call_here(*arguments(recipe, tmp_path / "store"), "--on", "{name: forked, workers: 1}")
    assert done.code == 0, done.err
    assert made[0].started > 5  # five would be too many if they had left for nothing
    assert done.out == here.out and contents(tmp_path / "store") == contents(tmp_path / "here")


def test_a_run_whose_command_is_killed_goes_on_beside_the_workers_that_it_left(
    quiet: Undisturbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = register_forked(monkeypatch)
    command = [*arguments(quiet.recipe, tmp_path), "--on", "{name: forked, workers: 1}"]
    if (driver := os.fork()) == 0:
        command_here(command, os.open(os.devnull, os.O_WRONLY))
    until(lambda: logged(tmp_path, "done") >= 2)
    os.kill(driver, signal.SIGKILL)
    os.waitpid(driver, 0)
    assert logged(tmp_path, "done") < quiet.jobs
    check(quiet, tmp_path, call_here(*command))
    assert made[0].started == 1


def test_workers_that_cannot_begin_end_the_run_with_a_line_that_names_a_log(
    quiet: Undisturbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lottery.executors.crew.LONGEST_PAUSE", 0.0)

    def fail(number: int) -> None:
        os.execv("/bin/sh", ["sh", "-c", "echo no python here; exit 127"])

    made = register_forked(monkeypatch, fail)
    done = call_here(*arguments(quiet.recipe, tmp_path), "--on", "{name: forked, workers: 1}")
    assert done.code == 3
    assert 3 <= made[0].started <= 5
    last = done.err.splitlines()[-1]
    assert last.startswith("lottery: 4 workers in a row left with no job ended in between; the last: a worker died")
    assert str(tmp_path / "workers") in last


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_command_that_is_told_to_stop_says_how_to_go_on_and_how_to_end_workers_that_live_on(
    quiet: Undisturbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    register_forked(monkeypatch)
    command = [
        *arguments(quiet.recipe, tmp_path),
        "--on",
        "{name: forked, workers: 1}",
        "--set",
        "train.length=30000it",
        "--set",
        "train.engine=dense",
    ]
    log = tmp_path / "driver.log"
    if (driver := os.fork()) == 0:
        command_here(command, os.open(log, os.O_WRONLY | os.O_CREAT))
    until(lambda: logged(tmp_path, "start") >= 3)  # after the rewind points
    os.kill(driver, number)
    assert os.waitstatus_to_exitcode(os.waitpid(driver, 0)[1]) == 128 + number
    (worker,) = {int(path.name.split("-")[-2]) for path in (tmp_path / "events").glob("*")}
    os.kill(worker, signal.SIGUSR1)  # it lives on
    until(lambda: not Store(tmp_path).leases.held())
    assert any(Store(tmp_path).checkpoint_step(key) for key in os.listdir(tmp_path / "partial"))
    assert "the workers go on without this command; kill them ends them" in log.read_text()
    assert log.read_text().splitlines()[-1].startswith(f"continue with: lottery run {quiet.recipe}")


def test_jobs_beside_an_executor_are_refused(quiet: Undisturbed, tmp_path: Path) -> None:
    done = call_here(*arguments(quiet.recipe, tmp_path), "--on", "local", "--jobs", "2")
    assert done.code == 2
    assert done.err.startswith("lottery: --jobs 2: is for processes of this command, --on local starts workers")
    assert not any(tmp_path.iterdir())


def test_a_failure_is_followed_by_its_content_whatever_the_clocks_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other machine's clock is an hour behind; a failure from before the run is an hour ahead."""
    store = Store(tmp_path)
    context = prepared(micro("seeds=2", "branches=[]"), tmp_path)
    first, second = (job for job in context.plan if not job.needs)
    now = time.time()
    with monkeypatch.context() as ahead:
        ahead.setattr(time, "time", lambda: now + 3600)
        store.record_failure(first.key, label="x", message="an old one")
    context = prepare(Request(context.plan.recipe, tmp_path, tmp_path, "cpu"), Stop())
    watch = Watch(context)
    assert list(watch.look()) == []
    with monkeypatch.context() as behind:
        behind.setattr(time, "time", lambda: now - 3600)
        store.record_failure(second.key, label="x", message="a new one\nwith a traceback")
    events = {event.key: event for event in watch.look()}
    assert events[second.key].kind == "failed" and events[second.key].about == {"message": "a new one"}
    blocked = {key for key, event in events.items() if event.kind == "blocked"}
    assert blocked == {job.key for job in context.plan if job.seed == second.seed and job.level}
    assert first.key not in events  # it is tried again
    store.record_failure(first.key, label="x", message="it failed again")
    again = {event.key: event.kind for event in watch.look_at(first.key)}
    assert again.pop(first.key) == "failed"
    assert again == {job.key: "blocked" for job in context.plan if job.seed == first.seed and job.level}
    assert watch.left == 2  # the dense networks, which can do without


def test_an_executor_whose_package_is_missing_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lottery.command_traits import ExecutorTraits
    from lottery.registry import Entry, executors

    entry = Entry("far", lambda launch: None, "here", 1, ExecutorTraits(package="nothing_of_that_name"), "executor")
    monkeypatch.setitem(executors._entries, "far", entry)
    request = Request(micro(), tmp_path, tmp_path, "cpu")
    with pytest.raises(Exception, match=r"pip install 'lottery\[far\]'"):
        drive.driven([request], Component("far"), Stop(), (), Store(tmp_path)).__enter__()
