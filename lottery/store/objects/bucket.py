"""Every request to an object store: objects are written whole, created once, and replaced if they are still the same.

A request whose reply is lost may have done its work. What is created or replaced is therefore read back before it is
believed to be somebody else's. Every change is one call of `lottery.files.write.perform`, for the faults of tests.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeVar

import obstore
from obstore import exceptions, store

from lottery.errors import MachineError, UsageError
from lottery.files import write

if TYPE_CHECKING:
    from obstore import PutMode, UpdateVersion

T = TypeVar("T")

SCHEMES = ("s3", "gs", "az")
TRIES = 5  # of a conditional request whose connection breaks, or that others get in the way of
AT_ONCE = 16  # requests of one process
PAGE = 1000  # objects in a page of a listing: the most that S3 gives

# One object may take long on a slow line; an outage of a minute must not end a run of a week.
CLIENT = {"timeout": "120s", "connect_timeout": "5s"}
RETRIES: dict[str, Any] = {"max_retries": 10}
FIRST_RETRIES: dict[str, Any] = {"max_retries": 2}  # of the first request, whose failure is a mistake more often

_QUERY = re.compile(r"\?\S+")  # may hold a signature
_WAYS_OUT = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS",
    "az": "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
_METADATA_HOST = "169.254.169.254"  # where a client without credentials asks the machine of a cloud for them


@dataclass(frozen=True, slots=True)
class Mark:
    """What tells one version of an object from another."""

    e_tag: str | None
    version: str | None

    @classmethod
    def of(cls, about: Any) -> Mark:
        """Return the mark in what a request returned."""
        return cls(about.get("e_tag"), about.get("version"))

    @property
    def mode(self) -> UpdateVersion:
        """The condition that an object still has this mark."""
        about: UpdateVersion = {}
        if self.e_tag is not None:
            about["e_tag"] = self.e_tag
        if self.version is not None:
            about["version"] = self.version
        return about

    def __str__(self) -> str:
        """Return it as a part of a name."""
        return re.sub(r"[^A-Za-z0-9-]", "", f"{self.e_tag or ''}{self.version or ''}")[:64]


@dataclass(frozen=True, slots=True)
class Found:
    """An object as a listing tells of it: path, bytes, mark, and time of its writing by the store's clock."""

    path: str
    size: int
    mark: Mark
    written: float


class Bucket:
    """The objects under one prefix of an object store; `name` is how messages call it."""

    def __init__(self, objects: Any, name: str, first: Any = None):
        self.name = name
        self._store, self._first = objects, first

    @cached_property
    def pool(self) -> ThreadPoolExecutor:
        """The threads for requests that need not wait for each other."""
        return ThreadPoolExecutor(AT_ONCE, thread_name_prefix="lottery-objects")

    def get(self, path: str) -> tuple[bytes, Mark] | None:
        """Return an object with its mark; None where there is none."""

        def get() -> tuple[bytes, Mark]:
            found = obstore.get(self._store, path)
            return bytes(found.bytes()), Mark.of(found.meta)

        return self._asked("read", path, get)

    def start(self, path: str, length: int) -> bytes | None:
        """Return the first bytes of an object that has so many; None where there is none."""
        return self._asked("read", path, lambda: bytes(obstore.get_range(self._store, path, start=0, length=length)))

    def find(self, prefix: str) -> list[Found]:
        """Return all objects whose path lies under this one, in order of their paths."""

        def listing() -> list[Found]:
            pages = obstore.list(self._store, prefix or None, chunk_size=PAGE)
            every = (about for page in pages for about in page)
            return [Found(a["path"], a["size"], Mark.of(a), a["last_modified"].timestamp()) for a in every]

        return sorted(self._asked("list", prefix, listing) or [], key=lambda found: found.path)

    def names(self, prefix: str) -> list[str]:
        """Return the names directly under a path, sorted."""

        def names() -> list[str]:
            found = obstore.list_with_delimiter(self._store, prefix or None)
            paths = [*found["common_prefixes"], *(about["path"] for about in found["objects"])]
            return sorted(path.rstrip("/").rpartition("/")[2] for path in paths)

        return self._asked("list", prefix, names) or []

    def put(self, path: str, data: bytes) -> None:
        """Write an object, whatever is there."""
        self._change("put", path, lambda: obstore.put(self._store, path, data))

    def put_all(self, objects: Sequence[tuple[str, bytes]]) -> None:
        """Write objects at the same time."""
        self.at_once([partial(self.put, path, data) for path, data in objects])

    def at_once(self, requests: Sequence[Callable[[], object]]) -> None:
        """Do requests at the same time, and wait for all."""
        for done in [self.pool.submit(request) for request in requests]:
            done.result()

    def create(self, path: str, data: bytes) -> Mark | None:
        """Write an object where there is none. Return its mark; None where there is one with other bytes."""
        for number in range(TRIES):
            mark, refusal = self._conditional(path, data, "create")
            if mark is not None:
                return mark
            there = self.get(path)
            if there is not None:
                return there[1] if there[0] == data else None
            _pause(number, refusal)
        raise MachineError(f"{self.spell(path)}: is created and removed again and again; stop what does so")

    def swap(self, path: str, data: bytes, mark: Mark) -> Mark | None:
        """Replace an object that still has this mark. Return its new one; None where it is another, or gone."""
        for number in range(TRIES):
            new, refusal = self._conditional(path, data, mark.mode)
            if new is not None:
                return new
            there = self.get(path)
            if there is None or there[1] != mark:
                return there[1] if there is not None and there[0] == data else None
            _pause(number, refusal)
        return None

    def copy(self, source: str, target: str) -> None:
        """Copy an object within the store; one that is gone is fine."""
        self._change("copy", target, lambda: obstore.copy(self._store, source, target))

    def delete(self, paths: Sequence[str]) -> None:
        """Remove objects; those that are gone already are fine."""
        if paths:
            self._change("delete", paths[0], lambda: obstore.delete(self._store, list(paths)))

    def spell(self, path: str) -> str:
        """Return a path as messages name it."""
        return f"{self.name}/{path}"

    def _conditional(self, path: str, data: bytes, mode: PutMode) -> tuple[Mark | None, Exception | None]:
        """Return the mark of what was written, or why nothing was, as far as one can tell."""

        def conditional() -> tuple[Mark | None, Exception | None]:
            try:
                return Mark.of(obstore.put(self._store, path, data, mode=mode)), None
            except (exceptions.AlreadyExistsError, exceptions.PreconditionError, FileNotFoundError) as refused:
                return None, refused

        try:
            return self._change("put", path, conditional) or (None, None)
        except MachineError as error:
            return None, error

    def _change(self, operation: str, path: str, action: Callable[[], T]) -> T | None:
        return self._asked(operation, path, lambda: write.perform(operation, self.spell(path), action))

    def _asked(self, operation: str, path: str, action: Callable[[], T]) -> T | None:
        """Do one request; None where it says that there is no such object. Raises MachineError."""
        try:
            if self._first is not None:
                next(iter(obstore.list(self._first, chunk_size=1)), None)
                self._first = None
            return action()
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error):
                raise MachineError(f"{self.name}: there is no such bucket, or it is not yours; create it") from None
            return None
        except (exceptions.BaseError, OSError) as error:
            raise self._refusal(operation, path, error) from error

    def _refusal(self, operation: str, path: str, error: Exception) -> MachineError:
        """Return one line without what may be secret."""
        said, way_out = str(error), _WAYS_OUT.get(self.name.partition(":")[0], "see the manual of the store")
        if "NoSuchBucket" in said:
            return MachineError(f"{self.name}: there is no such bucket, or it is not yours; create it")
        if isinstance(error, (exceptions.UnauthenticatedError, exceptions.PermissionDeniedError)):
            return MachineError(f"{self.spell(path)}: cannot {operation}: the credentials are refused; {way_out}")
        if _METADATA_HOST in said:
            return MachineError(f"{self.name}: there are no credentials; {way_out}")
        if "error sending request" in said:
            return MachineError(f"{self.name}: cannot be reached; see to the network, or to the address of the store")
        reason = _QUERY.sub("", said.partition("\n")[0])[:300]
        return MachineError(f"{self.spell(path)}: cannot {operation}: {reason}; run again, what is finished is kept")


def _pause(number: int, refusal: Exception | None) -> None:
    """Wait before another try of what the client does not try again by itself. Raises what it gave up at."""
    if isinstance(refusal, MachineError):
        tried = "retries" in str(refusal.__cause__).partition("\n")[0]
        if tried or number == TRIES - 1:
            raise refusal
    time.sleep(0.05 * 2**number)


def open_bucket(url: str) -> Bucket:
    """Return the bucket that a URL names; nothing is asked of it yet. Raises UsageError."""
    scheme, _, rest = url.partition("://")
    if "@" in rest or "?" in rest:
        raise UsageError(f"{scheme}://: the place of a store has no credentials in it; {_WAYS_OUT.get(scheme, '')}")
    if scheme not in SCHEMES or not rest.strip("/"):
        known = ", ".join(f"{each}://" for each in SCHEMES)
        raise UsageError(f"{url}: is no place for a store; name a folder, or a bucket and a prefix after {known}")
    client: dict[str, Any] = dict(CLIENT)
    if os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://"):
        client["allow_http"] = True  # whoever names such an endpoint means it
    try:
        objects, first = (
            store.from_url(url.rstrip("/"), client_options=client, retry_config=retries)  # type: ignore[call-overload]
            for retries in (RETRIES, FIRST_RETRIES)
        )
    except (exceptions.BaseError, ValueError, TypeError) as error:
        reason = _QUERY.sub("", str(error).partition("\n")[0])
        raise UsageError(f"{url}: cannot be opened: {reason}; {_WAYS_OUT[scheme]}") from error
    return Bucket(objects, url.rstrip("/"), first)
