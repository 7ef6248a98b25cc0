"""Many small objects in one: who meets a store of thousands of jobs for the first time asks for packs, not for each.

A pack lies in `notes/packs/` and can be made anew. It holds bytes by the names that the cache has for them: hashes, so
that what is in it is verified when it is used, as anything else in the cache.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping

from lottery.errors import DamagedFile
from lottery.files.read import parse_json
from lottery.store.manifest import KEY
from lottery.store.objects.bucket import Bucket, Mark
from lottery.store.objects.cache import Cache

FEW = 16  # objects that are asked for when they are needed
WORTH_A_LOOK = 64  # objects that are missing: fewer are asked for one by one
WORTH_A_PACK = 500  # objects that were asked for one by one
MOST_BYTES = 64_000_000  # of a pack
FOLDER = "notes/packs"


class Packs:
    """What brings many objects to this machine's disk with few requests."""

    def __init__(self, bucket: Bucket, cache: Cache):
        self._bucket, self._cache = bucket, cache

    def bring(self, wanted: Mapping[str, tuple[str, Mark | None]]) -> None:
        """Have objects in the cache; one that is not what its name says stays away.

        Args:
            wanted: by its name in the cache, the path of an object, with its mark where the name is not its hash.
        """
        missing = self._missing(wanted)
        if len(missing) >= WORTH_A_LOOK:
            self._unpack()
            missing = self._missing(missing)
        if len(missing) < FEW:
            return
        brought: dict[str, bytes] = {}
        found = self._bucket.pool.map(lambda each: self._get(*each), missing.items())
        for name, data in zip(missing, found, strict=True):
            if data is not None:
                self._cache.put(name, data)
                brought[name] = data
        if len(brought) >= WORTH_A_PACK:
            self._pack(brought)

    def _missing(self, wanted: Mapping[str, tuple[str, Mark | None]]) -> dict[str, tuple[str, Mark | None]]:
        return {name: about for name, about in wanted.items() if not self._cache.has(name)}

    def _get(self, name: str, about: tuple[str, Mark | None]) -> bytes | None:
        path, mark = about
        found = self._bucket.get(path)
        if found is None or (found[1] != mark if mark is not None else hashlib.sha256(found[0]).hexdigest() != name):
            return None
        return found[0]

    def _pack(self, brought: Mapping[str, bytes]) -> None:
        head: dict[str, int] = {}
        parts: list[bytes] = []
        for name, data in brought.items():
            if sum(head.values()) + len(data) <= MOST_BYTES:
                head[name] = len(data)
                parts.append(data)
        about = json.dumps(head).encode()
        self._bucket.put(f"{FOLDER}/{secrets.token_hex(16)}", b"".join([b"%d\n" % len(about), about, *parts]))

    def _unpack(self) -> None:
        """Put what all packs have into the cache, each of which is read once on a machine."""
        for found in self._bucket.find(FOLDER):
            seen = hashlib.sha256(f"{self._bucket.name} {found.path} {found.mark}".encode()).hexdigest()
            if not self._cache.has(seen) and (pack := self._bucket.get(found.path)) is not None:
                for name, data in _entries(pack[0], found.path).items():
                    if not self._cache.has(name):
                        self._cache.put(name, data)
                self._cache.put(seen, b"")


def _entries(pack: bytes, place: str) -> dict[str, bytes]:
    """Return what a pack holds; nothing where it is no pack."""
    length, _, _ = pack[:20].partition(b"\n")
    begin = len(length) + 1
    try:
        end = begin + int(length)
        head = parse_json(pack[begin:end], place)
    except (ValueError, DamagedFile):
        return {}
    entries = {}
    for name, size in head.items() if isinstance(head, dict) else ():
        if not KEY.fullmatch(name) or type(size) is not int or size < 0:
            return {}
        entries[name] = pack[end : end + size]
        end += size
    return entries
