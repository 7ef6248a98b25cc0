"""The log of a process in an object store: parts named by the byte at which they begin, written every few seconds."""

from __future__ import annotations

import threading
import weakref
from contextlib import suppress

from lottery.errors import MachineError
from lottery.store.objects.bucket import Bucket

EVERY_SECONDS = 3.0
MOST_BYTES = 1 << 20  # kept where the store refuses them
DIGITS = 12


class Events:
    """The lines of this process that are not written yet, and those of all processes that are."""

    def __init__(self, bucket: Bucket):
        self._bucket = bucket
        self._lines = _Lines(bucket)
        weakref.finalize(self, self._lines.write)  # at the end of the process too

    def append(self, path: str, line: bytes) -> None:
        """Add a line to the log of this process."""
        self._lines.append(path, line)

    def flush(self) -> None:
        """Write what was not written yet."""
        self._lines.write()

    def sizes(self, folder: str) -> dict[str, int]:
        """Return how many bytes each log has, by its name."""
        sizes: dict[str, int] = {}
        for found in self._bucket.find(folder):
            name, _, begin = found.path.removeprefix(f"{folder}/").partition("/")
            if begin.isdecimal():
                sizes[name] = max(sizes.get(name, 0), int(begin) + found.size)
        return sizes

    def tail(self, path: str, offset: int, most: int) -> bytes:
        """Return the bytes of a log from there on, `most` of them."""
        data = b""
        for found in self._bucket.find(path):
            begin = found.path.rpartition("/")[2]
            if begin.isdecimal() and int(begin) <= offset + len(data) < int(begin) + found.size and len(data) < most:
                part = self._bucket.get(found.path)
                data += part[0][offset + len(data) - int(begin) :] if part is not None else b""
        return data[:most]


class _Lines:
    """Lines by path, with the number of bytes that were written before them."""

    def __init__(self, bucket: Bucket):
        self._bucket = bucket
        self._waiting: dict[str, tuple[int, bytes]] = {}
        self._timer: threading.Timer | None = None
        self._lock = threading.Lock()

    def append(self, path: str, line: bytes) -> None:
        with self._lock:
            begin, waiting = self._waiting.get(path, (0, b""))
            if len(waiting) + len(line) <= MOST_BYTES:
                self._waiting[path] = begin, waiting + line
            if self._timer is None:
                self._timer = threading.Timer(EVERY_SECONDS, self.write)
                self._timer.daemon = True
                self._timer.start()

    def write(self) -> None:
        with self._lock:
            self._timer = None
            for path, (begin, waiting) in self._waiting.items():
                if waiting:
                    with suppress(MachineError):
                        self._bucket.put(f"{path}/{begin:0{DIGITS}d}", waiting)
                        self._waiting[path] = begin + len(waiting), b""
