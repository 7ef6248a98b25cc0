"""What can go from an object store: files that no manifest lists, checkpoints without one, leases that nobody keeps.

Ages are differences between two times of the store's own clock. A manifest of a job is never among it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lottery.store.manifest import KEY, MANIFEST
from lottery.store.objects.bucket import Bucket, Found
from lottery.store.objects.listing import Group, is_valid

if TYPE_CHECKING:
    from lottery.store.manifest import Manifest

Garbage = list[tuple[Path | str, int, str]]

WRITTEN_SECONDS = 86_400.0  # no commit takes longer from its first file to its manifest
LEASE_SECONDS = 86_400.0  # a lease that is kept changes every few minutes
CLOCK = "notes/clock"  # written to learn the time


def find_leftovers(bucket: Bucket, manifest_of: Callable[[str], Manifest]) -> Garbage:
    """Return URL, bytes and reason of each object that can go."""
    found = [(each, reason, WRITTEN_SECONDS) for each, reason in _unlisted(bucket, manifest_of)]
    found += [(each, "lease that nobody has", LEASE_SECONDS) for each in bucket.find("leases")]
    if not found:
        return []
    bucket.put(CLOCK, b"")
    now = next(each.written for each in bucket.find("notes") if each.path == CLOCK)
    return [(bucket.spell(each.path), each.size, reason) for each, reason, age in found if now - each.written > age]


def _unlisted(bucket: Bucket, manifest_of: Callable[[str], Manifest]) -> Iterator[tuple[Found, str]]:
    for path, group in _groups(bucket, "jobs", 3).items():
        key = path.rpartition("/")[2]
        blobs = {name: found for name, found in group.items() if name != MANIFEST}
        if not is_valid(group):
            yield from ((found, "left by a process that is gone") for found in blobs.values())
        elif len({name[:-65] for name in blobs}) < len(blobs) and KEY.fullmatch(key):  # a file is there twice
            listed = {f"{name}.{record.sha256}" for name, record in manifest_of(key).files.items()}
            yield from ((found, "of a second result") for name, found in blobs.items() if name not in listed)
    for group in _groups(bucket, "partial", 3).values():
        if not is_valid(group):
            yield from ((found, "left by a process that is gone") for found in group.values())


def _groups(bucket: Bucket, top: str, depth: int) -> dict[str, Group]:
    """Return the objects under a prefix by the first parts of their paths, and then by their names."""
    groups: dict[str, Group] = {}
    for found in bucket.find(top):
        parts = found.path.split("/")
        groups.setdefault("/".join(parts[:depth]), {})["/".join(parts[depth:])] = found
    return groups
