"""The time by the clock of a file system, which over a network is that of another machine."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

FOLLOWED_SECONDS = 60.0  # for which a time that was asked for is followed by this process's own clock


class FileClock:
    """The clock that stamps the files in a folder: their ages are differences between two of its times.

    It is asked by a file without a name that is made there and gone at once. Where none can be, as in a folder that may
    only be read, this machine's own clock has to do.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._asked: tuple[float, float] | None = None  # its time, and the monotonic clock then

    def now(self) -> float:
        """Return its time in seconds since 1970."""
        here = time.monotonic()
        if self._asked is None or here - self._asked[1] > FOLLOWED_SECONDS:
            self._asked = (_ask(self._folder), here)
        there, then = self._asked
        return there + here - then


def _ask(folder: Path) -> float:
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            os.utime(file.fileno())  # as a heartbeat does: the file system puts in its own time
            return os.fstat(file.fileno()).st_mtime
    except OSError:
        return time.time()
