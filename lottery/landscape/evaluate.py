"""Loss and error at points of a surface, under a policy for the running statistics of batch normalization."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from lottery.errors import UsageError
from lottery.landscape.memo import Memo
from lottery.landscape.subject import State
from lottery.landscape.surface import Point, Surface
from lottery.training.running_statistics import running_statistics
from lottery.values import Part

Policy = Literal["interpolate", "reset", "none"]
Policies = Literal["interpolate", "reset", "both"]  # as a recipe says it


def policies(surface: Surface, bn: Policies) -> tuple[Policy, ...]:
    """Return the policies for running statistics that a recipe asks for with its key `bn`.

    `interpolate` combines running statistics as the weights are combined, and keeps those of the one state that a
    picture is around; `reset` measures them anew at each point, over the training examples. A network without running
    statistics has the policy `none`, whatever is asked for, and is evaluated once.
    """
    if not running_statistics(surface.model):
        return ("none",)
    return ("interpolate", "reset") if bn == "both" else (bn,)


def parts_of(surface: Surface) -> tuple[Part, ...]:
    """Return the parts of the data that are measured: those that have examples."""
    return tuple(part for part in surface.parts if next(iter(surface.batches(part)), None) is not None)


def measures(surface: Surface) -> tuple[str, ...]:
    """Return the names of what `values_at` measures, such as `train_loss`."""
    return tuple(f"{part}_{measure}" for part in parts_of(surface) for measure in ("loss", "error"))


def values_at(
    surface: Surface, memo: Memo, name: str, point: Point | Callable[[], Point], policy: Policy
) -> dict[str, float]:
    """Return loss and error of each part of the data at a point.

    Args:
        surface: The surface; it is at the point afterwards, but where the values were known.
        memo: The finished parts of the measurement.
        name: Name of the point, unique in the measurement.
        point: The point, or a function that makes it, which is called where the values are not known.
        policy: The policy for running statistics.
    """

    def measure() -> dict[str, float]:
        surface.load(point if isinstance(point, Point) else point())
        if policy == "reset":
            surface.reset_statistics()
        found = {part: surface.measure(part) for part in parts_of(surface)}
        return {f"{part}_{measure}": value for part, values in found.items() for measure, value in values.items()}

    return memo.values(f"{name}, {policy}", measure)


def named(values: Mapping[str, float], policy: str) -> dict[str, float]:
    """Return the values with `_reset` behind their names under that policy; the others go without saying."""
    return {f"{name}_reset": value for name, value in values.items()} if policy == "reset" else dict(values)


def points_of(surface: Surface, states: Sequence[State]) -> list[Point]:
    """Return the points of states on a surface.

    Raises:
        UsageError: Two of them have the same weights.
    """
    points = [surface.point(state.masked()) for state in states]
    _check_apart(states, points)
    return points


def check_alike(states: Sequence[State]) -> None:
    """Raise UsageError where states are of different shapes, so that nothing lies between them."""
    first = states[0]
    for other in states[1:]:
        shapes, others = ({name: tuple(value.shape) for name, value in s.weights.items()} for s in (first, other))
        if shapes != others:
            name = next(n for n in [*shapes, *others] if shapes.get(n) != others.get(n))
            raise UsageError(
                f"{_said(first)} and {_said(other)}: {name} has shape {shapes.get(name)} in one and "
                f"{others.get(name)} in the other, so that nothing lies between them; choose states of one architecture"
            )


def check_distinct(states: Sequence[State]) -> None:
    """Raise UsageError where two states have the same tensors, so that nothing lies between them."""
    masked = [state.masked() for state in states]
    for i, one in enumerate(masked):
        for j in range(i):
            other = masked[j]
            if all(value.allclose(other[name], rtol=0, atol=0, equal_nan=True) for name, value in one.items()):
                raise _the_same(states[j], states[i])


def _check_apart(states: Sequence[State], points: Sequence[Point]) -> None:
    """Raise UsageError where two states have the same weights, so that nothing lies between them."""
    for i, one in enumerate(points):
        for j in range(i):
            if points[j].vector.allclose(one.vector, rtol=0, atol=0, equal_nan=True):
                raise _the_same(states[j], states[i])


def _the_same(one: State, other: State) -> UsageError:
    return UsageError(
        f"{_said(one)} and {_said(other)} have the same weights, so that nothing lies between them; choose two states "
        "that differ"
    )


def _said(state: State) -> str:
    return f"{state.name} (job {state.key[:12]}, step {state.step})"
