"""A process that has nothing to do: how often it looks, and that it leaves when it is told to."""

from __future__ import annotations

import random
from contextlib import ExitStack
from pathlib import Path

import pytest

from lottery.errors import Interrupted
from lottery.runner import back_off
from lottery.runner.back_off import BackOff
from lottery.runner.context import RunContext
from lottery.runner.events import Request
from lottery.runner.prepare import prepare
from lottery.runner.run import work
from lottery.signals import Stop
from lottery.store.store import Store
from tests.support.micro import micro


class Time:
    """A clock that goes on by what is slept, up to an end at which the run is told to stop."""

    def __init__(self, stop: Stop, end: float):
        self.now, self.stop, self.end, self.slept = 0.0, stop, end, list[float]()

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        self.stop.time_is_up = self.now >= self.end

    def back_off(self, stop: Stop) -> BackOff:
        return BackOff(stop, lambda: self.now, self.sleep, random.Random(0).random)


def pauses(time: Time, count: int, looks: int = 1) -> list[float]:
    waiting, found = time.back_off(time.stop), []
    for _ in range(count):
        before = time.now
        waiting.pause(looks)
        found.append(time.now - before)
    return found


def test_pauses_begin_short_grow_with_the_time_waited_and_have_an_end() -> None:
    found = pauses(Time(Stop(), 1e9), 300)
    assert all(0.05 <= pause <= 0.15 for pause in found[:8])
    assert max(found) <= 1.5 * back_off.LONGEST
    assert all(pause >= 2.5 for pause in found[-100:])
    assert len({round(pause, 9) for pause in found}) > 290  # drawn


def test_pauses_are_short_again_once_something_has_changed() -> None:
    time = Time(Stop(), 1e9)
    waiting = time.back_off(time.stop)
    for _ in range(100):
        waiting.pause(1)
    waiting.reset()
    before = time.now
    waiting.pause(1)
    assert time.now - before <= 0.15


def test_a_look_at_many_jobs_is_paid_for_with_a_longer_pause() -> None:
    assert all(16 <= pause <= 24.3 for pause in pauses(Time(Stop(), 1e9), 20, looks=400))


def test_a_pause_ends_when_the_run_is_told_to_stop() -> None:
    stop = Stop()
    time = Time(stop, 1.0)
    assert pauses(time, 1, looks=4000)[0] <= 1.0 + back_off.SLICE


def test_a_worker_whose_jobs_are_all_in_other_hands_looks_them_up_a_bounded_number_of_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twelve seeds are twelve jobs that are ready and that another process has, for two minutes."""
    stop, looks = Stop(), dict.fromkeys(("find", "lease"), 0)
    time = Time(stop, 120.0)
    context: RunContext = prepare(Request(micro("seeds=12"), Path(), tmp_path, "cpu"), stop)
    ready = [job.key for job in context.plan if not job.needs]
    assert len(ready) == 12
    others, holder = ExitStack(), Store(tmp_path)
    mine = [others.enter_context(holder.lease(key)) for key in ready]
    assert all(mine)
    for name in looks:
        original = getattr(context.store, name)

        def counting(*args: object, name: str = name, original: object = original, **kwargs: object) -> object:
            looks[name] += 1
            return original(*args, **kwargs)  # type: ignore[operator]

        monkeypatch.setattr(context.store, name, counting)
    monkeypatch.setattr("lottery.runner.run.BackOff", time.back_off)
    whole = len(context.plan)
    with others, pytest.raises(Interrupted):
        list(work(context))
    assert looks["find"] - looks["lease"] == whole  # one look at each at the start
    passes = looks["lease"] / 12
    assert 120 / (1.5 * back_off.LONGEST) <= passes <= 90
    assert max(sum(time.slept[place : place + 2]) for place in range(len(time.slept) - 1)) <= 2 * back_off.SLICE
