"""Trackers for tests: what they were told stays in memory, and a fault can be planted in each of their methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from lottery.catalogue.trackers._tracker import End, Training, Value
from lottery.command_traits import TrackerTraits
from lottery.registry import Entry, trackers

Fault = Callable[[str, Training | None], None]  # called with the method and the training before anything is done


class Told:
    """What a tracker has of one training."""

    def __init__(self, training: Training):
        self.training = training
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.end: str | None = None
        self.summary: dict[str, Value] = {}

    def series(self, name: str) -> list[tuple[int, float]]:
        """Steps and values of one measure, in the order in which they were told."""
        return [(step, values[name]) for step, values in self.rows if name in values]

    @property
    def curve(self) -> list[int]:
        """The steps at which validation loss was told."""
        return [step for step, _ in self.series("validation/loss")]


class Memory:
    """A tracker that keeps what it is told, over all runs of a test.

    Args:
        replaces: True to drop what it has of a training that is begun again, False to go on with it.
        fault: Called before each call is obeyed.
    """

    def __init__(self, replaces: bool = False, fault: Fault = lambda method, training: None):
        self.replaces, self.fault = replaces, fault
        self.told: dict[str, Told] = {}
        self.calls: list[str] = []
        self.closed = 0

    def has(self, training: Training) -> bool:
        self._called("has", training)
        return training.key in self.told and self.told[training.key].end in ("done", "diverged")

    def begin(self, training: Training) -> int:
        self._called("begin", training)
        if self.replaces or training.key not in self.told:
            self.told[training.key] = Told(training)
            return -1
        self.told[training.key].end = None
        return max(self.told[training.key].curve, default=-1)

    def log(self, training: Training, step: int, values: Mapping[str, float]) -> None:
        self._called("log", training)
        self.told[training.key].rows.append((step, dict(values)))

    def end(self, training: Training, end: End, summary: Mapping[str, Value]) -> None:
        self._called("end", training)
        self.told[training.key].end, self.told[training.key].summary = end, dict(summary)

    def close(self) -> None:
        self._called("close", None)
        self.closed += 1

    def _called(self, method: str, training: Training | None) -> None:
        self.calls.append(method)
        self.fault(method, training)


def register(patch: pytest.MonkeyPatch, make: Callable[..., Any], package: str | None = None) -> None:
    """Put what a function makes into the catalogue as the tracker `memory`."""
    trackers._load()
    entry = Entry("memory", make, "here", 1, TrackerTraits(package=package), "tracker")
    patch.setitem(trackers._entries, "memory", entry)
