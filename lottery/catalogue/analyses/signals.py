"""Signal propagation: variances, gradients, dead units and the Jacobian by layer, at initialization and in training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from lottery.registry import analyses

if TYPE_CHECKING:
    from lottery.landscape.memo import Memo
    from lottery.landscape.subject import Measurement, Subject

_TOTALS = {  # at the first state and at the last one
    "propagation": "",
    "forward_rate": "",
    "backward_rate": "",
    "backward_unit_rate": "",
    "dead": "fraction",
    "saturated": "fraction",
    "jacobian_largest": "",
    "jacobian_smallest": "",
    "jacobian_mean_square": "",
}
_UNITS = {f"{name}_{when}": unit for when in ("first", "last") for name, unit in _TOTALS.items()}


@analyses.register(
    "signals",
    source="Glorot & Bengio 2010; Schoenholz et al. 2017; Pennington et al. 2017",
    version=2,
    looks_at="trajectory",
    units={**_UNITS, "depth_scale_measured": "", "depth_scale_expected": ""},
    passes=lambda arguments: 2.5,
)
def signals(
    subject: Subject,
    memo: Memo,
    *,
    examples: Annotated[int, Field(ge=2)] = 1000,
    jacobian: Annotated[int, Field(ge=0)] = 10,
    statistics: Literal["reset", "running"] = "reset",
) -> Measurement:
    """Variance and gradient by layer, dead and saturated units, the Jacobian; explodes, vanishes or holds.

    Over `examples` training examples; singular values of the input-output Jacobian over `jacobian` of them. Batch
    normalization divides by statistics that are measured anew over the examples (`reset`), which at initialization are
    not yet there, or by those of the state (`running`). Rates are the growth a layer of the logarithm of mean squares
    forward and of squared gradients backward, of their norms and, in `backward_unit_rate`, of their means over units,
    as Glorot & Bengio have them: the two differ where widths do. `propagation` is 1 where one of them grows by more
    than e^6 over the hidden layers (explodes), -1 where one shrinks so (vanishes), else 0 (holds). Depth scales, in
    layers, are those of the squared gradient at the first state: measured, and expected by the mean-field recursion
    from the variances of the surviving weights; there is none behind a normalization, a shortcut or a pooling.
    """
    from lottery.landscape.signals import along
    from lottery.landscape.subject import Measurement

    found = along(subject, memo, examples=examples, jacobian=jacobian, reset=statistics == "reset")
    values = {
        f"{name}_{when}": state.totals[name]
        for when, state in (("first", found[0]), ("last", found[-1]))
        for name in _TOTALS
    }
    scales = {
        "depth_scale_measured": found[0].depth_scale_measured,
        "depth_scale_expected": found[0].depth_scale_expected,
    }
    profile = [
        {"state": state.name, "step": state.step, "verdict": signal.verdict, "depth": depth, **row}
        for state, signal in zip(subject.states, found, strict=True)
        for depth, row in enumerate(signal.layers, start=1)
    ]
    return Measurement({**values, **scales}, profile)
