"""Steps of a training at which its accuracy is read: two chosen on the validation split, and the last."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from torch import Tensor

Reading = Literal["best_accuracy", "early_stop", "end"]
READINGS: tuple[Reading, ...] = get_args(Reading)
CHOSEN: tuple[Reading, ...] = ("best_accuracy", "early_stop")  # on the validation split
IN_WORDS = {
    "best_accuracy": "at the step where the validation accuracy was first highest",
    "early_stop": "at the step where the validation loss was first lowest",
    "end": "at the end",
}

Row = Mapping[str, Any]
Weights = Mapping[str, "Tensor"]


def rank(reading: Reading, row: Row) -> float:
    """Return the number by which a reading chooses among the rows of a curve: the first row with the highest is read.

    It is the validation accuracy (r2 for regression) for `best_accuracy`, minus the validation loss for `early_stop`,
    the step for `end`.
    """
    if reading == "end":
        return float(row["step"])
    if reading == "early_stop":
        return -float(row["validation_loss"])
    return float(row.get("validation_r2", row.get("validation_accuracy", -math.inf)))


def first_best(reading: Reading, rows: Iterable[Row]) -> Row | None:
    """Return the first row with the highest rank; None where there is none."""
    return max(rows, key=lambda row: rank(reading, row), default=None)  # max gives the first of equals


def under_its_best(reading: str, metrics: Mapping[str, Any]) -> float | None:
    """Return how far a training's validation accuracy at a reading lies under its best on the curve, as a fraction.

    For regression it is r2. None if nothing was measured; 0 for `best_accuracy`.
    """
    measured = metrics.get(reading) or {}
    name = next((each for each in ("validation_r2", "validation_accuracy") if each in measured), None)
    if name is None:
        return None
    return max(float(row[name]) for row in metrics["curve"] if row.get(name) is not None) - float(measured[name])


class ChosenSteps:
    """The rows of a curve that the validation split chooses as training goes on, and the weights of these steps.

    `rows` are by reading, `weights` by step: two readings of one step share them.
    """

    def __init__(self) -> None:
        self.rows: dict[Reading, dict[str, Any]] = {}
        self.weights: dict[int, dict[str, Tensor]] = {}

    def offer(self, row: Row, weights: Callable[[], dict[str, Tensor]]) -> None:
        """Choose the row for each reading of which it is the best so far; `weights` makes a copy of those now."""
        better = [name for name in CHOSEN if name not in self.rows or rank(name, row) > rank(name, self.rows[name])]
        if not better:
            return
        self.rows |= {name: dict(row) for name in better}
        steps = {each["step"] for each in self.rows.values()}
        self.weights = {step: kept for step, kept in self.weights.items() if step in steps}
        self.weights[row["step"]] = weights()

    def forget(self) -> None:
        """Drop what was chosen: from here on the network is another one."""
        self.rows, self.weights = {}, {}

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights under names that `restore` knows."""
        return {f"chosen/{step}/{name}": value for step, each in self.weights.items() for name, value in each.items()}

    def restore(self, rows: Mapping[Reading, Row], tensors: Weights) -> None:
        """Put back `rows`, and the weights that `tensors()` returned."""
        self.rows, self.weights = {name: dict(row) for name, row in rows.items()}, {}
        for place, value in tensors.items():
            kind, _, rest = place.partition("/")
            if kind == "chosen":
                step, _, name = rest.partition("/")
                self.weights.setdefault(int(step), {})[name] = value
