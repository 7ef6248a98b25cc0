"""Stores as a board sees them: finished jobs in any number, running ones, and all that lies in a folder."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from lottery.results.studies import RememberedStudy
from lottery.store.manifest import FileRecord, Manifest, seal
from lottery.store.store import Store

FIRST = datetime(2026, 1, 1, tzinfo=UTC)


def key_of(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def finish(store: Store, number: int, label: str = "", **about: Any) -> str:
    """Commit a job with a file of a few bytes."""
    about = {"kind": "dense", "label": label or f"job {number}", "environment": {"torch": "2"}, **about}
    store.commit(key_of(number), {"metrics.json": b"{}"}, **about)
    return key_of(number)


def finish_many(store: Store, count: int) -> list[str]:
    """Put finished jobs into a folder as `Store.commit` leaves them, without its care for power cuts."""
    environment = {"torch": "2.14.0", "device": "cpu", "threads": 2, "deterministic": False, "lottery": "0.1.0"}
    keys = [key_of(number) for number in range(count)]
    for number, key in enumerate(keys):
        data = b'{"density": 0.5, "number": %d}' % number
        created = (FIRST + timedelta(minutes=number)).isoformat(timespec="seconds")
        label = f"adam: ticket level {number % 20}, seed {number // 20}"
        files = {"metrics.json": FileRecord.of(data)}
        manifest = Manifest(1, key, "ticket", "done", None, label, files, 12.5, environment, created)
        folder = store.root / "jobs" / key[:2] / key
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_bytes(data)
        (folder / "manifest.json").write_bytes(seal(manifest.as_dict()))
    return keys


def remembered_study(name: str, keys: list[str], **about: Any) -> RememberedStudy:
    """A study with these jobs, as a store remembers it."""
    fields = {"recipe": f"name: {name}\n", "source": f"{name}.yaml", "overrides": (), "plugins": (), **about}
    version = hashlib.sha256(name.encode()).hexdigest()[:12]
    return RememberedStudy(
        name=name, version=version, first_run=FIRST, last_run=FIRST, document={}, jobs=tuple(keys), **fields
    )


def progress(store: Store, key: str, step: int, label: str = "a job", total: int = 100, **row: float) -> None:
    """Log what a process that trains logs of its progress."""
    about = {"step": step, "first": 0, "total": total, "seconds": 2.0, "images_per_second": 100.0}
    store.log("progress", key=key, label=label, about={**about, "row": {"step": step, **row}})


def contents(folder: Path) -> dict[str, Any]:
    """Return all that lies in a folder: bytes and time of the last change of each file, and the folders."""
    found = {}
    for path in sorted(folder.rglob("*")):
        about = path.lstat()
        found[str(path)] = (about.st_mtime_ns, about.st_ino, path.read_bytes() if path.is_file() else b"")
    return found
