"""Progress of a pass over many files, which may take hours and shows nothing else."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from time import monotonic
from typing import TypeVar

TOLD_EVERY = 30.0  # seconds

T = TypeVar("T")


def log_progress(parts: Iterable[tuple[int, T]], place: Path, total: int, doing: str) -> Iterator[T]:
    """Yield the parts, and log a line every half minute: how many files are done, and how long the rest will take.

    Args:
        parts: Each part with the number of files in it.
        place: Folder that the line names.
        total: Number of files.
        doing: What is done with the files, in words.
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
