"""What is asked of a run, what it says while it lasts, and how it ended. No torch: who only looks on needs none."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from lottery.recipe.schema import Recipe

ENDS = ("found", "done", "diverged", "failed", "blocked")

Jobs = int | Literal["auto"]


@dataclass(frozen=True)
class Request:
    """What to run and where; all that another process needs to take part.

    `jobs` is the number of processes; `auto` chooses it, as `lottery.runner.parallelism` says.
    """

    recipe: Recipe
    data: Path
    store: Path
    device: str = "auto"
    jobs: Jobs = 1
    deterministic: bool = False
    checkpoint_seconds: float = 60.0


@dataclass(frozen=True)
class Event:
    """Something that happened to a job, or to the run as a whole (`key` empty)."""

    kind: str  # start, progress, done, found, diverged, failed, blocked, damaged; planned, of the run as a whole
    key: str = ""
    label: str = ""
    about: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class Outcome:
    """How the jobs of a plan ended: key -> found, done, diverged, failed or blocked."""

    total: int = 0
    ended: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def add(self, event: Event) -> None:
        # another process may find what this one has done: the first word stands
        open_still = self.ended.get(event.key) in (None, "blocked", "found", "failed")
        if event.kind in ENDS and open_still:
            self.ended[event.key] = event.kind
        if event.kind in ("diverged", "failed", "damaged") and event.about.get("message"):
            line = f"{event.label}: {event.about['message']}"
            if line not in self.messages:
                self.messages.append(line)

    def count(self, kind: str) -> int:
        return sum(end == kind for end in self.ended.values())

    @property
    def exit_code(self) -> int:
        """0 when every job is done, else 1."""
        fine = all(end in ("found", "done") for end in self.ended.values())
        return 0 if fine and len(self.ended) == self.total else 1
