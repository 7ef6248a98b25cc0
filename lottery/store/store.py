"""The store: finished jobs, and what is known of others, in one place. A job is done when it has a valid manifest.

jobs/ab/<key>/        manifest.json and the files it lists, committed together, never changed
partial/<key>/        checkpoints of an unfinished job
leases/<key>.lease    who is working on a job
failures/<key>.json   why a job failed the last time
quarantine/           damaged folders, kept to be looked at
data/<hash>/          fingerprints of the data that a recipe's data section gave
notes/  studies/      what can be looked for again; what was run, see `lottery.results.studies`
events/               one log of JSON lines a process
"""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lottery.errors import DamagedFile, LotteryError, MachineError, Nondeterminism, UsageError
from lottery.files import write
from lottery.files.read import parse_json
from lottery.store.checkpoints import Checkpoints
from lottery.store.fingerprints import Fingerprints
from lottery.store.folder import Folder
from lottery.store.manifest import MANIFEST, SCHEMA, FileRecord, Manifest, Status, check_key
from lottery.store.place import Draft, Place, open_place

if TYPE_CHECKING:
    from torch import Tensor

ATTEMPTS = 5  # to commit a job whose folder turns out damaged
MOST_FAILURE_BYTES = 1 << 20
SHORTEST_PREFIX = 4

_AGAIN = "lottery run computes it again"


class Store:
    """Finished jobs by key, shared by any number of processes. Nothing is created before something is written."""

    def __init__(self, where: Place | Path | str):
        self.place: Place = open_place(where) if isinstance(where, (Path, str)) else where
        self.leases = self.place.leases
        self.checkpoints = Checkpoints(self.place, self._quarantine)
        self._fingerprints = Fingerprints(self.place)
        self._started = time.time_ns()

    @property
    def name(self) -> str:
        """The place as `--store` and messages name it."""
        return self.place.name

    @property
    def root(self) -> Path:
        """The folder of the store. Raises UsageError where it lies in no folder."""
        if isinstance(self.place, Folder):
            return self.place.root
        raise UsageError(f"{self.name}: is no folder of this machine; lottery store pull copies it into one")

    # Finished jobs

    def find(self, key: str) -> Manifest | None:
        """Return the manifest of a finished job whose files are all there with the sizes that were committed.

        A damaged job is put into quarantine, and None is returned: it is missing and will be run again.
        """
        path = _path(key)
        found = self.place.identity(path)
        if found is None:
            return None
        try:
            return self.place.finished(key)
        except DamagedFile as damage:
            self._quarantine(path, key, str(damage), found)
            return None

    def state(self, key: str) -> str:
        """Return `done`, `diverged`, `running`, `failed`, `interrupted` or `missing`."""
        if (manifest := self.find(key)) is not None:
            return manifest.status
        if self.leases.holder(key) is not None:
            return "running"
        if self.failure(key) is not None:
            return "failed"
        return "missing" if self.checkpoints.step(key) is None else "interrupted"

    def commit(
        self,
        key: str,
        files: Mapping[str, bytes],
        *,
        kind: str,
        status: Status = "done",
        parent: str | None = None,
        label: str = "",
        seconds: float = 0.0,
        environment: Mapping[str, Any] | None = None,
    ) -> Manifest:
        """Keep a job's files for good, all or none. If another process was first, its job is kept and returned.

        Arguments beside `files` (bytes by name) are those of `Manifest`.

        Raises:
            Nondeterminism: the other process's files differ, in the same environment that claims to be deterministic.
            MachineError: the machine refuses to write, or another program damages the folder again and again.
        """
        if MANIFEST in files:
            raise UsageError(f"{MANIFEST}: is the store's own; name the file differently")
        ours = Manifest(
            schema=SCHEMA,
            key=check_key(key),
            kind=kind,
            status=status,
            parent=None if parent is None else check_key(parent),
            label=label,
            files={name: FileRecord.of(data) for name, data in files.items()},
            seconds=float(seconds),
            environment=json.loads(json.dumps(dict(environment or {}))),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        return self._publish(ours, files)

    def _publish(self, ours: Manifest, files: Mapping[str, bytes]) -> Manifest:
        """Put a manifest and its files in place, or keep those that another process was first with."""
        path = _path(ours.key)
        with self.place.draft(path, files, ours.encode()) as draft:
            for _ in range(ATTEMPTS):
                try:
                    draft.publish()
                    return ours
                except FileExistsError:
                    theirs = self.find(ours.key)
                if theirs is not None:
                    self._settle(draft, ours, theirs)
                    return theirs
        raise MachineError(f"{self.place.spell(path)}: is damaged again and again; stop what does so and run again")

    def _settle(self, draft: Draft, ours: Manifest, theirs: Manifest) -> None:
        """Keep what was committed first; ours is removed, or put aside if it should have been the same."""
        different = ours.different_files(theirs)
        if not different and ours.status == theirs.status:
            draft.discard()
            return
        what = ", ".join(different) or f"status {theirs.status} and {ours.status}"
        alike = ours.environment == theirs.environment
        if not alike or not ours.environment.get("deterministic", True):
            event = "not deterministic" if alike else "mixed environments"
            self.log(event, key=ours.key, label=ours.label, files=different)
            draft.discard()
            return
        aside = draft.put_aside(f"{ours.key}-second-{write.unique()}")
        self.log("nondeterminism", key=ours.key, label=ours.label, files=different, second=aside)
        raise Nondeterminism(
            f"{self.place.spell(_path(ours.key))}: a second run of this job in the same environment gave another "
            f"{what}; the first is kept, the second is in {aside} to be compared"
        )

    def read(self, key: str, name: str) -> bytes:
        """Return a file of a finished job, its hash verified. Raises DamagedFile, the whole job put aside."""
        path = _path(key)
        found = self.place.identity(path)
        if found is None:
            raise DamagedFile(f"{self.place.spell(path)}: is not there; the next {_AGAIN}")
        try:
            manifest = self.place.finished(key)
            if name in manifest.files:
                return self.place.verified(path, name, manifest.files[name])
        except DamagedFile as damage:
            self._quarantine(path, key, str(damage), found)
            raise DamagedFile(f"{damage}; the next {_AGAIN}") from damage
        raise LotteryError(f"{self.place.spell(path)}: has no file {name!r}; it has {', '.join(manifest.files)}")

    def read_start(self, key: str, name: str, length: int | None = None) -> bytes:
        """Return the first bytes of a file of a finished job, or all, unverified. Raises DamagedFile."""
        return self.place.start(_path(key), name, length)

    def read_json(self, key: str, name: str) -> Any:
        """Return the value of a JSON file of a finished job. Raises DamagedFile."""
        return parse_json(self.read(key, name), self.place.spell(f"{_path(key)}/{name}"))

    def read_tensors(self, key: str, name: str) -> dict[str, Tensor]:
        """Return the tensors of a safetensors file of a finished job, by name. Raises DamagedFile."""
        from lottery.files.tensors import decode

        return decode(self.read(key, name))[0]

    def shapes(self, key: str, name: str) -> dict[str, tuple[int, ...]]:
        """Return the shape of each tensor in a safetensors file, from its header, unverified. Raises DamagedFile."""
        from lottery.files.tensors import header_bytes, shapes

        return shapes(self.read_start(key, name, header_bytes(self.read_start(key, name, 8))))

    def manifest_bytes(self, key: str) -> bytes:
        """Return the bytes of a finished job's manifest, unverified. Raises DamagedFile where there is none."""
        return self.place.manifest_bytes(_path(key))

    def whole(self, key: str) -> tuple[Manifest, dict[str, bytes]]:
        """Return a finished job for `adopt`, each hash verified. Raises DamagedFile, and leaves the job where it is."""
        path, manifest = _path(key), self.place.manifest(key)
        return manifest, {name: self.place.verified(path, name, record) for name, record in manifest.files.items()}

    def adopt(self, manifest: Manifest, files: Mapping[str, bytes]) -> Manifest:
        """Commit a job that another store finished, its manifest unchanged; as `commit` where it is here already."""
        return self._publish(manifest, files)

    def manifests(self) -> Iterator[Manifest]:
        """Yield the manifests of all finished jobs in the order of their keys; their files are not looked at."""
        keys = list(self.keys())
        self.place.expect(keys, files=False)
        for key in keys:
            try:
                manifest: Manifest | None = self.place.manifest(key)
            except DamagedFile:
                manifest = self.find(key)
            if manifest is not None:
                yield manifest

    def expect(self, keys: Iterable[str]) -> None:
        """Make ready for reading many jobs."""
        self.place.expect(keys, files=True)

    def keys(self) -> Iterator[str]:
        """Yield the keys of all finished jobs, in order, without a look at them."""
        return self.place.keys("")

    def verify(self) -> Iterator[tuple[str, str | None]]:
        """Compare every file of every job with its hash; yields key and problem or None. Damaged jobs are put aside."""
        for key in self.keys():
            path, problem = _path(key), None
            found = self.place.identity(path)
            try:
                for name, record in self.place.finished(key, anew=True).files.items():
                    self.place.verify(path, name, record)
            except DamagedFile as damage:
                problem = str(damage)
                self._quarantine(path, key, problem, found)
            yield key, problem

    def resolve(self, prefix: str) -> str:
        """Return the key of the one finished job whose key starts so. Raises UsageError for none or several."""
        if not re.fullmatch(rf"[0-9a-f]{{{SHORTEST_PREFIX},64}}", prefix):
            raise UsageError(f"{prefix!r}: is no start of a key; give {SHORTEST_PREFIX} to 64 digits from 0-9 and a-f")
        keys = list(self.place.keys(prefix))
        if len(keys) != 1:
            many = f"starts {len(keys)} keys, {', '.join(keys[:3])} ...; give more digits"
            raise UsageError(f"{prefix}: {many if keys else 'starts no key'} in {self.name}")
        return keys[0]

    # Unfinished jobs

    def save_checkpoint(self, key: str, step: int, files: Mapping[str, bytes]) -> None:
        """Keep the state of a job after `step` steps; the two newest are kept. Raises MachineError."""
        self.checkpoints.save(check_key(key), step, files)

    def load_checkpoint(self, key: str) -> tuple[int, dict[str, bytes]] | None:
        """Return step and files of the newest checkpoint that verifies."""
        return self.checkpoints.load(check_key(key))

    def read_checkpoint(self, key: str, name: str) -> bytes | None:
        """Return one file of the newest checkpoint; None if there is none, or it is damaged."""
        return self.checkpoints.read(check_key(key), name)

    def checkpoint_step(self, key: str) -> int | None:
        """Return the step of the newest checkpoint, unverified."""
        return self.checkpoints.step(check_key(key))

    def drop_checkpoints(self, key: str) -> None:
        """Remove all checkpoints of a job."""
        self.checkpoints.drop(check_key(key))

    def lease(self, key: str, *, duration: float | None = None) -> AbstractContextManager[bool]:
        """Claim a job for the length of a `with` block; False where another process is at it. Never waits.

        The claim of a process that is gone, or silent for `duration` seconds (by default as suits the place), is taken.
        """
        return self.leases.hold(check_key(key), duration)

    def holder(self, key: str) -> str | None:
        """Return who is working on a job, as `process 4711 on host`."""
        return self.leases.holder(check_key(key))

    def record_failure(self, key: str, *, label: str, message: str) -> None:
        """Keep why a job failed, in place of the last time."""
        about = {"key": check_key(key), "label": label, "message": message[:100_000], "time": time.time()}
        self.place.write(_failure(key), json.dumps(about, indent=1).encode())

    def failure(self, key: str) -> dict[str, Any] | None:
        """Return key, label, message and time (seconds since 1970) of the last failure; None if there is none."""
        path = _failure(key)
        with suppress(DamagedFile):  # a note that cannot be read is as good as none
            found = parse_json(self.place.read(path, MOST_FAILURE_BYTES), self.place.spell(path))
            if isinstance(found, dict) and found.keys() == {"key", "label", "message", "time"} and found["key"] == key:
                return found
        return None

    def clear_failure(self, key: str) -> None:
        """Forget the last failure."""
        self.place.remove(_failure(key))

    # The store as a whole

    def remember_data(self, spec_hash: str, fingerprint: str) -> None:
        """Note that a recipe's data section gave data of this fingerprint."""
        self._fingerprints.add(spec_hash, fingerprint)

    def remembered_data(self, spec_hash: str) -> list[str]:
        """Return the fingerprints noted, sorted."""
        return self._fingerprints.of(spec_hash)

    def all_remembered_data(self) -> Iterator[tuple[str, str]]:
        """Yield what `remember_data` was told."""
        return self._fingerprints.all()

    def log(self, event: str, **fields: Any) -> None:
        """Add a line to this process's log. A disk that is full does not stop a run here."""
        line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **fields}
        host = re.sub(r"[^A-Za-z0-9.-]", "_", socket.gethostname())
        path = f"events/{host}-{os.getpid()}-{self._started}.jsonl"
        with suppress(MachineError, UsageError):
            self.place.append(path, json.dumps(line, default=str).encode() + b"\n")

    def free_bytes(self) -> int | None:
        """Return the bytes free where the store is, or is going to be; None where there is no limit."""
        return self.place.free_bytes()

    def folder(self, key: str) -> Path:
        """Return the folder of a job's files once it is finished. Raises UsageError for a store in no folder."""
        return self.root / _path(key)

    def _quarantine(self, path: str, key: str, problem: str, judged: str | None = None) -> None:
        """Put a damaged group of files aside, unless another process has done so."""
        judged = judged or self.place.identity(path)
        name = f"{key}-{judged}"
        if judged is not None and self.place.put_aside(path, name, judged):
            self.log("damaged", key=key, problem=problem, quarantine=self.place.spell(f"quarantine/{name}"))


def _path(key: str) -> str:
    return f"jobs/{check_key(key)[:2]}/{key}"


def _failure(key: str) -> str:
    return f"failures/{check_key(key)}.json"
