"""One tracker in a thread of its own: it may fail or hang, and the run neither waits nor fails."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from lottery.errors import LotteryError
from lottery.words import counted

if TYPE_CHECKING:
    from lottery.trackers.teller import News, Teller

MOST_WAITING = 10_000  # pieces of news that a slow tracker has not taken; with more it loses some
MOST_FAILURES = 3  # in a row, after which it is told nothing more
LOOK_SECONDS = 0.1  # between two looks at whether the run is told to stop
GRACE_SECONDS = 2.0  # beside the time limit, for the tracker to close


class Sink:
    """Passes news on to a tracker, what happens now before what was finished long ago.

    Whatever goes wrong, one warning says what is lost: never a result, which lies in the store.

    Args:
        name: The tracker's, for the warning.
        teller: What tells it.
    """

    def __init__(self, name: str, teller: Teller):
        self._name, self._teller = name, teller
        self._live: deque[News] = deque()
        self._found: deque[News] = deque()
        self._current: News | None = None  # which the tracker is being told
        self._changed = threading.Condition()
        self._until: float | None = None  # the time at which nothing more is told; None while the run goes on
        self._gone = self._warned = False
        self._failures = 0  # in a row
        self._thread = threading.Thread(target=self._work, name=f"tracker {name}", daemon=True)
        self._thread.start()

    def tell(self, news: News) -> None:
        """Take news and return at once."""
        with self._changed:
            if self._gone:
                return
            if news.kind == "found":
                self._found.append(news)  # no more than the plan has jobs
            elif len(self._live) < MOST_WAITING:
                self._live.append(news)
            else:
                self._warn("is too slow or hangs", f"{news.training.name} and others")
            self._changed.notify()

    def finish(self, seconds: float) -> None:
        """Give the tracker so many seconds, from now on, for what it has not taken yet."""
        with self._changed:
            self._until = time.monotonic() + seconds
            self._changed.notify()

    def close(self, told_to_stop: Callable[[], bool]) -> None:
        """Wait until the tracker has taken all news, or its time is up, or the run is told to stop meanwhile."""
        assert self._until is not None
        end = self._until + GRACE_SECONDS
        while self._thread.is_alive() and time.monotonic() < end and not told_to_stop():
            self._thread.join(min(LOOK_SECONDS, max(0.0, end - time.monotonic())))
        if told_to_stop():
            self._thread.join(GRACE_SECONDS)
        with self._changed:
            waiting = [self._current] if self._current is not None else []
            left = {news.training.key: news.training.name for news in (*waiting, *self._live, *self._found)}
            self._gone = True
            if left:
                others = f" and {counted(len(left) - 1, 'other training')}" if len(left) > 1 else ""
                self._warn("has not taken all in time", next(iter(left.values())) + others)
            elif self._thread.is_alive():
                self._warn("has not ended in time", "what was running")

    def _work(self) -> None:
        while (news := self._next()) is not None:
            try:
                self._teller.tell(news)
                self._failures = 0
            except (Exception, SystemExit) as error:
                self._fail(error, f"{news.training.name}, and whatever else it refuses")
        try:
            self._teller.close()
        except (Exception, SystemExit) as error:
            self._fail(error, "what was running")

    def _next(self) -> News | None:
        """Wait for news, and return it; None where nothing more is to be told."""
        with self._changed:
            self._current = None
            while not (self._live or self._found or self._gone) and self._until is None:
                self._changed.wait()
            over = self._until is not None and time.monotonic() >= self._until
            if self._gone or over or not (self._live or self._found):
                return None
            self._current = (self._live or self._found).popleft()
            return self._current

    def _fail(self, error: BaseException, missing: str) -> None:
        said = str(error).strip().partition("\n")[0]
        kind = "" if isinstance(error, LotteryError) else type(error).__name__  # ours say what is wrong by themselves
        with self._changed:
            self._warn(f"failed: {': '.join(filter(None, (kind, said)))}", missing)
            self._failures += 1
            if self._failures >= MOST_FAILURES:
                self._gone = True  # the rest is lost as well
                self._live.clear()
                self._found.clear()

    def _warn(self, why: str, missing: str) -> None:
        """Warn once: what comes later is the same trouble."""
        if not self._warned:
            self._warned = True
            again = "the run and the store miss nothing, and the same command tells it the rest"
            said = "tracker %s %s; it misses numbers of %s; %s"
            logging.getLogger("lottery").warning(said, self._name, why, missing, again)
