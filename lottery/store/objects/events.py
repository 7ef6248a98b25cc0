"""The log of a process in an object store: parts named by the byte at which they begin.

The last part is written again every few seconds while there is more to say, so that a week's log is a few objects.
"""

from __future__ import annotations

import threading
import weakref
from contextlib import suppress

from lottery.errors import MachineError
from lottery.store.objects.bucket import Bucket
from lottery.store.objects.listing import Snapshot

EVERY_SECONDS = 3.0
PART_BYTES = 1 << 18  # after which a new part begins
MOST_BYTES = 1 << 22  # kept where the store refuses them
DIGITS = 12
TOP = "events"


class Events:
    """The lines of this process that are not written yet, and those of all processes that are."""

    def __init__(self, bucket: Bucket):
        self._bucket = bucket
        self._written = Snapshot(bucket, TOP)
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
        for path, found in self._written.look().items():
            name, _, begin = path.removeprefix(f"{folder}/").partition("/")
            if begin.isdecimal():
                sizes[name] = max(sizes.get(name, 0), int(begin) + found.size)
        return sizes

    def tail(self, path: str, offset: int, most: int) -> bytes:
        """Return the bytes of a log from there on, `most` of them."""
        data = b""
        for each, found in sorted(self._written.look().items()):
            log, _, name = each.rpartition("/")
            at = offset + len(data)
            if log == path and name.isdecimal() and int(name) <= at < int(name) + found.size and len(data) < most:
                part = self._bucket.get(each)
                data += part[0][at - int(name) :] if part is not None else b""
        return data[:most]


class _Lines:
    """The part that each log has last: where it begins, its bytes, and how many of these are written."""

    def __init__(self, bucket: Bucket):
        self._bucket = bucket
        self._parts: dict[str, tuple[int, bytes, int]] = {}
        self._timer: threading.Timer | None = None
        self._lock = threading.Lock()

    def append(self, path: str, line: bytes) -> None:
        with self._lock:
            begin, data, written = self._parts.get(path, (0, b"", 0))
            if written == len(data) >= PART_BYTES:
                begin, data, written = begin + len(data), b"", 0
            if len(data) + len(line) <= MOST_BYTES:
                self._parts[path] = begin, data + line, written
            if self._timer is None:
                self._timer = threading.Timer(EVERY_SECONDS, self.write)
                self._timer.daemon = True
                self._timer.start()

    def write(self) -> None:
        with self._lock:
            self._timer = None
            for path, (begin, data, written) in self._parts.items():
                if written < len(data):
                    with suppress(MachineError):
                        self._bucket.put(f"{path}/{begin:0{DIGITS}d}", data)
                        self._parts[path] = begin, data, len(data)
