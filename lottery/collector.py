"""Python's collector of reference cycles, left alone while a process of ours imports what it needs."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def collector_paused() -> Iterator[Callable[[], None]]:
    """Collect no garbage in the `with` block, or until what is yielded is called.

    What was made by then stays for good, modules above all: no later collection looks through it, and the last one, at
    the end of the process, does not take it apart object by object. With torch imported that takes a third of a second.
    """

    def resume() -> None:
        gc.freeze()
        gc.enable()

    gc.disable()
    try:
        yield resume
    finally:
        resume()
