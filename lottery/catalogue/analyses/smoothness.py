"""Smoothness of the loss along the gradient, at initialization and in training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from lottery.registry import analyses

if TYPE_CHECKING:
    from lottery.landscape.memo import Memo
    from lottery.landscape.subject import Measurement, Subject

Size = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_SHOWN = ("loss_range", "gradient_norm", "gradient_change", "beta")


@analyses.register(
    "smoothness",
    source="Santurkar et al. 2018",
    version=2,
    looks_at="trajectory",
    units={f"{name}_{when}": "" for name in _SHOWN for when in ("first", "last", "largest")},
    passes=lambda arguments: float(1 + arguments["points"]),
)
def smoothness(
    subject: Subject,
    memo: Memo,
    *,
    smallest: Size = 0.01,
    largest: Size = 1.0,
    points: Annotated[int, Field(ge=1)] = 10,
    examples: Annotated[int, Field(ge=2)] = 1000,
    statistics: Literal["batch", "running"] = "batch",
) -> Measurement:
    """Loss change, gradient change and effective beta along the gradient, over step sizes in equal ratios.

    At each state a step of size s goes to the weights minus s times the gradient, for `points` sizes from `smallest` to
    `largest`, over `examples` training examples. `loss_range` is the highest minus the lowest loss, `gradient_norm` the
    norm of the gradient at the state, `gradient_change` the largest distance of the gradients there from that here
    (gradient predictiveness: the smaller, the better it predicts), `beta` the largest of that over the length of the
    step: at the first state, the last one, and the largest over all. Batch normalization divides by the statistics of
    each `batch`, as in training, or by the `running` ones.

    Raises:
        UsageError: `smallest` is not below `largest`.
    """
    from lottery.errors import UsageError
    from lottery.landscape.smoothness import along_gradient, sizes_between
    from lottery.landscape.subject import Measurement

    if points > 1 and smallest >= largest:
        raise UsageError(f"analysis smoothness: no step sizes lie between {smallest:g} and {largest:g}; swap them")
    sizes = sizes_between(smallest, largest, points)
    found = []
    for number, state in enumerate(subject.states):
        surface = subject.surface(state.mask, examples, statistics=statistics)
        found.append(along_gradient(surface, surface.point(state.weights), sizes, memo, f"state {number}"))
    values: dict[str, float] = {}
    for name in _SHOWN:
        numbers = [getattr(state, name) for state in found]
        lost = [number for number in numbers if number != number]  # NaN is the largest
        values |= {f"{name}_first": numbers[0], f"{name}_last": numbers[-1], f"{name}_largest": max(lost or numbers)}
    profile: list[dict[str, float | str]] = [
        {
            "state": state.name,
            "training_step": state.step,
            "loss_here": result.loss,
            "gradient_norm": result.gradient_norm,
            **row,
        }
        for state, result in zip(subject.states, found, strict=True)
        for row in result.steps
    ]
    return Measurement(values, profile)
