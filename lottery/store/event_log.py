"""What all processes of a store have logged, read as it is written: each keeps a file of lines of JSON of its own."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from lottery.files.read import names_in

if TYPE_CHECKING:
    from pathlib import Path

    from lottery.store.store import Store

MOST_BYTES = 1 << 20  # of one file that are read at once
QUIET = 20  # looks without a new line, after which a file is looked at more seldom
SELDOM = 16  # looks between two at such a file at most


class EventLog:
    """The lines that were logged since this object was made; nothing is believed of them but that they are JSON.

    Times in them are of the clocks of many machines: only the order of the lines of one process means anything.
    """

    def __init__(self, store: Store):
        self._folder = store.root / "events"
        self._offsets = {name: _size(self._folder / name) for name in names_in(self._folder)}
        self._quiet: dict[str, int] = {}
        self._looks = 0

    def read(self) -> Iterator[dict[str, Any]]:
        """Yield the entries that are new, file by file."""
        self._looks += 1
        for name in names_in(self._folder):
            quiet = self._quiet.get(name, 0)
            if self._looks % min(SELDOM, 1 + quiet // QUIET):
                self._quiet[name] = quiet + 1
                continue
            lines = self._new(name)
            self._quiet[name] = 0 if lines else quiet + 1
            for line in lines:
                if (entry := _entry(line)) is not None:
                    yield entry

    def _new(self, name: str) -> list[bytes]:
        """Return the whole lines that one file has more than at the last look."""
        offset = self._offsets.get(name, 0)
        data = _read_from(self._folder / name, offset)
        whole = data.rpartition(b"\n")[0]
        if not whole and len(data) == MOST_BYTES:
            whole = data  # one line of that length is none of ours
        self._offsets[name] = offset + (len(whole) + 1 if whole else 0)
        return whole.split(b"\n") if whole else []


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0


def _read_from(path: Path, offset: int) -> bytes:
    """Return the bytes of a regular file from there on; none where they cannot be read, links are not followed."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return b""
    try:
        return os.pread(fd, MOST_BYTES, offset) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
    except OSError:
        return b""
    finally:
        os.close(fd)
