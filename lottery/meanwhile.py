"""Values that a second process computes while this one goes on, for commands that take seconds. No torch here."""

from __future__ import annotations

import importlib
import logging
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Generic, NamedTuple, Self, TypeVar

T = TypeVar("T")
LOGGER = logging.getLogger("lottery")
FORK_SAFE = {"jemalloc_bg_thd"}  # names of threads whose library takes care of them at a fork


class Ahead:
    """A second process that imports modules before it is known what it will compute, where there is a processor for it.

    It computes one value, of `Meanwhile(make, ahead)`. It ends with the `with` block if it was not taken, and with this
    process.

    Args:
        *modules: The modules, by name.
    """

    def __init__(self, *modules: str) -> None:
        self._process = _forked(partial(_asked, modules)) if can_fork() else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if (left := self.take()) is not None:
            left.end()

    def take(self) -> _Second | None:
        """Return the process, once; None where there is none, or it was taken."""
        found, self._process = self._process, None
        return found


class Meanwhile(Generic[T]):
    """A value that a forked process computes from now on, where there is a second processor for it.

    The function must change nothing that others read: what it does to this process's objects is lost. What it logs is
    told by this process when the value is asked for, unless this one has said it. Where no process can be forked, and
    where it fails or is killed, the value is computed here when it is asked for, so that errors are those of a program
    with one process. The process ends with the `with` block, also where the value was not asked for, and with this one.

    Args:
        make: The function; its value can be pickled.
        ahead: A process that was forked before, for a function that can be pickled; one is forked where it is None.
    """

    def __init__(self, make: Callable[[], T], ahead: Ahead | None = None) -> None:
        self._make = make
        self._found = None if ahead is None else ahead.take()
        if self._found is not None:
            with suppress(OSError):  # where it was killed there is no answer either
                self._found.way.send(make)
        elif can_fork():
            self._found = _forked(lambda _: make())
        self._heard = _Heard(told=True)
        if self._found is not None:
            LOGGER.addFilter(self._heard)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        LOGGER.removeFilter(self._heard)
        found, self._found = self._found, None
        if found is not None:
            found.end()

    def value(self) -> T:
        """Return the value, once; this waits for it."""
        if self._found is None:
            return self._make()
        LOGGER.removeFilter(self._heard)
        with self, suppress(EOFError, OSError):
            made, said = self._found.way.recv()
            for level, words in said:
                if (level, words) not in self._heard.said:
                    LOGGER.log(level, "%s", words)
            value: T = made
            return value
        return self._make()


def divided(tasks: Sequence[Callable[[], T]]) -> list[T]:
    """Return what tasks make, in their order, made by this process from the first on and by a second from the last on.

    Each takes its next task when it has made one, until they meet. So tasks that share what they read stand together,
    short ones in the middle, and those that a fork cannot follow, as they import torch, at the end.

    Args:
        tasks: Functions as `Meanwhile` takes them.
    """
    turns = _Turns(len(tasks))
    made: dict[int, T] = {}
    last = range(len(tasks) - 1, -1, -1)
    with Meanwhile(
        lambda: {number: tasks[number]() for number in last if number not in made and turns.take()}
    ) as beside:
        try:
            for number, task in enumerate(tasks):
                if not turns.take():
                    break
                made[number] = task()
        finally:
            turns.end()  # so that this process makes what the second was to make, should that have failed
        made |= beside.value()
    return [made[number] for number in range(len(tasks))]


class _Turns:
    """As many turns as there are tasks, of which two processes take one at a time: bytes of a pipe."""

    def __init__(self, number: int) -> None:
        self._left, end = os.pipe()
        os.set_blocking(end, False)
        written = os.write(end, bytes(number))
        assert written == number  # a pipe holds thousands
        os.close(end)
        self._over = False

    def take(self) -> bool:
        """Return True for one more turn; False where none is left."""
        return self._over or bool(os.read(self._left, 1))

    def end(self) -> None:
        """Give this process all turns that it asks for from now on."""
        os.close(self._left)
        self._over = True


class _Heard(logging.Filter):
    """Keeps what is logged, which is told as well where `told` is true."""

    def __init__(self, *, told: bool) -> None:
        super().__init__()
        self.said: list[tuple[int, str]] = []
        self._told = told

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep level and words."""
        self.said.append((record.levelno, record.getMessage()))
        return self._told


class _Second(NamedTuple):
    """A second process and the way to it."""

    process: BaseProcess
    way: Connection

    def end(self) -> None:
        """End the process, and wait until it has ended."""
        self.way.close()
        self.process.kill()
        self.process.join()


def _forked(make: Callable[[Connection], Any]) -> _Second:
    """Fork a process that sends what is made, and return it; the function is given the other end of the way to it."""
    context = multiprocessing.get_context("fork")
    found, end = context.Pipe()
    process = context.Process(target=_send, args=(make, end, found), daemon=True)
    process.start()
    end.close()
    return _Second(process, found)


def _asked(modules: Sequence[str], end: Connection) -> Any:
    """Import modules, and return what a function makes that is sent then."""
    for module in modules:
        importlib.import_module(module)
    return end.recv()()


def _send(make: Callable[[Connection], Any], end: Connection, other: Connection) -> None:
    """Send what is made, and end without a word where that fails: the process that waits then makes it itself."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    heard = _Heard(told=False)
    LOGGER.addFilter(heard)
    other.close()
    failed = 1
    try:
        made = make(end)
        end.send((made, heard.said))
        end.close()
        failed = 0
    finally:
        os._exit(failed)  # nothing of the parent's is flushed or cleaned up twice


def can_fork() -> bool:
    """Return True on Linux with a second processor, but in a process that is itself such a second one.

    No library may have threads, which a fork would leave behind; torch can start some at any product.
    """
    if sys.platform != "linux" or "torch" in sys.modules or multiprocessing.current_process().daemon:
        return False
    return len(os.sched_getaffinity(0)) > 1 and is_alone()


def is_alone() -> bool:
    """Return True if a fork leaves no thread behind.

    OpenBLAS ends its own at a fork, which is why one is made here before threads are counted.
    """
    if (child := os.fork()) == 0:
        os._exit(0)
    os.waitpid(child, 0)
    others = [task for task in Path("/proc/self/task").iterdir() if task.name != str(os.getpid())]
    return all((task / "comm").read_text().strip() in FORK_SAFE for task in others)
