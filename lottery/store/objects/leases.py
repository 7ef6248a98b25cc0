"""Leases in an object store: an object a job, created once, and then replaced only by who has seen its last state.

A lease is taken over when it has stood unchanged for twice its duration by the clock of the process that takes it over,
or at once where its holder was a process of this machine that is gone. Times of other machines decide nothing. What is
given back is left empty, and removed where the job is finished.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from lottery.errors import DamagedFile, MachineError
from lottery.files import write
from lottery.files.read import parse_json
from lottery.store.manifest import KEY
from lottery.store.objects.bucket import Bucket, Mark
from lottery.store.objects.chores import Chores
from lottery.store.objects.listing import Snapshot

DURATION = 240.0  # seconds: a heartbeat a minute, and eight minutes until a lost machine's job is taken over
BEATS = 4  # heartbeats in a duration
LONGEST = 3600.0  # seconds; the longest duration that an object is believed to claim

FREE = b""


@dataclass
class Held:
    """A lease of this process."""

    about: dict[str, Any]
    duration: float
    mark: Mark | None = None
    due: float = 0.0  # by the monotonic clock
    lock: threading.Lock = field(default_factory=threading.Lock)


class ObjectLeases:
    """The leases of one store, as this process sees them.

    Args:
        bucket: where they are.
        chores: gives them back.
        finished: says whether a job is known to be finished; its lease is removed.
        taken: called with the key of a job whose lease this process has got.
    """

    def __init__(
        self, bucket: Bucket, chores: Chores, finished: Callable[[str], bool], taken: Callable[[str], None]
    ) -> None:
        self._bucket, self._chores, self._finished, self._taken = bucket, chores, finished, taken
        self._listing = Snapshot(bucket, "leases")
        self._held: dict[str, Held] = {}
        self._watched: dict[str, tuple[Mark, float]] = {}  # a state that was seen, and since when
        self._beat = threading.Condition()
        self._heart: threading.Thread | None = None

    @contextmanager
    def hold(self, key: str, duration: float | None) -> Iterator[bool]:
        """Try once to get the lease; yields False if somebody has it. Raises MachineError."""
        if key in self._held or not self._acquire(key, duration or DURATION):
            yield False
            return
        try:
            yield True
        finally:
            self._give_back(key)

    def mine(self, key: str) -> bool:
        """Return True if this process has the lease of a job."""
        held = self._held.get(key)
        return held is not None and held.mark is not None

    def busy(self, key: str) -> bool:
        """Return True if another process is known to have the job."""
        return key in self._watched and key not in self._held and self._changed(key) is None

    def holder(self, key: str) -> str | None:
        """Return who holds a lease, as `process 4711 on host`; None if nobody does."""
        self._chores.wait(_path(key))
        found = self._listing.look().get(_path(key))
        return self._holder(key) if found is not None and found.size else None

    def held(self) -> dict[str, str]:
        """Return the holder of every lease, by key."""
        self._chores.wait("leases")
        self._listing.doubt()
        keys = [_key(path) for path, found in self._listing.look().items() if found.size]
        found = zip(keys, self._bucket.pool.map(self._holder, keys), strict=True)
        return {key: holder for key, holder in found if holder is not None and KEY.fullmatch(key)}

    # Taking

    def _acquire(self, key: str, duration: float) -> bool:
        self._chores.wait(_path(key))  # this process may have had it last
        held = Held(_claim(duration), duration)
        data = json.dumps(held.about).encode()
        held.mark = self._take(key, data, duration)
        if held.mark is None:
            return False
        self._watched.pop(key, None)
        self._listing.doubt()
        held.due = time.monotonic() + duration / BEATS
        self._held[key] = held
        self._start_beating()
        try:
            self._taken(key)
        except BaseException:  # nobody would give it back
            self._give_back(key)
            raise
        return True

    def _take(self, key: str, data: bytes, duration: float) -> Mark | None:
        """Return the mark of a lease that nobody had, or whose holder is gone; None where it is somebody's."""
        if key in self._watched and self._changed(key) is None and not self._overdue(key, duration):
            return None
        if key not in self._watched and (mark := self._bucket.create(_path(key), data)) is not None:
            return mark
        there = self._bucket.get(_path(key))
        if there is None:
            self._watched.pop(key, None)
            return self._bucket.create(_path(key), data)
        if there[0] == FREE or _is_gone(there[0]):
            return self._bucket.swap(_path(key), data, there[1])
        seen, since = self._watched.get(key, (None, 0.0))
        if seen != there[1]:
            self._watched[key] = (there[1], time.monotonic())
            self._listing.doubt()
        elif time.monotonic() - since > 2 * max(duration, _claimed(there[0]) or duration):
            return self._bucket.swap(_path(key), data, there[1])
        return None

    def _changed(self, key: str) -> bool | None:
        """Return True if a lease of another is not as it was seen last; None if it is, as far as is known."""
        found = self._listing.look().get(_path(key))
        return None if found is not None and found.mark == self._watched[key][0] else True

    def _overdue(self, key: str, duration: float) -> bool:
        return time.monotonic() - self._watched[key][1] > 2 * duration

    def _give_back(self, key: str) -> None:
        held = self._held.pop(key)
        self._chores.add(_path(key), lambda: self._release(key, held))

    def _release(self, key: str, held: Held) -> None:
        with held.lock:
            if held.mark is None or self._bucket.swap(_path(key), FREE, held.mark) is None:
                return  # it is another's
            held.mark = None
            self._listing.doubt()
            if self._finished(key):
                self._bucket.delete([_path(key)])

    def _holder(self, key: str) -> str | None:
        found = self._bucket.get(_path(key))
        about = _decoded(found[0]) if found is not None and not _is_gone(found[0]) else {}
        return about.get("holder") if isinstance(about.get("holder"), str) else None

    # Keeping

    def _start_beating(self) -> None:
        with self._beat:
            if self._heart is None:
                self._heart = threading.Thread(target=self._beating, name="lottery-leases", daemon=True)
                self._heart.start()
            self._beat.notify()

    def _beating(self) -> None:
        while True:
            now = time.monotonic()
            for key, held in list(self._held.items()):
                if held.due <= now:
                    held.due = now + held.duration / BEATS
                    with suppress(MachineError):  # the next beat may come through
                        self.beat(key, held)
            with self._beat:
                dues = [held.due for held in list(self._held.values())]
                self._beat.wait(max(0.01, min(dues) - time.monotonic()) if dues else None)

    def beat(self, key: str, held: Held) -> None:
        """Show that the holder is alive; a lease that another has taken is let go."""
        with held.lock:
            if held.mark is None:
                return
            held.about["beat"] += 1
            held.mark = self._bucket.swap(_path(key), json.dumps(held.about).encode(), held.mark)


def _claim(duration: float) -> dict[str, Any]:
    return {
        "holder": f"process {os.getpid()} on {socket.gethostname()}",
        "machine": write.machine_id(),
        "pid": os.getpid(),
        "token": secrets.token_hex(16),
        "duration": duration,
        "beat": 0,
    }


def _decoded(data: bytes) -> dict[str, Any]:
    """Return what a lease says; nothing where it cannot be read."""
    with suppress(DamagedFile):
        found = parse_json(data, "a lease")
        return found if isinstance(found, dict) else {}
    return {}


def _claimed(data: bytes) -> float | None:
    """Return the duration that a lease claims in seconds, as far as it is believed."""
    duration = _decoded(data).get("duration")
    return min(float(duration), LONGEST) if isinstance(duration, (int, float)) and duration > 0 else None


def _is_gone(data: bytes) -> bool:
    """Return True if the holder was a process of this machine that does not run any more."""
    about = _decoded(data)
    pid = about.get("pid")
    return about.get("machine") == write.machine_id() and isinstance(pid, int) and not write.alive(pid)


def _path(key: str) -> str:
    return f"leases/{key}.lease"


def _key(path: str) -> str:
    return path.rpartition("/")[2].removesuffix(".lease")
