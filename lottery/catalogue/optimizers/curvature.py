"""Optimizers that step by a model of the curvature: natural gradient and Gauss-Newton."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from lottery.catalogue.optimizers.first_order import Fraction, NonNegative, Positive
from lottery.catalogue.optimizers.line_search import REFUSES, Count
from lottery.registry import optimizers

if TYPE_CHECKING:
    import torch
    from torch import nn

IN_ONE_PIECE = {"accumulate": "its curvature is that of the batch in one piece; split, it would be no smaller"}


@optimizers.register(
    "kfac",
    source="Martens & Grosse 2015; Grosse & Martens 2016; Ba, Grosse & Martens 2017",
    rates=(1e-3, 1.0),
    refuses=IN_ONE_PIECE,
    coordinatewise=False,
    projects=True,
    needs="examples",
    nests=False,
    passes=lambda args: None if args["fisher"] == "type-2" else 1 + 1 / args["every"],
    package="curvlinops",
)
def kfac(
    model: nn.Module,
    *,
    lr: Positive,
    momentum: Fraction = 0.9,
    damping: Positive = 1e-3,
    decay: Fraction = 0.95,
    every: Count = 1,
    refresh: Count = 20,
    fisher: Literal["mc", "type-2", "empirical"] = "mc",
    norm_constraint: Positive | None = 1e-3,
    weight_decay: NonNegative = 0.0,
) -> torch.optim.Optimizer:
    """Natural gradient with Kronecker factors, d = G^-1 [dW db] A^-1 (factors: curvlinops.KFACLinearOperator).

    A is the mean of a a' over a layer's inputs (with a 1 for the bias; for a convolution, over its patches), G that of
    g g' over the gradients of its outputs. `fisher`: these gradients are those of one label an example, drawn from the
    network's own distribution (`mc`, the papers'), of all of them (`type-2`, exact, a backward pass a class), or of the
    true ones (`empirical`). Draws are seeded by the count of steps, so each training draws alike and goes on alike.
    Factors are taken on every `every`th batch and averaged, old ones weighing min(1 - 1/k, `decay`) at the kth. Their
    inverses are refreshed every `refresh` steps, a multiple of `every`, and with each of the first three factors, with
    A + pi sqrt(damping) I and G + sqrt(damping)/pi I, pi^2 = mean eigenvalue of A over that of G.
    Then v = momentum v + nu d, w -= lr v: nu <= 1 is such that lr^2 nu^2 sum d g is `norm_constraint` at most (none:
    nu = 1). The papers' adaptation of damping and their step sizes by the quadratic model are left out.
    `weight_decay` is an L2 penalty, added to the gradient. Factors see the dropout of the step's gradient, and running
    statistics see each batch once. Factors that `damping` does not make positive definite, in float64, end the training
    as a diverged one.
    Linear and 2-D convolutional layers are covered. All other parameters (of normalizations, of layers under a weight
    normalization, tied ones) take plain momentum steps with the same lr, outside the norm constraint.
    Mask: gradients are masked and activations are those of the masked network, but the factors do not know which
    weights are pruned, and the step fills them in; they are set back to zero after it. The step is a projection: on the
    surviving weights that of the full layer. Restricted to them, the factors' product is a product no more.

    Raises:
        UsageError: No layer is covered, `refresh` is no multiple of `every`, or curvlinops is missing.
    """
    from lottery.catalogue.optimizers._kfac import KFAC
    from lottery.errors import UsageError

    if refresh % every:
        raise UsageError(f"train.optimizer: kfac: refresh {refresh} is no multiple of every {every}")
    return KFAC(
        model,
        lr=lr,
        momentum=momentum,
        damping=damping,
        decay=decay,
        every=every,
        refresh=refresh,
        fisher=fisher,
        norm_constraint=norm_constraint,
        weight_decay=weight_decay,
    )


@optimizers.register(
    "hessian_free",
    source="Martens 2010; Martens & Sutskever 2012",
    rates=(0.1, 1.0),
    refuses={**REFUSES, **IN_ONE_PIECE},
    needs="examples",
    nests=False,
    passes=lambda args: None,
)
def hessian_free(
    model: nn.Module,
    *,
    lr: Positive = 1.0,
    max_iter: Count = 50,
    damping: Positive = 1.0,
    decay: Annotated[float, Field(ge=0, le=1)] = 0.95,
    tolerance: Positive = 5e-4,
    weight_decay: NonNegative = 0.0,
) -> torch.optim.Optimizer:
    """Hessian-free: conjugate gradients minimize q(p) = g'p + p'(GGN + lambda I)p/2, then a line search along p.

    The generalized Gauss-Newton matrix (GGN) is that of the step's batch, which the papers have large. CG starts from
    `decay` times the last p, or from 0 where that is no worse, and ends after `max_iter` products with the matrix, or
    where the last k = max(10, i/10) of i brought less than k `tolerance` of q. A product costs about two gradients.
    lambda, `damping` at first, grows by 3/2 where the loss at w + p fell by less than 1/4 of q(p), and shrinks by 2/3
    where by more than 3/4. The line search begins at the length `lr`, which the schedule multiplies, and shortens it
    by 0.8 until the loss falls by 1/100 of what the slope says; after 60 times the weights stay.
    The papers' preconditioner (it needs a gradient of each example) and their choice among CG's iterates are left out.
    `weight_decay` is an L2 penalty, part of loss, gradient and matrix. All evaluations of a step see the same dropout,
    and running statistics see the weights before it.
    Mask: the matrix is restricted to the surviving weights (rows and columns), and so are the gradient and CG's start:
    p, q and lambda are those of the physically smaller problem. The last p, masked, remains a start for CG under
    another mask, also one that tightens in the course of training.
    """
    from lottery.catalogue.optimizers._hessian_free import HessianFree

    return HessianFree(
        model,
        lr=lr,
        max_iter=max_iter,
        damping=damping,
        decay=decay,
        tolerance=tolerance,
        weight_decay=weight_decay,
    )
