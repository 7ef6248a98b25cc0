"""What tells a run to stop: the first signal saves and leaves, a second leaves at once; a time that is up saves too."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class Stop:
    """A flag that is set from outside and that a training reads between steps.

    Attributes:
        signal: Number of the signal that was noted.
        time_is_up: True once a time limit leaves no more than the time to save.
        saving: Seconds that the longest save of a state has taken; None before the first.
        at_once: Called before a second signal ends the process; it must wait for nothing.
    """

    signal: int | None = None
    time_is_up: bool = False
    saving: float | None = None
    at_once: Callable[[], None] = lambda: None

    @property
    def told(self) -> bool:
        """True if the run is to save and leave."""
        return self.signal is not None or self.time_is_up

    def saved(self, seconds: float) -> None:
        """Note how long a save of a state took."""
        self.saving = max(seconds, self.saving or 0.0)


@contextmanager
def handle_signals(stop: Stop) -> Iterator[None]:
    """Note SIGTERM, SIGINT and SIGUSR1 (what Slurm sends before its time limit) in `stop` instead of dying of them.

    In another thread than the main one, which alone can have handlers, nothing is noted.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def note(number: int, frame: FrameType | None) -> None:
        if stop.signal is not None:
            stop.at_once()
            os._exit(128 + number)
        stop.signal = number

    with signals_to(note):
        yield


@contextmanager
def signals_to(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Have SIGTERM, SIGINT and SIGUSR1 call a handler while the `with` block runs; in the main thread alone."""
    before = {number: signal.signal(number, handler) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
