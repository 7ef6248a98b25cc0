"""The manifest of a committed folder: its files by name, size and hash, itself sealed by a hash."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from lottery.errors import DamagedFile, UsageError
from lottery.files.read import parse_json, read_bytes
from lottery.files.write import NAME

SCHEMA = 1
MANIFEST = "manifest.json"
MOST_BYTES = 1 << 20
KEY = re.compile(r"[0-9a-f]{64}")  # also the form of a sha256

Status = Literal["done", "diverged"]

_SEAL = re.compile(rb'\{"sha256": "([0-9a-f]{64})",')
_FIELDS = {"schema", "key", "kind", "status", "parent", "label", "files", "seconds", "environment", "created"}


@dataclass(frozen=True, slots=True)
class FileRecord:
    """Size in bytes and sha256 in hex of a committed file."""

    size: int
    sha256: str

    @classmethod
    def of(cls, data: bytes) -> FileRecord:
        """Return the record of a file with these bytes."""
        return cls(len(data), hashlib.sha256(data).hexdigest())


@dataclass(frozen=True, slots=True)
class Manifest:
    """The record of a finished job.

    Attributes:
        schema: version of this format.
        key: of the job.
        kind: value of its `lottery.plan.kinds.Kind`.
        status: "done", or "diverged".
        parent: key of the job whose result it started from.
        label: words for it.
        files: by name.
        seconds: time that its work took, over all sessions.
        environment: of the last session, as JSON has it; those of earlier ones, where they differ, under "earlier".
        created: time of the commit in UTC (ISO 8601).
    """

    schema: int
    key: str
    kind: str
    status: Status
    parent: str | None
    label: str
    files: dict[str, FileRecord]
    seconds: float
    environment: dict[str, Any]
    created: str

    @property
    def sessions(self) -> list[dict[str, Any]]:
        """The environments of the sessions that the work took, the last one first."""
        last = {name: value for name, value in self.environment.items() if name != "earlier"}
        return [last, *self.environment.get("earlier", ())]

    @property
    def engines(self) -> set[str]:
        """The engines that computed its training steps; without a record it was the dense one, once the only one."""
        return {str(session.get("engine", "dense")) for session in self.sessions}

    @property
    def in_lockstep(self) -> bool:
        """True if its steps were done together with those of other trainings: its seconds are a share of theirs."""
        return any(engine.startswith("lockstep") for engine in self.engines)

    @property
    def machines(self) -> list[dict[str, Any]]:
        """The `sessions`, each without the engine."""
        return [{k: v for k, v in session.items() if k != "engine"} for session in self.sessions]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, as in the file."""
        return asdict(self)

    def encode(self) -> bytes:
        """Return the bytes of `manifest.json`. Raises ValueError for an environment that JSON cannot hold."""
        return seal(self.as_dict())

    @classmethod
    def read(cls, folder: str, key: str) -> Manifest:
        """Return the manifest in a job's folder.

        Raises:
            DamagedFile: it is missing, damaged or another job's.
            UsageError: a newer version of this program wrote it.
        """
        place = f"{folder}/{MANIFEST}"
        return cls.decode(read_bytes(place, most=MOST_BYTES), place, key)

    @classmethod
    def decode(cls, data: bytes, place: str, key: str) -> Manifest:
        """Return the manifest that `encode` made these bytes of; `place` names them in messages. Raises as `read`."""
        found = unseal(data, place)
        schema = found.get("schema")
        if isinstance(schema, int) and schema > SCHEMA:
            raise UsageError(f"{place}: was written by a newer version of lottery (schema {schema}); update lottery")
        if schema != SCHEMA or found.keys() != _FIELDS or not _plausible(found, key):
            raise DamagedFile(f"{place}: is no manifest of job {key}")
        found["files"] = file_records(found["files"], place)
        return cls(**found)

    def different_files(self, other: Manifest) -> list[str]:
        """Return the names of the files that the other manifest lacks, or has with other bytes, and the reverse."""
        names = sorted(self.files.keys() | other.files.keys())
        return [name for name in names if self.files.get(name) != other.files.get(name)]


def seal(body: Mapping[str, Any]) -> bytes:
    """Return JSON whose first key is the sha256 of all that follows, so that any flipped bit shows."""
    rest = json.dumps(body, sort_keys=True, indent=1, allow_nan=False)[1:].encode()
    return b'{"sha256": "%s",%s' % (hashlib.sha256(rest).hexdigest().encode(), rest)


def unseal(data: bytes, place: str) -> dict[str, Any]:
    """Return what `seal` was given; `place` names it in messages. Raises DamagedFile if any byte differs."""
    if not is_sealed(data):
        raise DamagedFile(f"{place}: its bytes are not those that were written")
    body = parse_json(data, place)
    if not isinstance(body, dict):
        raise DamagedFile(f"{place}: is no manifest")
    del body["sha256"]
    return body


def is_sealed(data: bytes) -> bool:
    """Return True if these are the bytes that `seal` returned, each of them."""
    match = _SEAL.match(data)
    return match is not None and hashlib.sha256(memoryview(data)[match.end() :]).hexdigest().encode() == match[1]


def file_records(files: Any, place: str) -> dict[str, FileRecord]:
    """Return the files that a manifest lists; `place` names it in messages.

    Raises:
        DamagedFile: a name could lead out of the folder, or something is not of the form that is written.
    """
    if not isinstance(files, dict):
        raise DamagedFile(f"{place}: lists no files")
    found = {}
    for name, record in files.items():
        if not NAME.fullmatch(name) or name == MANIFEST:
            raise DamagedFile(f"{place}: {name!r} cannot be the name of a file")
        if not isinstance(record, dict) or record.keys() != {"size", "sha256"}:
            raise DamagedFile(f"{place}: {name}: size and sha256 are missing")
        size, digest = record["size"], record["sha256"]
        if type(size) is not int or size < 0 or not isinstance(digest, str) or not KEY.fullmatch(digest):
            raise DamagedFile(f"{place}: {name}: has no valid size and sha256")
        found[name] = FileRecord(size, digest)
    return found


def verified_bytes(data: bytes, place: str, record: FileRecord) -> bytes:
    """Return the bytes of a committed file; `place` names it. Raises DamagedFile if they are not those committed."""
    if len(data) != record.size or hashlib.sha256(data).hexdigest() != record.sha256:
        raise not_committed(place)
    return data


def not_committed(place: str) -> DamagedFile:
    """Return the error of a file with other bytes than its manifest says."""
    return DamagedFile(f"{place}: its bytes are not those that were committed")


def check_key(key: str) -> str:
    """Return the key if it is 64 hexadecimal digits. Raises UsageError."""
    if not isinstance(key, str) or not KEY.fullmatch(key):
        raise UsageError(f"{key!r}: is no key of a job; a key is 64 digits from 0-9 and a-f")
    return key


def _plausible(found: Mapping[str, Any], key: str) -> bool:
    parent, seconds = found["parent"], found["seconds"]
    return (
        found["key"] == key
        and found["status"] in get_args(Status)
        and (parent is None or (isinstance(parent, str) and KEY.fullmatch(parent) is not None))
        and isinstance(seconds, (int, float))
        and 0 <= seconds < math.inf
        and isinstance(found["environment"], dict)
        and all(isinstance(found[name], str) for name in ("kind", "label", "created"))
    )
