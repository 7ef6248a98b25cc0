"""How often Python looks for objects that only refer to one another, for commands that read and keep."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

SELDOM = 500_000  # new objects between two looks; with Python's own 700, looks are an eighth of a report's time


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
