"""The one module that writes to disk: folders appear whole or not at all.

Every change to the file system is one call of `perform`, where a test injects a fault or a crash before or after it.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import shutil
import socket
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from lottery.errors import MachineError, UsageError

T = TypeVar("T")

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
DRAFT = re.compile(r"\.tmp-(\d{1,10})-([0-9a-f]{8})-[0-9a-f]{12}$")  # process, machine, random
ABANDONED_SECONDS = 3600.0  # no write of ours pauses this long

_OCCUPIED = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR)


def perform(operation: str, path: Path | str, action: Callable[[], T]) -> T:
    """Do one primitive operation.

    The operations are mkdir, write, fsync, fsync folder, rename, replace, append, remove, link and lease; those of an
    object store, whose paths are URLs, are put, copy and delete.
    """
    return action()


def guarded(
    operation: str,
    path: Path,
    action: Callable[[], T],
    *,
    need: int = 0,
    expect: tuple[type[OSError], ...] = (),
) -> T:
    """Do one primitive operation that may need `need` bytes.

    Raises:
        MachineError: Any OSError that is not in `expect`.
    """
    try:
        return perform(operation, path, action)
    except expect:
        raise
    except OSError as error:
        raise machine_error(error, operation, path, need) from error


def machine_error(error: OSError, operation: str, path: Path, need: int = 0) -> MachineError:
    """Return one line that names the path, what the machine refuses, and for space the bytes needed and free."""
    what = error.strerror or str(error) or type(error).__name__
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        limit = {errno.EDQUOT: "quota reached", errno.EFBIG: "file size limit reached (ulimit -f)"}
        what = f"{limit.get(error.errno, 'disk full')}: {need:,} bytes needed, {free_bytes(path):,} free on the disk"
        return MachineError(f"{path}: {what}; make room and run again, what is finished is kept")
    return MachineError(f"{path}: cannot {operation}: {what}; mend it and run again, what is finished is kept")


def free_bytes(path: Path) -> int:
    """Return the bytes that a user may still write where `path` is, or is going to be."""
    for place in (path, *path.absolute().parents):
        with suppress(OSError):
            return shutil.disk_usage(place).free
    return 0


# Writing


def make_folder(path: Path) -> None:
    """Make a folder and those above it, durably.

    Raises:
        UsageError: A file is in the way.
    """
    if os.path.isdir(path):
        return
    if path.parent != path:
        make_folder(path.parent)
    try:
        guarded("mkdir", path, lambda: os.mkdir(path), expect=(FileExistsError, NotADirectoryError))
    except (FileExistsError, NotADirectoryError) as error:
        if os.path.isdir(path):  # another process was faster
            return
        raise UsageError(f"{path}: is a file where a folder is needed; name another place") from error
    sync_folder(path.parent)


@contextmanager
def write_draft(target: Path, files: Mapping[str, bytes], last: tuple[str, bytes]) -> Iterator[Path]:
    """Write files to a new folder beside `target`, the draft, which `publish` then gives that name.

    After an error in the block no draft is left; what a killed process leaves is told by `abandoned`.

    Args:
        target: the folder that the draft is to become.
        files: bytes by name.
        last: name and bytes of the file that makes the others valid, written after them.
    """
    need = sum(len(data) for data in files.values()) + len(last[1])
    draft = _new_folder(target)
    try:
        for name, data in files.items():
            _write_new(draft / safe_name(name), data, need)
        _write_new(draft / safe_name(last[0]), last[1], need)
        sync_folder(draft)
        yield draft
    except Exception:
        with suppress(MachineError):  # the first error is the one to tell
            remove(draft)
        raise


def publish(draft: Path, target: Path) -> None:
    """Give a finished draft its name.

    Raises:
        FileExistsError: The name is taken; nothing is overwritten.
    """
    guarded("rename", target, lambda: _rename(draft, target), expect=(FileExistsError,))
    sync_folder(target.parent)


def write_atomic(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write a file so that at any moment it is the old or the new one; after a power cut too, where it is durable.

    Raises:
        UsageError: No file can be there.
    """
    if os.path.isdir(path) or not os.path.isdir(path.parent):
        why = "is a folder" if os.path.isdir(path) else f"there is no folder {path.parent}"
        raise UsageError(f"{path}: {why}; name a file in a folder that is there")
    if os.path.exists(path) and not os.path.isfile(path):  # a device or a pipe is written to, not replaced
        guarded("write", path, lambda: path.write_bytes(data), need=len(data))
        return
    path = Path(os.path.realpath(path))  # a link stays a link
    draft = path.with_name(f"{path.name[:40]}.tmp-{unique()}")
    try:
        _write_new(draft, data, len(data), durable=durable)
        guarded("replace", path, lambda: os.replace(draft, path))
    except Exception:
        with suppress(MachineError):
            remove(draft)
        raise
    if durable:
        sync_folder(path.parent)


def append(path: Path, data: bytes) -> None:
    """Add to the end of a file in one write."""

    def write() -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o666)
        try:
            _write_all(fd, data)
        finally:
            os.close(fd)

    guarded("append", path, write, need=len(data))


def move(source: Path, target: Path) -> bool:
    """Rename a file or folder; return False where the source is gone or the target's name is taken.

    Either happens when another process was faster.
    """
    try:
        guarded("rename", target, lambda: _rename(source, target), expect=(FileNotFoundError, FileExistsError))
    except (FileNotFoundError, FileExistsError):
        return False
    sync_folder(target.parent)
    sync_folder(source.parent)
    return True


def retire(folder: Path) -> None:
    """Remove a finished folder, which disappears whole: a reader never sees it half removed."""
    grave = folder.with_name(f"{folder.name}.tmp-{unique()}")
    if move(folder, grave):
        remove(grave)


def remove(path: Path) -> None:
    """Remove a file, or a folder with all in it; one that is gone already is fine."""

    def unlink() -> None:
        with suppress(FileNotFoundError):
            if stat.S_ISDIR(os.lstat(path).st_mode):
                shutil.rmtree(path)
            else:
                os.unlink(path)

    guarded("remove", path, unlink)


def remove_empty(folder: Path) -> None:
    """Remove a folder unless something is in it."""

    def rmdir() -> None:
        try:
            os.rmdir(folder)
        except OSError as error:
            if error.errno not in (*_OCCUPIED, errno.ENOENT):
                raise

    guarded("remove", folder, rmdir)


def sync_folder(path: Path) -> None:
    """Make the names in a folder survive a power cut."""

    def sync() -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network folders know no such thing
                raise
        finally:
            os.close(fd)

    guarded("fsync folder", path, sync)


def _rename(source: Path, target: Path) -> None:
    """Rename a folder. The system lets a folder replace an empty one, and a file any file: callers name neither."""
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno in _OCCUPIED:
            raise FileExistsError(error.errno, error.strerror, str(target)) from error
        raise


def _new_folder(target: Path) -> Path:
    for _ in range(10):
        draft = target.with_name(f"{target.name}.tmp-{unique()}")
        make_folder(target.parent)
        if _make_draft(draft):
            return draft
    raise MachineError(f"{target.parent}: is removed again and again by another program; stop that and run again")


def _make_draft(draft: Path) -> bool:
    try:
        guarded("mkdir", draft, lambda: os.mkdir(draft), expect=(FileNotFoundError,))
    except FileNotFoundError:  # another process removed the empty parent in between
        return False
    return True


def _write_new(path: Path, data: bytes, need: int, *, durable: bool = True) -> None:
    def write() -> int:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
        try:
            _write_all(fd, data)
        except BaseException:
            os.close(fd)
            raise
        return fd

    fd = guarded("write", path, write, need=need)
    try:
        if durable:
            guarded("fsync", path, lambda: os.fsync(fd), need=need)
    finally:
        os.close(fd)


def _write_all(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


# Drafts and the processes that write them


def unique() -> str:
    """Return the end of a draft's name, from which `abandoned` tells whose it is."""
    return f"{os.getpid()}-{machine_id()}-{secrets.token_hex(6)}"


def machine_id() -> str:
    """Return eight hex digits for this machine since it started: process numbers mean nothing elsewhere."""
    about = [socket.gethostname()]
    for source in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"):
        with suppress(OSError):
            about.append(os.readlink(source) if "/ns/" in source else Path(source).read_text())
    return hashlib.sha256("\n".join(about).encode()).hexdigest()[:8]


def alive(pid: int) -> bool:
    """Return True if a process of this machine is running."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def abandoned(draft: Path, now: Callable[[], float]) -> bool:
    """Return True if a draft's process is gone.

    Where that cannot be told (another machine), return True if the draft is an hour old. `now` returns the time by the
    clock that stamps the files there, see `clock.FileClock`.
    """
    match = DRAFT.search(draft.name)
    if match is None:
        return False
    if match[2] == machine_id() and not alive(int(match[1])):
        return True
    try:
        times = [draft.lstat().st_mtime, *(entry.lstat().st_mtime for entry in draft.rglob("*"))]
    except OSError:
        return False  # being removed or renamed at this moment
    return now() - max(times) > ABANDONED_SECONDS


def safe_name(name: str) -> str:
    """Return the name if it is that of a file in the folder at hand.

    Raises:
        UsageError: It leads elsewhere.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name) or DRAFT.search(name):
        raise UsageError(f"{name!r}: is no file name here; use up to 64 letters, digits, '.', '_' and '-'")
    return name
