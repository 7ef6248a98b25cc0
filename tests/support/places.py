"""The places that a store can lie in, each with a hand that reaches past the store: one set of tests runs over all."""

from __future__ import annotations

import fcntl
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.store import LocalStore, MemoryStore, S3Store

from lottery.store.objects import bucket, events, listing
from lottery.store.objects.bucket import Bucket, Mark
from lottery.store.objects.cache import Cache
from lottery.store.objects.objects import Objects
from lottery.store.store import Store
from tests.support.s3_server import BUCKET, CREDENTIALS, S3Server, s3_server

KINDS = ("folder", "memory", "local objects", "http")
OBJECTS = KINDS[1:]


class NoCache(Cache):
    """A disk on which nothing is kept."""

    def named(self, name: str) -> bytes | None:
        return None

    def put(self, name: str, data: bytes) -> None:
        pass


class Ground(ABC):
    """A place that any number of stores can be opened at, as by any number of processes."""

    kind: str

    def __init__(self, folder: Path):
        self.folder = folder
        self.opened: list[Store] = []

    def open(self) -> Store:
        """Open the store as another process of another machine does: it knows nothing and has no cache."""
        store = self.made(NoCache(self.folder))
        self.opened.append(store)
        return store

    def rest(self) -> None:
        """Wait until what the stores do in the background is done."""
        for store in self.opened:
            if isinstance(store.place, Objects):
                store.place.chores.wait()
                store.place.events.flush()

    @abstractmethod
    def made(self, cache: Cache) -> Store:
        """The store with this cache."""

    @abstractmethod
    def contents(self) -> dict[str, bytes]:
        """All that lies there by path."""

    @abstractmethod
    def put(self, path: str, data: bytes | None) -> None:
        """Write past the store, or remove for None."""

    def path(self, key: str, name: str, top: str = "jobs") -> str:
        """Where a file of a job lies, or of a checkpoint."""
        inside = [path for path in self.contents() if path.startswith(f"{top}/") and f"/{key}/" in path]
        (found,) = [path for path in inside if path.rpartition("/")[2] in (name, f"{name}.{path[-64:]}")]
        return found

    def quarantine(self) -> dict[str, bytes]:
        """What was put aside, by path."""
        return {path: data for path, data in self.contents().items() if path.startswith("quarantine/")}


class FolderGround(Ground):
    kind = "folder"

    @property
    def root(self) -> Path:
        return self.folder / "store"

    def made(self, cache: Cache) -> Store:
        return Store(self.root)

    def contents(self) -> dict[str, bytes]:
        return {str(p.relative_to(self.root)): p.read_bytes() for p in self.root.rglob("*") if p.is_file()}

    def put(self, path: str, data: bytes | None) -> None:
        if data is None:
            (self.root / path).unlink()
        else:
            (self.root / path).write_bytes(data)


class ObjectGround(Ground):
    def __init__(self, folder: Path, objects: Any):
        super().__init__(folder)
        self.objects = objects

    def made(self, cache: Cache) -> Store:
        return Store(Objects(self.bucket(), cache))

    def bucket(self) -> Bucket:
        return Bucket(self.objects, f"{self.kind.replace(' ', '-')}://place")

    def contents(self) -> dict[str, bytes]:
        paths = [about["path"] for page in obstore.list(self.objects) for about in page]
        return {path: bytes(obstore.get(self.objects, path).bytes()) for path in sorted(paths)}

    def put(self, path: str, data: bytes | None) -> None:
        if data is None:
            obstore.delete(self.objects, path)
        else:
            obstore.put(self.objects, path, data)


class MemoryGround(ObjectGround):
    kind = "memory"

    def __init__(self, folder: Path):
        super().__init__(folder, MemoryStore())


class LocalBucket(Bucket):
    """obstore's store in a folder cannot compare and set: a lock does, and the hash of the bytes is the mark."""

    def __init__(self, folder: Path):
        super().__init__(LocalStore(folder, mkdir=True, automatic_cleanup=True), folder.as_uri())
        self._lock = folder.with_suffix(".lock")

    def get(self, path: str) -> tuple[bytes, Mark] | None:
        found = super().get(path)
        return None if found is None else (found[0], _mark(found[0]))

    def find(self, prefix: str) -> list[bucket.Found]:
        return [
            bucket.Found(each.path, each.size, there[1], each.written)
            for each in super().find(prefix)
            if (there := self.get(each.path)) is not None
        ]

    def create(self, path: str, data: bytes) -> Mark | None:
        return None if super().create(path, data) is None else _mark(data)

    def swap(self, path: str, data: bytes, mark: Mark) -> Mark | None:
        with self._lock.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            there = self.get(path)
            if there is None or there[1] != mark:
                return _mark(data) if there is not None and there[0] == data else None
            self.put(path, data)
        return _mark(data)


def _mark(data: bytes) -> Mark:
    return Mark(hashlib.sha256(data).hexdigest(), None)


class LocalGround(ObjectGround):
    kind = "local objects"

    def __init__(self, folder: Path):
        super().__init__(folder, LocalStore(folder / "objects", mkdir=True, automatic_cleanup=True))

    def bucket(self) -> Bucket:
        return LocalBucket(self.folder / "objects")


class HttpGround(ObjectGround):
    kind = "http"

    def __init__(self, folder: Path, server: S3Server):
        endpoint = server.environment["AWS_ENDPOINT_URL"]
        super().__init__(folder, _client(endpoint, 0))
        self.server, self.retrying = server, _client(endpoint, 3)

    def bucket(self) -> Bucket:
        return Bucket(self.objects, f"s3://{BUCKET}")

    def contents(self) -> dict[str, bytes]:
        return {path: data for path, (data, _, _) in sorted(self.server.objects.items())}


def _client(endpoint: str, retries: int) -> Any:
    given = {name.lower(): value for name, value in CREDENTIALS.items()}
    return S3Store(
        BUCKET,
        endpoint=endpoint,
        client_options={"allow_http": True, "timeout": "10s"},
        retry_config={"max_retries": retries},
        **given,  # type: ignore[arg-type]
    )


@contextmanager
def ground(kind: str, folder: Path) -> Iterator[Ground]:
    """Make a place of this kind; what it does in the background is done at the end."""
    with ExitStack() as stack:
        made: dict[str, Callable[[], Ground]] = {
            "folder": lambda: FolderGround(folder),
            "memory": lambda: MemoryGround(folder),
            "local objects": lambda: LocalGround(folder),
            "http": lambda: HttpGround(folder, stack.enter_context(s3_server())),
        }
        place = made[kind]()
        yield place
        place.rest()


def look_always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every look at what was not there ask the store, and logs written at the end only."""
    monkeypatch.setattr(listing, "LOOK_SECONDS", -1.0)
    monkeypatch.setattr(events, "EVERY_SECONDS", 3600.0)
