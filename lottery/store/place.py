"""The place where a store lies, a folder or an object store: what `Store` asks of it, and the one that a name means.

A path is relative to the place and has slashes. At `jobs/ab/<key>` and at `partial/<key>/<name>` lie sealed groups of
files: a manifest makes the others valid, and they appear together or not at all. Elsewhere lie single documents.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lottery.errors import UsageError

if TYPE_CHECKING:
    from lottery.store.manifest import FileRecord, Manifest

Item = Path | str  # something that can be removed, as it is named in messages
Garbage = list[tuple[Item, int, str]]  # with its bytes and why it can go


class Draft(Protocol):
    """Files that are written but not yet valid."""

    def publish(self) -> None:
        """Make them valid, all at once. Raises FileExistsError where something lies there already."""

    def discard(self) -> None:
        """Forget them."""

    def put_aside(self, name: str) -> str:
        """Keep them as `quarantine/<name>` to be looked at, and return that place."""


class Leases(Protocol):
    """Claims on jobs: they save work being done twice, nothing more."""

    def hold(self, key: str, duration: float | None) -> AbstractContextManager[bool]:
        """Try once to get the lease; yields False if somebody has it. Raises MachineError."""

    def holder(self, key: str) -> str | None:
        """Return who holds a living lease, as `process 4711 on host`; None if nobody does."""

    def held(self) -> dict[str, str]:
        """Return the holder of every living lease, by key."""


class Place(Protocol):
    """A place of a store. Every method raises MachineError where the machine, or the network, refuses."""

    @property
    def name(self) -> str:
        """The place as `--store` names it."""

    @property
    def leases(self) -> Leases:
        """The claims on its jobs."""

    def spell(self, path: str) -> str:
        """Return a path as messages name it."""

    def is_there(self) -> bool:
        """Return True if a store was begun here: something lies in the place."""

    # Groups of files that a manifest seals

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield the keys of finished jobs that start with `prefix`, in order, without a look at them."""

    def expect(self, keys: Iterable[str], *, files: bool) -> None:
        """Make ready for reading the manifests of many jobs, and with `files` their small files."""

    def identity(self, path: str) -> str | None:
        """Return what identifies the group that has this path now; None where there is nothing."""

    def finished(self, key: str, *, anew: bool = False) -> Manifest:
        """Return the manifest of a job whose files are all there with their sizes.

        Args:
            key: the job's key.
            anew: read it, also where it was read and verified before.

        Raises:
            DamagedFile: something is missing, or not what was committed.
            UsageError: a newer version of this program wrote the manifest.
        """

    def manifest(self, key: str) -> Manifest:
        """Return a job's manifest without a look at its files. Raises as `finished`."""

    def manifest_bytes(self, path: str) -> bytes:
        """Return the bytes of the manifest of a group, unverified. Raises DamagedFile where there is none."""

    def verified(self, path: str, name: str, record: FileRecord) -> bytes:
        """Return the bytes of a file of a group. Raises DamagedFile if they are not those that were committed."""

    def verify(self, path: str, name: str, record: FileRecord) -> None:
        """Read a file where it lies and compare its hash. Raises DamagedFile."""

    def start(self, path: str, name: str, length: int | None) -> bytes:
        """Return the first bytes of a file of a group, or all, unverified. Raises DamagedFile."""

    def draft(self, path: str, files: Mapping[str, bytes], manifest: bytes) -> AbstractContextManager[Draft]:
        """Write a group of files; after an error in the block nothing of it is valid."""

    def retire(self, path: str) -> None:
        """Remove a group, which disappears whole."""

    def put_aside(self, path: str, name: str, judged: str) -> bool:
        """Move a damaged group to `quarantine/<name>`; False where it is not the one that was judged any more."""

    # Documents

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder, sorted; none where there is no such folder."""

    def read(self, path: str, most: int) -> bytes:
        """Return the bytes of a document, `most` of them. Raises DamagedFile where there is none, or a longer one."""

    def write(self, path: str, data: bytes) -> None:
        """Write a document; at any moment it is the old or the new one."""

    def exists(self, path: str) -> bool:
        """Return True if there is such a document."""

    def remove(self, path: str) -> None:
        """Remove a document, or a folder once it is empty; what is gone already is fine."""

    def append(self, path: str, line: bytes) -> None:
        """Add a line to a document that only this process writes."""

    def sizes(self, folder: str) -> dict[str, int]:
        """Return how many bytes each of these documents has, by its name."""

    def tail(self, path: str, offset: int, most: int) -> bytes:
        """Return the bytes of such a document from there on, `most` of them; none where it is not there."""

    # Room

    def free_bytes(self) -> int | None:
        """Return the bytes free where the store is, or is going to be; None where there is no limit."""

    def leftovers(self) -> Garbage:
        """Return what processes left that are gone: drafts, and leases that have expired."""

    def measure(self, path: str) -> tuple[Item, int]:
        """Return all that lies at a path as an item, with its bytes."""

    def discard(self, item: Item) -> None:
        """Remove an item and all that is in it."""


def open_place(where: str | Path) -> Place:
    """Return the place of this name: an object store for a URL, else a folder. Raises UsageError."""
    if "://" not in str(where):
        from lottery.store.folder import Folder

        return Folder(Path(where))
    try:
        from lottery.store.objects.bucket import open_bucket
        from lottery.store.objects.objects import Objects
    except ModuleNotFoundError as error:
        if error.name != "obstore":
            raise
        raise UsageError(f"{where}: object stores need obstore; pip install 'lottery[cloud]'") from error
    return Objects(open_bucket(str(where)))
