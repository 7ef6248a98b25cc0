"""The request for a run, the events that it reports, and its outcome.

No torch is imported here: a process that only looks on needs none.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from lottery.plan.jobs import Plan
    from lottery.recipe.schema import Recipe

ENDS = ("found", "done", "diverged", "failed", "blocked")

Jobs = int | Literal["auto"]


@dataclass(frozen=True)
class Request:
    """The recipe to run and where to run it: all that another process needs to take part.

    Attributes:
        recipe: The recipe.
        data: Folder of the data sets.
        store: Place of the results.
        device: `cpu`, `cuda`, or `auto` for the GPU where there is one.
        jobs: Number of processes; `auto` chooses it, as `lottery.runner.parallelism` says.
        deterministic: Whether equal jobs have to give equal bytes.
        checkpoint_seconds: Time between two checkpoints of a training at least.
    """

    recipe: Recipe
    data: Path
    store: str | Path
    device: str = "auto"
    jobs: Jobs = 1
    deterministic: bool = False
    checkpoint_seconds: float = 60.0


@dataclass(frozen=True)
class Event:
    """Something that happened to a job, or to the run as a whole.

    Attributes:
        kind: start, progress, done, found, diverged, failed, blocked or damaged; `planned` of the run as a whole.
        key: The job's key; empty for the run as a whole.
        label: The job in words.
        about: Further values, which depend on the kind.
    """

    kind: str  # start, progress, done, found, diverged, failed, blocked, damaged; planned, of the run as a whole
    key: str = ""
    label: str = ""
    about: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the event as plain values, for JSON."""
        return asdict(self)


@dataclass
class Outcome:
    """The ends of the jobs of a plan.

    Attributes:
        total: Number of jobs in the plan.
        ended: By key found, done, diverged, failed or blocked.
        messages: Lines that say why jobs diverged or failed, or which input was damaged.
    """

    plan: Plan
    ended: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def add(self, event: Event) -> None:
        # another process may find what this one has done: the first word stands
        """Take in an event of the run."""
        open_still = self.ended.get(event.key) in (None, "blocked", "found", "failed")
        if event.kind in ENDS and open_still:
            self.ended[event.key] = event.kind
        if event.kind in ("diverged", "failed", "damaged") and event.about.get("message"):
            line = f"{event.label}: {event.about['message']}"
            if line not in self.messages:
                self.messages.append(line)

    @property
    def total(self) -> int:
        """Number of jobs of the plan."""
        return len(self.plan)

    def count(self, kind: str) -> int:
        """Return the number of jobs that ended like this."""
        return sum(end == kind for end in self.ended.values())

    @property
    def exit_code(self) -> int:
        """Exit code of the command: 0 when every job is done, else 1."""
        fine = all(end in ("found", "done") for end in self.ended.values())
        return 0 if fine and self.plan.jobs.keys() <= self.ended.keys() else 1
