"""Checkpoints: states of unfinished jobs, from which a killed run goes on; the two newest are kept."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from lottery.errors import DamagedFile
from lottery.files import write
from lottery.store.manifest import KEY, MANIFEST, FileRecord, file_records, seal, unseal
from lottery.store.place import Place

KEPT = 2

_NAME = re.compile(r"(\d{12,18})-[0-9a-f]{16}-\d+-[0-9a-f]{8}-[0-9a-f]{12}")  # step, time, `files.write.unique`


class Checkpoints:
    """The checkpoints of one store. `quarantine(path, key, problem)` puts a damaged one aside."""

    def __init__(self, place: Place, quarantine: Callable[[str, str, str], None]):
        self._place = place
        self._quarantine = quarantine

    def save(self, key: str, step: int, files: Mapping[str, bytes]) -> None:
        """Commit a state after `step` steps; then let go of all but the two newest."""
        about = {name: {"size": len(data), "sha256": FileRecord.of(data).sha256} for name, data in files.items()}
        manifest = seal({"checkpoint": key, "step": step, "files": about})
        path = f"partial/{key}/{step:012d}-{time.time_ns():016x}-{write.unique()}"
        with self._place.draft(path, files, manifest) as draft:
            draft.publish()
        for old in self._of(key)[KEPT:]:
            self._place.retire(old)

    def load(self, key: str) -> tuple[int, dict[str, bytes]] | None:
        """Return step and files of the newest checkpoint that verifies; damaged ones on the way are put aside."""
        for path in self._of(key):
            try:
                records = self._records(path, key)
                return _step(path), {name: self._place.verified(path, name, each) for name, each in records.items()}
            except DamagedFile as damage:
                self._quarantine(path, key, str(damage))
        return None

    def read(self, key: str, name: str) -> bytes | None:
        """Return one file of the newest checkpoint; None if there is none, or it is damaged."""
        for path in self._of(key)[:1]:
            with suppress(DamagedFile):
                return self._place.verified(path, name, self._records(path, key)[name])
        return None

    def step(self, key: str) -> int | None:
        """Return the step of the newest checkpoint, unverified."""
        found = self._of(key)
        return _step(found[0]) if found else None

    def drop(self, key: str) -> None:
        """Remove them all. One that another process saves at this moment stays, for `lottery gc`."""
        for path in self._of(key):
            self._place.retire(path)
        self._place.remove(f"partial/{key}")

    def jobs(self) -> list[str]:
        """Return the keys of the jobs that have a checkpoint."""
        return [key for key in self._place.names("partial") if KEY.fullmatch(key) and self._of(key)]

    def _of(self, key: str) -> list[str]:
        """Return the paths of a job's checkpoints, newest first."""
        folder = f"partial/{key}"
        return [f"{folder}/{name}" for name in reversed(self._place.names(folder)) if _NAME.fullmatch(name)]

    def _records(self, path: str, key: str) -> dict[str, FileRecord]:
        """Return the files of a checkpoint, by its manifest. Raises DamagedFile."""
        where = self._place.spell(f"{path}/{MANIFEST}")
        about = unseal(self._place.manifest_bytes(path), where)
        own = {"checkpoint": key, "step": _step(path)}
        if about.keys() != {*own, "files"} or any(about[name] != value for name, value in own.items()):
            raise DamagedFile(f"{where}: is no manifest of this checkpoint")
        return file_records(about["files"], where)


def _step(path: str) -> int:
    return int(path.rpartition("/")[2].partition("-")[0])
