"""The store: each path of a run's results is made in this file. A job is done when its folder has a valid manifest.

jobs/ab/<key>/        manifest.json and the files it lists, committed together, never changed
partial/<key>/        checkpoints of an unfinished job
leases/<key>.lease    who is working on a job
failures/<key>.json   why a job failed the last time
quarantine/           damaged folders, kept to be looked at
data/<hash>/          fingerprints of the data that a recipe's data section gave
notes/                what was looked for once and can be looked for again
events/               one log of JSON lines a process
"""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lottery.errors import DamagedFile, LotteryError, MachineError, Nondeterminism, UsageError
from lottery.files import write
from lottery.files.read import identity, names_in, parse_json, read_bytes, read_start
from lottery.store.checkpoints import Checkpoints
from lottery.store.finished import Finished
from lottery.store.leases import Leases
from lottery.store.manifest import (
    KEY,
    MANIFEST,
    MOST_BYTES,
    SCHEMA,
    FileRecord,
    Manifest,
    Status,
    check_key,
    verified,
    verify,
)

if TYPE_CHECKING:
    from torch import Tensor


ATTEMPTS = 5  # to commit a job whose folder turns out damaged
MOST_FAILURE_BYTES = 1 << 20
SHORTEST_PREFIX = 4

_HASH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_AGAIN = "lottery run computes it again"


class Store:
    """Finished jobs by key, shared by any number of processes. Nothing is created before something is written."""

    def __init__(self, root: Path):
        self.root = Path(root).absolute()
        self.leases = Leases(self.root / "leases")
        self.checkpoints = Checkpoints(self.root / "partial", self._quarantine)
        self._finished = Finished()
        self._started = time.time_ns()

    # Finished jobs

    def find(self, key: str) -> Manifest | None:
        """Return the manifest of a finished job whose files are all there with the sizes that were committed.

        A damaged job is put into quarantine, and None is returned: it is missing and will be run again.
        """
        folder = self._folder(key)
        found = identity(folder)
        if found is None:
            return None
        try:
            return self._finished.manifest(folder, key)
        except DamagedFile as damage:
            self._quarantine(Path(folder), key, str(damage), found)
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
        target = self.folder(ours.key)
        with write.write_draft(target, files, (MANIFEST, ours.encode())) as draft:
            for _ in range(ATTEMPTS):
                try:
                    write.publish(draft, target)
                    return ours
                except FileExistsError:
                    theirs = self.find(ours.key)
                if theirs is not None:
                    self._settle(draft, ours, theirs)
                    return theirs
            raise MachineError(f"{target}: is damaged again and again by another program; stop that and run again")

    def _settle(self, draft: Path, ours: Manifest, theirs: Manifest) -> None:
        """Keep what was committed first; ours is removed, or put aside if it should have been the same."""
        different = ours.different_files(theirs)
        if not different and ours.status == theirs.status:
            write.remove(draft)
            return
        what = ", ".join(different) or f"status {theirs.status} and {ours.status}"
        alike = ours.environment == theirs.environment
        if not alike or not ours.environment.get("deterministic", True):
            event = "not deterministic" if alike else "mixed environments"
            self.log(event, key=ours.key, label=ours.label, files=different)
            write.remove(draft)
            return
        aside = self.root / "quarantine" / f"{ours.key}-second-{write.unique()}"
        write.make_folder(aside.parent)
        write.move(draft, aside)
        self.log("nondeterminism", key=ours.key, label=ours.label, files=different, second=str(aside))
        raise Nondeterminism(
            f"{self.folder(ours.key)}: a second run of this job in the same environment gave another {what}; "
            f"the first is kept, the second is in {aside} to be compared"
        )

    def read(self, key: str, name: str) -> bytes:
        """Return a file of a finished job, its hash verified. Raises DamagedFile, the whole job put aside."""
        folder = self._folder(key)
        found = identity(folder)
        if found is None:
            raise DamagedFile(f"{folder}: is not there; the next {_AGAIN}")
        try:
            manifest = self._finished.manifest(folder, key)
            if name in manifest.files:
                return verified(folder, name, manifest.files[name])
        except DamagedFile as damage:
            self._quarantine(Path(folder), key, str(damage), found)
            raise DamagedFile(f"{damage}; the next {_AGAIN}") from damage
        raise LotteryError(f"{folder}: the job has no file {name!r}; it has {', '.join(manifest.files)}")

    def read_json(self, key: str, name: str) -> Any:
        """Return the value of a JSON file of a finished job. Raises DamagedFile."""
        return parse_json(self.read(key, name), str(self.folder(key) / name))

    def read_tensors(self, key: str, name: str) -> dict[str, Tensor]:
        """Return the tensors of a safetensors file of a finished job, by name. Raises DamagedFile."""
        from lottery.files.tensors import decode

        return decode(self.read(key, name))[0]

    def shapes(self, key: str, name: str) -> dict[str, tuple[int, ...]]:
        """Return the shape of each tensor in a safetensors file, from its header, unverified. Raises DamagedFile."""
        from lottery.files.tensors import header_bytes, shapes

        path = self.folder(key) / name
        return shapes(read_start(path, header_bytes(read_start(path, 8))))

    def manifest_bytes(self, key: str) -> bytes:
        """Return the bytes of a finished job's manifest, unverified. Raises DamagedFile where there is none."""
        return read_bytes(f"{self._folder(key)}/{MANIFEST}", most=MOST_BYTES)

    def whole(self, key: str) -> tuple[Manifest, dict[str, bytes]]:
        """Return a finished job for `adopt`, each hash verified. Raises DamagedFile, and leaves the job where it is."""
        folder = self._folder(key)
        manifest = Manifest.read(folder, key)
        return manifest, {name: verified(folder, name, record) for name, record in manifest.files.items()}

    def adopt(self, manifest: Manifest, files: Mapping[str, bytes]) -> Manifest:
        """Commit a job that another store finished, its manifest unchanged; as `commit` where it is here already."""
        return self._publish(manifest, files)

    def manifests(self) -> Iterator[Manifest]:
        """Yield the manifests of all finished jobs in the order of their keys; their files are not looked at."""
        for folder, key in self._folders():
            try:
                manifest: Manifest | None = Manifest.read(folder, key)
            except DamagedFile:
                manifest = self.find(key)
            if manifest is not None:
                yield manifest

    def keys(self) -> Iterator[str]:
        """Yield the keys of all finished jobs, in order, without a look at them."""
        return (key for _, key in self._folders())

    def verify(self) -> Iterator[tuple[str, str | None]]:
        """Compare every file of every job with its hash; yields key and problem or None. Damaged jobs are put aside."""
        for folder, key in self._folders():
            problem = None
            found = identity(folder)
            try:
                verify(folder, Finished().manifest(folder, key).files)  # read anew, whatever was read before
            except DamagedFile as damage:
                problem = str(damage)
                self._quarantine(Path(folder), key, problem, found)
            yield key, problem

    def resolve(self, prefix: str) -> str:
        """Return the key of the one finished job whose key starts so. Raises UsageError for none or several."""
        if not re.fullmatch(rf"[0-9a-f]{{{SHORTEST_PREFIX},64}}", prefix):
            raise UsageError(f"{prefix!r}: is no start of a key; give {SHORTEST_PREFIX} to 64 digits from 0-9 and a-f")
        keys = _keys(f"{self.root}/jobs/{prefix[:2]}", prefix)
        if len(keys) != 1:
            which = f"starts {len(keys)} keys, {', '.join(keys[:3])} ...; give more digits" if keys else "starts no key"
            raise UsageError(f"{prefix}: {which} in {self.root}")
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

    def lease(self, key: str, *, duration: float = 30.0) -> AbstractContextManager[bool]:
        """Claim a job for the length of a `with` block; False where another process is at it. Never waits.

        The claim of a process that is gone, or has not been heard of for `duration` seconds, is taken over.
        """
        return self.leases.hold(check_key(key), duration)

    def holder(self, key: str) -> str | None:
        """Return who is working on a job, as `process 4711 on host`."""
        return self.leases.holder(check_key(key))

    def record_failure(self, key: str, *, label: str, message: str) -> None:
        """Keep why a job failed, in place of the last time."""
        about = {"key": check_key(key), "label": label, "message": message[:100_000], "time": time.time()}
        write.make_folder(self.root / "failures")
        write.write_atomic(self._failure(key), json.dumps(about, indent=1).encode())

    def failure(self, key: str) -> dict[str, Any] | None:
        """Return key, label, message and time (seconds since 1970) of the last failure; None if there is none."""
        path = self._failure(key)
        with suppress(DamagedFile):  # a note that cannot be read is as good as none
            found = parse_json(read_bytes(path, most=MOST_FAILURE_BYTES), str(path))
            if isinstance(found, dict) and found.keys() == {"key", "label", "message", "time"} and found["key"] == key:
                return found
        return None

    def clear_failure(self, key: str) -> None:
        """Forget the last failure."""
        path = self._failure(key)
        if path.exists():
            write.remove(path)

    # The store as a whole

    def remember_data(self, spec_hash: str, fingerprint: str) -> None:
        """Note that a recipe's data section gave data of this fingerprint."""
        path = self.root / "data" / _hash(spec_hash) / _hash(fingerprint)
        if not path.exists():
            write.make_folder(path.parent)
            write.write_atomic(path, b"")

    def remembered_data(self, spec_hash: str) -> list[str]:
        """Return the fingerprints noted, sorted."""
        return [name for name in names_in(self.root / "data" / _hash(spec_hash)) if not write.DRAFT.search(name)]

    def all_remembered_data(self) -> Iterator[tuple[str, str]]:
        """Yield what `remember_data` was told: hashes of data sections, each with a fingerprint."""
        for spec in names_in(self.root / "data"):
            if _HASH.fullmatch(spec):
                yield from ((spec, fingerprint) for fingerprint in self.remembered_data(spec))

    def log(self, event: str, **fields: Any) -> None:
        """Add a line to this process's log. A disk that is full does not stop a run here."""
        line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **fields}
        host = re.sub(r"[^A-Za-z0-9.-]", "_", socket.gethostname())
        path = self.root / "events" / f"{host}-{os.getpid()}-{self._started}.jsonl"
        with suppress(MachineError, UsageError):
            write.make_folder(path.parent)
            write.append(path, json.dumps(line, default=str).encode() + b"\n")

    def free_bytes(self) -> int:
        """Return the bytes free where the store is, or is going to be."""
        return write.free_bytes(self.root)

    def folder(self, key: str) -> Path:
        """Return the folder of a job's files once it is finished."""
        return Path(self._folder(key))

    def _folder(self, key: str) -> str:
        return f"{self.root}/jobs/{check_key(key)[:2]}/{key}"

    def _failure(self, key: str) -> Path:
        return self.root / "failures" / f"{check_key(key)}.json"

    def _folders(self) -> Iterator[tuple[str, str]]:
        jobs = self.root / "jobs"
        for shelf in names_in(jobs):
            for key in _keys(f"{jobs}/{shelf}", shelf):
                yield f"{jobs}/{shelf}/{key}", key

    def _quarantine(self, folder: Path, key: str, problem: str, judged: tuple[int, int] | None = None) -> None:
        """Put a damaged folder aside, unless another process has done so and the job is there anew.

        The new name is made of the folder that was judged: of two processes that judged the same, the second finds
        the name taken and leaves alone what was committed in between.
        """
        judged = judged or identity(folder)
        if judged is None or identity(folder) != judged:
            return
        write.remove_empty(folder)
        aside = self.root / "quarantine" / f"{key}-{judged[0]:x}-{judged[1]:x}"
        write.make_folder(aside.parent)
        if write.move(folder, aside):
            self.log("damaged", key=key, problem=problem, quarantine=str(aside))


def _keys(shelf: str, prefix: str) -> list[str]:
    return [key for key in names_in(shelf) if key.startswith(prefix) and KEY.fullmatch(key)]


def _hash(text: str) -> str:
    if not _HASH.fullmatch(text):
        raise UsageError(f"{text!r}: is no hash; use up to 128 letters, digits, '.', '_' and '-'")
    return text
