"""Optimizers that step by a matrix and not weight by weight."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from lottery.catalogue.optimizers.first_order import Fraction, NonNegative, Positive
from lottery.registry import optimizers
from lottery.values import Component

if TYPE_CHECKING:
    import torch
    from torch import nn


@optimizers.register("muon", source="Jordan et al. 2024; Liu et al. 2025", rates=(1e-4, 1e-1), projects=True)
def muon(
    model: nn.Module,
    *,
    lr: Positive = 1e-3,
    optimizer: Component,
    layers: Literal["hidden", "all"] = "hidden",
    momentum: Fraction = 0.95,
    nesterov: bool = True,
    ns_steps: Annotated[int, Field(ge=1, lt=100)] = 5,
    adjust_lr_fn: Literal["original", "match_rms_adamw"] = "match_rms_adamw",
    weight_decay: NonNegative = 0.0,
) -> torch.optim.Optimizer:
    """Momentum orthogonalized by Newton-Schulz iterations (torch.optim.Muon); `optimizer` has all other weights.

    Muon's are the weights of linear and convolutional layers but for the first and the last layer, as the source has
    it for input and output layers (`layers: all` takes those too); convolutions step as matrices (out, in * kernel).
    `optimizer` steps at its own `lr` where it names one, else at this `lr`; the schedule multiplies both. `tune`
    chooses this `lr`, so leave the other out to have both tuned: `match_rms_adamw`, the default here, scales a step of
    a matrix by 0.2 sqrt(max(out, in)) so that one rate suits Muon and AdamW (Liu et al. 2025); `original`, torch's
    default, by sqrt(max(1, out/in)). `weight_decay` is decoupled, 0 here and 0.1 in torch. The iterations run in
    bfloat16 whatever the weights are: the singular values of a step lie between about 0.5 and 1.5.
    Mask: the momentum is one of masked gradients and stays zero on pruned weights, but the orthogonalized step fills
    them in, and they are set back to zero after it. The step is a projection: on the surviving weights that of the full
    matrix, not that of a smaller problem, unless whole rows or columns are pruned.

    Raises:
        UsageError: No layer is hidden, or `optimizer` needs more than a gradient.
    """
    from torch import nn

    from lottery.catalogue.optimizers._joined import Joined, Muon
    from lottery.catalogue.optimizers._nested import nested
    from lottery.errors import UsageError
    from lottery.network.weights import matrices

    weights = matrices(model)
    mine = weights if layers == "all" else weights[1:-1]
    if not mine:
        raise UsageError(
            f"train.optimizer: muon is for layers between the first and the last, and of {len(weights)} none is; "
            "write `layers: all`, or another optimizer"
        )
    rest = [p for p in model.parameters() if not any(p is weight for weight in mine)]
    part = Muon(
        mine,
        lr=lr,
        momentum=momentum,
        nesterov=nesterov,
        ns_steps=ns_steps,
        adjust_lr_fn=adjust_lr_fn,
        weight_decay=weight_decay,
    )
    others = [nested(optimizer, nn.ParameterList(rest), lr=lr, inside="muon")] if rest else []
    return Joined(part, *others)
