"""A run on a terminal, as a bar over what is running, or line by line in a pipe or a log."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lottery.display.tally import Running, Tally

if TYPE_CHECKING:
    from lottery.plan.jobs import Plan
    from lottery.plan.swept import SweptPlan
    from lottery.runner.events import Event
    from lottery.signals import Stop

PLAIN_EVERY = 30.0  # seconds between lines about one training where nothing is drawn
NARROWEST_LABEL = 16  # letters of a job that are left beside its step and accuracy
USUAL_LABEL = 48  # letters of a job that no further column takes room from: the last ones say which control it is
LONGEST_BAR = 40
SHOW_CURSOR = b"\x1b[?25h\n"

# what is said of a running job, the most important first
COLUMNS: dict[str, Callable[[Running], str]] = {
    "step": lambda each: each.step,
    "validation": lambda each: each.accuracy,
    "time left": lambda each: each.left,
    "loss": lambda each: each.loss,
    "images/s": lambda each: each.speed,
}
FIRST = ("step", "validation")  # also where a label is cut for them
ORDER = ("step", "loss", "validation", "images/s", "time left")  # from left to right


class TerminalDisplay:
    """Display of the events of a run on stderr. Use as a context; tell it the plan, then each event.

    Args:
        stop: What tells the run to stop; that it was told is shown, and a second signal leaves a clean terminal.
        drawn: True to draw over and over where the terminal can; else there are lines.
        console: Where to; stderr if not given.
    """

    def __init__(self, stop: Stop | None = None, *, drawn: bool = True, console: Console | None = None):
        self.console = console or Console(stderr=True, highlight=False)
        self.tally = Tally()
        self._drawn = drawn and self.console.is_interactive  # which a dumb terminal is not
        self._told: dict[str, float] = {}
        self._stop = stop
        self._live = Live(console=self.console, refresh_per_second=4, transient=True, get_renderable=self._render)
        if stop is not None:
            stop.at_once = self._leave

    def __enter__(self) -> TerminalDisplay:
        return self

    def __exit__(self, *error: object) -> None:
        if self._live.is_started:
            self._live.stop()

    def plan(self, plan: Plan | SweptPlan) -> None:
        """Take in the jobs that are going to be run, as far as they are known; show them where that is drawn."""
        self.tally.plan(plan)
        if self._drawn:
            self._live.start()

    def event(self, event: Event) -> None:
        """Take in one event; a line is printed for each job that ends otherwise than by being found done."""
        if line := self.tally.event(event):
            self._print(line)
        elif event.kind == "progress" and not self._drawn:
            self._print_progress(event)

    def _print_progress(self, event: Event) -> None:
        now = time.monotonic()
        if now - self._told.setdefault(event.key, now) >= PLAIN_EVERY:
            self._told[event.key] = now
            self._print(Running.of(event).told())

    def _print(self, line: str) -> None:
        self.console.print(Text(line), soft_wrap=True)

    def _leave(self) -> None:
        """Leave the terminal as it was, from inside a signal handler: nothing is waited for."""
        if self._live.is_started:
            os.write(self.console.file.fileno(), SHOW_CURSOR)

    def _render(self) -> Group:
        width = self.console.width
        running = self.tally.running()
        most = max(1, self.console.height - 4)
        parts: list[Table | Text] = [self._whole(width)]
        if running:
            parts.append(_table(running[:most], width))
        if len(running) > most:
            parts.append(_line(f"and {len(running) - most} more", width))
        if self._stop is not None and self._stop.told:
            parts.append(_line("stopping: what is running is saved first; Ctrl-C again leaves at once", width))
        return Group(*parts)

    def _whole(self, width: int) -> Table:
        """Return the bar over the plan, and how far it is in words; the bar gives way to the words."""
        words = self.tally.summary()
        room = min(LONGEST_BAR, width - len(words) - 3)
        grid = Table.grid(padding=(0, 1))
        bar = [ProgressBar(total=1.0, completed=self.tally.share(), width=room)] if room >= 5 else []
        grid.add_row(*bar, _line(words, width))
        return grid


def _table(running: Sequence[Running], width: int) -> Table:
    """Return what is running in a table that fits the width: columns go first, then the ends of labels."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    wanted = max(len(each.label) for each in running)
    shown: dict[str, int] = {}
    for name, value in COLUMNS.items():
        kept = min(wanted, NARROWEST_LABEL if name in FIRST else USUAL_LABEL)
        room = max(len(name), *(len(value(each)) for each in running)) + 1
        if any(value(each) for each in running) and room <= width - 1 - kept - sum(shown.values()):
            shown[name] = room
    label = min(wanted, width - 1 - sum(shown.values()))
    table.add_column("running", no_wrap=True, overflow="ellipsis", width=max(1, label))
    names = [name for name in ORDER if name in shown]
    for name in names:
        table.add_column(name, justify="right", no_wrap=True, overflow="crop", width=shown[name] - 1)
    for each in running:
        table.add_row(Text(each.label), *(COLUMNS[name](each) for name in names))
    return table


def _line(words: str, width: int) -> Text:
    text = Text(words, no_wrap=True, overflow="ellipsis")
    text.truncate(width, overflow="ellipsis")
    return text
