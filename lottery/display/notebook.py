"""A run in a notebook: one output that is drawn over and over, with nothing to install."""

from __future__ import annotations

import importlib
import sys
import time
from html import escape
from typing import TYPE_CHECKING, Any

from lottery.display.tally import Running, Tally

if TYPE_CHECKING:
    from lottery.plan.jobs import Plan
    from lottery.plan.swept import SweptPlan
    from lottery.runner.events import Event

EVERY = 0.5  # seconds between two drawings
MOST_RUNNING = 12
MOST_LINES = 10  # on jobs that did not end well
HEAD = ("running", "step", "loss", "validation", "images/s", "time left")


def in_notebook() -> bool:
    """Return True if a kernel runs this, which shows what it is given as HTML; IPython is not imported to know."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None


class NotebookDisplay:
    """Display of the events of a run below the cell. Use as a context; tell it the plan, then each event."""

    def __init__(self) -> None:
        self.tally = Tally()
        self._bad: list[str] = []
        self._handle: Any = None
        self._drawn = 0.0

    def __enter__(self) -> NotebookDisplay:
        return self

    def __exit__(self, *error: object) -> None:
        if self._handle is not None:
            self._draw(over=True)

    def plan(self, plan: Plan | SweptPlan) -> None:
        """Take in the jobs that are going to be run, as far as they are known, and show them."""
        self.tally.plan(plan)
        self._draw()

    def event(self, event: Event) -> None:
        """Take in one event."""
        line = self.tally.event(event)
        if line and event.kind != "done":
            self._bad.append(line)
        if time.monotonic() - self._drawn >= EVERY:
            self._draw()

    def _draw(self, over: bool = False) -> None:
        shown = {"text/plain": self._text(over), "text/html": self._html(over)}
        if self._handle is None:
            display = importlib.import_module("IPython.display").display
            self._handle = display(shown, raw=True, display_id=True)
        else:
            self._handle.update(shown, raw=True)
        self._drawn = time.monotonic()

    def _words(self, over: bool) -> str:
        return self.tally.ended() if over else self.tally.summary()

    def _running(self, over: bool) -> list[Running]:
        return [] if over else self.tally.running()[:MOST_RUNNING]

    def _text(self, over: bool) -> str:
        lines = [self._words(over), *(each.told() for each in self._running(over)), *self._bad[-MOST_LINES:]]
        return "\n".join(lines)

    def _html(self, over: bool) -> str:
        bar = f'<progress value="{self.tally.share():.4f}" max="1" style="width: 20em"></progress>'
        lines = [f"<div>{bar} {escape(self._words(over))}</div>"]
        if running := self._running(over):
            rows = [(each.label, each.step, each.loss, each.accuracy, each.speed, each.left) for each in running]
            table = _row("th", HEAD) + "".join(_row("td", row) for row in rows)
            lines.append(f"<table>{table}</table>")
        lines += [f"<div>{escape(line)}</div>" for line in self._bad[-MOST_LINES:]]
        return "".join(lines)


def _row(cell: str, values: tuple[str, ...]) -> str:
    return f"<tr>{''.join(f'<{cell}>{escape(value)}</{cell}>' for value in values)}</tr>"
