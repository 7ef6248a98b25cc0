"""Analyses of what lies between two states: straight lines, with or without alignment, and trained curves."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from lottery.catalogue.analyses._keys import Bn, Examples, Parts, Unit, along_units, evaluated, version
from lottery.registry import analyses

if TYPE_CHECKING:
    from torch import nn

    from lottery.landscape.memo import Memo
    from lottery.landscape.subject import Measurement, Subject

Points = Annotated[int, Field(ge=2)]
_ENDS: dict[str, Unit] = {"distance": "", "cosine": ""}
_BARRIERS: dict[str, Unit] = {"barrier": "points", "line_barrier": "points", "deviation": "points"}


def _can_be_aligned(network: nn.Module, args: Mapping[str, Any]) -> None:
    """Raise UsageError where an alignment is asked for and no units of the network can be permuted."""
    if args["align"] != "none":
        from lottery.landscape.permutations import hidden_units

        hidden_units(network)


@analyses.register(
    "barrier",
    source="Frankle et al. 2020; Entezari et al. 2022; alignment: Ainsworth et al. 2023, Jordan et al. 2023",
    looks_at="pair",
    units={**_ENDS, "moved_units": "fraction", **along_units(_BARRIERS)},
    passes=lambda args: evaluated(args, args["points"], forwards=2 * (args["align"] == "activations")),
    connects="test_error_barrier",
    suits=_can_be_aligned,
    test=("test_*",),
    version_of=version,
)
def barrier(
    subject: Subject,
    memo: Memo,
    *,
    points: Points = 30,
    bn: Bn = "both",
    parts: Parts | None = None,
    align: Literal["none", "weights", "activations"] = "none",
    examples: Examples | None = None,
) -> Measurement:
    """The rise of loss and error on the straight line between two states, in the three definitions that are in use.

    `points` are at equal distances, both ends exactly. `barrier` is the highest value minus the mean of the ends,
    `line_barrier` the largest height over the straight line between the ends, `deviation` the largest distance from
    that line with its sign. Running statistics are interpolated as well, or measured anew at each point over the
    training examples (`bn`); a network without has one set of values. Between a dense network and a ticket the line
    leaves the mask.

    With `align` the hidden units of the second network are put in the order in which its weights or activations are
    most like those of the first, by training examples alone; its mask goes along, and `moved_units` is the fraction
    that changed places. `bn: reset` then is the repair of Jordan et al. 2023.
    """
    from lottery.landscape.alignment import aligned
    from lottery.landscape.barrier import apart, barriers, line, summary
    from lottery.landscape.evaluate import check_alike, points_of
    from lottery.landscape.subject import Measurement, union

    check_alike(subject.states)
    surface = subject.surface(subject.densest, examples, parts=parts)
    first, second = points_of(surface, subject.states)
    moved: dict[str, float] = {}
    if align != "none":
        state, moved["moved_units"] = aligned(subject, memo, align, examples)
        surface = subject.surface(union([subject.states[0].mask, state.mask]), examples, parts=parts)
        first, second = (surface.point(each.masked()) for each in (subject.states[0], state))
    rows = line(surface, memo, (first, second), points, bn)
    return Measurement({**apart(first, second), **moved, **summary(rows, surface, barriers)}, rows)


@analyses.register(
    "instability",
    source="Frankle et al. 2020",
    looks_at="children",
    units={**_ENDS, **along_units(_BARRIERS)},
    passes=lambda args: evaluated(args, args["points"]),
    connects="test_error_barrier",
    test=("test_*",),
    version_of=version,
)
def instability(
    subject: Subject,
    memo: Memo,
    *,
    points: Points = 30,
    bn: Bn = "both",
    parts: Parts | None = None,
    examples: Examples | None = None,
) -> Measurement:
    """The rise of loss and error between two copies of one state that were trained on under different noise.

    Both copies have the state's weights and buffers, its mask, its optimizer state and its place on the learning rate's
    schedule; the order of the data, augmentation and dropout are drawn anew for each. The values are those of
    `barrier`. Frankle et al. call a network stable at a step where `error_barrier` is below 2 points.
    """
    from lottery.landscape.barrier import apart, barriers, summary
    from lottery.landscape.barrier import line as line_between
    from lottery.landscape.evaluate import points_of
    from lottery.landscape.subject import Measurement

    surface = subject.surface(subject.densest, examples, parts=parts)
    first, second = points_of(surface, subject.states)
    rows = line_between(surface, memo, (first, second), points, bn)
    return Measurement({**apart(first, second), **summary(rows, surface, barriers)}, rows)


@analyses.register(
    "line",
    source="Goodfellow et al. 2015; Lucas et al. 2021",
    units={**_ENDS, **along_units({"monotone": "", "rise": "points"})},
    passes=lambda args: evaluated(args, args["points"]),
    test=("test_*",),
    version_of=version,
)
def line(
    subject: Subject,
    memo: Memo,
    *,
    points: Points = 50,
    bn: Bn = "both",
    parts: Parts | None = None,
    examples: Examples | None = None,
) -> Measurement:
    """Loss and error on the straight line from the initialization to a state, and how far they rise on the way.

    `monotone` is 1 where a value never rises, `rise` its largest rise from a point to any later one. A ticket's line
    lies within its mask.
    """
    from lottery.landscape.barrier import apart, summary
    from lottery.landscape.barrier import line as line_between
    from lottery.landscape.evaluate import points_of
    from lottery.landscape.monotone import rises
    from lottery.landscape.subject import Measurement, State
    from lottery.network.layout import state_of

    (last,) = subject.states
    surface = subject.surface(last.mask, examples, parts=parts)
    first = State("initialization", last.key, state_of(subject.initial()), last.mask)
    ends = points_of(surface, (first, last))
    rows = line_between(surface, memo, (ends[0], ends[1]), points, bn)
    return Measurement({**apart(*ends), **summary(rows, surface, rises)}, rows)


@analyses.register(
    "curve",
    source="Garipov et al. 2018",
    looks_at="pair",
    units={**_ENDS, "length": "", **along_units({"highest": "fraction", **_BARRIERS})},
    passes=lambda args: evaluated({**args, "bn": "reset"}, args["points"], gradients=args["epochs"]),
    connects="test_error_barrier",
    test=("test_*",),
    version_of=version,
)
def curve(
    subject: Subject,
    memo: Memo,
    *,
    kind: Literal["bezier", "chain"] = "bezier",
    bends: Annotated[int, Field(ge=1)] = 1,
    epochs: Annotated[int, Field(ge=1)] = 20,
    lr: Annotated[float, Field(gt=0)] = 0.03,
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9,
    batch_size: Annotated[int, Field(ge=2)] = 128,
    points: Points = 61,
    parts: Parts | None = None,
    examples: Examples | None = None,
) -> Measurement:
    """A curve of low loss between two states: a Bezier curve or a polygonal chain, whose bends are trained.

    It lies within the mask where both states have the same one, else within the weights that survive in either. Running
    statistics are measured anew at each of the `points`, over the training examples. `highest` is the highest value on
    the curve, the barriers are those of `barrier`; `distance` is that of the ends, `length` that along the curve.
    """
    from lottery.landscape.barrier import apart, summary
    from lottery.landscape.curves import Training, along, heights, trained
    from lottery.landscape.evaluate import check_alike, points_of
    from lottery.landscape.subject import Measurement

    check_alike(subject.states)
    surface = subject.surface(subject.densest, examples, statistics="batch")
    first, second = points_of(surface, subject.states)
    training = Training(epochs, lr, momentum, batch_size)
    draws = partial(subject.generator, "curve")
    found = trained(surface, memo, (first, second), kind, bends, training, draws)
    surface = subject.surface(subject.densest, examples, parts=parts)
    rows = along(surface, memo, (first, second), found, kind, points)
    values = summary(rows, surface, heights)
    return Measurement({**apart(first, second), "length": float(rows[-1]["length"]), **values}, rows)
