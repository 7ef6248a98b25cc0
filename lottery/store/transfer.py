"""Copies of finished jobs from one store to another: what is missing there arrives, verified; nothing is overwritten.

Keys are hashes of all that determines a result, so two stores are joined by the union of their keys. A key that both
have with other bytes is reported and stays as it is at either place. So are the jobs that were computed from it: at
the other place they would follow from bytes that are not there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from lottery.errors import DamagedFile
from lottery.store.manifest import Manifest

if TYPE_CHECKING:
    from lottery.store.store import Store

_KEYS = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")

AT_ONCE = 8  # jobs that are copied at the same time

Copy = Manifest | str
Tell = Callable[[int, int], None]  # is told the number of jobs that were seen to, and of all


class Target(Protocol):
    """The part of a store that a transfer writes to, see `lottery.store.store.Store`."""

    @property
    def name(self) -> str:
        """The place as messages name it."""

    def keys(self) -> Iterable[str]:
        """Return the keys of all finished jobs."""

    def manifest_bytes(self, key: str) -> bytes:
        """Return the bytes of a job's manifest."""

    def adopt(self, manifest: Manifest, files: Mapping[str, bytes]) -> object:
        """Commit a job that another store finished."""

    def remember_data(self, spec_hash: str, fingerprint: str) -> None:
        """Note that a recipe's data section gave data of this fingerprint."""


@dataclass(frozen=True)
class Difference:
    """A job that two stores have with other bytes.

    Attributes:
        key: of the job.
        label: words for it.
        files: names of the files that differ.
        alarm: True if both say that they were computed deterministically in the same environment.
    """

    key: str
    label: str
    files: tuple[str, ...]
    alarm: bool


@dataclass
class Transfer:
    """The outcome of a transfer.

    Attributes:
        copied: labels of the jobs that were copied, by key.
        size: bytes of their files.
        same: number of jobs that both stores had already.
        different: jobs that both have with other bytes.
        left_out: labels of the jobs that build on one of these, and were not copied, by key.
        damaged: what is wrong with jobs that could not be copied, a line each.
    """

    copied: dict[str, str] = field(default_factory=dict)
    size: int = 0
    same: int = 0
    different: list[Difference] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)

    @property
    def fine(self) -> bool:
        """True if nothing was damaged, and no two results contradict each other."""
        return not self.damaged and not any(each.alarm for each in self.different)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return asdict(self)


def transfer(source: Store, target: Target, tell: Tell = lambda done, total: None) -> Transfer:
    """Copy the finished jobs that the target lacks, each whole or not at all, and note the data that they are of.

    Raises:
        MachineError: a machine refuses to read or write.
    """
    found = Transfer()
    there, ours = set(source.keys()), set(target.keys())
    missing, total = sorted(there - ours), len(there)
    for number, key in enumerate(sorted(there & ours)):
        _compare(source, target, key, found)
        tell(number + 1, total)
    barred = {each.key for each in found.different}
    needs = {key: _named(source, key) for key in missing} if barred else {}
    left_out = _built_on(barred, needs)
    for number, (key, copy) in enumerate(_copies(source, target, missing, left_out)):
        tell(found.same + len(found.different) + number + 1, total)
        if isinstance(copy, str):
            found.damaged.append(f"{copy}; the job is not copied")
        elif key in left_out:
            found.left_out[key] = copy.label
        else:
            found.copied[key] = copy.label
            found.size += sum(record.size for record in copy.files.values())
    for spec, fingerprint in source.all_remembered_data():
        target.remember_data(spec, fingerprint)
    return found


def _compare(source: Store, target: Target, key: str, found: Transfer) -> None:
    """Count a job that both stores have, or note how it differs."""
    try:
        data = [store.manifest_bytes(key) for store in (source, target)]
        if data[0] == data[1]:
            found.same += 1
            return
        theirs, ours = (
            Manifest.decode(each, f"{store.name}/{key}", key)
            for each, store in zip(data, (source, target), strict=True)
        )
    except DamagedFile as damage:
        found.damaged.append(str(damage))
        return
    if names := theirs.different_files(ours):
        alarm = theirs.environment == ours.environment and bool(ours.environment.get("deterministic", True))
        found.different.append(Difference(key, ours.label, tuple(names), alarm))
    else:
        found.same += 1


def _copies(source: Store, target: Target, keys: Sequence[str], left_out: Set[str]) -> Iterator[tuple[str, Copy]]:
    """Copy jobs, several at once as each waits for its place, and yield them as `_copy` returns them, in order."""
    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        copies = pool.map(lambda key: _copy(source, target, key, copies=key not in left_out), keys)
        yield from zip(keys, copies, strict=True)
    finally:
        pool.shutdown(cancel_futures=True)


def _copy(source: Store, target: Target, key: str, *, copies: bool) -> Copy:
    """Return the manifest of a job, copied unless it is left out; in its place what is damaged of it."""
    try:
        manifest, files = source.whole(key)
    except DamagedFile as damage:
        return str(damage)
    if copies:
        target.adopt(manifest, files)
    return manifest


def _named(source: Store, key: str) -> set[str]:
    """Return the keys that a job's parent and JSON files name: those of all jobs that it was computed from."""
    try:
        manifest, files = source.whole(key)
    except DamagedFile:
        return set()  # it will not be copied
    documents = [data for name, data in files.items() if name.endswith(".json")]
    return {match.decode() for data in documents for match in _KEYS.findall(data)} | {manifest.parent or key} - {key}


def _built_on(barred: Set[str], needs: Mapping[str, set[str]]) -> set[str]:
    """Return the keys that need a barred one, or one that does."""
    reached, grown = set(barred), True
    while grown:
        more = {key for key, named in needs.items() if key not in reached and named & reached}
        reached |= more
        grown = bool(more)
    return reached - set(barred)
