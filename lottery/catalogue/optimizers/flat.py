"""Optimizers that look for flat minima."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lottery.catalogue.optimizers.first_order import Positive
from lottery.registry import optimizers
from lottery.values import Component

if TYPE_CHECKING:
    import torch
    from torch import nn


@optimizers.register(
    "sam",
    source="Foret et al. 2021; Kwon et al. 2021",
    rates=(1e-3, 1.0),
    refuses={"accumulate": "whether the weights are perturbed for each part or for the batch gives two methods"},
    needs="closure",
    nests=False,
    inner_lr=False,
    passes=lambda args: 2,
)
def sam(
    model: nn.Module, *, lr: Positive, optimizer: Component, rho: Positive = 0.05, adaptive: bool = False
) -> torch.optim.Optimizer:
    """Sharpness-aware minimization: the base `optimizer` steps from w by the gradient at w + rho g/|g|.

    Two gradients a step. `lr` is the base's: the base names none of its own, all its other keys are its own.
    `adaptive` is ASAM without its offset: w + rho w^2 g / |w g|, coordinate by coordinate. Weight decay is the base's
    and sees w. The loss returned is that at w. Both gradients see the same dropout; running statistics see w only.
    Mask: the perturbation is made of the masked gradient, so it is zero on pruned weights and its norm is that of the
    surviving ones: the method of the restricted problem, if the base is.

    Raises:
        UsageError: The base names a learning rate, or needs more than a gradient.
    """
    from lottery.catalogue.optimizers._nested import nested
    from lottery.catalogue.optimizers._sam import SAM
    from lottery.errors import UsageError

    if "lr" in optimizer.args:
        raise UsageError(
            f"train.optimizer.optimizer.lr: {optimizer.name} inside sam takes sam's lr, {lr:g}; write it there alone"
        )
    return SAM(model, nested(optimizer, model, lr=lr, inside="sam"), rho=rho, adaptive=adaptive)
