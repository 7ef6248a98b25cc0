"""Reading that trusts no file: links, pipes, wrong sizes, endless or deeply nested documents are refused."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lottery.errors import DamagedFile
from lottery.files.write import machine_error

MOST_JSON_BYTES = 1 << 28
MOST_JSON_DEPTH = 64
MOST_BYTES = 1 << 62  # of a file that is not read to its end

_BRACKETS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|([\[{])|([\]}])', re.DOTALL)
_NO_SUCH_FILE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO)


def identity(path: Path | str) -> tuple[int, int] | None:
    """Return what identifies the file or folder that has this name now, links not followed; None for none."""
    try:
        about = os.lstat(path)
    except OSError as error:
        if error.errno in _NO_SUCH_FILE:
            return None
        raise machine_error(error, "look at", Path(path)) from error
    return about.st_dev, about.st_ino


def size_of(path: Path | str) -> int:
    """Return the size of a regular file in bytes.

    Raises:
        DamagedFile: The file is missing, or no regular file.
    """
    try:
        about = os.lstat(path)
    except OSError as error:
        if error.errno in _NO_SUCH_FILE:
            raise DamagedFile(f"{path}: is missing") from error
        raise machine_error(error, "look at", Path(path)) from error
    if not stat.S_ISREG(about.st_mode):
        raise DamagedFile(f"{path}: is no regular file")
    return about.st_size


def names_in(folder: Path | str) -> list[str]:
    """Return the names in a folder, sorted; none where there is no such folder."""
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        if error.errno in _NO_SUCH_FILE:
            return []
        raise machine_error(error, "list", Path(folder)) from error


def read_bytes(path: Path | str, *, size: int | None = None, most: int = MOST_JSON_BYTES) -> bytes:
    """Return the bytes of a regular file; links are refused.

    Args:
        path: The file.
        size: Size in bytes that it must have; None for any up to `most`.
        most: Largest size in bytes where no size is given.

    Raises:
        DamagedFile: The file is missing, no regular file, or of another size.
        MachineError: The machine cannot read it.
    """
    with _opened(path, size, most) as (fd, length):
        data = os.read(fd, length + 1)
        while 0 < len(data) < length and (more := os.read(fd, length + 1 - len(data))):
            data += more
    if len(data) != length:
        raise DamagedFile(f"{path}: changed while it was read")
    return data


def read_start(path: Path | str, length: int, *, offset: int = 0) -> bytes:
    """Return `length` bytes of a regular file from `offset` on, fewer at its end. Raises as `read_bytes` does."""
    with _opened(path, None, MOST_BYTES) as (fd, _):
        os.lseek(fd, offset, os.SEEK_SET)
        data = os.read(fd, length)
        while 0 < len(data) < length and (more := os.read(fd, length - len(data))):
            data += more
    return data


def file_sha256(path: Path | str, *, size: int) -> str:
    """Return the sha256 of a file of any size, in hex. Raises as `read_bytes` does."""
    with _opened(path, size, size) as (fd, _), open(fd, "rb", closefd=False) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def parse_json(data: bytes, place: str) -> Any:
    """Return the value of a JSON document.

    Args:
        data: The document.
        place: Its name in messages.

    Raises:
        DamagedFile: It is no JSON, too large, nested too deep, or has a key twice.
    """
    try:
        _check_depth(data)
        return json.loads(data, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise DamagedFile(f"{place}: is no JSON that can be read: {error}") from error


@contextmanager
def _opened(path: Path | str, size: int | None, most: int) -> Iterator[tuple[int, int]]:
    fd = -1
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)  # a pipe must not stop us
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode):
            raise DamagedFile(f"{path}: is no regular file")
        if size is not None and about.st_size != size:
            raise DamagedFile(f"{path}: has {about.st_size:,} bytes, {size:,} were committed")
        if size is None and about.st_size > most:
            raise DamagedFile(f"{path}: has {about.st_size:,} bytes, more than the {most:,} such a file can have")
        yield fd, about.st_size
    except OSError as error:
        if error.errno in _NO_SUCH_FILE:
            raise DamagedFile(f"{path}: is missing or a link") from error
        raise machine_error(error, "read", Path(path)) from error
    finally:
        if fd >= 0:
            os.close(fd)


def _check_depth(data: bytes) -> None:
    if len(data) > MOST_JSON_BYTES:
        raise ValueError(f"{len(data):,} bytes, more than {MOST_JSON_BYTES:,}")
    if data.count(b"[") + data.count(b"{") <= MOST_JSON_DEPTH:
        return
    depth = 0
    for match in _BRACKETS.finditer(data):
        depth += (match[1] is not None) - (match[2] is not None)
        if depth > MOST_JSON_DEPTH:
            raise ValueError(f"nested deeper than {MOST_JSON_DEPTH} levels")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands there twice")
    return found
