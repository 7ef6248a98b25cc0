"""Jobs side by side: what begins first, how many processes, and what becomes of a run when some of them die."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lottery
from lottery.cli.options import number_of_jobs
from lottery.errors import MachineError, UsageError
from lottery.plan.agenda import BAD, Agenda, makespan, ranks, width
from lottery.results.record import records
from lottery.runner import parallelism
from lottery.runner.events import Event, Request
from lottery.runner.prepare import look, prepare
from lottery.runner.run import work
from lottery.store.maintenance import summarize
from lottery.store.store import Store
from tests.support.micro import micro
from tests.support.restarts import contents, full_recipe, write_full_recipe

CHAIN = {"a1": (), "a2": ("a1",), "a3": ("a2",)}
SINGLES = {f"b{i}": () for i in range(6)}


@st.composite
def plans(draw: st.DrawFn) -> tuple[dict[str, tuple[str, ...]], dict[str, int]]:
    """Jobs that need some of those before them, and their lengths."""
    names = [f"job{i}" for i in range(draw(st.integers(1, 9)))]
    needs = {name: tuple(n for n in names[:place] if draw(st.booleans())) for place, name in enumerate(names)}
    return needs, {name: draw(st.integers(0, 5)) for name in names}


def chain(key: str, needs: dict[str, tuple[str, ...]], lengths: dict[str, int]) -> int:
    """The longest chain that begins with a job, by going through all of them."""
    return lengths[key] + max((chain(each, needs, lengths) for each in needs if key in needs[each]), default=0)


@given(plans())
def test_what_the_longest_chain_waits_for_comes_first(plan: tuple[dict[str, tuple[str, ...]], dict[str, int]]) -> None:
    needs, lengths = plan
    place = {key: number for number, key in enumerate(needs)}
    expected = sorted(needs, key=lambda key: (-chain(key, needs, lengths), place[key]))
    assert sorted(needs, key=ranks(needs, lengths).__getitem__) == expected


@given(plans(), st.randoms(use_true_random=False))
def test_the_agenda_lists_what_can_be_attended_to_and_nothing_else(
    plan: tuple[dict[str, tuple[str, ...]], dict[str, int]], draws: random.Random
) -> None:
    needs, lengths = plan
    rank, ended = ranks(needs, lengths), dict[str, str]()
    agenda = Agenda(needs, rank, ended)
    while len(ended) < len(needs):
        ready = [
            key
            for key in needs
            if key not in ended
            and (all(need in ended for need in needs[key]) or any(ended.get(need) in BAD for need in needs[key]))
        ]
        assert list(agenda) == sorted(ready, key=rank.__getitem__)
        assert list(Agenda(needs, rank, ended)) == list(agenda)
        key = draws.choice(ready)
        ended[key] = draws.choice(["done", "done", "failed"])
        agenda.end(key, ended[key])
    assert list(agenda) == []


def test_a_chain_beside_single_jobs_takes_as_long_as_the_chain_where_it_begins_first() -> None:
    needs, lengths = CHAIN | SINGLES, dict.fromkeys(CHAIN, 2.0) | dict.fromkeys(SINGLES, 1.0)
    assert makespan(needs, lengths, ranks(needs, lengths), 2) == (6.0, 2)
    singles_first = {key: place for place, key in enumerate([*SINGLES, *CHAIN])}
    assert makespan(needs, lengths, singles_first, 2) == (9.0, 2)
    assert makespan(needs, lengths, ranks(needs, lengths), 1) == (12.0, 1)


@given(plans(), st.integers(1, 4))
def test_no_more_workers_than_the_width_help_and_none_is_idle_beside_ready_work(
    plan: tuple[dict[str, tuple[str, ...]], dict[str, int]], workers: int
) -> None:
    needs, lengths = plan
    rank = ranks(needs, lengths)
    longest = max(chain(key, needs, lengths) for key in needs)
    assert makespan(needs, lengths, rank, width(needs, lengths))[0] >= longest
    assert makespan(needs, lengths, rank, 100)[0] == longest
    taken, most = makespan(needs, lengths, rank, workers)
    # Graham 1966: a list schedule with dependencies is at most this far from the bounds below
    assert max(longest, sum(lengths.values()) / workers) <= taken
    assert taken <= sum(lengths.values()) / workers + (1 - 1 / workers) * longest + 1e-9
    assert most <= workers


@pytest.mark.parametrize(
    ("machine_cores", "overrides", "processes", "threads"),
    [
        (2, ("seeds=8",), 2, 1),
        (8, ("seeds=8",), 8, 1),
        (8, ("seeds=1", "train.optimizer={name: adam, lr: 3e-3}", "branches=[]"), 1, 8),  # one chain, level by level
        (8, ("seeds=2", "train.optimizer={name: adam, lr: 3e-3}", "branches=[]"), 2, 4),
        (4, ("seeds=2", "train.optimizer={name: adam, lr: 3e-3}", "branches=[]", "prune.levels=0"), 2, 2),
    ],
)
def test_auto_takes_a_process_for_each_core_that_has_work(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    machine_cores: int,
    overrides: tuple[str, ...],
    processes: int,
    threads: int,
) -> None:
    monkeypatch.setattr("lottery.device.cores", lambda: machine_cores)
    monkeypatch.setattr("lottery.runner.parallelism.cores", lambda: machine_cores)
    context = look(Request(full_recipe(40, *overrides), Path(), tmp_path, "cpu", "auto"))
    assert (context.jobs, context.machine.threads) == (processes, threads)
    one_thread = look(Request(full_recipe(40, *overrides), Path(), tmp_path, "cpu", "auto", deterministic=True))
    assert one_thread.machine.threads == 1


def test_a_continued_run_computes_with_as_many_threads_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lottery.device.cores", lambda: 2)
    monkeypatch.setattr("lottery.runner.parallelism.cores", lambda: 2)
    recipe = full_recipe(2, "train.schedule={name: constant}", "rewind=init", "train.evaluate_every=2it", "branches=[]")
    request = Request(recipe, Path(), tmp_path, "cpu", "auto")
    context = prepare(request)
    before = context.machine.threads
    ends = 0
    for event in work(context):
        ends += event.kind == "done"
        if ends == len(context.plan) - 1:
            break
    assert (look(request).jobs, look(request).machine.threads) == (1, before)


def test_no_more_processes_than_fit_into_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = look(Request(full_recipe(), Path(), tmp_path, "cpu", 4))
    monkeypatch.setattr(parallelism, "_need", lambda context: 300)
    for free, jobs in ((10_000, 4), (1_000, 2), (700, 1), (10, 1)):
        monkeypatch.setattr(parallelism, "free_memory", lambda free=free: free)
        assert parallelism.fit_memory([context])[0].jobs == jobs


def test_free_memory_is_the_container_s_where_that_is_less(tmp_path: Path) -> None:
    meminfo, group = tmp_path / "meminfo", tmp_path / "group"
    assert parallelism.free_memory(meminfo, group) is None
    meminfo.write_text("MemTotal:       16000 kB\nMemFree:         1000 kB\nMemAvailable:    8000 kB\n")
    assert parallelism.free_memory(meminfo, group) == 8000 * 1024
    group.mkdir()
    (group / "memory.max").write_text("max\n")
    (group / "memory.current").write_text("5000000\n")
    (group / "memory.stat").write_text("anon 1\ninactive_file 1000000\nactive_file 2\n")
    assert parallelism.free_memory(meminfo, group) == 8000 * 1024
    (group / "memory.max").write_text("6000000\n")
    assert parallelism.free_memory(meminfo, group) == 6_000_000 - 5_000_000 + 1_000_000


@pytest.mark.parametrize("given", ["0", "-1", "two", "1.5", ""])
def test_a_number_of_jobs_that_is_none_is_refused(given: str) -> None:
    with pytest.raises(UsageError, match=f"--jobs {given}: is a number of processes, 1 or more, or auto"):
        number_of_jobs(given)


@pytest.fixture(scope="module")
def told_of_forks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a process that forks finds of itself, alone and beside a thread, and of two trainings, by their width."""
    script = """
import json, sys, threading
from pathlib import Path
from lottery.executors import fork
from lottery.results.record import records
from lottery.runner import parallelism
from lottery.recipe.load import parse_recipe
from lottery.runner.events import Request
from lottery.runner.prepare import look
fork.hold_threads()
import torch
torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
found = {"alone": fork.is_alone()}
for width in (300, 2000):
    text = Path(sys.argv[1]).read_text().replace("[24, 12]", f"[{width}, {width}]")
    context = look(Request(parse_recipe(text, "micro"), Path(), Path(sys.argv[2]), "cpu", 2))
    found[width] = min(parallelism._need(context) for _ in range(2))  # what a busy system adds is not the training's
wait = threading.Event()
threading.Thread(target=wait.wait, daemon=True).start()
found["alone beside a thread"] = fork.is_alone()
print(json.dumps(found))
"""
    folder = tmp_path_factory.mktemp("forks")
    done = subprocess.run(
        [sys.executable, "-c", script, str(write_full_recipe(folder)), str(folder / "store")],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_the_memory_that_a_training_needs_is_found_by_trying_one(told_of_forks: dict[str, Any]) -> None:
    weights = 4 * (64 * 2000 + 2000 * 2000 + 2000 * 10)
    more = told_of_forks["2000"] - told_of_forks["300"]
    # weight, gradient, moments, and what Adam and products take in passing: 8 to 12 in all, from process to process
    assert 3 * weights < more < 16 * weights


def test_a_process_with_other_threads_is_not_forked(told_of_forks: dict[str, Any]) -> None:
    assert (told_of_forks["alone"], told_of_forks["alone beside a thread"]) == (True, False)


def test_workers_that_cannot_be_forked_do_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin that starts a thread: the first process takes part beside others like it."""
    (tmp_path / "threaded.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    small = full_recipe(16, "seeds=2", "prune.levels=1", "branches=[]", "rewind=init", "train.evaluate_every=8it")
    store = tmp_path / "threads"
    outcome = lottery.run(small, store=store, device="cpu", jobs=2, deterministic=True, plugins=["threaded"])
    assert outcome.exit_code == 0
    lottery.run(small, store=tmp_path / "alone", device="cpu", deterministic=True)
    assert contents(store) == contents(tmp_path / "alone")


def _children(process: int) -> list[int]:
    found = Path(f"/proc/{process}/task").glob("*/children")
    return [int(child) for path in found for child in path.read_text().split()]


class _Killer:
    """Kills workers of a run that begins in this process after it is made, when trainings have begun."""

    def __init__(self, number: int):
        self._left, self.dead = number, list[int]()
        self._others = _children(os.getpid())  # such as the server of an earlier test

    def __call__(self, event: Event) -> None:
        if event.kind == "progress" and self._left:
            (server,) = set(_children(os.getpid())) - set(self._others)
            for worker in _children(server)[: self._left]:
                os.kill(worker, signal.SIGKILL)
                self.dead.append(worker)
            self._left = 0


LONG = ("seeds=1", "prune.levels=1", "branches=[]", "rewind=init")


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux only")
def test_the_others_take_over_where_a_worker_dies(tmp_path: Path) -> None:
    killer = _Killer(1)
    recipe = full_recipe(1500, *LONG)
    outcome = lottery.run(recipe, store=tmp_path / "store", device="cpu", jobs=2, deterministic=True, on_event=killer)
    assert len(killer.dead) == 1 and outcome.exit_code == 0
    assert set(outcome.ended.values()) == {"done"}
    lottery.run(recipe, store=tmp_path / "alone", device="cpu", deterministic=True)
    assert contents(tmp_path / "store") == contents(tmp_path / "alone")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux only")
def test_a_run_all_of_whose_workers_die_says_so(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"every worker process died \(exit codes -9, -9\).*Run again to go on"):
        lottery.run(full_recipe(100_000, *LONG), store=tmp_path, device="cpu", jobs=2, on_event=_Killer(2))
    assert not summarize(Store(tmp_path)).running


@pytest.mark.slow
def test_each_process_trains_its_jobs_in_lockstep_where_that_is_asked_for(tmp_path: Path) -> None:
    small = micro("seeds=4", "prune.levels=0")
    outcome = lottery.run(small, store=tmp_path, device="cpu", jobs=2, lockstep=2)
    found = records(outcome.plan, Store(tmp_path))
    assert len(found) == 4
    assert {engine for each in found.values() for engine in each.manifest.engines} == {"lockstep"}
