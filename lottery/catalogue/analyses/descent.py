"""How fast a training goes down: the factor by which loss and gradient fall in a step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from lottery.registry import analyses

if TYPE_CHECKING:
    from lottery.landscape.memo import Memo
    from lottery.landscape.subject import Measurement, Subject


@analyses.register(
    "descent",
    source="Polyak 1964; Nesterov 2004",
    looks_at="trajectory",
    units={"loss_rate": "", "gradient_rate": ""},
    passes=lambda arguments: 1.0,
)
def descent(
    subject: Subject,
    memo: Memo,
    *,
    since: Annotated[float, Field(ge=0, lt=1)] = 0.5,
    examples: Annotated[int, Field(ge=1)] | None = None,
) -> Measurement:
    """Factors by which the training loss and the norm of its gradient fall in a step, late in a training.

    Geometric means over the steps from the first state after the share `since` of the training to its last state, over
    the first `examples` training examples, all where None, in double precision. Below 1 is a descent. On a quadratic
    of condition number k full gradients converge linearly: the gradient falls by (k - 1) / (k + 1) in a step of
    gradient descent at its best rate, by (sqrt k - 1) / (sqrt k + 1) with Polyak's momentum, by 1 - 1 / sqrt k with
    Nesterov's, the loss above its minimum by the squares.

    Raises:
        UsageError: There is no state between `since` and the end; ask for more with `along`.
    """
    import torch

    from lottery.errors import UsageError
    from lottery.landscape.descent import loss_and_gradient, rate
    from lottery.landscape.subject import Measurement

    last = subject.states[-1].step
    late = [number for number, state in enumerate(subject.states) if since * last <= state.step < last]
    if not late:
        raise UsageError(
            f"analysis descent: no state lies between {since:g} of the training and its end; raise `along`"
        )
    found = []
    for number, state in enumerate(subject.states):
        surface = subject.surface(state.mask, examples, dtype=torch.float64)
        found.append(loss_and_gradient(surface, surface.point(state.weights), memo, f"state {number}"))
    first, steps = found[late[0]], last - subject.states[late[0]].step
    values = {
        "loss_rate": rate(first["loss"], found[-1]["loss"], steps),
        "gradient_rate": rate(first["gradient_norm"], found[-1]["gradient_norm"], steps),
    }
    profile: list[dict[str, float | str]] = [
        {"state": state.name, "step": state.step, **row} for state, row in zip(subject.states, found, strict=True)
    ]
    return Measurement(values, profile)
