"""Python's collector of reference cycles: not while a process imports what it needs, seldom while one reads records."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SELDOM = 500_000  # new objects between two looks; with Python's own 700, looks are an eighth of a report's time


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


@contextmanager
def seldom_collecting() -> Iterator[None]:
    """Look seldom while this lasts. What is referred to no more is freed at once all the same."""
    before = gc.get_threshold()
    gc.set_threshold(SELDOM, *before[1:])
    try:
        yield
    finally:
        gc.freeze()  # all objects are old ones now, which the next look leaves alone
        gc.unfreeze()
        gc.set_threshold(*before)


def leave_uncollected() -> None:
    """Have the process end without a last look at all that it has: a fifth of a second after a report.

    Not where torch was imported, of which a library tells on stderr what was not given back.
    """
    if "torch" not in sys.modules:
        gc.freeze()
