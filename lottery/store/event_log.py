"""What all processes of a store have logged, read as it is written: each keeps a log of lines of JSON of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lottery.store.store import Store

FOLDER = "events"
MOST_BYTES = 1 << 20  # of one log that are read at once


class EventLog:
    """The lines that were logged since this object was made; nothing is believed of them but that they are JSON.

    Times in them are of the clocks of many machines: only the order of the lines of one process means anything.
    """

    def __init__(self, store: Store):
        self._place = store.place
        self._read = self._place.sizes(FOLDER)

    def read(self) -> Iterator[dict[str, Any]]:
        """Yield the entries that are new, log by log."""
        for name, size in self._place.sizes(FOLDER).items():
            if size > self._read.get(name, 0):
                for line in self._new(name):
                    if (entry := _entry(line)) is not None:
                        yield entry

    def earlier(self, start: str) -> Iterator[dict[str, Any]]:
        """Yield the last entries that logs whose names start so had when they were read last, a megabyte of each."""
        for name, read in list(self._read.items()):
            if name.startswith(start):
                begin = max(0, read - MOST_BYTES)
                lines = self._place.tail(f"{FOLDER}/{name}", begin, read - begin).split(b"\n")
                for line in lines[bool(begin) :]:  # the first is cut off
                    if (entry := _entry(line)) is not None:
                        yield entry

    def _new(self, name: str) -> list[bytes]:
        """Return the whole lines that one log has more than at the last look."""
        offset = self._read.get(name, 0)
        data = self._place.tail(f"{FOLDER}/{name}", offset, MOST_BYTES)
        whole = data.rpartition(b"\n")[0]
        if not whole and len(data) == MOST_BYTES:
            whole = data  # one line of that length is none of ours
        self._read[name] = offset + (len(whole) + 1 if whole else 0)
        return whole.split(b"\n") if whole else []


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
