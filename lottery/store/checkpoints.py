"""Checkpoints: states of unfinished jobs, from which a killed run goes on; the two newest are kept."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from lottery.errors import DamagedFile
from lottery.files import write
from lottery.files.read import names_in, read_bytes
from lottery.store.manifest import KEY, MANIFEST, MOST_BYTES, FileRecord, file_records, seal, unseal, verified

KEPT = 2

_NAME = re.compile(r"(\d{12,18})-[0-9a-f]{16}-\d+-[0-9a-f]{8}-[0-9a-f]{12}")  # step, time, `files.write.unique`


class Checkpoints:
    """The checkpoints of one store. `quarantine(folder, key, problem)` puts a damaged one aside."""

    def __init__(self, folder: Path, quarantine: Callable[[Path, str, str], None]):
        self.folder = folder
        self._quarantine = quarantine

    def save(self, key: str, step: int, files: Mapping[str, bytes]) -> None:
        """Commit a state after `step` steps; then let go of all but the two newest."""
        about = {name: {"size": len(data), "sha256": FileRecord.of(data).sha256} for name, data in files.items()}
        manifest = seal({"checkpoint": key, "step": step, "files": about})
        target = self.folder / key / f"{step:012d}-{time.time_ns():016x}-{write.unique()}"
        with write.write_draft(target, files, (MANIFEST, manifest)) as draft:
            write.publish(draft, target)
        for old in self._of(key)[KEPT:]:
            write.retire(old)

    def load(self, key: str) -> tuple[int, dict[str, bytes]] | None:
        """Return step and files of the newest checkpoint that verifies; damaged ones on the way are put aside."""
        for folder in self._of(key):
            try:
                return _load(folder, key)
            except DamagedFile as damage:
                self._quarantine(folder, key, str(damage))
        return None

    def read(self, key: str, name: str) -> bytes | None:
        """Return one file of the newest checkpoint; None if there is none, or it is damaged."""
        for folder in self._of(key)[:1]:
            with suppress(DamagedFile):
                return verified(folder, name, _records(folder, key)[name])
        return None

    def step(self, key: str) -> int | None:
        """Return the step of the newest checkpoint, unverified."""
        found = self._of(key)
        return _step(found[0]) if found else None

    def drop(self, key: str) -> None:
        """Remove them all. One that another process saves at this moment stays, for `lottery gc`."""
        for folder in self._of(key):
            write.retire(folder)
        if (self.folder / key).is_dir():
            write.remove_empty(self.folder / key)

    def jobs(self) -> list[str]:
        """Return the keys of the jobs that have a checkpoint."""
        return [key for key in names_in(self.folder) if KEY.fullmatch(key) and self._of(key)]

    def _of(self, key: str) -> list[Path]:
        """Return the folders of a job's checkpoints, newest first."""
        return [self.folder / key / name for name in reversed(names_in(self.folder / key)) if _NAME.fullmatch(name)]


def _load(folder: Path, key: str) -> tuple[int, dict[str, bytes]]:
    return _step(folder), {name: verified(folder, name, record) for name, record in _records(folder, key).items()}


def _records(folder: Path, key: str) -> dict[str, FileRecord]:
    """Return the files of a checkpoint, by its manifest. Raises DamagedFile."""
    place = str(folder / MANIFEST)
    about = unseal(read_bytes(folder / MANIFEST, most=MOST_BYTES), place)
    if about.keys() != {"checkpoint", "step", "files"} or (about["checkpoint"], about["step"]) != (key, _step(folder)):
        raise DamagedFile(f"{place}: is no manifest of this checkpoint")
    return file_records(about["files"], place)


def _step(folder: Path) -> int:
    return int(folder.name.partition("-")[0])
