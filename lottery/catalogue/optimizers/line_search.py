"""Optimizers with a line search: each step evaluates its batch several times."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from lottery.catalogue.optimizers.first_order import Positive
from lottery.registry import optimizers

if TYPE_CHECKING:
    import torch
    from torch import nn

Count = Annotated[int, Field(ge=1)]

REFUSES = {
    "bf16": "its line search compares losses to more digits than bf16 has",
    "clip": "its line search needs the gradient of the loss it sees, and a clipped one is not",
}


@optimizers.register(
    "lbfgs",
    source="Liu & Nocedal 1989",
    rates=(0.1, 1.0),
    refuses=REFUSES,
    coordinatewise=False,
    needs="closure",
    nests=False,
    passes=lambda args: None,
)
def lbfgs(
    model: nn.Module,
    *,
    lr: Positive = 1.0,
    max_iter: Count = 20,
    history_size: Count = 10,
    tolerance_grad: Annotated[float, Field(ge=0)] = 1e-7,
    tolerance_change: Annotated[float, Field(ge=0)] = 1e-9,
) -> torch.optim.Optimizer:
    """Limited-memory BFGS with a strong Wolfe line search (torch.optim.LBFGS).

    A step is up to `max_iter` iterations on its batch, with at most 1.25 times as many evaluations of loss and
    gradient; `lr` is the first length that a line search tries (in the very first, times 1/|g|_1), and so is what the
    schedule multiplies. Quasi-Newton steps are made for 1: the search takes shorter ones as they are, and convergence
    is slower for it. Made for the whole set as one batch: with more batches, one pair of the history in each step is
    the difference of two batches' gradients. All evaluations of a step see the same dropout, and running statistics
    see the weights before it.
    Mask: gradients are masked, so the history, each direction and each inner product live in the subspace of the
    surviving weights, and the step is that of the physically smaller problem. A history of other weights is none of
    that problem: under a new mask, also one that tightens in the course of training, it starts afresh.
    """
    from lottery.catalogue.optimizers._line_search import LBFGS

    return LBFGS(
        model,
        lr=lr,
        max_iter=max_iter,
        history_size=history_size,
        tolerance_grad=tolerance_grad,
        tolerance_change=tolerance_change,
    )


@optimizers.register(
    "cg",
    source="Polak & Ribiere 1969; Gilbert & Nocedal 1992",
    rates=(0.1, 1.0),
    refuses=REFUSES,
    coordinatewise=False,
    needs="closure",
    nests=False,
    passes=lambda args: None,
)
def cg(
    model: nn.Module,
    *,
    lr: Positive = 1.0,
    max_iter: Count = 10,
    curvature: Annotated[float, Field(gt=1e-4, lt=1)] = 0.1,
) -> torch.optim.Optimizer:
    """Nonlinear conjugate gradients, PR+: d = -g + max(0, g'(g - g_last) / |g_last|^2) d_last.

    A step is `max_iter` strong Wolfe line searches on its batch (that of torch.optim.LBFGS: decrease 1e-4, slope
    `curvature` times the first one at most, up to 25 evaluations each). `lr` multiplies the first length that a search
    tries, as does the schedule: min(1, 1/|g|_1) at a restart, else the last length times the ratio of slopes.
    It restarts from -g where beta would be negative, where the direction is none of sufficient descent, and with each
    step whose batch is not the whole set: another batch is another function. With one batch an epoch, directions go on
    from step to step. All evaluations of a step see the same dropout, and running statistics see the weights before it.
    Mask: gradients are masked, so directions and inner products live in the subspace of the surviving weights, and the
    step is that of the physically smaller problem. Under a new mask, also one that tightens in the course of training,
    it starts afresh.
    """
    from lottery.catalogue.optimizers._line_search import CG

    return CG(model, lr=lr, max_iter=max_iter, curvature=curvature)
