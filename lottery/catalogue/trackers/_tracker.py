"""A tracker: what is told of the trainings of a run (`Tracker`), and of whom it is told (`Training`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from lottery.words import short

Value = str | int | float | bool
End = Literal["done", "diverged", "failed"]


@dataclass(frozen=True)
class Training:
    """A training as a tracker shows it. Study and key together tell it from all others.

    Attributes:
        key: The job's key, 64 hexadecimal digits; `lottery show` takes the first ones.
        study: Name of the recipe.
        name: Seed, optimizer, level, rewind point and control in words, by which a person tells it from its siblings.
        kind: `trial`, `dense`, `ticket`, `branch` or `child`.
        config: What it is, value by value, the key and the study among them.
    """

    key: str
    study: str
    name: str
    kind: str
    config: Mapping[str, Value] = field(default_factory=dict)

    @property
    def unique_name(self) -> str:
        """The name with the first digits of the key, which no other training of the study has."""
        return f"{self.name} {short(self.key)}"


class Tracker(Protocol):
    """What numbers of trainings are told to. Every method may raise: the run warns once and goes on.

    Several trainings may be open at once. Measures are called by the part of the data and what was measured:
    `train/loss`, `validation/loss`, `validation/accuracy`, `test/loss`, `test/accuracy`; accuracies are fractions.
    """

    def has(self, training: Training) -> bool:
        """Return True if it was told all of this training, up to its end `done` or `diverged`, by an earlier run."""
        ...

    def begin(self, training: Training) -> int:
        """Open a training, anew or again.

        Returns:
            The last step of which it keeps measures from an earlier session, which is not told again up to there; -1
            where it is to be told from the first step, because it has none or replaces them.
        """
        ...

    def log(self, training: Training, step: int, values: Mapping[str, float]) -> None:
        """Take measures of an open training at a step. Steps rise, but for measures that come late."""
        ...

    def end(self, training: Training, end: End, summary: Mapping[str, Value]) -> None:
        """Close an open training that is over.

        Args:
            training: The training.
            end: How.
            summary: What the study's tables have of it, such as `test/accuracy` and `density`; empty if it failed.
        """
        ...

    def close(self) -> None:
        """Give back connections and handles. Trainings that are open are not over: a later run goes on with them."""
        ...
