"""Checks of a training's metrics: readings are chosen on the validation split, test values stand there only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from lottery.plan.origins import ABOVE, DENSE, Origin
from lottery.recipe.readings import CHOSEN, READINGS, Reading, first_best
from lottery.values import Duration

Metrics = Mapping[str, Any]


def curve_of(metrics: Metrics) -> Sequence[Mapping[str, Any]]:
    """Return the rows of the curve, in the order in which they were measured."""
    curve: Sequence[Mapping[str, Any]] = metrics.get("curve") or ()
    return curve


def wrong_readings(metrics: Metrics, report: str, validated: bool, results_from: int = 0) -> Iterator[str]:
    """Yield what is wrong with the steps at which a training was measured, in words.

    `end` has to be the last row of the curve. With a validation split `best_accuracy` and `early_stop` have to be the
    first row with the highest validation accuracy and the lowest validation loss, and censored where that is the last
    row; without a split there are none.

    Args:
        metrics: The metrics of the training.
        report: The reading that a table uses.
        validated: True if there is a validation split.
        results_from: The first step that can be chosen: a network that is pruned in training is another one before, and
            one that goes on from trained weights has no result before its first step.
    """
    curve = curve_of(metrics)
    if not curve:
        yield "there is no curve to prove the chosen step with"
        return
    steps = [row["step"] for row in curve]
    if any(after <= before for before, after in pairwise(steps)):
        yield "the steps of the curve do not rise"
    end = metrics.get("end")
    if end is None or not _agree(end, curve[-1]):
        yield f"end is not the last row of the curve, step {steps[-1]}"
    if validated:
        rows = [row for row in curve if row["step"] >= results_from and row.get("validation_loss") is not None]
        for reading in CHOSEN:
            yield from _wrong_choice(reading, metrics.get(reading), rows, steps[-1])
    elif any(metrics.get(reading) is not None for reading in CHOSEN):
        yield "a step was chosen though no examples are held out to choose it"
    if not any(name.startswith("test_") for name in metrics.get(report) or ()):
        yield f"there is no test measure at {report}, which the recipe reports"


def _wrong_choice(
    reading: Reading, measured: Mapping[str, Any] | None, rows: Sequence[Mapping[str, Any]], last: int
) -> Iterator[str]:
    """Yield what is wrong with the row that the validation split chose, in words."""
    what = "highest validation accuracy" if reading == "best_accuracy" else "lowest validation loss"
    best = first_best(reading, rows)
    if measured is None:
        yield f"no step was chosen by the {what.partition(' ')[2]}"
    elif best is None or measured.get("step") != best["step"]:
        where = "on no row of the curve" if best is None else f"at step {best['step']}"
        yield f"step {measured.get('step')} was chosen, the first {what} is {where}"
    elif not _agree(measured, best):
        yield f"its values at step {best['step']} are not those of the curve"
    elif measured.get("censored") is not (best["step"] == last):
        yield f"it is called {'' if measured.get('censored') else 'not '}censored, step {best['step']} of {last}"


def leaks(metrics: Metrics, *, trial: bool = False) -> Iterator[str]:
    """Yield where test values stand that must not be there, in words.

    They may stand at the readings alone, and nowhere in a trial. Two different test values for one step are told as
    well.
    """
    allowed = () if trial else READINGS
    for name, value in metrics.items():
        if "test" in name or (name not in allowed and _has_test(value)):
            yield f"test values stand in {name}"
    if trial:
        return
    at_step: dict[int, Mapping[str, Any]] = {}
    for measured in filter(None, (metrics.get(name) for name in READINGS)):
        first = at_step.setdefault(measured["step"], measured)
        for name in sorted(key for key in {*first, *measured} if "test" in key):
            if first.get(name) != measured.get(name):
                yield f"{name} has two values at step {measured['step']}"


def missing_measures(metrics: Metrics, measures: Sequence[str]) -> Iterator[str]:
    """Yield in words the `measures` beside accuracy that the recipe names and a reading lacks."""
    for reading in READINGS:
        measured = metrics.get(reading) or {}
        yield from (
            f"there is no test_{name} at {reading}" for name in measures if measured and f"test_{name}" not in measured
        )


def in_steps(length: str, whole: str, total: int) -> int | None:
    """Return a length of a training in steps, where the `whole` of it took `total`; None where records cannot tell."""
    part, all_of_it = Duration.parse("0it" if length == "init" else length), Duration.parse(whole)
    if part.unit == "it" or part.value == 0:
        return part.value
    steps, rest = divmod(total * part.value, all_of_it.value)
    return steps if all_of_it.unit == "ep" and not rest else None


def shared_steps(
    origin: Origin | None, steps: Sequence[int], above: Sequence[Sequence[int]], control: bool
) -> int | None:
    """Return the number of steps that made the weights which a training starts from.

    Each step is counted as the training that took it did.

    Args:
        origin: Where it starts; None for a dense network.
        steps: The steps of the rows of its own curve.
        above: The same of its parents, from its own parent to the dense network; an empty one is not known.
        control: True if its own parent is a ticket that it leaves.

    Returns:
        The number of steps; its own first step where the parents are not known; None where nobody says where it starts.
    """
    if origin is not None and not origin.known:
        return None
    if origin is None or not above or not all(above) or not (origin.from_the_point or origin.goes_on):
        return steps[0]
    if origin.weights.startswith(DENSE):
        return above[-1][-1]
    if origin.weights.startswith(ABOVE):
        levels = above[1:] if control else above
        return levels[-1][-1] + sum(curve[-1] - curve[0] for curve in levels[:-1])
    return above[0][0] if control else steps[0]


def grid(first: int, total: int, every: int) -> list[int]:
    """Return the steps at which a training from step `first` to the end, `total`, is measured."""
    after = range((first // every + 1) * every, total, every)
    return [first, *after, total] if total > first else [first]


def _agree(measured: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    return all(name in measured and measured[name] == value for name, value in row.items())


def _has_test(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any("test" in str(name) or _has_test(inner) for name, inner in value.items())
    return isinstance(value, list) and any(_has_test(inner) for inner in value if isinstance(inner, (dict, list)))
