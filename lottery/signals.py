"""Signals during a run: the first one saves and leaves, a second leaves at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class Stop:
    """A flag that a signal handler sets and a training reads between steps."""

    signal: int | None = None


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
            os._exit(128 + number)
        stop.signal = number

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
