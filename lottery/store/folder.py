"""A store in a folder of a disk, shared by processes and, over a network file system, by machines.

A group of files is written to a draft beside its place, which a renaming puts there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from lottery.errors import DamagedFile
from lottery.files import write
from lottery.files.clock import FileClock
from lottery.files.read import file_sha256, identity, names_in, read_bytes, read_start, size_of
from lottery.store.finished import Finished
from lottery.store.leases import Leases
from lottery.store.manifest import KEY, MANIFEST, MOST_BYTES, FileRecord, Manifest, not_committed, verified_bytes

Garbage = list[tuple[Path | str, int, str]]


class Folder:
    """The store's place on a disk. Nothing is created before something is written."""

    def __init__(self, root: Path):
        self.root = root.absolute()
        self.leases = Leases(self.root / "leases")
        self._finished = Finished()

    @property
    def name(self) -> str:
        """The folder."""
        return str(self.root)

    def spell(self, path: str) -> str:
        """Return the absolute path."""
        return f"{self.root}/{path}"

    def is_there(self) -> bool:
        """Return True if the folder is there and has something in it."""
        return bool(names_in(self.root))

    # Groups of files

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield the keys of finished jobs that start with `prefix`, in order."""
        for shelf in [prefix[:2]] if prefix else names_in(f"{self.root}/jobs"):
            for key in names_in(f"{self.root}/jobs/{shelf}"):
                if key.startswith(prefix or shelf) and KEY.fullmatch(key):
                    yield key

    def expect(self, keys: Iterable[str], *, files: bool) -> None:
        """Do nothing: a disk answers at once."""

    def identity(self, path: str) -> str | None:
        """Return device and inode in hex."""
        found = identity(f"{self.root}/{path}")
        return None if found is None else f"{found[0]:x}-{found[1]:x}"

    def finished(self, key: str, *, anew: bool = False) -> Manifest:
        """Return the manifest of a job whose files are all there with their sizes."""
        return (Finished() if anew else self._finished).manifest(f"{self.root}/jobs/{key[:2]}/{key}", key)

    def manifest(self, key: str) -> Manifest:
        """Return a job's manifest without a look at its files."""
        return Manifest.read(f"{self.root}/jobs/{key[:2]}/{key}", key)

    def manifest_bytes(self, path: str) -> bytes:
        """Return the bytes of a manifest, unverified."""
        return read_bytes(f"{self.root}/{path}/{MANIFEST}", most=MOST_BYTES)

    def verified(self, path: str, name: str, record: FileRecord) -> bytes:
        """Return the bytes of a file, verified."""
        place = f"{self.root}/{path}/{name}"
        return verified_bytes(read_bytes(place, size=record.size), place, record)

    def verify(self, path: str, name: str, record: FileRecord) -> None:
        """Compare a file's hash, whatever its size."""
        place = f"{self.root}/{path}/{name}"
        if file_sha256(place, size=record.size) != record.sha256:
            raise not_committed(place)

    def start(self, path: str, name: str, length: int | None) -> bytes:
        """Return the first bytes of a file, or all, unverified."""
        place = f"{self.root}/{path}/{name}"
        return read_bytes(place) if length is None else read_start(place, length)

    @contextmanager
    def draft(self, path: str, files: Mapping[str, bytes], manifest: bytes) -> Iterator[FolderDraft]:
        """Write files to a folder beside the one that it is to become."""
        target = self.root / path
        with write.write_draft(target, files, (MANIFEST, manifest)) as draft:
            yield FolderDraft(draft, target, self.root / "quarantine")

    def retire(self, path: str) -> None:
        """Remove a group's folder, which disappears whole."""
        write.retire(self.root / path)

    def put_aside(self, path: str, name: str, judged: str) -> bool:
        """Move a damaged folder to the quarantine, unless another process has and the job is there anew.

        The new name is made of the folder that was judged: of two processes that judged the same, the second finds
        the name taken and leaves alone what was committed in between.
        """
        if self.identity(path) != judged:
            return False
        folder, aside = self.root / path, self.root / "quarantine" / name
        write.remove_empty(folder)
        write.make_folder(aside.parent)
        return write.move(folder, aside)

    # Documents

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder, without those of drafts."""
        return [name for name in names_in(f"{self.root}/{folder}") if not write.DRAFT.search(name)]

    def read(self, path: str, most: int) -> bytes:
        """Return the bytes of a document."""
        return read_bytes(f"{self.root}/{path}", most=most)

    def write(self, path: str, data: bytes) -> None:
        """Write a document; the folders above it are made."""
        target = self.root / path
        write.make_folder(target.parent)
        write.write_atomic(target, data)

    def exists(self, path: str) -> bool:
        """Return True if there is such a document."""
        return (self.root / path).exists()

    def remove(self, path: str) -> None:
        """Remove a document, or a folder once it is empty."""
        target = self.root / path
        if target.is_dir():
            write.remove_empty(target)
        elif target.exists():
            write.remove(target)

    def append(self, path: str, line: bytes) -> None:
        """Add a line to a document."""
        target = self.root / path
        write.make_folder(target.parent)
        write.append(target, line)

    def sizes(self, folder: str) -> dict[str, int]:
        """Return how many bytes each document of a folder has, by its name."""
        sizes = {}
        for name in self.names(folder):
            with suppress(DamagedFile):
                sizes[name] = size_of(f"{self.root}/{folder}/{name}")
        return sizes

    def tail(self, path: str, offset: int, most: int) -> bytes:
        """Return the bytes of a document from there on, `most` of them; none where it is not there."""
        with suppress(DamagedFile):
            return read_start(f"{self.root}/{path}", most, offset=offset)
        return b""

    # Room

    def free_bytes(self) -> int:
        """Return the bytes free where the folder is, or is going to be."""
        return write.free_bytes(self.root)

    def leftovers(self) -> Garbage:
        """Return the drafts of processes that are gone, and the leases that have expired."""
        clock = FileClock(self.root)
        drafts = [path for path in self._drafts() if write.abandoned(path, clock.now)]
        found: Garbage = [(path, _size(path), "left by a process that is gone") for path in drafts]
        return found + [(path, _size(path), "lease that has expired") for path in self.leases.expired()]

    def measure(self, path: str) -> tuple[Path, int]:
        """Return the path of a file or folder with all the bytes in it."""
        return self.root / path, _size(self.root / path)

    def discard(self, item: Path | str) -> None:
        """Remove a file or folder."""
        write.remove(Path(item))

    def _drafts(self) -> Iterator[Path]:
        for folder in (".", "jobs/*", "partial/*", "failures", "data/*"):  # a push by ssh that was cut off is in "."
            yield from sorted(path for path in self.root.glob(f"{folder}/*.tmp-*") if write.DRAFT.search(path.name))


@dataclass(frozen=True)
class FolderDraft:
    """A draft beside the folder that it is to become."""

    folder: Path
    target: Path
    quarantine: Path

    def publish(self) -> None:
        """Give the draft its name. Raises FileExistsError where that is taken."""
        write.publish(self.folder, self.target)

    def discard(self) -> None:
        """Remove the draft."""
        write.remove(self.folder)

    def put_aside(self, name: str) -> str:
        """Move the draft to the quarantine."""
        write.make_folder(self.quarantine)
        write.move(self.folder, self.quarantine / name)
        return str(self.quarantine / name)


def _size(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    total = 0
    for each in (path, *path.rglob("*")):
        with suppress(FileNotFoundError):
            about = each.lstat()
            total += about.st_size if not each.is_dir() else 0
    return total
