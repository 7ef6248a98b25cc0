"""The parts of the pages as HTML: what runs, what failed, the studies and how far each is, what was finished last."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lottery.board.pages import render

if TYPE_CHECKING:
    from lottery.board.parts import Answer
    from lottery.board.reading import Failure, FinishedJob, RunningJob, Snapshot
    from lottery.results.studies import RememberedStudy

MOST_CARDS = 24  # running jobs that are shown with their curves
MOST_FAILURES = 20
MOST_FINISHED = 12  # the last ones
MOST_CELLS = 1000  # jobs of a study that are shown as a square each


@dataclass(frozen=True)
class StudyState:
    """A study and what is known of its jobs.

    Attributes:
        study: The study.
        counts: Number of its jobs in each state: done, diverged, running, failed, interrupted, waiting.
        running: Its jobs that processes hold.
        failures: Its jobs that failed.
        last: Its jobs that were finished last, newest first.
        cells: State and words of each job, in the order of the plan; empty where there are too many.
        seconds: Time that its finished jobs took, all processes together.
    """

    study: RememberedStudy
    counts: Mapping[str, int]
    running: tuple[RunningJob, ...]
    failures: tuple[Failure, ...]
    last: tuple[FinishedJob, ...]
    cells: tuple[tuple[str, str], ...]
    seconds: float

    @property
    def total(self) -> int:
        """Number of its jobs."""
        return len(self.study.jobs)

    @property
    def done(self) -> int:
        """Number of jobs that have ended in the store, diverged ones among them."""
        return self.counts.get("done", 0) + self.counts.get("diverged", 0)

    @property
    def state(self) -> str:
        """A word for all of it: running, complete, stopped or failed."""
        if self.running:
            return "running"
        if self.done == self.total:
            return "complete"
        return "failed" if self.failures else "stopped"


class Overview:
    """Makes the parts of the pages of one store; what has not changed is not made again."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[StudyState, str]] = {}

    def parts(
        self, snapshot: Snapshot, studies: Mapping[str, RememberedStudy], problem: str
    ) -> Iterator[tuple[str, str]]:
        """Yield the name and the HTML of each part; `problem` says why the store cannot be read just now."""
        states = [_state(study, snapshot) for study in studies.values()]
        names: dict[str, list[RememberedStudy]] = {}
        for state in states:
            for key in (job.key for part in (state.running, state.failures, state.last) for job in part):
                names.setdefault(key, []).append(state.study)
        yield "notice", render("notice", snapshot=snapshot, problem=problem)
        yield "numbers", render("numbers", snapshot=snapshot)
        cards, more = snapshot.running[:MOST_CARDS], snapshot.running[MOST_CARDS:]
        yield "running", render("running", cards=cards, more=more, studies=names)
        failures = snapshot.failures
        shown = failures[:MOST_FAILURES]
        yield "failures", render("failures", failures=shown, more=len(failures[MOST_FAILURES:]), studies=names)
        yield "studies", render("studies", states=states, shared=_shared_names(states))
        last = heapq.nlargest(MOST_FINISHED, snapshot.finished.values(), key=_when)
        yield "finished", render("finished", jobs=last, studies=names)
        for state in states:
            yield f"study/{state.study.full_name}", self._study(state)

    def _study(self, state: StudyState) -> str:
        known = self._known.get(state.study.full_name)
        if known is not None and known[0] == state:
            return known[1]
        cards, more = state.running[:MOST_CARDS], state.running[MOST_CARDS:]
        failures = state.failures[:MOST_FAILURES], len(state.failures[MOST_FAILURES:])
        html = render("study", state=state, cards=cards, more=more, failures=failures[0], more_failures=failures[1])
        self._known[state.study.full_name] = state, html
        return html


def answer_html(study: str, answer: Answer) -> str:
    """Return the part with the answer of a study: its sections, as far as they are made."""
    return render("answer", study=study, answer=answer)


def _state(study: RememberedStudy, snapshot: Snapshot) -> StudyState:
    jobs = set(study.jobs)
    running = tuple(job for job in snapshot.running if job.key in jobs)
    failures = tuple(each for each in snapshot.failures if each.key in jobs)
    words = dict.fromkeys(snapshot.interrupted, ("interrupted", "interrupted"))
    words |= {each.key: ("failed", each.label) for each in failures}
    words |= {job.key: ("running", job.label) for job in running}
    cells: list[tuple[str, str]] = []
    ended: list[FinishedJob] = []
    for key in study.jobs:
        job = snapshot.finished.get(key)
        if job is not None:
            ended.append(job)
            cells.append((job.status, job.label))
        elif key in snapshot.keys:
            cells.append(("done", "finished"))
        else:
            cells.append(words.get(key, ("waiting", "waiting")))
    return StudyState(
        study,
        Counter(state for state, _ in cells),
        running,
        failures,
        tuple(heapq.nlargest(MOST_FINISHED, ended, key=_when)),
        tuple(cells) if len(cells) <= MOST_CELLS else (),
        sum(job.seconds for job in ended),
    )


def _shared_names(states: list[StudyState]) -> set[str]:
    """Return the names that several studies have, which are told apart by their versions."""
    return {name for name, count in Counter(state.study.name for state in states).items() if count > 1}


def _when(job: FinishedJob) -> tuple[str, str]:
    return job.created, job.key
