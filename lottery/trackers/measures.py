"""What a training measured, as trackers show it: by the part of the data, a slash, and what was measured."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from lottery.recipe.readings import READINGS
from lottery.values import PARTS

if TYPE_CHECKING:
    from lottery.catalogue.trackers._tracker import Value

Measures = dict[str, float]


def of_row(row: Mapping[str, Any]) -> Measures:
    """Return the measures of a row of a curve: `train/loss`, `validation/loss`, `validation/accuracy`."""
    return {_name(column): float(value) for column, value in row.items() if _name(column) and _is_finite(value)}


def at_readings(metrics: Mapping[str, Any], report: str) -> Iterator[tuple[int, Measures]]:
    """Yield what was measured on the test set at each step that is read, and the density at the last.

    That at the reading which the study reports is `test/loss` and `test/accuracy`, as in its tables; that at another
    has its name in front, such as `end/test_accuracy`.
    """
    for reading in READINGS:
        row = metrics.get(reading)
        if row is None:
            continue
        tested = {column: value for column, value in row.items() if column.startswith("test_") and _is_finite(value)}
        if tested:
            named = of_row(tested) if reading == report else {f"{reading}/{name}": v for name, v in tested.items()}
            yield int(row["step"]), named
    if metrics.get("end") is not None and _is_finite(metrics.get("density")):
        yield int(metrics["end"]["step"]), {"density": float(metrics["density"])}


def summary_of(metrics: Mapping[str, Any], report: str) -> dict[str, Value]:
    """Return what tables have of a training: the measures of its reading, the step of that, density, learning rate."""
    row = metrics.get(report) or {}
    found: dict[str, Value] = {**of_row(row)}
    for name, value in (("step", row.get("step")), ("diverged_at", metrics.get("diverged"))):
        if value is not None:
            found[name] = int(value)
    return found | {name: float(metrics[name]) for name in ("density", "lr") if _is_finite(metrics.get(name))}


def _name(column: str) -> str:
    """Return `train/loss` for `train_loss`; empty for a column that is no measure."""
    part, _, what = column.partition("_")
    return f"{part}/{what}" if part in PARTS and what else ""


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
