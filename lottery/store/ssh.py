"""Stores on machines that are reached by ssh: rsync carries the files, both ends verify them.

A mirror of the other store's manifests is kept in the notes of the own one, so that a second transfer asks only for
what is new. What is pulled is fetched into the mirror and goes from there into the store as from any other store. What
is pushed is put beside the jobs of the other machine; sha256sum verifies it there before it takes its name.
"""

from __future__ import annotations

import hashlib
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lottery.errors import MachineError, UsageError
from lottery.files import write
from lottery.files.read import names_in
from lottery.store.manifest import MANIFEST
from lottery.store.store import Store
from lottery.store.transfer import Tell, Transfer, transfer

if TYPE_CHECKING:
    from lottery.store.manifest import Manifest

_PLACE = re.compile(r"((?:[A-Za-z0-9._-]+@)?[A-Za-z0-9_][A-Za-z0-9._-]*):(.+)")

# Verifies what has arrived by the hashes on stdin, and gives each job its name; one that is there
# already stays: `mv -T` fails on a folder that is not empty.
_TAKE_IN = """
set -eu
cd -- "$1"
if ! (cd -- "$2" && sha256sum --check --quiet --strict - >&2); then
    rm -rf -- "$2"; echo "what arrived is not what was sent" >&2; exit 9
fi
sync
for job in "$2"/jobs/*/*; do
    shelf=jobs/$(basename "$(dirname "$job")")
    mkdir -p "$shelf"
    mv -T -- "$job" "$shelf/$(basename "$job")" 2>/dev/null || true
done
for study in "$2"/studies/*.json; do
    [ -e "$study" ] || continue
    mkdir -p studies
    mv -n -- "$study" "studies/$(basename "$study")"
done
for note in "$2"/data/*/*; do
    [ -e "$note" ] || continue
    spec=data/$(basename "$(dirname "$note")")
    mkdir -p "$spec"
    : >> "$spec/$(basename "$note")"
done
rm -rf -- "$2"
sync
"""


@dataclass(frozen=True)
class Remote:
    """A store on another machine: `user@host:folder` as ssh and rsync have it."""

    host: str
    folder: str

    @classmethod
    def parse(cls, place: str) -> Remote | None:
        """Return the store that a place names; None for a place that is no other machine's."""
        match = _PLACE.fullmatch(place)
        if match is None or "://" in place or Path(place).exists():
            return None
        return cls(match[1], match[2].removeprefix("~/").rstrip("/") or "/")

    def __str__(self) -> str:
        """Return the place as it is given."""
        return f"{self.host}:{self.folder}"

    def pull(self, store: Store, tell: Tell) -> Transfer:
        """Copy into `store` what it lacks. Raises MachineError and UsageError."""
        mirror = self._mirror(store)
        fetching = mirror.root / "fetching"
        if fetching.exists():  # an earlier one was cut off
            _forget_files(mirror, mirror.keys())
        write.write_atomic(fetching, b"")
        missing = sorted(set(mirror.keys()) - set(store.keys()))
        if missing:
            self._rsync(("--files-from=-", "--exclude=*.tmp-*"), self._path(""), f"{mirror.root}/", _folders(missing))
        found = transfer(mirror, store, tell)
        _forget_files(mirror, missing)
        write.remove(fetching)
        return found

    def push(self, store: Store, tell: Tell) -> Transfer:
        """Copy from `store` what the other machine lacks. Raises MachineError and UsageError."""
        sent = _Sent(self._mirror(store, create=True))
        found = transfer(store, sent, tell)
        if not found.copied:
            return found
        incoming = f"incoming.tmp-{write.unique()}"
        notes = "".join(f"{name}/\n" for name in ("data", "studies") if (store.root / name).is_dir())
        paths = _folders(found.copied) + notes
        self._rsync(("--files-from=-", "--exclude=*.tmp-*"), f"{store.root}/", self._path(f"{incoming}/"), paths)
        sums = "".join(f"{sha256}  {path}\n" for path, sha256 in sent.sums.items())
        self._ssh(_TAKE_IN, self.folder, incoming, given=sums)
        return found

    def mirror(self, store: Store) -> Store:
        """Return where the copy of the other store's manifests and notes is kept, as it was brought last."""
        return Store(store.root / "notes" / "mirrors" / hashlib.sha256(str(self).encode()).hexdigest()[:16])

    def _mirror(self, store: Store, *, create: bool = False) -> Store:
        """Bring the copy of the other store's manifests up to date, and return it as a store."""
        for program in ("rsync", "ssh"):
            if shutil.which(program) is None:
                raise UsageError(f"{self}: this machine has no {program}; install it, or name a folder")
        if create:
            self._ssh('mkdir -p -- "$1/jobs"', self.folder)
        mirror = self.mirror(store)
        write.make_folder(mirror.root)
        kept = ("/jobs/", "/jobs/*/", "/jobs/*/*/", f"/jobs/*/*/{MANIFEST}", "/data/***", "/studies/***")
        which = ["--exclude=*.tmp-*", *(f"--include={each}" for each in kept), "--exclude=*", "--delete"]
        self._rsync(which, self._path(""), f"{mirror.root}/")
        return mirror

    def _path(self, inner: str) -> str:
        return f"{self.host}:{self.folder}/{inner}"

    def _rsync(self, options: Iterable[str], source: str, target: str, paths: str = "") -> None:
        command = ["rsync", "--recursive", "--times", "--secluded-args", *options, "--", source, target]
        self._run(command, paths)

    def _ssh(self, script: str, *arguments: str, given: str = "") -> None:
        self._run(["ssh", self.host, shlex.join(["sh", "-c", script, "sh", *arguments])], given)

    def _run(self, command: Sequence[str], given: str) -> None:
        done = subprocess.run(command, input=given, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            raise MachineError(f"{self}: {command[0]}: {lines[0]}; mend it and transfer again, what arrived is kept")


class _Sent:
    """The target of a push: jobs that are wanted there are noted, to be sent together."""

    def __init__(self, mirror: Store):
        self.name, self.keys, self.manifest_bytes = mirror.name, mirror.keys, mirror.manifest_bytes
        self.sums: dict[str, str] = {}  # sha256 by path

    def adopt(self, manifest: Manifest, files: Mapping[str, bytes]) -> None:
        """Note the files of a job, which were verified here, and what they have to be there."""
        hashes = {name: record.sha256 for name, record in manifest.files.items()}
        hashes[MANIFEST] = hashlib.sha256(manifest.encode()).hexdigest()
        self.sums |= {f"jobs/{manifest.key[:2]}/{manifest.key}/{name}": hash for name, hash in hashes.items()}

    def remember_data(self, spec_hash: str, fingerprint: str) -> None:
        """Do nothing: these notes are sent as they lie."""


def _folders(keys: Iterable[str]) -> str:
    return "".join(f"jobs/{key[:2]}/{key}/\n" for key in keys)


def _forget_files(mirror: Store, keys: Iterable[str]) -> None:
    """Remove what was fetched beside the manifests."""
    for key in keys:
        folder = mirror.folder(key)
        for name in names_in(folder):
            if name != MANIFEST:
                write.remove(folder / name)
