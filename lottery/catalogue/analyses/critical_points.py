"""Critical points of small networks, by a Newton-type search from many starts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from lottery.registry import analyses
from lottery.traits import Work

if TYPE_CHECKING:
    from lottery.landscape.memo import Memo
    from lottery.landscape.subject import Measurement, Subject

LARGEST = 500  # weights; a step of MINPACK's takes .1 s, and eight times that for twice as many, and nothing stops it


def _passes(arguments: Mapping[str, Any]) -> Work:
    """Return the work where no search ends before: a gradient and a Hessian for each step, a product for each row.

    Beside the steps of a search four gradients and a Hessian try its start, and one of each sorts its end.
    """
    starts, steps = arguments["starts"], arguments["steps"]
    return Work(
        forwards=starts,
        gradients=starts * (steps + 5),
        products=1,
        block_products=lambda size: starts * (steps + 2) * min(size, LARGEST),
    )


@analyses.register(
    "critical_points",
    source="Kawaguchi 2016; Safran & Shamir 2018",
    units={
        "converged": "fraction",
        "points": "",
        "minima": "",
        "saddles": "",
        "largest_index": "",
        "lowest_minimum": "",
        "highest_minimum": "",
    },
    passes=_passes,
    largest=LARGEST,
    curvature=True,
)
def critical_points(
    subject: Subject,
    memo: Memo,
    *,
    starts: Annotated[int, Field(ge=1)] = 20,
    scale: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0,
    examples: Annotated[int, Field(ge=2)] = 200,
    steps: Annotated[int, Field(ge=1)] = 300,
) -> Measurement:
    """Points of gradient 0 in the surviving weights, from many starts, sorted by index and loss.

    The first start is the state, the others are normal, each parameter with the state's mean square times `scale`
    squared. From each a damped Newton search (Levenberg-Marquardt on the gradient, in double precision, over
    `examples` training examples) goes to a critical point of any kind in at most `steps` gradients. The index is the
    number of negative eigenvalues of the Hessian: 0 for minima. Points of one index and loss count once, as symmetries
    of a network give many of each. `lowest_minimum` and `highest_minimum` are training losses, NaN where no minimum is
    found; `converged` is the share of starts that led to a gradient of 0. A cross-entropy that can be made 0 has its
    minima at infinity, where no search ends.

    Raises:
        UsageError: More than 500 weights survive, or the network has no second derivatives.
    """
    import math

    import torch

    from lottery.landscape.critical_points import distinct, newton, search, starts_around, training_loss
    from lottery.landscape.subject import Measurement

    (state,) = subject.states
    surface = subject.surface(state.mask, examples, dtype=torch.float64)
    point = surface.point(state.weights)
    begin = starts_around(surface, point.vector, starts, scale, subject.generator("critical_points"))
    objective = training_loss(surface, point, LARGEST)
    found = search(objective, begin, memo, lambda function, start: newton(function, start, steps))
    rows = distinct(found)
    minima = [row["loss"] for row in rows if row["index"] == 0]
    values = {
        "converged": sum(each.converged for each in found) / len(found),
        "points": float(len(rows)),
        "minima": float(len(minima)),
        "saddles": float(len(rows) - len(minima)),
        "largest_index": max((row["index"] for row in rows), default=math.nan),
        "lowest_minimum": min(minima, default=math.nan),
        "highest_minimum": max(minima, default=math.nan),
    }
    return Measurement(values, rows)
