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

    Muon steps the weights of linear and convolutional layers, except those of the first and the last layer, which the
    source leaves to the other optimizer (`layers: all` takes them too). A convolution's weight steps as a matrix of
    shape (out, in * kernel). `optimizer` steps at its own `lr` where it names one, else at this `lr`; the schedule
    multiplies both. `tune` chooses this `lr`: leave out that of `optimizer` to have both tuned. `match_rms_adamw`, the
    default here, scales a matrix's step by 0.2 sqrt(max(out, in)), so that one rate suits Muon and AdamW (Liu et al.
    2025); `original`, torch's default, scales it by sqrt(max(1, out/in)). `weight_decay` is decoupled; it is 0 here and
    0.1 in torch. The iterations run in bfloat16 whatever the weights' type is: the singular values of a step lie
    between about 0.5 and 1.5.
    Mask: the momentum sums masked gradients and stays zero on pruned weights. The orthogonalized step is not zero
    there, so pruned weights are set back to zero after it: on the surviving weights the step is that of the full
    matrix. It is the step of the smaller problem only where whole rows or columns are pruned.

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
