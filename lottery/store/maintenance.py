"""Maintenance of a store: counts of what it holds, and the removal of what can go."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lottery.files import write
from lottery.files.read import names_in
from lottery.store.manifest import KEY
from lottery.words import short

if TYPE_CHECKING:
    from lottery.store.store import Store

Garbage = list[tuple[Path, int, str]]


@dataclass(frozen=True)
class Summary:
    """Counts of a store.

    Attributes:
        root: its folder.
        jobs: number of finished jobs, by kind and then by status.
        size: bytes that finished jobs committed.
        running: who works on unfinished jobs, by key.
        interrupted: keys of jobs with a checkpoint that nobody works on.
        failed: keys of jobs that failed the last time and that nobody works on.
        quarantined: number of folders put aside as damaged.
    """

    root: str
    jobs: dict[str, dict[str, int]]
    size: int
    running: dict[str, str]
    interrupted: list[str]
    failed: list[str]
    quarantined: int

    @property
    def finished(self) -> int:
        """Number of finished jobs."""
        return sum(sum(counts.values()) for counts in self.jobs.values())

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return {"finished": self.finished, **asdict(self)}

    def text(self) -> str:
        """Return one line for each kind, one for the other counts, and one for each running job."""
        lines = [f"{self.root}: {self.finished:,} jobs finished, {self.size / 1e6:,.1f} MB"]
        for kind, counts in self.jobs.items():
            lines.append(f"  {kind:<10} " + ", ".join(f"{count:,} {status}" for status, count in counts.items()))
        counts = {"running": len(self.running), "interrupted": len(self.interrupted), "failed": len(self.failed)}
        counts["quarantined"] = self.quarantined
        lines.append(", ".join(f"{count:,} {name}" for name, count in counts.items()))
        lines += [f"  {short(key)}  {holder}" for key, holder in self.running.items()]
        return "\n".join(lines)


def summarize(store: Store) -> Summary:
    """Count a store from its manifests; no file is hashed."""
    counts: Counter[tuple[str, str]] = Counter()
    size, finished = 0, set()
    for manifest in store.manifests():
        counts[manifest.kind, manifest.status] += 1
        size += sum(record.size for record in manifest.files.values())
        finished.add(manifest.key)
    jobs: dict[str, dict[str, int]] = {}
    for (kind, status), count in sorted(counts.items()):
        jobs.setdefault(kind, {})[status] = count
    running = {key: holder for key, holder in store.leases.held().items() if key not in finished}
    return Summary(
        root=str(store.root),
        jobs=jobs,
        size=size,
        running=running,
        interrupted=[key for key in store.checkpoints.jobs() if key not in finished and key not in running],
        failed=[key for key in failed_jobs(store) if key not in finished and key not in running],
        quarantined=len(names_in(store.root / "quarantine")),
    )


def failed_jobs(store: Store) -> list[str]:
    """Return the keys of the jobs of which a failure is noted."""
    names = (name.removesuffix(".json") for name in names_in(store.root / "failures"))
    return [key for key in names if KEY.fullmatch(key)]


def known_failures(store: Store) -> dict[str, str]:
    """Return the digest of each failure that is noted, by the job's key: another one of the same job has another."""
    notes = ((key, store.failure(key)) for key in failed_jobs(store))
    return {key: failure_digest(note) for key, note in notes if note is not None}


def failure_digest(note: Mapping[str, Any]) -> str:
    """Return what tells a failure from another one of the same job: a hash of all that is noted of it."""
    return hashlib.sha256(json.dumps(note, sort_keys=True).encode()).hexdigest()


def find_garbage(store: Store) -> Garbage:
    """Return path, bytes and reason of all that can go; what a finished job committed is never among it.

    Leftovers of dead processes, checkpoints of finished jobs, folders put aside as damaged, and expired leases can go.
    """
    now = time.time()
    found: Garbage = []
    for path in _drafts(store.root):
        if write.abandoned(path, now):
            found.append((path, _size(path), "left by a process that is gone"))
    for key in store.checkpoints.jobs():
        if store.find(key) is not None:
            folder = store.checkpoints.folder / key
            found.append((folder, _size(folder), "checkpoints of a finished job"))
    for name in names_in(store.root / "quarantine"):
        path = store.root / "quarantine" / name
        found.append((path, _size(path), "damaged, put aside"))
    found += [(path, _size(path), "lease that has expired") for path in store.leases.expired(now)]
    return found


def collect(store: Store, items: Sequence[tuple[Path, int, str]]) -> int:
    """Remove what is on the list and is still garbage. Return the bytes freed."""
    asked, freed = {path for path, _, _ in items}, 0
    for path, size, _ in find_garbage(store):
        if path in asked:
            write.remove(path)
            freed += size
    return freed


def _drafts(root: Path) -> Iterator[Path]:
    for folder in ("jobs/*", "partial/*", "failures", "data/*"):
        yield from sorted(path for path in root.glob(f"{folder}/*.tmp-*") if write.DRAFT.search(path.name))


def _size(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    total = 0
    for each in (path, *path.rglob("*")):
        with suppress(FileNotFoundError):
            about = each.lstat()
            total += about.st_size if not each.is_dir() else 0
    return total
