"""Leases on jobs: they save work being done twice, nothing more; what two holders commit is the same.

The file of a lease and its heartbeat are those of `filelock.SoftFileLease`. It takes over from a dead process of this
machine at once, and from anybody whose heartbeat stops; where the file system or the file's content does not let it,
this module does so after twice the time.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lottery.files import write
from lottery.files.clock import FileClock
from lottery.files.read import names_in
from lottery.store.manifest import KEY

if TYPE_CHECKING:
    from filelock import SoftFileLease

DURATION = 30.0  # seconds without a heartbeat after which a lease is taken over
LONGEST = 3600.0  # seconds; the longest duration of a lease that a file is believed to claim
YOUNGEST = 60.0  # seconds after which a file without a living holder counts as expired

Mark = tuple[int, int, int]  # inode, times of the last change in ns: what a heartbeat changes


class Leases:
    """The leases of one store, as this process sees them."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._clock = FileClock(folder)
        # expiry is seen by watching a file with one's own clock, so a lock is kept as long as it is not had
        self._locks: dict[str, SoftFileLease] = {}
        self._watched: dict[str, tuple[Mark, float]] = {}

    @contextmanager
    def hold(self, key: str, duration: float | None) -> Iterator[bool]:
        """Try once to get the lease; yields False if somebody has it. Raises MachineError."""
        duration = duration or DURATION
        lock = self._lock(key, duration)
        if lock.is_locked or not self._acquire(lock, key, duration):
            yield False
            return
        try:
            yield True
        finally:
            self._locks.pop(key, None)
            with suppress(OSError):  # a lease that cannot be given back expires
                lock.release()

    def holder(self, key: str) -> str | None:
        """Return who holds a living lease, as `process 4711 on host`; None if nobody does."""
        return self._holder(self._path(key))

    def held(self) -> dict[str, str]:
        """Return the holder of every living lease, by key."""
        found = {key: self._holder(path) for key, path in self._files()}
        return {key: holder for key, holder in found.items() if holder is not None}

    def expired(self) -> list[Path]:
        """Return files left by holders that are gone, and by takeovers that were cut off."""
        paths = (self.folder / name for name in names_in(self.folder))
        marks = ((path, _mark(path)) for path in paths)
        return [path for path, mark in marks if mark and self._age(mark) > YOUNGEST and self._holder(path) is None]

    def _holder(self, path: Path) -> str | None:
        """Return who holds the lease of a file; None where its holder is gone, or does not beat any more."""
        if (mark := _mark(path)) is None:
            return None
        from filelock import SoftFileLease

        owner = SoftFileLease(path).owner
        if owner is None or (owner.hostname in _names_here() and not write.alive(owner.pid)):
            return None
        if self._age(mark) >= 2 * min(owner.lease_duration or LONGEST, LONGEST):
            return None
        return f"process {owner.pid} on {owner.hostname.partition('?')[0]}"

    def _age(self, mark: Mark) -> float:
        """Return the seconds since a file was changed last, both by the clock of the file system."""
        return self._clock.now() - mark[1] / 1e9

    def _lock(self, key: str, duration: float) -> SoftFileLease:
        from filelock import SoftFileLease

        if key not in self._locks:
            self._locks[key] = SoftFileLease(self._path(key), lease_duration=duration)
        return self._locks[key]

    def _acquire(self, lock: SoftFileLease, key: str, duration: float) -> bool:
        write.make_folder(self.folder)
        if self._try(lock, key):
            return True
        return self._overdue(lock, key, duration) and self._break(key) and self._try(lock, key)

    def _try(self, lock: SoftFileLease, key: str) -> bool:
        from filelock import LeaseSettingsMismatch, Timeout

        path = self._path(key)
        try:
            write.guarded("lease", path, lambda: lock.acquire(blocking=False), expect=(Timeout,))
        except (Timeout, LeaseSettingsMismatch):
            return False
        self._watched.pop(key, None)
        return True

    def _overdue(self, lock: SoftFileLease, key: str, duration: float) -> bool:
        """Return whether the file has stood unchanged for twice the lease, so that the library cannot take it."""
        mark, now = _mark(self._path(key)), time.monotonic()
        if mark is None:
            return False
        seen, since = self._watched.get(key, (None, now))
        if seen != mark:
            self._watched[key] = (mark, now)
            return False
        claimed = (lock.owner.lease_duration if lock.owner else None) or duration
        return now - since > 2 * max(duration, min(claimed, LONGEST))

    def _break(self, key: str) -> bool:
        """Move the file away that was judged overdue; one that somebody has put there since goes back."""
        path, (judged, _) = self._path(key), self._watched.pop(key)
        aside = path.with_name(f"{path.name}.tmp-{write.unique()}")
        if not write.move(path, aside):
            return False
        now = _mark(aside)
        same = now is not None and now[:2] == judged[:2]  # the renaming itself changes the third
        if not same:
            with suppress(OSError):
                write.perform("link", path, lambda: os.link(aside, path, follow_symlinks=False))
        write.remove(aside)
        return same

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.lease"

    def _files(self) -> Iterator[tuple[str, Path]]:
        for name in names_in(self.folder):
            key, _, end = name.partition(".")
            if end == "lease" and KEY.fullmatch(key):
                yield key, self.folder / name


def _mark(path: Path) -> Mark | None:
    with suppress(OSError):
        about = path.lstat()
        return about.st_ino, about.st_mtime_ns, about.st_ctime_ns
    return None


def _names_here() -> set[str]:
    """Return the names by which the library may call this machine, with or without its namespace of process numbers."""
    host = socket.gethostname()
    with suppress(OSError):
        return {f"{host}?pidns-{os.stat('/proc/self/ns/pid').st_ino:x}", host}
    return {host}
