"""One tracker is told of trainings: of rows as they come, and at the end, from the store, of what it has missed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lottery.plan.kinds import METRICS_FILE
from lottery.trackers.measures import at_readings, of_row, summary_of

if TYPE_CHECKING:
    from lottery.catalogue.trackers._tracker import Tracker, Training
    from lottery.store.store import Store

Row = Mapping[str, Any]


@dataclass(frozen=True)
class News:
    """What happened to a training.

    Attributes:
        training: The training.
        report: The reading that its study reports.
        kind: `progress`, `done`, `found`, `diverged` or `failed`, as the run's events have it.
        rows: With `progress`, rows of its curve.
    """

    training: Training
    report: str
    kind: str
    rows: Sequence[Row] = ()


@dataclass
class _Open:
    """An open training: the last step that an earlier session has told, and those that this one has."""

    last: int
    told: set[int] = field(default_factory=set)


class Teller:
    """Tells one tracker of trainings. Each method raises what the tracker raises.

    Args:
        tracker: The tracker.
        store: Where metrics of finished trainings are read, by no other thread.
    """

    def __init__(self, tracker: Tracker, store: Store):
        self._tracker, self._store = tracker, store
        self._open: dict[str, _Open] = {}
        self._failed: set[str] = set()  # keys whose rows it did not take; they are told again when all is known
        self._ended: set[str] = set()

    def tell(self, news: News) -> None:
        """Tell of what happened to one training."""
        key = news.training.key
        try:
            if news.kind == "progress":
                if key not in self._failed:
                    self._tell_rows(news.training, news.rows)
            elif news.kind == "failed":
                self._begin(news.training)
                self._end(news.training, "failed", {})
            elif news.kind != "found" or not (key in self._ended or self._tracker.has(news.training)):
                self._tell_all(news)
        except BaseException:
            self._open.pop(key, None)
            self._failed.add(key)
            raise

    def close(self) -> None:
        """Let the tracker give back what it holds."""
        self._tracker.close()

    def _tell_all(self, news: News) -> None:
        """Tell what is missing of a finished training, and that it is over."""
        metrics = self._store.read_json(news.training.key, METRICS_FILE)
        self._tell_rows(news.training, metrics["curve"])
        for step, values in at_readings(metrics, news.report):
            self._tracker.log(news.training, step, values)
        end = "diverged" if metrics.get("diverged") is not None else "done"
        self._end(news.training, end, summary_of(metrics, news.report))

    def _tell_rows(self, training: Training, rows: Iterable[Row]) -> None:
        known = self._begin(training)
        for row in rows:
            step = int(row["step"])
            if step <= known.last or step in known.told:
                continue
            if values := of_row(row):
                self._tracker.log(training, step, values)
            known.told.add(step)

    def _begin(self, training: Training) -> _Open:
        if training.key not in self._open:
            self._ended.discard(training.key)
            self._open[training.key] = _Open(self._tracker.begin(training))
        return self._open[training.key]

    def _end(self, training: Training, end: Any, summary: Mapping[str, Any]) -> None:
        self._tracker.end(training, end, summary)
        del self._open[training.key]
        self._failed.discard(training.key)
        self._ended.add(training.key)
