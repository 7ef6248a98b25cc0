"""Memory of which jobs of a store are finished: a manifest is read and verified once, and again only if it changed.

A run asks for each finished job many times: when it plans, estimates, begins, and makes its tables. Other processes
commit jobs meanwhile and put damaged ones aside, so nothing is believed without a look at the disk. A look costs a few
system calls, however: the file of the manifest has to be the one that was verified, and each file that it lists has to
be there with the size that was committed. Hashes of these files are compared where their bytes are read.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from lottery.errors import DamagedFile
from lottery.files.read import size_of
from lottery.store.manifest import MANIFEST, FileRecord, Manifest

# A file system notes the time of a change with a resolution of up to two seconds (FAT, NFS): what changes again within
# it looks the same. A manifest that has just been written is therefore not remembered.
RECENT_NS = 2_000_000_000

Mark = tuple[int, int, int, int]  # inode, bytes, times of the last change of content and of inode in ns


class Finished:
    """The manifests of one store that this process has verified, by key."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Mark, Manifest]] = {}

    def manifest(self, folder: str, key: str) -> Manifest:
        """Return the manifest of a job whose files are all there with their sizes.

        Args:
            folder: the job's folder.
            key: the job's key.

        Raises:
            DamagedFile: something is missing, or not what was committed.
            UsageError: a newer version of this program wrote the manifest.
        """
        if os.path.islink(folder):
            raise DamagedFile(f"{folder}: is a link")
        mark = _mark(f"{folder}/{MANIFEST}")
        known = self._known.get(key)
        if known is not None and known[0] == mark:
            manifest = known[1]
        else:
            self._known.pop(key, None)
            manifest = Manifest.read(folder, key)
            if mark is not None and time.time_ns() - mark[3] > RECENT_NS:  # taken before the file was read
                self._known[key] = mark, manifest
        check_sizes(folder, manifest.files)
        return manifest


def check_sizes(folder: str, files: Mapping[str, FileRecord]) -> None:
    """Raise DamagedFile if a file is missing, or has not the size that was committed."""
    for name, record in files.items():
        size = size_of(f"{folder}/{name}")
        if size != record.size:
            raise DamagedFile(f"{folder}/{name}: has {size:,} bytes, {record.size:,} were committed")


def _mark(path: str) -> Mark | None:
    """Return what changes when a file is written to or replaced; None for a file that cannot be looked at."""
    try:
        about = os.lstat(path)
    except OSError:
        return None  # reading it says what is wrong
    return about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns
