"""What was read from an object store, on this machine's disk by its hash; anything in it may be removed at any time.

Processes share it: a file appears whole, and is verified when it is read.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from lottery.errors import DamagedFile, MachineError, UsageError
from lottery.files import write
from lottery.files.read import read_bytes

MOST_BYTES = 20_000_000_000  # of all files
SWEEP_BYTES = 200_000_000  # written between two looks at the size of all


class Cache:
    """Files by the sha256 of their bytes, and small ones by a name."""

    def __init__(self, folder: Path, most_bytes: int = MOST_BYTES):
        self._folder, self._most = folder, most_bytes
        self._written = SWEEP_BYTES  # so that the first file of a process is followed by a sweep

    def get(self, sha256: str) -> bytes | None:
        """Return the bytes with this hash; None where they are not here, or not whole."""
        data = self.named(sha256)
        return data if data is not None and hashlib.sha256(data).hexdigest() == sha256 else None

    def named(self, name: str) -> bytes | None:
        """Return what was kept by this name of hexadecimal digits, unverified."""
        path = self._path(name)
        with suppress(DamagedFile, MachineError, OSError):
            data = read_bytes(path, most=self._most)
            os.utime(path)  # what is used stays
            return data
        return None

    def has(self, name: str) -> bool:
        """Return True if something is kept by this name."""
        return os.path.exists(self._path(name))

    def put(self, name: str, data: bytes) -> None:
        """Keep bytes by their hash, or another name; a disk that refuses does without."""
        if len(data) > self._most // 10:
            return
        with suppress(MachineError, UsageError, OSError):
            path = self._path(name)
            write.make_folder(self._folder)
            write.write_atomic(path, data, durable=False)
            self._written += len(data)
            if self._written > SWEEP_BYTES:
                self._written = 0
                self._sweep()

    def _sweep(self) -> None:
        """Remove what was not used for longest, where the files take more than they may."""
        files = []
        for path in self._folder.iterdir():
            with suppress(OSError):
                about = path.lstat()
                files.append((about.st_mtime, about.st_size, path))
        left = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if left <= self._most:
                return
            write.remove(path)
            left -= size

    def _path(self, name: str) -> Path:
        return self._folder / name
