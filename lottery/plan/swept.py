"""The plans of the points of a sweep, which share jobs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lottery.plan.jobs import Job, Plan


@dataclass(frozen=True)
class SweptPlan:
    """The plans of the points of a sweep, in order."""

    points: tuple[Plan, ...]

    @cached_property
    def jobs(self) -> dict[str, Job]:
        """The jobs of all points by key, each once: as the first point has it that has it."""
        return {key: job for plan in reversed(self.points) for key, job in plan.jobs.items()}

    def __len__(self) -> int:
        return len(self.jobs)
