"""Maintenance of a store: counts of what it holds, and the removal of what can go."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Set
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lottery.store.manifest import KEY
from lottery.store.place import Garbage
from lottery.words import short

if TYPE_CHECKING:
    from lottery.store.store import Store


@dataclass(frozen=True)
class Summary:
    """Counts of a store.

    Attributes:
        root: its place.
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


def summarize(store: Store, only: Set[str] | None = None) -> Summary:
    """Count a store from its manifests, no file of which is hashed; with `only` just the jobs of these keys."""
    counts: Counter[tuple[str, str]] = Counter()
    size, finished = 0, set()
    for manifest in store.manifests():
        if only is not None and manifest.key not in only:
            continue
        counts[manifest.kind, manifest.status] += 1
        size += sum(record.size for record in manifest.files.values())
        finished.add(manifest.key)
    if only is not None:  # then nothing is to be told of other jobs
        begun = (*store.leases.held(), *store.checkpoints.jobs(), *failed_jobs(store))
        finished |= {key for key in begun if key not in only}
    jobs: dict[str, dict[str, int]] = {}
    for (kind, status), count in sorted(counts.items()):
        jobs.setdefault(kind, {})[status] = count
    running = {key: holder for key, holder in store.leases.held().items() if key not in finished}
    return Summary(
        root=store.name,
        jobs=jobs,
        size=size,
        running=running,
        interrupted=[key for key in store.checkpoints.jobs() if key not in finished and key not in running],
        failed=[key for key in failed_jobs(store) if key not in finished and key not in running],
        quarantined=len(store.place.names("quarantine")),
    )


def failed_jobs(store: Store) -> list[str]:
    """Return the keys of the jobs of which a failure is noted."""
    names = (name.removesuffix(".json") for name in store.place.names("failures"))
    return [key for key in names if KEY.fullmatch(key)]


def known_failures(store: Store) -> dict[str, str]:
    """Return the digest of each failure that is noted, by the job's key: another one of the same job has another."""
    notes = ((key, store.failure(key)) for key in failed_jobs(store))
    return {key: failure_digest(note) for key, note in notes if note is not None}


def failure_digest(note: Mapping[str, Any]) -> str:
    """Return what tells a failure from another one of the same job: a hash of all that is noted of it."""
    return hashlib.sha256(json.dumps(note, sort_keys=True).encode()).hexdigest()


def find_garbage(store: Store) -> Garbage:
    """Return place, bytes and reason of all that can go; what a finished job committed is never among it.

    Leftovers of dead processes, checkpoints of finished jobs, folders put aside as damaged, and expired leases can go.
    """
    found = store.place.leftovers()
    for key in store.checkpoints.jobs():
        if store.find(key) is not None:
            found.append((*store.place.measure(f"partial/{key}"), "checkpoints of a finished job"))
    for name in store.place.names("quarantine"):
        found.append((*store.place.measure(f"quarantine/{name}"), "damaged, put aside"))
    return found


def collect(store: Store, items: Garbage) -> int:
    """Remove what is on the list and is still garbage. Return the bytes freed."""
    asked, freed = {item for item, _, _ in items}, 0
    for item, size, _ in find_garbage(store):
        if item in asked:
            store.place.discard(item)
            freed += size
    return freed
