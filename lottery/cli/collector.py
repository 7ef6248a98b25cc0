"""How often Python looks for objects that only refer to one another, for commands that read and keep."""

from __future__ import annotations

import gc
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
        gc.set_threshold(*before)
