"""The workers of one run are kept up: those that die are replaced, but not for ever."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from lottery.errors import MachineError
from lottery.words import counted

if TYPE_CHECKING:
    from lottery.catalogue.executors._workers import Ended, Workers

LOOK_SECONDS = 1.0  # between two looks at who lives
FUTILE = 3  # workers, for each that is wanted, that may go in a row with no job ended in between
SOON = 60.0  # seconds after the last start within which one that left in order counts too, unless it has begun a job
LONGEST_PAUSE = 30.0  # seconds between two starts where workers die at once


class Crew:
    """So many workers of an executor.

    Args:
        workers: What starts, counts and stops them.
        wanted: Number of them.
        clock: Returns seconds.
    """

    def __init__(self, workers: Workers, wanted: int, clock: Callable[[], float] = time.monotonic):
        self._workers, self._wanted, self._clock = workers, wanted, clock
        self._died, self._left, self._excused = 0, 0, 0  # since a job has ended
        self._ended, self._jobs_begun, self._begun = 0, 0, False
        self._looked, self._started = clock(), clock() - LONGEST_PAUSE
        self._last: Ended | None = None
        self.lost = 0  # that died

    @property
    def _futile(self) -> int:
        """Number of workers that have gone for nothing since a job has ended.

        One that left in order had begun a job or gone on with one, and saved it when its time was up, as often as jobs
        were begun: how long it lived says nothing where a minute is all that it has.
        """
        return self._died + max(0, self._left - self._excused)

    def short(self, left: int, ended: int, begun: int) -> bool:
        """Take in who has gone, and return True where others are to be started.

        Args:
            left: Number of jobs that have not ended.
            ended: Number of those that have.
            begun: Number of times that a worker has begun a job or gone on with one, which may be known late.

        Raises:
            MachineError: Workers go again and again with no job ended in between.
        """
        now = self._clock()
        if now - self._looked < LOOK_SECONDS:
            return False
        self._looked = now
        self._excused += begun - self._jobs_begun
        self._jobs_begun = begun
        if ended > self._ended:
            self._ended, self._died, self._left, self._excused = ended, 0, 0, 0
        alive = self._workers.alive()
        for each in self._workers.ended():
            self._take_in(each, now)
        self._excused = min(self._excused, self._left + self._wanted)  # each of those that live has one job in hand
        if self._futile > FUTILE * self._wanted:
            raise MachineError(self._why())
        return alive < min(self._wanted, left) and now - self._started >= self._pause()

    def fill(self, left: int) -> None:
        """Start those that are missing, as many as jobs are left at most; those of an earlier run that live count.

        Raises:
            UsageError: The executor will not have them so.
            MachineError: It cannot start any at first, or again and again later on.
        """
        missing = min(self._wanted, left) - self._workers.alive()
        if missing <= 0:
            return
        first, self._begun, self._started = not self._begun, True, self._clock()
        try:
            self._workers.start(missing)
        except MachineError as error:  # a scheduler that is busy, say
            self._died += missing
            if first or self._futile > FUTILE * self._wanted:
                raise
            logging.getLogger("lottery").warning("%s; it is tried again", error)

    def _take_in(self, gone: Ended, now: float) -> None:
        if not gone.in_order:
            self._last, self.lost = gone, self.lost + 1
            logging.getLogger("lottery").warning("%s; another one is started", _said(gone))
            self._died += 1
        elif now - self._started <= SOON:
            self._left += 1

    def _pause(self) -> float:
        """Return the seconds between two starts: none at first, more where workers go without having done anything."""
        rounds = self._futile // self._wanted
        return 0.0 if self._futile == 0 else min(LONGEST_PAUSE, 0.5 * 2.0**rounds)

    def _why(self) -> str:
        times = f"{counted(self._futile, 'worker')} in a row left with no job ended in between"
        if self._last is None:
            asked = "do they see the same recipe, data and store (lottery plan says), and have they time to begin one?"
            return f"{times}, though some are missing; {asked}"
        return f"{times}; the last: {_said(self._last)}"


def _said(gone: Ended) -> str:
    """Return how a worker died, its last line and its log."""
    how = "for a reason that is not known"
    if gone.code is not None:
        how = f"of signal {-gone.code}" if gone.code < 0 else f"with exit code {gone.code}"
    last = gone.last.rpartition("\n")[2].strip()
    return f"a worker died {how}" + (f": {last}" if last else "") + f" (log: {gone.log})"
