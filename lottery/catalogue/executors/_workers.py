"""Workers of a run: what an executor is given (`Launch`), and what it gives back (`Workers`)."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

IN_ORDER = (0, 128 + signal.SIGINT, 128 + signal.SIGTERM, 128 + signal.SIGUSR1)  # exit codes of workers that have saved
LAST_LINES = 5  # of a worker's log, told where it died
_MOST_BYTES = 1 << 14  # of the end of a log, in which these lines are looked for


@dataclass(frozen=True)
class Launch:
    """The process that is one worker, the same for each of them.

    Its exit code is 0 where it left in order, because no job was left or its time was up, and 128 and a signal's number
    where that told it to: it has saved then, and another can go on. SIGUSR1, SIGTERM and SIGINT tell it to save and
    leave; a second signal ends it at once.

    Attributes:
        command: Its arguments, the program first. An executor may add options of `lottery work`, such as `--time`.
        environment: Variables that it has beside those of this process.
        folder: Its working folder.
        logs: Folder, which is there, for what each worker writes to stdout and stderr: a file for each.
        name: The run's name, for lists that a scheduler shows: letters, digits, `.`, `_` and `-`.
    """

    command: tuple[str, ...]
    folder: Path
    logs: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    name: str = "lottery"


@dataclass(frozen=True)
class Ended:
    """A worker that is gone.

    Attributes:
        code: Its exit code, minus the number for a signal that killed it; None where the executor does not know.
        log: Where it wrote, as a path or in words.
        last: The last lines that it wrote, as far as they can be read.
    """

    code: int | None
    log: str
    last: str = ""

    @property
    def in_order(self) -> bool:
        """True if it left by itself, or saved and left because a signal told it to."""
        return self.code in IN_ORDER


class Workers(Protocol):
    """The workers that one executor has started for one run."""

    def start(self, count: int) -> None:
        """Start so many more, and return at once.

        Raises:
            UsageError: The executor will not have them as they are asked for; the message has its reason.
            MachineError: It cannot start them now.
        """
        ...

    def alive(self) -> int:
        """Return how many run, or wait in the scheduler's queue."""
        ...

    def ended(self) -> list[Ended]:
        """Return those that have gone since the last call, each once."""
        ...

    def stop(self) -> None:
        """Tell all that live to save and leave, once, however often it is called; those that wait never start.

        It returns at once; `alive` says when they have left.
        """
        ...

    def close(self) -> None:
        """Give back connections and handles. Workers of an executor that is `detached` live on, others do not."""
        ...

    def farewell(self) -> str:
        """Return how a user ends workers that outlive this process, as a command; empty where none does."""
        ...


def told_once(gone: list[Ended]) -> list[Ended]:
    """Return those that have gone and empty the list, so that `Workers.ended` tells of each once."""
    told = gone[:]
    gone.clear()
    return told


def last_lines(log: Path, count: int = LAST_LINES) -> str:
    """Return the last lines of a log; empty where it cannot be read."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - _MOST_BYTES))
            text = file.read(_MOST_BYTES).decode(errors="replace")
    except OSError:
        return ""
    return "\n".join([line for line in text.splitlines() if line.strip()][-count:])
