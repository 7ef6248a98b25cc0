"""A store in an object store: a job's files are objects named by their hash, and its manifest is created once.

jobs/ab/<key>/<name>.<sha256>   files: the same name has the same bytes, so that who writes them again does no harm
jobs/ab/<key>/manifest.json     makes them valid; replaced by a few bytes where the job was put aside as damaged
partial/<key>/<name>/           checkpoints, in the same form
events/<name>/<offset>          the log of a process, in parts named by where they begin
The rest is as in a folder.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from lottery.errors import DamagedFile
from lottery.paths import cache_root
from lottery.store.manifest import KEY, MANIFEST, MOST_BYTES, FileRecord, Manifest, is_sealed, verified_bytes
from lottery.store.objects.bucket import Bucket, Found, Mark
from lottery.store.objects.cache import Cache
from lottery.store.objects.chores import Chores
from lottery.store.objects.draft import ObjectDraft, blob_name
from lottery.store.objects.events import Events
from lottery.store.objects.garbage import Garbage, find_leftovers
from lottery.store.objects.leases import ObjectLeases
from lottery.store.objects.listing import Group, Jobs, Snapshot, is_valid, is_whole
from lottery.store.objects.packs import Packs

SMALL_BYTES = 1 << 16  # of a file that is brought with others


class Objects:
    """The place of a store in an object store. Nothing is asked of it before something is needed."""

    def __init__(self, bucket: Bucket, cache: Cache | None = None):
        self.bucket = bucket
        self.chores = Chores()
        self._cache = cache or Cache(cache_root() / "objects")
        self._packs = Packs(bucket, self._cache)
        self._jobs = Jobs(bucket, lambda key: self.leases.busy(key))
        self._snapshots = {name: Snapshot(bucket, name) for name in ("partial", "failures")}
        self.events = Events(bucket)
        self._untouched: set[str] = set()  # folders of checkpoints of jobs whose lease this process has
        self._manifests: dict[str, tuple[Mark, Manifest]] = {}
        self.leases = ObjectLeases(bucket, self.chores, self._jobs.known, self._look_closely)

    @property
    def name(self) -> str:
        """The URL."""
        return self.bucket.name

    def spell(self, path: str) -> str:
        """Return the URL of a path."""
        return self.bucket.spell(path)

    def is_there(self) -> bool:
        """Return True if an object lies under the prefix."""
        return bool(self.bucket.names(""))

    # Groups of objects

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield the keys of finished jobs that start with `prefix`, in order."""
        return (key for key in self._jobs.list() if key.startswith(prefix))

    def expect(self, keys: Iterable[str], *, files: bool) -> None:
        """Bring the manifests of finished jobs, and their small files, with few requests."""
        wanted: dict[str, tuple[str, Mark | None]] = {}
        for key in keys:
            path, group = _job(key), self._jobs.seen(key)
            for name, found in group.items():
                if name == MANIFEST:
                    wanted[_manifest_name(self.spell(path), found.mark)] = found.path, found.mark
                elif files and found.size <= SMALL_BYTES and KEY.fullmatch(name[-64:]):
                    wanted[name[-64:]] = found.path, None
        self._packs.bring(wanted)

    def identity(self, path: str) -> str | None:
        """Return the mark of the manifest."""
        group = self._group(path)
        return str(group[MANIFEST].mark) if is_valid(group) else None

    def finished(self, key: str, *, anew: bool = False) -> Manifest:
        """Return the manifest of a job whose objects are all there with their sizes."""
        path = _job(key)
        if anew:
            self._jobs.look(key)
            self._manifests.pop(key, None)
        manifest = self.manifest(key)
        for name, record in manifest.files.items():
            found = self._group(path).get(blob_name(name, record.sha256))
            if found is None:
                raise DamagedFile(f"{self.spell(path)}/{name}: is missing")
            if found.size != record.size:
                place = f"{self.spell(path)}/{name}"
                raise DamagedFile(f"{place}: has {found.size:,} bytes, {record.size:,} were committed")
        return manifest

    def manifest(self, key: str) -> Manifest:
        """Return a job's manifest without a look at its files."""
        path = _job(key)
        group = self._group(path)
        if not is_valid(group):
            raise DamagedFile(f"{self.spell(path)}/{MANIFEST}: is missing")
        mark = group[MANIFEST].mark
        known = self._manifests.get(key)
        if known is None or known[0] != mark:
            manifest = Manifest.decode(self._manifest_bytes(path, mark), f"{self.spell(path)}/{MANIFEST}", key)
            known = self._manifests[key] = mark, manifest
        return known[1]

    def manifest_bytes(self, path: str) -> bytes:
        """Return the bytes of a manifest, unverified."""
        group = self._group(path)
        if not is_valid(group):
            raise DamagedFile(f"{self.spell(path)}/{MANIFEST}: is missing")
        return self._manifest_bytes(path, group[MANIFEST].mark)

    def verified(self, path: str, name: str, record: FileRecord) -> bytes:
        """Return the bytes of a file, verified, from this machine's disk where they are there."""
        data = self._cache.get(record.sha256)
        if data is None or len(data) != record.size:
            data = self._fetched(path, name, record)
            self._cache.put(record.sha256, data)
        return data

    def verify(self, path: str, name: str, record: FileRecord) -> None:
        """Read a file where it lies and compare its hash."""
        self._fetched(path, name, record)

    def start(self, path: str, name: str, length: int | None) -> bytes:
        """Return the first bytes of a file, or all, unverified."""
        blobs = [each for each in self._group(path) if each.startswith(f"{name}.") and KEY.fullmatch(each[-64:])]
        if len(blobs) != 1:
            raise DamagedFile(f"{self.spell(path)}/{name}: is missing, or there twice")
        data = self._cache.get(blobs[0][-64:])
        if data is None and length is not None:
            data = self.bucket.start(f"{path}/{blobs[0]}", length)
        elif data is None:
            data = (self.bucket.get(f"{path}/{blobs[0]}") or (None, None))[0]
            if data is not None:
                self._cache.put(hashlib.sha256(data).hexdigest(), data)
        if data is None:
            raise DamagedFile(f"{self.spell(path)}/{name}: is missing")
        return data[:length]

    @contextmanager
    def draft(self, path: str, files: Mapping[str, bytes], manifest: bytes) -> Iterator[ObjectDraft]:
        """Write files as objects, which are not valid yet."""
        self._untouched.discard(path.rpartition("/")[0])
        yield ObjectDraft.upload(self.bucket, path, files, manifest, partial(self._done, path))

    def retire(self, path: str) -> None:
        """Remove a group, its manifest first."""
        self.chores.add(path, lambda: self._delete(path))

    def put_aside(self, path: str, name: str, judged: str) -> bool:
        """Copy a damaged group to `quarantine/<name>`, and take its validity unless it is another by now."""
        found = self.bucket.find(path)
        manifest = next((each for each in found if each.path == f"{path}/{MANIFEST}"), None)
        if manifest is None or str(manifest.mark) != judged:
            self.forget(path)
            return False
        for each in found:
            self.bucket.copy(each.path, f"quarantine/{name}/{each.path.removeprefix(f'{path}/')}")
        mine = self.bucket.swap(manifest.path, secrets.token_hex(16).encode(), manifest.mark) is not None
        if mine and path.startswith("partial/"):
            self._delete(path)
        self.forget(path)
        return mine

    # Documents

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder, sorted."""
        top, _, rest = folder.partition("/")
        if top not in self._snapshots:
            return self.bucket.names(folder)
        if folder in self._untouched and self.leases.mine(rest):
            return []  # there was none, and nobody else writes any
        paths = self._look(top, folder)
        if top == "partial":
            paths = {path: each for path, each in paths.items() if path.endswith(MANIFEST) and is_whole(each)}
        return sorted({path.split("/")[1 + bool(rest)] for path in paths if path.startswith(f"{folder}/")})

    def read(self, path: str, most: int) -> bytes:
        """Return the bytes of a document."""
        top = path.partition("/")[0]
        absent = top in self._snapshots and path not in self._look(top, path)
        found = None if absent else self.bucket.get(path)
        if found is None:
            raise DamagedFile(f"{self.spell(path)}: is missing")
        if len(found[0]) > most:
            raise DamagedFile(f"{self.spell(path)}: has {len(found[0]):,} bytes, more than {most:,}")
        return found[0]

    def write(self, path: str, data: bytes) -> None:
        """Write a document."""
        self.chores.wait(path)
        self.bucket.put(path, data)
        self.forget(path)

    def exists(self, path: str) -> bool:
        """Return True if there is such a document."""
        return path.rpartition("/")[2] in self.names(path.rpartition("/")[0])

    def remove(self, path: str) -> None:
        """Remove a document; a folder is gone when the last object in it is."""
        if path not in self._untouched:
            self.chores.add(path, lambda: self._delete(path, only_if_seen=True))

    def append(self, path: str, line: bytes) -> None:
        """Add a line to a document, which is written a few seconds later."""
        self.events.append(path, line)

    def sizes(self, folder: str) -> dict[str, int]:
        """Return how many bytes each of the documents has to which lines are added, by its name."""
        return self.events.sizes(folder)

    def tail(self, path: str, offset: int, most: int) -> bytes:
        """Return the bytes of such a document from there on, `most` of them."""
        return self.events.tail(path, offset, most)

    # Room

    def free_bytes(self) -> None:
        """Return None: there is no limit."""
        return

    def leftovers(self) -> Garbage:
        """Return what processes left that are gone: files without a manifest, and leases."""
        self.chores.wait()
        return find_leftovers(self.bucket, self.manifest)

    def measure(self, path: str) -> tuple[str, int]:
        """Return the URL of what lies under a path, with all its bytes."""
        return self.spell(path), sum(found.size for found in self.bucket.find(path))

    def discard(self, item: object) -> None:
        """Remove an object, or all that lies under a path."""
        self._delete(str(item).removeprefix(f"{self.name}/"))

    # What is known

    def _done(self, path: str, objects: Mapping[str, bytes], mark: Mark | None) -> None:
        """Note a group that this process has just made valid, with its mark, or found taken."""
        self.forget(path)
        if mark is None or not path.startswith("jobs/"):
            return
        group = {name: Found(f"{path}/{name}", len(data), mark, 0.0) for name, data in objects.items()}
        self._jobs.note(path.rpartition("/")[2], group)
        for name, data in objects.items():
            self._cache.put(_manifest_name(self.spell(path), mark) if name == MANIFEST else name[-64:], data)

    def _group(self, path: str) -> Group:
        """Return the objects of a group by their names."""
        if path.startswith("jobs/"):
            return self._jobs.group(path.rpartition("/")[2])
        return {
            each.rpartition("/")[2]: found
            for each, found in self._look("partial", path).items()
            if each.startswith(f"{path}/")
        }

    def _look(self, top: str, path: str) -> dict[str, Found]:
        self.chores.wait(path)
        return self._snapshots[top].look()

    def _look_closely(self, key: str) -> None:
        """Believe nothing of a job that was seen before this process had its lease: look at all again, at once."""
        for snapshot in self._snapshots.values():
            snapshot.doubt()
        looks: list[Callable[[], object]] = [snapshot.look for snapshot in self._snapshots.values()]
        if not self._jobs.known(key):
            looks.append(partial(self._jobs.look, key))
        self.bucket.at_once(looks)
        self._untouched.discard(f"partial/{key}")
        if not self.names(f"partial/{key}"):
            self._untouched.add(f"partial/{key}")

    def forget(self, path: str) -> None:
        """Have the next look at a path ask the store."""
        top, _, rest = path.partition("/")
        if top == "jobs":
            self._jobs.doubt(rest.rpartition("/")[2])
        elif top in self._snapshots:
            self._snapshots[top].doubt()

    def _delete(self, path: str, *, only_if_seen: bool = False) -> None:
        snapshot = self._snapshots.get(path.partition("/")[0])
        if only_if_seen and snapshot is not None and path not in snapshot.look():
            return
        paths = [found.path for found in self.bucket.find(path)] or [path]
        first = [each for each in paths if each.endswith(MANIFEST)]
        self.bucket.delete(first)
        self.bucket.delete([each for each in paths if each not in first])
        self.forget(path)

    def _manifest_bytes(self, path: str, mark: Mark) -> bytes:
        """Return the bytes of a manifest with this mark, from this machine's disk where they are there."""
        name = _manifest_name(self.spell(path), mark)
        data = self._cache.named(name)
        if data is None or not is_sealed(data):  # damage of the cache is none of the job
            found = self.bucket.get(f"{path}/{MANIFEST}")
            if found is None:
                raise DamagedFile(f"{self.spell(path)}/{MANIFEST}: is missing")
            data = found[0]
            if found[1] == mark:
                self._cache.put(name, data)
        if len(data) > MOST_BYTES:
            raise DamagedFile(f"{self.spell(path)}/{MANIFEST}: has {len(data):,} bytes, more than {MOST_BYTES:,}")
        return data

    def _fetched(self, path: str, name: str, record: FileRecord) -> bytes:
        found = self.bucket.get(f"{path}/{blob_name(name, record.sha256)}")
        if found is None:
            raise DamagedFile(f"{self.spell(path)}/{name}: is missing")
        return verified_bytes(found[0], f"{self.spell(path)}/{name}", record)


def _job(key: str) -> str:
    return f"jobs/{key[:2]}/{key}"


def _manifest_name(place: str, mark: Mark) -> str:
    return hashlib.sha256(f"{place} {mark.e_tag} {mark.version}".encode()).hexdigest()
