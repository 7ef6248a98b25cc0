"""Clocks that go on when a test says so, and waiting for what other processes do."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from typing import TypeVar

import pytest

T = TypeVar("T")


class Clock:
    """The clocks of this process, which `advance` puts ahead of the true ones by hours if need be."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.ahead = 0.0  # seconds
        monotonic, wall = time.monotonic, time.time
        monkeypatch.setattr(time, "monotonic", lambda: monotonic() + self.ahead)
        monkeypatch.setattr(time, "time", lambda: wall() + self.ahead)

    def advance(self, seconds: float) -> None:
        self.ahead += seconds


def until(happened: Callable[[], T], process: subprocess.Popen[str] | None = None) -> T:
    """Wait for what another process does, however long that takes; an error where the process ends before.

    Returns what `happened` gives when it is true.
    """
    while not (found := happened()):
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.02)
    return found
