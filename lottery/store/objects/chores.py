"""What nobody has to wait for: leases are given back and leftovers removed while the next job begins."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from functools import cached_property
from threading import Lock

from lottery.errors import MachineError

AT_ONCE = 4


class Chores:
    """Threads that do one thing after the other at each path; what is left is done before the process ends."""

    def __init__(self) -> None:
        self._left: dict[str, Future[None]] = {}
        self._lock = Lock()

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(AT_ONCE, thread_name_prefix="lottery-chores")

    def add(self, path: str, chore: Callable[[], object]) -> None:
        """Have something done at a path soon; what the machine refuses is left to `lottery gc`."""
        with self._lock:
            self._left = {path: future for path, future in self._left.items() if not future.done()}
            before = self._left.get(path)
            self._left[path] = self._threads.submit(_do, chore, before)

    def wait(self, path: str = "") -> None:
        """Wait until all is done that was added for this path, or those under it."""
        with self._lock:
            left = [each for where, each in self._left.items() if not path or f"{where}/".startswith(f"{path}/")]
        wait(left)


def _do(chore: Callable[[], object], before: Future[None] | None) -> None:
    if before is not None:
        wait([before])  # it was submitted earlier, so a thread has it
    with suppress(MachineError):
        chore()
