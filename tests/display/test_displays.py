"""What a person sees of a run: a bar that fits its terminal, lines elsewhere, one output in a notebook."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from lottery.display import notebook, terminal
from lottery.display.choose import Silence, display_of
from lottery.display.notebook import NotebookDisplay
from lottery.display.tally import Tally
from lottery.display.terminal import TerminalDisplay
from lottery.plan.expand import plan
from lottery.plan.jobs import Job, Plan
from lottery.runner.events import Event
from lottery.signals import Stop
from tests.support.micro import micro


@pytest.fixture(scope="module")
def planned() -> Plan:
    return plan(micro("seeds=2", "rewind=4it"), "ab" * 32)  # two seeds of: rewind point, dense, two levels


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def progress(job: Job, step: int, total: int = 12, seconds: float = 6.0, **row: Any) -> Event:
    about = {"step": step, "first": 0, "total": total, "seconds": seconds, "images_per_second": 1234.5, "row": row}
    return Event("progress", job.key, job.label, about)


def done(job: Job, seconds: float = 2.0) -> Event:
    return Event("done", job.key, job.label, {"session_seconds": seconds})


def test_the_time_left_follows_from_finished_jobs_of_each_kind_and_from_what_is_running(planned: Plan) -> None:
    tally, jobs = Tally(Clock()), list(planned)
    tally.plan(planned)
    assert tally.left() is None
    kinds = [job.kind.value for job in jobs]
    assert kinds == ["rewind", "dense", "ticket", "ticket"] * 2
    tally.event(done(jobs[0], 1.0))
    tally.event(done(jobs[1], 10.0))
    assert tally.left() == pytest.approx(1 + 10 + 4 * 5.5)  # of no ticket is it known yet
    tally.event(Event("found", jobs[2].key, jobs[2].label, {"seconds": 8.0}))
    assert tally.left() == pytest.approx(1 + 10 + 3 * 8)
    tally.event(progress(jobs[3], 3, seconds=6.0))  # 9 of 12 steps are left, of 2 seconds each
    assert tally.left() == pytest.approx(18 + 1 + 10 + 2 * 8)
    tally.event(Event("start", jobs[4].key, jobs[4].label))
    assert tally.left() == pytest.approx((18 + 1 + 10 + 2 * 8) / 2)  # two at a time
    assert tally.share() == pytest.approx((3 + 0.25) / 8)
    assert tally.summary() == "3 of 8 jobs, 22 s left"


def test_the_time_left_is_no_less_than_that_of_the_longest_that_is_running(planned: Plan) -> None:
    tally, jobs = Tally(Clock()), list(planned)
    tally.plan(replace(planned, jobs={job.key: job for job in jobs[:3]}))
    tally.event(done(jobs[0], 1.0))
    tally.event(progress(jobs[1], 1, total=101, seconds=1.0))
    tally.event(progress(jobs[2], 11, total=12, seconds=1.0))
    assert tally.left() == pytest.approx(100)


def test_lines_are_those_of_jobs_that_ended_here_and_are_told_once(planned: Plan) -> None:
    jobs = list(planned)
    out = io.StringIO()
    display = TerminalDisplay(console=Console(file=out, highlight=False, width=80))
    with display:
        display.plan(planned)
        display.event(Event("found", jobs[0].key, jobs[0].label, {"seconds": 1.0}))
        display.event(Event("start", jobs[1].key, jobs[1].label))
        display.event(done(jobs[1], 10.0))
        display.event(Event("found", jobs[1].key, jobs[1].label, {"seconds": 10.0}))
        display.event(Event("failed", jobs[2].key, jobs[2].label, {"message": "boom"}))
        display.event(Event("blocked", jobs[3].key, jobs[3].label))
    assert out.getvalue().splitlines() == [
        "[2/8] adam seed 0 dense done in 10 s - 33 s left",
        "[3/8] adam seed 0 level 1 from 4it FAILED (boom) - 28 s left",
        "[4/8] adam seed 0 level 2 from 4it blocked - 22 s left",
    ]


def test_a_training_has_a_line_from_time_to_time_where_nothing_is_drawn(
    planned: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "PLAIN_EVERY", 0.0)
    (job, *_), out = list(planned), io.StringIO()
    display = TerminalDisplay(console=Console(file=out, width=80))
    display.plan(planned)
    display.event(progress(job, 3, train_loss=0.5, validation_accuracy=0.25))
    assert out.getvalue() == (
        "adam seed 0 to 4it: step 3/12, loss 0.5000, validation 25.00 %, images/s 1,234, time left 18 s\n"
    )


def drawn(planned: Plan, width: int, height: int = 25, running: int = 3, stop: Stop | None = None) -> list[str]:
    """The lines of the display with jobs running, on a terminal of this size."""
    console = Console(
        file=io.StringIO(), force_terminal=True, width=width, height=height, color_system=None, legacy_windows=False
    )
    display = TerminalDisplay(stop, console=console)
    display.tally.plan(planned)
    jobs = list(planned)
    display.tally.event(done(jobs[0], 60.0))
    for number, job in enumerate(jobs[1 : 1 + running]):
        event = progress(job, 4000 + number, 12000, 6000.0, train_loss=0.5, validation_accuracy=0.9112)
        display.tally.event(event)
    with console.capture() as captured:
        console.print(display._render())
    return captured.get().splitlines()


def test_what_runs_is_named_in_full_before_more_is_said_of_it(planned: Plan) -> None:
    labels = [job.label for job in list(planned)[1:4]]
    shown = drawn(planned, 60)
    assert all(any(line.startswith(f"{label} ") for line in shown) for label in labels)
    assert all("/12000" in line for line in shown[-3:])


@pytest.mark.parametrize("width", [12, 20, 30, 40, 60, 80, 200])
def test_no_line_is_longer_than_the_terminal_is_wide(planned: Plan, width: int) -> None:
    lines = drawn(planned, width)
    assert max(map(len, lines)) <= width
    assert len(lines) == 1 + 1 + 3  # the bar, the head, the jobs: nothing has wrapped
    assert all(line.startswith("ad") for line in lines[2:])


def test_a_wide_terminal_shows_all_and_a_narrow_one_the_step_and_the_accuracy_first(planned: Plan) -> None:
    bar, head, first, *_ = drawn(planned, 100)
    assert re.fullmatch(r"[━╸╺ ]+1 of 8 jobs, 3 h 21 min left", bar.strip())
    assert head.split() == ["running", "step", "loss", "validation", "images/s", "time", "left"]
    assert " ".join(first.split()) == "adam seed 0 dense 4000/12000 0.5000 91.12 % 1,234 3 h 20 min"
    assert drawn(planned, 44)[1].split() == ["running", "step", "validation"]
    assert drawn(planned, 30)[1].split() == ["running", "step"]


def test_a_low_terminal_says_how_many_it_does_not_show(planned: Plan) -> None:
    lines = drawn(planned, 80, height=6, running=5)
    assert lines[-1].strip() == "and 3 more" and len(lines) == 5


def test_a_run_that_is_told_to_stop_says_that_it_saves(planned: Plan) -> None:
    stop = Stop()
    assert "stopping" not in drawn(planned, 80, stop=stop)[-1]
    stop.signal = 2
    assert drawn(planned, 80, stop=stop)[-1].startswith("stopping: what is running is saved first")


def test_a_second_signal_leaves_a_terminal_with_its_cursor(planned: Plan) -> None:
    read, write = os.pipe()
    stop = Stop()
    with open(write, "w") as file:
        console = Console(file=file, force_terminal=True, width=80, height=25)
        with TerminalDisplay(stop, console=console) as display:
            stop.at_once()
            display.plan(planned)
            file.flush()
            before = os.read(read, 1 << 16)
            assert b"\x1b[?25l" in before  # the cursor is hidden
            stop.at_once()  # what is said before `os._exit`
            assert os.read(read, 1 << 16).endswith(b"\x1b[?25h\n")
    os.close(read)


class Shell:
    """What a notebook's kernel offers: an output is drawn again under the same handle."""

    def __init__(self) -> None:
        self.outputs: list[list[dict[str, str]]] = []

    def display(self, shown: dict[str, str], *, raw: bool, display_id: bool) -> Any:
        assert raw and display_id
        versions = [shown]
        self.outputs.append(versions)
        return SimpleNamespace(update=lambda again, raw: versions.append(again))


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    made = Shell()
    python = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=object()))
    monkeypatch.setitem(sys.modules, "IPython", python)
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=made.display))
    yield made


def test_a_notebook_has_one_output_that_ends_with_how_the_run_ended(
    shell: Shell, planned: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notebook, "EVERY", 0.0)
    jobs = list(planned)
    with display_of(None, Stop()) as display:
        assert isinstance(display, NotebookDisplay)
        display.plan(planned)
        display.event(progress(jobs[0], 3, train_loss=0.5, validation_accuracy=0.25))
        display.event(done(jobs[0]))
        display.event(Event("failed", jobs[1].key, jobs[1].label, {"message": "no <b>unit</b> is left"}))
    (versions,) = shell.outputs
    assert "adam seed 0 to 4it: step 3/12, loss 0.5000, validation 25.00 %" in versions[1]["text/plain"]
    assert "<td>3/12</td><td>0.5000</td><td>25.00 %</td>" in versions[1]["text/html"]
    last = versions[-1]["text/plain"].splitlines()
    assert re.fullmatch(r"2 of 8 jobs in \S+ s, 1 FAILED", last[0]) and "FAILED (no <b>unit</b> is left)" in last[1]
    assert "<b>" not in versions[-1]["text/html"] and "<td>" not in versions[-1]["text/html"]


def test_drawings_in_a_notebook_are_some_a_second_at_most(shell: Shell, planned: Plan) -> None:
    with display_of(True, Stop()) as display:
        display.plan(planned)
        for step in range(1000):
            display.event(progress(next(iter(planned)), 1 + step, 2000))
    (versions,) = shell.outputs
    assert len(versions) <= 4


@pytest.mark.parametrize(
    ("progress", "terminal", "kind"),
    [
        (None, False, Silence),
        (None, True, TerminalDisplay),
        (True, False, TerminalDisplay),
        (False, True, Silence),
    ],
)
def test_a_script_shows_its_runs_where_somebody_looks(
    progress: bool | None, terminal: bool, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    file = io.StringIO()
    file.isatty = lambda: terminal  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", file)
    assert type(display_of(progress, Stop())) is kind


def test_false_is_silence_in_a_notebook_too(shell: Shell) -> None:
    assert isinstance(display_of(False, Stop()), Silence)
    assert not shell.outputs


def test_ipython_in_a_terminal_is_no_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    for python in (
        SimpleNamespace(get_ipython=lambda: None),
        SimpleNamespace(get_ipython=lambda: SimpleNamespace()),
        SimpleNamespace(),
    ):
        monkeypatch.setitem(sys.modules, "IPython", python)
        assert not notebook.in_notebook()
