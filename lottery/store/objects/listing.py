"""What lies in an object store, as listings told: a request tells of a thousand objects, so few are needed.

A finished job stays finished, so what was seen once is believed; a look at one of its files says where that is wrong.
What was not there may have come: it is looked for again after a while, or at once where somebody asks to.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from threading import RLock

from lottery.store.manifest import KEY, MANIFEST
from lottery.store.objects.bucket import PAGE, Bucket, Found

LOOK_SECONDS = 2.0  # between two looks for what was not there
LOOKS_PER_PAGE = 4  # looks at single jobs, after which all are listed anew: a page tells of many
SMALLEST_MANIFEST = 200  # bytes: what is shorter marks a job that was put aside

Group = dict[str, Found]  # objects of a job or a checkpoint by their names


def is_valid(group: Group) -> bool:
    """Return True if a manifest seals the group."""
    return MANIFEST in group and is_whole(group[MANIFEST])


def is_whole(manifest: Found) -> bool:
    """Return True if an object may be a manifest, and is no trace of one that was put aside."""
    return manifest.size >= SMALLEST_MANIFEST


class Snapshot:
    """All objects under one prefix, listed anew when the last listing is a while old."""

    def __init__(self, bucket: Bucket, prefix: str):
        self._bucket, self._prefix = bucket, prefix
        self._found: dict[str, Found] = {}
        self._at: float | None = None
        self._lock = RLock()

    def look(self) -> dict[str, Found]:
        """Return the objects by path."""
        with self._lock:
            now = time.monotonic()
            if self._at is None or now - self._at > LOOK_SECONDS:
                self._found = {found.path: found for found in self._bucket.find(self._prefix)}
                self._at = now
            return self._found

    def doubt(self) -> None:
        """Have the next look ask the store."""
        self._at = None


class Jobs:
    """The groups of objects under `jobs/`, by key. `busy(key)` says that a job is in somebody's hands."""

    def __init__(self, bucket: Bucket, busy: Callable[[str], bool]):
        self._bucket, self._busy = bucket, busy
        self._groups: dict[str, Group] = {}
        self._missing: dict[str, float] = {}  # when a job was last looked for in vain
        self._listed: float | None = None
        self._pages, self._looks = 1, 0  # of the last listing of all, and looks at single jobs since
        self._lock = RLock()

    def list(self) -> Iterator[str]:
        """Yield the keys of all finished jobs, as the store has them now, in order."""
        with self._lock:
            self._list()
            keys = sorted(key for key, group in self._groups.items() if is_valid(group))
        yield from keys

    def group(self, key: str) -> Group:
        """Return the objects of a job; none where it is not finished, as far as is known."""
        with self._lock:
            if self._listed is None:
                self._list()
            group = self._groups.get(key, {})
            if is_valid(group):
                return group
            now = time.monotonic()
            if now - self._missing.get(key, self._listed or 0.0) < LOOK_SECONDS:
                return {}
            if self._busy(key):
                self._missing[key] = now
                return {}
            self._looks += 1
            if self._looks <= LOOKS_PER_PAGE * self._pages:
                return self.look(key)
            self._list()
            group = self._groups.get(key, {})
            return group if is_valid(group) else {}

    def seen(self, key: str) -> Group:
        """Return the objects of a job that was finished when all were listed."""
        with self._lock:
            if self._listed is None:
                self._list()
            group = self._groups.get(key, {})
            return group if is_valid(group) else {}

    def look(self, key: str) -> Group:
        """Return the objects of a job, as the store has them now; none where it is not finished."""
        with self._lock:
            now = time.monotonic()
            group = {_name(found): found for found in self._bucket.find(f"jobs/{key[:2]}/{key}")}
            self._groups[key], self._missing[key] = group, now
            return group if is_valid(group) else {}

    def doubt(self, key: str) -> None:
        """Have the next look at a job ask the store."""
        with self._lock:
            self._groups.pop(key, None)
            self._missing[key] = float("-inf")

    def note(self, key: str, group: Group) -> None:
        """Note what this process has written."""
        with self._lock:
            self._groups[key] = group

    def known(self, key: str) -> bool:
        """Return True if a job is known to be finished, without a request."""
        return is_valid(self._groups.get(key, {}))

    def _list(self) -> None:
        groups: dict[str, Group] = {}
        began = time.monotonic()
        every = self._bucket.find("jobs")
        for found in every:
            key = found.path.split("/")[2]
            if KEY.fullmatch(key):
                groups.setdefault(key, {})[_name(found)] = found
        self._groups, self._listed, self._missing = groups, began, {}
        self._pages, self._looks = 1 + len(every) // PAGE, 0


def _name(found: Found) -> str:
    return found.path.rpartition("/")[2]
