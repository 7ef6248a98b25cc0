"""Pauses of a process that has nothing to do, between its looks at what others do."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from lottery.signals import Stop

SHORTEST, LONGEST = 0.1, 5.0  # seconds, of a pause before it is drawn
SHARE = 0.1  # of the time that was waited already: what it finds is that much late
LOOKS = 25  # jobs that one process looks up in the store in a second at most
SLICE = 0.25  # seconds between looks at whether to stop


class BackOff:
    """Pauses that grow with the time waited, drawn so that many processes do not look all at once.

    Args:
        stop: Ends a pause early.
        clock: Returns seconds.
        sleep: Waits so many seconds.
        draw: Returns a number from 0 to 1; from no generator that a training draws from.
    """

    def __init__(
        self,
        stop: Stop,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        draw: Callable[[], float] | None = None,
    ):
        self._stop, self._clock, self._sleep = stop, clock, sleep
        self._draw = draw or random.Random().random
        self._since = clock()

    def reset(self) -> None:
        """Begin with short pauses again: something has changed."""
        self._since = self._clock()

    def pause(self, looks: int) -> None:
        """Wait after a look at so many jobs, or until the run is told to stop."""
        grown = min(max(SHORTEST, SHARE * (self._clock() - self._since)), LONGEST)
        left = max(grown * (0.5 + self._draw()), looks / LOOKS * (1 + 0.5 * self._draw()))
        while left > 0 and not self._stop.told:
            self._sleep(min(left, SLICE))
            left -= SLICE
