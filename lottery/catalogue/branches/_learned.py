"""Learned masks as parametrizations of a layer's weight: the scores train, the weight stays as it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from lottery.network.build import prunable
from lottery.pruning.mask import Mask


class Bernoulli(nn.Module):
    """A mask in which each weight is there with the probability sigmoid(score) (Zhou et al. 2019, section 5).

    In training mode a mask is drawn for each forward pass, from the process-wide generator as dropout is; the gradient
    goes to the probability as if the mask were it. In evaluation mode a weight is there where its probability is above
    its `threshold`, in whose place `drawn` puts each of `others`. With `rescale` the weights that are there are
    multiplied by the layer's number of weights over that of those (the authors' dynamic weight rescaling), through
    which the gradient goes as well.
    """

    threshold: Tensor
    thresholds: Tensor

    def __init__(self, threshold: Tensor, others: Sequence[Tensor] = (), *, rescale: bool = False):
        super().__init__()
        self.scores = nn.Parameter(torch.zeros_like(threshold))
        self.rescale = rescale
        self.register_buffer("threshold", threshold)
        every = torch.stack([threshold, *others]) if others else threshold[None]
        self.register_buffer("thresholds", every, persistent=False)  # the branch's generator draws them again

    def mask(self) -> Tensor:
        """Return the mask of evaluation mode: a bool tensor of the weight's shape, True for weights that are there."""
        return self.scores.sigmoid() > self.threshold

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight under a drawn mask in training mode, under that of `mask` in evaluation mode."""
        if not self.training:
            return self._scaled(weight, self.mask().to(weight.dtype))
        probability = self.scores.sigmoid()
        drawn = torch.bernoulli(probability.detach())
        there = drawn + (probability - probability.detach())  # in this order the mask stays 0 and 1 to the bit
        return self._scaled(weight, there)

    def _scaled(self, weight: Tensor, there: Tensor) -> Tensor:
        if not self.rescale:
            return weight * there
        return there.numel() / there.sum().clamp(min=1) * (weight * there)  # a layer without weights is 0


class EdgePopup(nn.Module):
    """A mask in which the weights with the `count` largest absolute scores are there (Ramanujan et al. 2020).

    The gradient goes straight through the choice to the absolute score.
    """

    def __init__(self, scores: Tensor, count: int):
        super().__init__()
        self.scores = nn.Parameter(scores)
        self.count = count

    def mask(self) -> Tensor:
        """Return the mask: a bool tensor of the weight's shape, True for weights that are there."""
        size = self.scores.detach().abs().flatten()
        chosen = size.topk(self.count, sorted=False).indices
        return torch.zeros_like(size, dtype=torch.bool).index_fill_(0, chosen, True).view_as(self.scores)

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight under the mask."""
        size = self.scores.abs()
        there = self.mask().to(size.dtype) + (size - size.detach())  # in this order the mask stays 0 and 1 to the bit
        return weight * there


def learn_masks(model: nn.Module, make: Callable[[str, Tensor], nn.Module]) -> None:
    """Freeze all parameters and put a parametrization with scores on each prunable layer's weight.

    `make(name, weight)` gives the parametrization for the layer whose weight has this name in the mask.
    """
    layers = {name: _layer(model, name) for name in prunable(model)}
    model.requires_grad_(False)
    for name, layer in layers.items():
        assert isinstance(layer.weight, Tensor)
        masking = make(name, layer.weight).to(layer.weight.device)
        register_parametrization(layer, "weight", masking, unsafe=True)  # no forward pass, which would draw


def drawn(model: nn.Module) -> Iterator[None]:
    """Yield, one after the other, the networks that a model with learned masks is evaluated as: a mask of each draw.

    Between two of them, and after the last, whatever holds for one network only (statistics of batch normalization) is
    to be made anew. The last to be there is that of the first draw again.
    """
    learned = [module for module in model.modules() if isinstance(module, Bernoulli)]
    draws = max((len(module.thresholds) for module in learned), default=1)
    try:
        for draw in range(draws):
            for module in learned if draws > 1 else ():
                module.threshold.copy_(module.thresholds[draw])
            yield
    finally:
        for module in learned if draws > 1 else ():
            module.threshold.copy_(module.thresholds[0])


@torch.no_grad()
def masks(model: nn.Module) -> list[Mask]:
    """Return the masks that were learned, one for each draw, by layer.

    They are read from the scores, so that weights that are 0 count as kept if the mask keeps them.
    """
    learned = {
        f"{path.partition('.parametrizations.')[0]}.weight": module
        for path, module in model.named_modules()
        if isinstance(module, (Bernoulli, EdgePopup))
    }
    return [Mask({name: module.mask().cpu() for name, module in learned.items()}) for _ in drawn(model)]


def kaiming_scores(weight: Tensor, generator: torch.Generator) -> Tensor:
    """Return scores uniform within 1 / sqrt(fan_in), as the authors of edge-popup start; drawn on the CPU."""
    scores = torch.empty(weight.shape)
    nn.init.kaiming_uniform_(scores, a=math.sqrt(5), generator=generator)
    return scores


def _layer(model: nn.Module, name: str) -> nn.Module:
    path, parametrized, _ = name.partition(".parametrizations.weight.")
    return model.get_submodule(path if parametrized else name.rpartition(".")[0])
