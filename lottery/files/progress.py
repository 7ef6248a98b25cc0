"""How far a pass over many files has come: it may take hours, and nothing else is to be seen of it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from time import monotonic
from typing import TypeVar

TOLD_EVERY = 30.0  # seconds

T = TypeVar("T")


def told(parts: Iterable[tuple[int, T]], place: Path, total: int, doing: str) -> Iterator[T]:
    """The parts, each with the number of files in it; every half a minute a line of how many are done and how long the
    rest will take.
    """
    began = last = monotonic()
    done = 0
    for count, part in parts:
        yield part
        done += count
        now = monotonic()
        if now - last >= TOLD_EVERY and done < total:
            last = now
            left = (now - began) * (total - done) / done
            logging.getLogger("lottery").warning(
                "%s: %s %d of %d images, %d min left", place, doing, done, total, -(-left // 60)
            )
