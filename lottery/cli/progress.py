"""Progress of a run as a person sees it: a live table on a terminal, plain lines in a pipe or a log."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from lottery.api import run
from lottery.words import duration

if TYPE_CHECKING:
    from lottery.plan.jobs import Plan
    from lottery.plan.swept import SweptPlan
    from lottery.recipe.sweep import Sweep
    from lottery.runner.events import Event, Outcome, SweptOutcome

PLAIN_EVERY = 30.0  # seconds between lines about one training where there is no terminal

WORDS = {"done": "done", "diverged": "DIVERGED", "failed": "FAILED", "blocked": "blocked", "damaged": "DAMAGED"}


class RunDisplay:
    """Display of the events of a run on stderr. Use as a context; tell it the plan, then each event."""

    def __init__(self, console: Console | None = None):
        self.console = console or Console(stderr=True, highlight=False)
        self._running: dict[str, Event] = {}
        self._told: dict[str, float] = {}
        self.planned: Plan | SweptPlan | None = None
        self._done, self._total = 0, 0
        self._began = time.monotonic()
        self._seen: dict[str, str] = {}
        self._live = Live(console=self.console, refresh_per_second=4, transient=True, get_renderable=self._render)

    def __enter__(self) -> RunDisplay:
        return self

    def __exit__(self, *error: object) -> None:
        if self._live.is_started:
            self._live.stop()

    def plan(self, plan: Plan | SweptPlan) -> None:
        """Take in the jobs that are going to be run, as far as they are known; show them where there is a terminal."""
        if self.planned is None:
            self._began = time.monotonic()
        self.planned = plan
        self._total = len(plan)
        self._seen = {key: kind for key, kind in self._seen.items() if key in plan.jobs}
        if self.console.is_terminal:
            self._live.start()

    def event(self, event: Event) -> None:
        """Take in one event; a line is printed for each job that ends otherwise than by being found done."""
        if event.kind in ("start", "progress"):
            self._running[event.key] = event
            if event.kind == "progress" and not self.console.is_terminal:
                self._print_progress(event)
            return
        self._running.pop(event.key, None)
        # with several processes, one may find done what another is about to report
        if event.kind == "found" or self._seen.get(event.key, "found") != "found":
            self._seen.setdefault(event.key, event.kind)
            return
        self._seen[event.key] = event.kind
        self._done += 1
        words = [f"[{len(self._seen)}/{self._total}]", event.label, WORDS[event.kind]]
        if "session_seconds" in event.about:
            words.append(f"in {duration(event.about['session_seconds'])}")
        if event.about.get("message"):
            words.append(f"({event.about['message']})")
        if (left := self._left()) is not None:
            words.append(f"- {duration(left)} left")
        self._print(" ".join(words))

    def _print_progress(self, event: Event) -> None:
        now = time.monotonic()
        if now - self._told.setdefault(event.key, now) >= PLAIN_EVERY:
            self._told[event.key] = now
            self._print(f"{event.label}: " + ", ".join(f"{k} {v}" for k, v in _figures(event).items() if v))

    def _print(self, line: str) -> None:
        self.console.print(Text(line), soft_wrap=True)

    def _left(self) -> float | None:
        """Return the seconds left, from the pace of this session; None where no job has ended."""
        if not self._done:
            return None
        return (time.monotonic() - self._began) / self._done * (self._total - len(self._seen))

    def _render(self) -> Group:
        table = Table(box=None, pad_edge=False)
        for name in ("running", "step", "loss", "validation", "images/s", "time left"):
            label = name == "running"
            table.add_column(name, justify="left" if label else "right", overflow="fold", no_wrap=not label)
        for event in self._running.values():
            figures = _figures(event)
            table.add_row(event.label, *(figures.get(name, "") for name in list(figures)[:5]))
        left = self._left()
        whole = f"{len(self._seen)} of {self._total} jobs" + (f", {duration(left)} left" if left is not None else "")
        return Group(table, Text(whole))


def run_and_show(sweep: Sweep, **settings: Any) -> Outcome | SweptOutcome:
    """Call `lottery.api.run` with these settings, shown on stderr while it lasts."""
    with RunDisplay() as view:
        ran: Outcome | SweptOutcome = run(sweep, on_plan=view.plan, on_event=view.event, **settings)
        return ran


def _figures(event: Event) -> dict[str, str]:
    about: dict[str, Any] = event.about
    if event.kind != "progress":
        return {"step": "starting"}
    if not about["total"]:  # an analysis, which does not know how many parts it will have
        return {"step": f"{about['step']} parts", "loss": "", "validation": "", "images/s": "", "time left": ""}
    row, speed = about["row"], about["images_per_second"]
    steps = max(1, about["step"] - about["first"])
    return {
        "step": f"{about['step']}/{about['total']}",
        "loss": f"{row['train_loss']:.4f}" if row.get("train_loss") is not None else "",
        "validation": f"{100 * row['validation_accuracy']:.2f} %" if "validation_accuracy" in row else "",
        "images/s": f"{speed:,.0f}",
        "time left": duration(about["seconds"] / steps * (about["total"] - about["step"])),
    }
