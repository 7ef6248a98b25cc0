"""What the pages show, kept up to date by two threads, so that no request waits for the disk or for a figure.

One thread reads the store, see `lottery.board.reading`. The other has the answers of studies made that somebody looks
at, section by section, each time that more of their jobs are finished. A page is made of parts, pieces of HTML with a
version each; browsers are told which versions are new.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from lottery.board.maker import Maker, MakerLost
from lottery.board.overview import Overview, answer_html
from lottery.board.parts import Answer, Part
from lottery.board.reading import Reader, Snapshot
from lottery.board.results import Figure, Piece
from lottery.errors import LotteryError
from lottery.results.studies import RememberedStudy, remembered

if TYPE_CHECKING:
    from lottery.store.store import Store

STUDIES_SECONDS = 10.0  # between two looks at which studies were run
TICK_SECONDS = 1.0  # between two looks at the store
TICK_SHARE = 10  # a look may take one part in this many of the time between two
MAKE_SHARE = 5  # times as long as a processor was at an answer, none is made anew
WATCHED_SECONDS = 900.0  # since a page of a study was asked for last, in which its answers are made anew
MOST_FIGURES = 500  # that are kept, the last ones


class Board:
    """The state of the board of one store.

    Args:
        store: A store that is only read.
        plugins: Modules that the process of the answers imports.
        announce: Called from a thread when something has changed.
    """

    def __init__(self, store: Store, plugins: Sequence[str] = (), announce: Callable[[], None] = lambda: None):
        self.store, self.announce = store, announce
        self._reader, self._maker = Reader(store), Maker(store.name, plugins)
        self._snapshot, self._problem = Snapshot(), ""
        self._read = False  # at least once
        self._overview = Overview()
        self._studies: dict[str, RememberedStudy] = {}
        self._remembered_at, self._strange = -1e9, set[str]()  # jobs for whose study was looked already
        self._answers: dict[str, Answer] = {}
        self._rested = 0.0  # when answers may be made anew, by the monotonic clock
        self._figures: dict[str, Figure] = {}
        self._parts = {"notice": Part.of('<p class="about">The store is being read.</p>')}
        self._lock = threading.Lock()  # of what both threads and requests use
        self._stop, self._wanted = threading.Event(), threading.Event()

    def start(self) -> None:
        """Start the two threads; they end with the process, whatever a network disk does."""
        for work in (self._look_on, self._make_on):
            threading.Thread(target=work, daemon=True, name=f"board-{work.__name__}").start()

    def close(self) -> None:
        """End the threads, and the process that makes answers."""
        self._stop.set()
        self._wanted.set()
        self._maker.close()

    # What requests ask for; none of it waits

    def versions(self) -> dict[str, str]:
        """Return the version of each part."""
        with self._lock:
            return {name: part.version for name, part in self._parts.items()}

    def part(self, name: str) -> Part | None:
        """Return a part by its name; None where there is none. Asking for a study's has its answer made."""
        kind, _, study = name.partition("/")
        if kind in ("answer", "study"):
            self._want(study)
        with self._lock:
            return self._parts.get(name)

    def study(self, name: str) -> RememberedStudy | None:
        """Return a study by its full name."""
        with self._lock:
            return self._studies.get(name)

    def figure(self, name: str) -> Figure | None:
        """Return a figure by the name that its address has."""
        with self._lock:
            return self._figures.get(name)

    def _want(self, study: str) -> None:
        with self._lock:
            if study in self._studies:
                self._answers.setdefault(study, Answer()).asked = time.monotonic()
        self._wanted.set()

    # The thread that reads the store

    def _look_on(self) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            self.look()
            took = time.monotonic() - began
            unread = self._snapshot.unread
            self._stop.wait(0.05 if unread and not self._problem else max(TICK_SECONDS, TICK_SHARE * took))

    def look(self) -> None:
        """Look at the store once, and bring the parts up to date."""
        try:
            snapshot = self._reader.look()
            studies, problem = self._remembered(snapshot), ""
        except LotteryError as error:  # a disk that is away comes back
            snapshot, studies, problem = self._snapshot, self._studies, str(error)
        except Exception as error:  # the page must not stand still without a word
            snapshot, studies, problem = self._snapshot, self._studies, f"{type(error).__name__}: {error}"
        known = (snapshot, studies, problem)
        if self._read and known == (self._snapshot, self._studies, self._problem):
            return
        self._read = True
        parts = {name: Part.of(html) for name, html in self._overview.parts(snapshot, studies, problem)}
        with self._lock:
            self._snapshot, self._studies, self._problem = known
            gone = [name for name in self._parts if "/" in name and name.partition("/")[2] not in studies]
            for name in gone:
                del self._parts[name]
            self._parts |= parts
        self._wanted.set()
        self.announce()

    def _remembered(self, snapshot: Snapshot) -> dict[str, RememberedStudy]:
        """Return the studies of the store by full name, read again after a while, or where a job is of none of them."""
        running = {job.key for job in snapshot.running}
        known = {key for each in self._studies.values() for key in each.jobs}
        strange = running - self._strange - known
        if strange or time.monotonic() - self._remembered_at >= STUDIES_SECONDS:
            self._remembered_at, self._strange = time.monotonic(), running
            return {each.full_name: each for each in remembered(self.store)}
        return self._studies

    # The thread that has answers made

    def _make_on(self) -> None:
        while not self._stop.is_set():
            self._wanted.clear()
            if (due := self._due()) is None:
                self._wanted.wait(TICK_SECONDS)
                continue
            self.make(due)

    def _due(self) -> str | None:
        """Return the study whose answer is made next: of those looked at, the one asked for last."""
        now = time.monotonic()
        with self._lock:
            wanted = [
                (answer.asked, name)
                for name, answer in self._answers.items()
                if name in self._studies
                and now - answer.asked < WATCHED_SECONDS
                and (now >= self._rested or not answer.digest)
                and answer.digest != done_digest(self._studies[name], self._snapshot)
            ]
        return max(wanted)[1] if wanted else None

    def make(self, study: str) -> None:
        """Have the answer of a study made as far as its jobs are finished, and show each section as it comes."""
        with self._lock:
            if (about := self._studies.get(study)) is None:
                return  # it was removed just now
            answer, digest = self._answers[study], done_digest(about, self._snapshot)
            answer.making, answer.done = True, len(self._snapshot.keys.intersection(about.jobs))
        self._show(study)
        made: list[Piece] = []
        took = 0.0
        try:
            began = self._maker.ask("spent")
            answer.problem = self._maker.ask("begin", about)
            while (piece := self._maker.ask("go_on")) is not None and not self._stop.is_set():
                made.append(piece)
                self._add(answer, made)
                self._show(study)
            answer.pieces = made
            took = self._maker.ask("spent") - began
        except MakerLost as lost:
            answer.problem = str(lost).strip()
        answer.digest, answer.making = digest, False
        self._rested = time.monotonic() + max(TICK_SECONDS, MAKE_SHARE * took)
        self._show(study)

    def _add(self, answer: Answer, made: Sequence[Piece]) -> None:
        """Put a section in the place of the one that it replaces; those of the last time stay until theirs come."""
        new = {piece.name: piece for piece in made}
        old = {piece.name: piece for piece in answer.pieces}
        names = [piece.name for piece in answer.pieces] or list(new)
        answer.pieces = [new.get(name) or old[name] for name in names] + [new[n] for n in new if n not in names]
        with self._lock:
            for figure in made[-1].figures:
                self._figures.pop(figure.name, None)
                self._figures[figure.name] = figure
            for name in list(self._figures)[:-MOST_FIGURES]:
                del self._figures[name]

    def _show(self, study: str) -> None:
        answer = self._answers[study]
        part = Part.of(answer_html(study, answer))
        with self._lock:
            self._parts[f"answer/{study}"] = part
        self.announce()


def done_digest(study: RememberedStudy, snapshot: Snapshot) -> str:
    """Return what tells the finished jobs of a study from others of it: a hash of their keys and of its version."""
    done = sorted(snapshot.keys.intersection(study.jobs))
    return hashlib.sha256("".join([study.full_name, *done]).encode()).hexdigest()
