"""Learned masks as parametrizations of a layer's weight: the scores train, the weight stays as it is."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from lottery.build import prunable


class Bernoulli(nn.Module):
    """Each weight is there with the probability sigmoid(score) (Zhou et al. 2019, section 5).

    In training mode a mask is drawn for each forward pass, from the process-wide generator as dropout is; the gradient
    goes to the probability as if the mask were it. In evaluation mode a weight is there where its probability is above
    its `threshold`."""

    threshold: Tensor

    def __init__(self, threshold: Tensor):
        super().__init__()
        self.scores = nn.Parameter(torch.zeros_like(threshold))
        self.register_buffer("threshold", threshold)

    def forward(self, weight: Tensor) -> Tensor:
        probability = self.scores.sigmoid()
        if not self.training:
            return weight * (probability > self.threshold)
        drawn = torch.bernoulli(probability.detach())
        return weight * (
            drawn + (probability - probability.detach())
        )  # in this order the mask stays 0 and 1 to the bit


class EdgePopup(nn.Module):
    """The weights with the `count` largest absolute scores are there (Ramanujan et al. 2020).

    The gradient goes straight through the choice to the absolute score."""

    def __init__(self, scores: Tensor, count: int):
        super().__init__()
        self.scores = nn.Parameter(scores)
        self.count = count

    def forward(self, weight: Tensor) -> Tensor:
        size = self.scores.abs()
        chosen = size.detach().flatten().topk(self.count, sorted=False).indices
        mask = torch.zeros_like(size).flatten().index_fill_(0, chosen, 1.0).view_as(size)
        return weight * (mask + (size - size.detach()))  # in this order the mask stays 0 and 1 to the bit


def learn_masks(model: nn.Module, make: Callable[[str, Tensor], nn.Module]) -> None:
    """Freeze all parameters and put a parametrization with scores on each prunable layer's weight.

    `make(name, weight)` gives the parametrization for the layer whose weight has this name in the mask."""
    layers = {name: _layer(model, name) for name in prunable(model)}
    model.requires_grad_(False)
    for name, layer in layers.items():
        assert isinstance(layer.weight, Tensor)
        masking = make(name, layer.weight).to(layer.weight.device)
        register_parametrization(layer, "weight", masking, unsafe=True)  # no forward pass, which would draw


def kaiming_scores(weight: Tensor, generator: torch.Generator) -> Tensor:
    """Uniform within 1/sqrt(fan_in), as the authors of edge-popup start; drawn on the CPU."""
    scores = torch.empty(weight.shape)
    nn.init.kaiming_uniform_(scores, a=math.sqrt(5), generator=generator)
    return scores


def _layer(model: nn.Module, name: str) -> nn.Module:
    path, parametrized, _ = name.partition(".parametrizations.weight.")
    return model.get_submodule(path if parametrized else name.rpartition(".")[0])
