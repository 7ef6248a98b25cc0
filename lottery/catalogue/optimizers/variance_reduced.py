"""Optimizers of a finite sum: variance reduction by the whole gradient, and steps sized once an epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from lottery.catalogue.optimizers.first_order import NonNegative, Positive
from lottery.registry import optimizers

if TYPE_CHECKING:
    import torch
    from torch import nn


@optimizers.register(
    "svrg",
    source="Johnson & Zhang 2013",
    rates=(1e-3, 1.0),
    refuses={"clip": "clipped gradients of batches do not average to that of the whole set"},
    coordinatewise=False,
    needs="training_set",
    nests=False,
    passes=lambda args: 2 + 1 / args["epochs"],
)
def svrg(
    model: nn.Module, *, lr: Positive, epochs: Annotated[int, Field(ge=1)] = 5, weight_decay: NonNegative = 0.0
) -> torch.optim.Optimizer:
    """Stochastic variance reduced gradient: w -= lr (g_i(w) - g_i(w~) + g(w~)), its option I.

    Every `epochs` passes over the data, counted from its own first step, the weights become the snapshot w~ and the
    gradient of the whole training set is taken there (the paper: 2 passes where the loss is convex, 5 where not).
    A step costs two gradients of its batch, a snapshot one more pass.
    `weight_decay` is an L2 penalty on the objective, taken at w only: the snapshot's two terms of it cancel.
    The batch's gradient at w~ draws the same dropout as that at w; running statistics of batch normalization are
    updated by the pass at w only. Where an example's gradient depends on its batch (batch normalization) or its draw
    (augmentation, dropout), g(w~) is the mean over other batches and draws, without augmentation: a bias that does not
    vanish as w approaches w~.
    Mask: each of the three gradients is masked, so the step is that of the problem restricted to surviving weights. A
    snapshot of other weights does not belong to that problem: a new snapshot is taken under a new mask, also under one
    that tightens in the course of training.
    """
    from lottery.catalogue.optimizers._svrg import SVRG

    return SVRG(model, lr=lr, epochs=epochs, weight_decay=weight_decay)


@optimizers.register(
    "bb",
    source="Barzilai & Borwein 1988; Tan et al. 2016",
    rates=(1e-3, 1.0),
    refuses={"clip": "the curvature it measures is that between two gradients, which clipping hides"},
    coordinatewise=False,
    needs="closure",
    nests=False,
)
def bb(
    model: nn.Module,
    *,
    lr: Positive,
    beta: Annotated[float, Field(gt=0, le=1)] | None = None,
    smoothing: Literal["none", "constant", "harmonic"] = "harmonic",
    weight_decay: NonNegative = 0.0,
) -> torch.optim.Optimizer:
    """SGD with the Barzilai-Borwein step of each epoch (SGD-BB): |s|^2 / (m |s'y|), m steps an epoch.

    s is how far the weights moved in the last epoch; y is the difference of the last two epochs' averages of
    gradients, g^ = beta g + (1 - beta) g^ from 0, beta = 10/m (at most 1) where it is not given. `lr` is the step size
    of the first two epochs of this optimizer; later ones are measured.
    The steps are smoothed by fitting C / phi(k) to their logarithms, phi(k) = k in epoch k, counted from 0 (`harmonic`,
    as the authors' code has it), 1 (`constant`: their geometric mean), or not at all (`none`). The schedule's
    multiplier comes on top, so use `harmonic` with a constant schedule. Where nothing moved or s'y = 0, the step size
    stays. With few steps an epoch, y lags behind s by almost an epoch and says little of the curvature: see `cg`.
    `weight_decay` is an L2 penalty, part of the gradient.
    Mask: weights and gradients are masked, so s, y and the step are those of the problem restricted to surviving
    weights. Step sizes measured on other weights are not: under a new mask `lr` counts again. Where a mask tightens in
    the course of training, the step sizes go on, with s and y masked.
    """
    from lottery.catalogue.optimizers._svrg import BB

    return BB(model.parameters(), lr=lr, beta=beta, smoothing=smoothing, weight_decay=weight_decay)
