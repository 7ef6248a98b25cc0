"""Which display a run has."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Protocol

from lottery.display.notebook import NotebookDisplay, in_notebook

if TYPE_CHECKING:
    from lottery.plan.jobs import Plan
    from lottery.plan.swept import SweptPlan
    from lottery.runner.events import Event
    from lottery.signals import Stop


class Display(Protocol):
    """Shows a run while it lasts. Use as a context; tell it the plan, then each event."""

    def __enter__(self) -> Display: ...

    def __exit__(self, *error: object) -> None: ...

    def plan(self, plan: Plan | SweptPlan) -> None:
        """Take in the plan, or a longer one."""
        ...

    def event(self, event: Event) -> None:
        """Take in one event."""
        ...


class Silence:
    """Shows nothing."""

    def __enter__(self) -> Silence:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def plan(self, plan: Plan | SweptPlan) -> None:
        """Take in the plan."""

    def event(self, event: Event) -> None:
        """Take in one event."""


def display_of(progress: bool | None, stop: Stop) -> Display:
    """Return the display of a run.

    Args:
        progress: True to show it: in a notebook below the cell, else on stderr, as a bar on a terminal and as lines
            elsewhere. False not to. None to show it where somebody looks: in a notebook, and as lines on a terminal.
        stop: What tells the run to stop.
    """
    if progress is not False and in_notebook():
        return NotebookDisplay()
    if progress or (progress is None and sys.stderr is not None and sys.stderr.isatty()):
        from lottery.display.terminal import TerminalDisplay

        return TerminalDisplay(stop, drawn=bool(progress))
    return Silence()
