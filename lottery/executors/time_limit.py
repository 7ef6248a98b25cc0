"""The time limit of a worker: it is told to stop early enough to save what it has in hand."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lottery.signals import Stop

SAVES = 3.0  # times that the longest save so far has to fit into what is left
UNKNOWN = 30.0  # seconds for a save where none has been timed, of a limit that is long enough
SHARE = 0.1  # of the limit at most, for that
LEAST = 1.0  # seconds: for the last step, and to leave
LOOK_SECONDS = 0.25  # between two looks at the time


class TimeLimit:
    """A number of seconds that a run may take, in which it has to have saved.

    Args:
        seconds: The limit, from now on.
        stop: Is told when the time is up, and knows what a save takes.
        clock: Returns seconds.
    """

    def __init__(self, seconds: float, stop: Stop, clock: Callable[[], float] = time.monotonic):
        self._stop, self._clock = stop, clock
        self._seconds, self._end = seconds, clock() + seconds
        self._pace, self._last = 0.0, clock()

    def note(self) -> None:
        """Take in that the run has reported something: it may be told to stop this often, and no sooner."""
        now = self._clock()
        self._pace, self._last = max(self._pace, now - self._last), now

    def pause(self) -> None:
        """Leave the time until now out of account: nothing was in hand."""
        self._last = self._clock()

    def look(self) -> None:
        """Tell the run to stop where no more is left than it takes to save."""
        saving = min(UNKNOWN, SHARE * self._seconds) if self._stop.saving is None else SAVES * self._stop.saving
        if self._clock() >= self._end - max(LEAST, saving + self._pace):
            self._stop.time_is_up = True

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Look again and again while the `with` block runs, in a thread."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(LOOK_SECONDS) and not self._stop.told:
                self.look()

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
