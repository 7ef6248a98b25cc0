"""Optimizers for large batches: steps in proportion to the norm of each layer's weights.

Norms are over the weights that survive, since pruned ones and their gradients are 0.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lottery.catalogue.optimizers.first_order import Fraction, NonNegative, Positive
from lottery.registry import optimizers

if TYPE_CHECKING:
    import torch
    from torch import nn


@optimizers.register("lars", source="You, Gitman & Ginsburg 2017", rates=(0.1, 10.0))
def lars(
    model: nn.Module,
    *,
    lr: Positive,
    momentum: Fraction = 0.9,
    trust_coefficient: Positive = 1e-3,
    weight_decay: NonNegative = 0.0,
) -> torch.optim.Optimizer:
    """Momentum over gradients brought to each layer's norm, eta |w| / (|g| + decay |w|) (pytorch_optimizer.LARS).

    eta is `trust_coefficient`. `weight_decay` is an L2 penalty inside that scaling (5e-4 in the paper's experiments).
    The class differs from the paper: biases and normalization parameters take plain momentum steps without scaling or
    decay, and the learning rate stands outside the momentum, so that a schedule acts at once.
    """
    from pytorch_optimizer import LARS

    return LARS(
        model.parameters(),
        lr=lr,
        momentum=momentum,
        trust_coefficient=trust_coefficient,
        weight_decay=weight_decay,
    )


@optimizers.register("lamb", source="You et al. 2020", rates=(1e-3, 1e-1))
def lamb(
    model: nn.Module,
    *,
    lr: Positive,
    betas: tuple[Fraction, Fraction] = (0.9, 0.999),
    eps: Positive = 1e-6,
    clamp: Positive | None = None,
    weight_decay: NonNegative = 0.0,
) -> torch.optim.Optimizer:
    """Adam's direction brought to each layer's norm, w -= lr |w| r / |r| (pytorch_optimizer.Lamb).

    `weight_decay` w is added to r before the scaling, as in the paper. `clamp` is the largest |w| that counts; there is
    none unless given (the class has 10, less than the norm of LeNet-300-100's first layer). The moments are not
    corrected for bias, as in the third version of the paper: apart from eps and weight decay, the scaling undoes that
    correction anyway. The class by default multiplies the learning rate by part of that correction, a factor of ten at
    the first step; its `adam_debias`, which is on here, does not. Biases are scaled as well, by a ratio of 1 where
    they are 0.
    """
    from pytorch_optimizer import Lamb

    optimizer = Lamb(
        model.parameters(),
        lr=lr,
        betas=betas,
        eps=eps,
        weight_decay=weight_decay,
        weight_decouple=False,
        adam_debias=True,
    )
    optimizer.clamp = math.inf if clamp is None else clamp
    return optimizer
