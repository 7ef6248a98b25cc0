"""Clocks that go on when a test says so, and waiting for what other processes do."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from time import monotonic  # the true one, whatever a test has put ahead
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
    """Wait for what another process does; an error where the process ends before, or five minutes pass.

    Returns what `happened` gives when it is true.
    """
    end = monotonic() + 300
    while not (found := happened()):
        assert process is None or process.poll() is None, process.communicate()
        assert monotonic() < end, "waited five minutes in vain"
        time.sleep(0.02)
    return found
