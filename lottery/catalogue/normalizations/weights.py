"""Normalizations of weights: `f(layer) -> None` reparametrizes the weight of a linear or convolutional layer.

Models have no module where they would normalize an activation, and biases as without normalization. The parameter
that a mask multiplies is the one that is normalized, so the norm is that of the masked weight: with a mask m,
m*W / sigma(m*W) and g * m*v / ||m*v||, exactly 0 where m is. What is pruned as a whole stays 0, not 0/0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lottery.registry import normalizations

if TYPE_CHECKING:
    from torch import nn


@normalizations.register("spectral", source="Miyato et al. 2018", weight=True, running=False)
def spectral(layer: nn.Module) -> None:
    """Weight divided by its largest singular value, a convolution's as the matrix (outputs, inputs x positions).

    One power iteration at each use in training; the vectors are in the state dict, so evaluation and restarts agree.
    """
    from torch.nn.utils.parametrizations import spectral_norm

    from lottery.catalogue.normalizations._alive import keep_zeros

    spectral_norm(layer)
    keep_zeros(layer, rows=False)


@normalizations.register("weight", source="Salimans & Kingma 2016", weight=True, running=False)
def weight(layer: nn.Module) -> None:
    """Weight g * v / ||v||, length and direction of each output unit or channel learned apart."""
    from torch.nn.utils.parametrizations import weight_norm

    from lottery.catalogue.normalizations._alive import keep_zeros

    weight_norm(layer)
    keep_zeros(layer, rows=True)
