"""Python's collector of reference cycles: not while a process imports what it needs, seldom while one reads records."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

SELDOM = 500_000  # new objects between two looks; with Python's own 700, looks are an eighth of a report's time

_paused = False


@contextmanager
def collector_paused() -> Iterator[None]:
    """Collect no garbage in the `with` block, or until `resume_collector` is called, as a run does before it trains.

    What was made by then stays for good, modules above all: no later collection looks through it, and so does what
    there is at the end of the block. The last collection, at the end of the process, then takes none of it apart object
    by object. With torch imported that takes a third of a second.
    """
    global _paused
    gc.disable()
    _paused = True
    try:
        yield
    finally:
        resume_collector()
        gc.freeze()


def resume_collector() -> None:
    """End a pause of the collector, if there is one."""
    global _paused
    if _paused:
        _paused = False
        gc.freeze()
        gc.enable()


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
