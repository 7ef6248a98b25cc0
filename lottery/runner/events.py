"""The request for a run, the events that it reports, and its outcome.

No torch is imported here: a process that only looks on needs none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lottery.plan.swept import SweptPlan
from lottery.words import counted

if TYPE_CHECKING:
    from lottery.plan.jobs import Plan
    from lottery.recipe.schema import Recipe
    from lottery.recipe.sweep import Sweep
    from lottery.store.store import Store

ENDS = ("found", "done", "diverged", "failed", "blocked")

Jobs = int | Literal["auto"]


@dataclass(frozen=True)
class Request:
    """The recipe to run and where to run it: all that another process needs to take part.

    Attributes:
        recipe: The recipe.
        data: Folder of the data sets.
        store: Place of the results.
        device: `cpu`, `cuda`, `cuda:1` for the GPU of that number, or `auto` for a GPU where there is one.
        jobs: Number of processes; `auto` chooses it, as `lottery.runner.parallelism` says.
        deterministic: Whether equal jobs have to give equal bytes.
        checkpoint_seconds: Time between two checkpoints of a training at least.
        lockstep: Number of trainings that each process does a step of at a time.
        point: The recipe in words among those of a sweep; empty where it is alone.
    """

    recipe: Recipe
    data: Path
    store: str | Path
    device: str = "auto"
    jobs: Jobs = 1
    deterministic: bool = False
    checkpoint_seconds: float = 60.0
    lockstep: int = 1
    point: str = ""

    def of(self, sweep: Sweep) -> list[Request]:
        """Return the requests of the points of a sweep, to be run where this one is."""
        return [replace(self, recipe=point.recipe, point=point.label) for point in sweep.points]


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

    def __repr__(self) -> str:
        return f"Outcome of {self.plan.recipe.name}: {_ends(self)}"

    def add(self, event: Event) -> None:
        """Take in an event of the run."""
        # another process may find what this one has done: the first word stands
        open_still = self.ended.get(event.key) in (None, "blocked", "found", "failed")
        if event.kind in ENDS and open_still:
            self.ended[event.key] = event.kind
        if event.kind in ("diverged", "failed", "damaged") and event.about.get("message"):
            line = f"{event.label}: {event.about['message']}"
            if line not in self.messages:
                self.messages.append(line)

    @property
    def points(self) -> list[Outcome]:
        """This outcome, as those of a sweep are had from it."""
        return [self]

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


@dataclass
class SweptOutcome:
    """The ends of the jobs of a sweep; a job that several points share has one.

    Attributes:
        points: The outcome of each point, in order.
        messages: Lines that say why jobs diverged or failed, each once.
    """

    points: list[Outcome]
    messages: list[str] = field(default_factory=list)
    _told: set[tuple[str, str]] = field(default_factory=set)

    def __repr__(self) -> str:
        name = self.points[0].plan.recipe.name
        return f"Outcome of {name}, {counted(len(self.points), 'point')}: {_ends(self)}"

    @property
    def plan(self) -> SweptPlan:
        """The plans of all points."""
        return SweptPlan(tuple(each.plan for each in self.points))

    def add(self, event: Event) -> None:
        """Take in an event of the run, at every point that has its job."""
        for each in self.points:
            if event.key in each.plan.jobs:
                each.add(event)
        if event.about.get("message") and (event.key, event.kind) not in self._told:
            self._told.add((event.key, event.kind))
            self.messages.append(f"{event.label}: {event.about['message']}")

    @property
    def ended(self) -> dict[str, str]:
        """By key found, done, diverged, failed or blocked."""
        return {key: end for each in self.points for key, end in each.ended.items()}

    @property
    def total(self) -> int:
        """Number of jobs of all plans, each once."""
        return len(self.plan)

    def count(self, kind: str) -> int:
        """Return the number of jobs that ended like this."""
        return sum(end == kind for end in self.ended.values())

    @property
    def exit_code(self) -> int:
        """Exit code of the command: 0 when every job of every point is done, else 1."""
        return max(each.exit_code for each in self.points)


def _ends(outcome: Outcome | SweptOutcome) -> str:
    """Return in words how many jobs ended how, and of how many."""
    ends = [f"{number:,} {kind}" for kind in ENDS if (number := outcome.count(kind))]
    return f"{', '.join(ends) or 'none ended'} of {counted(outcome.total, 'job')}"


def outcome_of(plans: Sequence[Plan], *, swept: bool) -> Outcome | SweptOutcome:
    """Return the outcome that is to be filled by a run of the plans: of one where nothing is swept."""
    return SweptOutcome([Outcome(plan) for plan in plans]) if swept else Outcome(plans[0])


def lengthen(outcome: Outcome | SweptOutcome, requests: Sequence[Request], store: Store) -> bool:
    """Take in the plans that the results ask for by now, and return True if one has changed."""
    from lottery.results.planning import plan_with_walks

    changed = False
    for point, request in zip(outcome.points, requests, strict=True):
        if request.recipe.grows:
            longer = plan_with_walks(request.recipe, point.plan.fingerprint, point.plan.others, store)
            if longer.jobs.keys() != point.plan.jobs.keys():
                point.plan, changed = longer, True
    return changed
