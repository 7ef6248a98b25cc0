"""Workers that go are replaced, later and later where none gets anything done, and not for ever."""

from __future__ import annotations

import logging

import pytest

from lottery.catalogue.executors._workers import Ended, told_once
from lottery.errors import MachineError
from lottery.executors.crew import FUTILE, LONGEST_PAUSE, SOON, Crew

KILLED = Ended(-9, "logs/worker-1.log", "reading data\nout of memory")
LEFT = Ended(0, "logs/worker-1.log")


class Fake:
    """Workers of which a test says when they go."""

    def __init__(self) -> None:
        self.living, self.gone, self.starts = 0, list[Ended](), list[tuple[float, int]]()
        self.now = 1000.0

    def start(self, count: int) -> None:
        self.living += count
        self.starts.append((self.now, count))

    def alive(self) -> int:
        return self.living

    def ended(self) -> list[Ended]:
        return told_once(self.gone)

    def go(self, *ended: Ended) -> None:
        self.living -= len(ended)
        self.gone += ended

    def stop(self) -> None: ...

    def close(self) -> None: ...

    def farewell(self) -> str:
        return ""


def crew_of(fake: Fake, wanted: int = 2) -> Crew:
    return Crew(fake, wanted, lambda: fake.now)


def tend(crew: Crew, fake: Fake, left: int, ended: int, seconds: float = 1.0, begun: int = 0) -> None:
    fake.now += seconds
    if crew.short(left, ended, begun):
        crew.fill(left)


def test_there_are_as_many_workers_as_wanted_and_no_more_than_jobs() -> None:
    fake = Fake()
    crew_of(fake, 4).fill(3)
    assert fake.living == 3
    fake.living = 1  # one of an earlier run
    crew_of(fake, 4).fill(100)
    assert fake.living == 4


def test_a_worker_that_dies_while_jobs_end_is_replaced_at_once_and_told_of(caplog: pytest.LogCaptureFixture) -> None:
    fake = Fake()
    crew = crew_of(fake)
    crew.fill(9)
    with caplog.at_level(logging.WARNING, "lottery"):
        for ended in range(1, 100):
            fake.go(KILLED)
            tend(crew, fake, 1000 - ended, ended)
            tend(crew, fake, 1000 - ended, ended)
            assert fake.living == 2
    said = "a worker died of signal 9: out of memory (log: logs/worker-1.log); another one is started"
    assert {record.getMessage() for record in caplog.records} == {said}
    assert crew.lost == 99


def test_workers_that_die_again_and_again_with_no_job_ended_end_the_run_with_the_log() -> None:
    fake = Fake()
    crew = crew_of(fake)
    crew.fill(9)
    with pytest.raises(MachineError) as caught:
        for _ in range(1000):
            fake.go(*[KILLED] * fake.living)
            tend(crew, fake, 9, 0)
    assert sum(count for _, count in fake.starts) <= 2 * FUTILE + 2
    assert str(caught.value) == (
        "8 workers in a row left with no job ended in between; the last: a worker died of signal 9: out of memory "
        "(log: logs/worker-1.log)"
    )
    waits = [later - sooner for (sooner, _), (later, _) in zip(fake.starts, fake.starts[1:], strict=False)]
    assert waits == sorted(waits) and waits[-1] > waits[0] and max(waits) <= LONGEST_PAUSE + 1


def test_workers_whose_time_is_up_are_replaced_for_ever() -> None:
    """A job that takes days, in the hands of workers that may run two hours each."""
    fake = Fake()
    crew = crew_of(fake)
    crew.fill(9)
    for _ in range(100):
        fake.now += 7200
        fake.go(LEFT, Ended(128 + 10, "log"))
        tend(crew, fake, 9, 0)
    assert sum(count for _, count in fake.starts) == 202


def test_workers_that_find_nothing_to_do_where_jobs_are_left_end_the_run() -> None:
    """They make another plan: of other data, say, that this path leads to on their machine."""
    fake = Fake()
    crew = crew_of(fake)
    crew.fill(9)
    with pytest.raises(MachineError, match="do they see the same recipe, data and store"):
        for _ in range(1000):
            fake.go(*[LEFT] * fake.living)
            tend(crew, fake, 9, 0, seconds=SOON / 100)


def test_workers_whose_short_time_is_up_are_replaced_for_ever_as_long_as_they_begin_jobs() -> None:
    """One minute each on a machine with much to do; the lines of the log may come after the worker has gone."""
    fake, begun = Fake(), 0
    crew = crew_of(fake)
    crew.fill(9)
    for turn in range(100):
        fake.now += SOON / 2
        gone = fake.living
        fake.go(*[Ended(128 + 10, "log")] * gone)
        if turn % 2:  # else its lines come with the next one's
            begun += 2 * gone
        tend(crew, fake, 9, 0, begun=begun)
        fake.now += LONGEST_PAUSE
        tend(crew, fake, 9, 0, begun=begun)
        assert fake.living == 2
    with pytest.raises(MachineError, match="do they see the same recipe, data and store"):
        for _ in range(1000):  # and no job is begun any more
            fake.go(*[LEFT] * fake.living)
            tend(crew, fake, 9, 0, seconds=SOON / 100, begun=begun)


def test_workers_that_die_in_the_jobs_that_they_begin_end_the_run() -> None:
    fake, begun = Fake(), 0
    crew = crew_of(fake)
    crew.fill(9)
    with pytest.raises(MachineError, match="8 workers in a row left with no job ended in between; the last: a worker"):
        for _ in range(1000):
            begun += fake.living
            fake.go(*[KILLED] * fake.living)
            tend(crew, fake, 9, 0, begun=begun)


def test_an_executor_that_cannot_start_workers_now_is_asked_again_and_not_for_ever(
    caplog: pytest.LogCaptureFixture,
) -> None:
    fake, asked = Fake(), list[float]()

    def busy(count: int) -> None:
        asked.append(fake.now)
        raise MachineError("the scheduler does not answer")

    crew = crew_of(fake)
    crew.fill(9)
    fake.start = busy  # type: ignore[method-assign]
    fake.go(KILLED, KILLED)
    with pytest.raises(MachineError, match="does not answer"):
        for _ in range(1000):
            tend(crew, fake, 9, 0)
    assert len(asked) == 3 and asked[1] - asked[0] >= 2
    assert [record.getMessage() for record in caplog.records].count(
        "the scheduler does not answer; it is tried again"
    ) == 2
    fake = Fake()
    fake.start = busy  # type: ignore[method-assign]
    with pytest.raises(MachineError, match="does not answer"):  # at first it is told at once
        crew_of(fake).fill(9)


@pytest.mark.parametrize(("code", "in_order"), [(0, True), (143, True), (138, True), (130, True), (137, False)])
def test_what_has_saved_left_in_order(code: int, in_order: bool) -> None:
    assert Ended(code, "").in_order is in_order
    assert not Ended(None, "").in_order and not Ended(-9, "").in_order and not Ended(2, "").in_order
