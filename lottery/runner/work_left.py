"""The time and disk space that the missing jobs of a plan will take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """The work that a plan has left.

    Attributes:
        done: Number of finished jobs.
        missing: Number of the others.
        seconds: Time for the missing ones in one process.
        measured: True if it follows from finished jobs alone; else a few steps were timed.
        source: Where the time of a step is from, in words; of several the least sure.
        need_bytes: Disk space that the missing ones will take.
        free_bytes: Disk space that is free; None where the store has no limit.
        by_job: Seconds of each missing job by its key.
    """

    done: int
    missing: int
    seconds: float
    measured: bool
    source: str
    need_bytes: int
    free_bytes: int | None
    by_job: Mapping[str, float]
