"""A store read again and again at the cost of what is new in it; files that vanish meanwhile are no error."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lottery.board.live import Live, Progress
from lottery.errors import LotteryError
from lottery.store.maintenance import failed_jobs

if TYPE_CHECKING:
    from lottery.store.manifest import Manifest
    from lottery.store.store import Store

LIST_SECONDS = 10.0  # between two listings of all finished jobs; the log tells of most before
LIST_SHARE = 20  # a listing may take one part in this many of the time between two
READ_SECONDS = 0.3  # in which manifests are read before what is known is shown
MOST_TOLD = 20_000  # characters of a failure that are shown, its end


@dataclass(frozen=True, slots=True)
class FinishedJob:
    """A finished job, as its manifest has it; `created` is the time of its commit in UTC (ISO 8601)."""

    key: str
    kind: str
    status: str
    label: str
    created: str
    seconds: float


@dataclass(frozen=True)
class RunningJob:
    """A job that a process holds."""

    key: str
    label: str
    holder: str
    progress: Progress


@dataclass(frozen=True)
class Failure:
    """A job that failed the last time and that nobody works on; `time` in seconds since 1970."""

    key: str
    label: str
    message: str
    time: float

    @property
    def first_line(self) -> str:
        """The error without its traceback."""
        return self.message.strip().partition("\n")[0]

    @property
    def told(self) -> str:
        """The error with its traceback, of which the end is told where it is long."""
        text = self.message.strip()
        return text if len(text) <= MOST_TOLD else f"...\n{text[-MOST_TOLD:]}"


@dataclass(frozen=True)
class Snapshot:
    """What is known of a store at a moment.

    Attributes:
        finished: Finished jobs by key, as far as their manifests are read.
        keys: Keys of all finished jobs.
        running: Jobs that processes hold.
        failures: Newest first.
        interrupted: Keys of jobs with a checkpoint that nobody works on.
        damaged: Why a manifest cannot be read, by the job's key.
        quarantined: Number of folders put aside as damaged.
    """

    finished: Mapping[str, FinishedJob] = field(default_factory=dict)
    keys: frozenset[str] = frozenset()
    running: tuple[RunningJob, ...] = ()
    failures: tuple[Failure, ...] = ()
    interrupted: tuple[str, ...] = ()
    damaged: Mapping[str, str] = field(default_factory=dict)
    quarantined: int = 0

    @property
    def unread(self) -> int:
        """Number of finished jobs whose manifests are not read yet."""
        return len(self.keys) - len(self.finished) - len(self.damaged)


class Reader:
    """Looks at a store, a little at a time. It is made for one thread."""

    def __init__(self, store: Store):
        self._store = store
        self._live = Live(store)
        self._finished: dict[str, FinishedJob] = {}
        self._damaged: dict[str, str] = {}
        self._keys: set[str] = set()
        self._unread: list[str] = []
        self._labels: dict[str, str] = {}
        self._failures: dict[str, Failure | None] = {}
        self._sizes: dict[str, int] = {}
        self._interrupted: list[str] = []
        self._quarantined = 0
        self._listed, self._pause = -1e9, LIST_SECONDS

    def look(self) -> Snapshot:
        """Return what is known now, after a look at what is new. Raises MachineError where the store cannot be read."""
        ended = self._take_in_log()
        if time.monotonic() - self._listed >= self._pause:
            self._list()
        self._read([key for key in ended if key not in self._finished])
        held = {key: holder for key, holder in self._store.leases.held().items() if key not in self._keys}
        progress = self._live.progress(held)
        running = [RunningJob(key, self._label(key), held[key], progress[key]) for key in held]
        idle = [each for each in self._failed() if each.key not in held and each.key not in self._keys]
        return Snapshot(
            dict(self._finished),
            frozenset(self._keys),
            tuple(sorted(running, key=lambda job: (job.label, job.key))),
            tuple(sorted(idle, key=lambda each: -each.time)),
            tuple(key for key in self._interrupted if key not in held and key not in self._keys),
            dict(self._damaged),
            self._quarantined,
        )

    def _take_in_log(self) -> list[str]:
        """Return the keys of jobs that have ended now, as the logs say."""
        ended = []
        for event in self._live.read():
            self._labels[event.key] = event.label
            if event.kind in ("done", "diverged"):
                ended.append(event.key)
            elif event.kind == "failed":
                self._sizes.pop(f"{event.key}.json", None)
        return ended

    def _list(self) -> None:
        """Look at what no log tells: jobs copied in, put aside or removed, checkpoints, the quarantine."""
        began = time.monotonic()
        keys = set(self._store.keys())
        for known in (self._finished, self._damaged):
            for key in known.keys() - keys:
                known.pop(key)
        self._damaged.clear()
        self._keys = keys
        self._unread = sorted(keys - self._finished.keys())
        self._interrupted = [key for key in self._store.checkpoints.jobs() if key not in keys]
        self._quarantined = len(self._store.place.names("quarantine"))
        self._listed = time.monotonic()
        self._pause = max(LIST_SECONDS, LIST_SHARE * (self._listed - began))

    def _read(self, first: list[str]) -> None:
        """Read manifests for a while: those of jobs that the log tells of, then others."""
        began = time.monotonic()
        for key in first:
            if self._read_one(key):
                self._keys.add(key)
        while self._unread and time.monotonic() - began < READ_SECONDS:
            several = [self._unread.pop() for _ in range(min(50, len(self._unread)))]
            self._store.place.expect(several, files=False)
            for key in several:
                self._read_one(key)

    def _read_one(self, key: str) -> bool:
        try:
            manifest: Manifest = self._store.place.manifest(key)
        except LotteryError as error:
            if key in self._keys:
                self._damaged[key] = str(error)
            return False
        about = manifest.key, manifest.kind, manifest.status, manifest.label, manifest.created, manifest.seconds
        self._finished[key] = FinishedJob(*about)
        self._damaged.pop(key, None)
        self._labels.pop(key, None)
        return True

    def _label(self, key: str) -> str:
        return self._labels.get(key) or self._live.label(key) or key[:12]

    def _failed(self) -> list[Failure]:
        """Return the failures that are noted; a note is read again where it has changed."""
        sizes = self._store.place.sizes("failures")
        if not sizes and not self._failures:
            return []
        keys = failed_jobs(self._store)
        for key in keys:
            if key not in self._failures or sizes.get(f"{key}.json") != self._sizes.get(f"{key}.json"):
                self._failures[key] = _failure(self._store.failure(key))
        self._failures = {key: self._failures[key] for key in keys}
        self._sizes = sizes
        return [each for each in self._failures.values() if each is not None]


def _failure(note: Mapping[str, Any] | None) -> Failure | None:
    if note is None or not isinstance(note["time"], (int, float)):
        return None
    return Failure(str(note["key"]), str(note["label"]), str(note["message"]), float(note["time"]))
