"""Optimizers with a matrix for each dimension of a weight: full-matrix methods, a Kronecker factor at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from lottery.catalogue.optimizers.first_order import Fraction, NonNegative, Positive
from lottery.registry import optimizers

if TYPE_CHECKING:
    import torch
    from torch import nn

Count = Annotated[int, Field(ge=1)]


@optimizers.register(
    "shampoo", source="Gupta, Koren & Singer 2018", rates=(1e-2, 1.0), coordinatewise=False, projects=True
)
def shampoo(
    model: nn.Module,
    *,
    lr: Positive,
    precondition_frequency: Count = 20,
    eps: Positive = 1e-6,
    weight_decay: NonNegative = 0.0,
) -> torch.optim.Optimizer:
    """Shampoo: L += G G', R += G'G, w -= lr L^-1/4 G R^-1/4 (pytorch_optimizer.Shampoo).

    A weight of k dimensions has k matrices, each to the power -1/(2k), as in the paper; a bias therefore steps by
    full-matrix Adagrad. Matrices start at `eps` I. Roots are computed at each of the first `precondition_frequency`
    steps, then once in that many steps. (The class alone computes none before that step and does not move until then;
    roots kept from the first gradients alone would blow up later steps. The paper saw no loss at 20 to 100.)
    `ScalableShampoo` of pytorch_optimizer is another method (Anil et al. 2020: decayed sums, blocks, grafting). The
    momentum of its `Shampoo` is left out here: it adds the last step, and not the last gradient, to the next gradient.
    `weight_decay` is an L2 penalty, added to the gradient.
    Mask: the matrices sum products of masked gradients. A step through their roots is not zero on pruned weights,
    which are set back to zero after it: on the surviving weights the step is that of the full matrix, and that of the
    smaller problem where whole rows or columns are pruned. Sums over other weights do not belong to this problem:
    under a new mask, also one that tightens in the course of training, the sums start again.
    """
    from lottery.catalogue.optimizers._preconditioned import Shampoo

    return Shampoo(
        model.parameters(),
        lr=lr,
        precondition_frequency=precondition_frequency,
        eps=eps,
        weight_decay=weight_decay,
    )


@optimizers.register("soap", source="Vyas et al. 2024", rates=(1e-4, 3e-2), coordinatewise=False, projects=True)
def soap(
    model: nn.Module,
    *,
    lr: Positive = 3e-3,
    betas: tuple[Fraction, Fraction] = (0.95, 0.95),
    shampoo_beta: Fraction | None = None,
    eps: Positive = 1e-8,
    precondition_frequency: Count = 10,
    max_precondition_dim: Count = 10000,
    weight_decay: NonNegative = 0.0,
) -> torch.optim.Optimizer:
    """SOAP: Adam in the eigenbasis of Shampoo's matrices, one for each dimension (pytorch_optimizer.SOAP).

    The matrices are running means of G G' with `shampoo_beta` (beta2 where it is not given). The first step sets the
    basis and moves nothing, as in the authors' code; the basis is brought up to date by a power iteration and QR every
    `precondition_frequency` steps, in float32 whatever the weights are. Biases, and dimensions above
    `max_precondition_dim`, stay in the basis they are in. `weight_decay` is decoupled; it is 0 here and 0.01 in the
    class.
    Mask: moments and matrices are those of masked gradients. A step turned back from the eigenbasis is not zero on
    pruned weights, which are set back to zero after it: on the surviving weights the step is that of the full matrix.
    Second moments belong to directions and not to weights, so they cannot be masked: under a new mask, also one that
    tightens in the course of training, moments and matrices start again.
    """
    from lottery.catalogue.optimizers._preconditioned import SOAP

    return SOAP(
        model.parameters(),
        lr=lr,
        betas=betas,
        shampoo_beta=shampoo_beta,
        eps=eps,
        precondition_frequency=precondition_frequency,
        max_precondition_dim=max_precondition_dim,
        weight_decay=weight_decay,
    )
