"""The rows of a comparison with the values that they would have if accuracy were read at another step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lottery.analysis.columns import Column, Readers
from lottery.analysis.rows import Row
from lottery.audit.audit import audit
from lottery.recipe.readings import IN_WORDS, READINGS, Reading
from lottery.results.study import Study

if TYPE_CHECKING:
    from lottery.recipe.schema import Recipe

_NAMES = ("optimizer", "rewind", "level", "against", "claim")  # what tells rows apart


def others(recipe: Recipe) -> tuple[Reading, ...]:
    """Return the readings beside the recipe's own; none without a validation split."""
    return tuple(each for each in READINGS if each != recipe.report) if recipe.data.validation else ()


def read_at(study: Study, reading: Reading) -> Study:
    """Return the same trainings with accuracy read at another step; learning rates stay those that were chosen.

    The audit is the study's own: it holds for every reading.
    """
    recipe = study.recipe.model_copy(update={"report": reading})
    other = Study(replace(study.plan, recipe=recipe), study.found, study.store, study.data)
    other.made[audit.__wrapped__] = audit(study)  # type: ignore[attr-defined]
    return other


def with_other_readings(
    study: Study,
    table: Sequence[Row],
    make: Callable[[Study], Sequence[Row]],
    value: str = "difference",
    verdict: str = "verdict",
) -> list[Row]:
    """Return the rows with the values that they would have at each other reading, and `depends`.

    Under `<value>_<reading>` and `<verdict>_<reading>` stand the value and the verdict there. `depends` is empty,
    `verdict` where that is another one, or else `sign` where the value has the other sign and one of the two intervals
    (`low`, `high`) leaves out 0; a row's `reason` says the same in words. With `levels: auto` seeds were added by the
    results at the recipe's own reading: no verdict is given at another.

    Args:
        study: The study of the rows.
        table: Its rows, made by `make`.
        make: Makes the rows of a study, in the same order for every reading.
        value: The column of the value.
        verdict: The column of the verdict.
    """
    adaptive = study.recipe.prune.auto is not None
    return with_readings(
        table, others(study.recipe), lambda reading: make(read_at(study, reading)), adaptive, value, verdict
    )


def with_readings(
    table: Sequence[Row],
    readings: Sequence[Reading],
    make: Callable[[Reading], Sequence[Row]],
    adaptive: bool,
    value: str,
    verdict: str,
) -> list[Row]:
    """Return the rows with their values at other readings, as `with_other_readings`, whatever they are made of.

    Args:
        table: The rows.
        readings: The other readings.
        make: Makes the rows at a reading, in the same order.
        adaptive: True if seeds were added by results, so that no verdict is given elsewhere.
        value: The column of the value.
        verdict: The column of the verdict.
    """
    found = [Row(row, row.made_from) for row in table]
    for reading in readings:
        for row, other in zip(found, make(reading), strict=True):
            assert all(row.get(name) == other.get(name) for name in _NAMES)
            value_there, verdict_there = _columns(row, value, verdict, reading)
            row[value_there] = other[value]
            row[verdict_there] = there = None if adaptive else other[verdict]
            if there not in (None, row[verdict]):
                row["depends"] = "verdict"
            elif _opposite(row, other, value):
                row.setdefault("depends", "sign")
    for row in found if readings else ():
        depends = row.pop("depends", "")
        row[Column("depends", readers=_readers(row))] = depends  # the last of the columns
        if "reason" in row:
            row["reason"] = "; ".join(filter(None, (row["reason"], dependence(row))))
    return found


def _columns(row: Row, value: str, verdict: str, reading: Reading) -> tuple[Column, Column]:
    """Return the columns of value and verdict at another reading."""
    difference = value == "difference"
    words = f"at {reading.replace('_', ' ')}" if difference else ""
    there = Column(f"{value}_{reading}", "points" if difference else "", words=words)
    return there, Column(f"{verdict}_{reading}", readers=_readers(row))


def _readers(row: Row) -> Readers:
    """Return who is shown what a row's reason says as well, where it has one."""
    return "programs" if "reason" in row else "all"


def dependence(row: Mapping[str, Any]) -> str:
    """Return in words how a difference depends on the step that is read; empty where it does not."""
    if not row.get("depends"):
        return ""
    there = [reading for reading in READINGS if f"difference_{reading}" in row]
    told = [
        f"{IN_WORDS[reading]} {_points(row[f'difference_{reading}'])}"
        + (f", {row[f'verdict_{reading}']}" if row[f"verdict_{reading}"] else "")
        for reading in there
    ]
    return f"the {row['depends']} depends on the step that is read: {'; '.join(told)}"


def _opposite(row: Row, other: Row, value: str) -> bool:
    """Return True if the two differ in sign, and not by chance alone."""
    ours, theirs = row[value], other[value]
    return ours is not None and theirs is not None and ours * theirs < 0 and (_beyond(row) or _beyond(other))


def _beyond(row: Row) -> bool:
    return row.get("low") is not None and row.get("high") is not None and not row["low"] <= 0 <= row["high"]


def _points(difference: float | None) -> str:
    return "no difference" if difference is None else f"{100 * difference:+.2f} points"
