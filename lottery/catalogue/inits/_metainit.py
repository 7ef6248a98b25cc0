"""MetaInit (Dauphin & Schoenholz 2019, "MetaInit: initializing learning by learning to initialize"), appendix A."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrize import is_parametrized

from lottery.network.build import evaluating
from lottery.network.weights import PRUNABLE, weight_parameter


def tune_norms(
    model: nn.Module,
    generator: torch.Generator,
    batch: tuple[Tensor, Tensor],
    *,
    steps: int,
    lr: float,
    momentum: float,
    epsilon: float,
) -> None:
    """Change the norm of each weight, from where it is, by sign descent with momentum on the gradient quotient.

    A norm that passes 0 turns the weight's sign and grows again, as in the paper's code.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    weights = [_length(module) for module in model.modules() if isinstance(module, PRUNABLE)]
    velocity = [0.0] * len(weights)
    with evaluating(model), torch.enable_grad():
        for _ in range(steps):
            quotient = gradient_quotient(random_loss(model, generator, batch), parameters, epsilon)
            slopes = torch.autograd.grad(quotient, weights, allow_unused=True, materialize_grads=True)
            for i, (weight, slope) in enumerate(zip(weights, slopes, strict=True)):
                norm = float(weight.detach().norm())
                along = float(torch.sign((weight.detach() * slope).sum()))
                velocity[i] = momentum * velocity[i] - lr * along
                weight.data.mul_((norm + velocity[i]) / norm)


def gradient_quotient(loss: Tensor, parameters: list[nn.Parameter], epsilon: float) -> Tensor:
    """Return the mean over all parameters of |(g - Hg) / (g + sign(g) epsilon) - 1|, differentiable."""
    grads = torch.autograd.grad(loss, parameters, create_graph=True, allow_unused=True, materialize_grads=True)
    half_square = torch.stack([grad.square().sum() / 2 for grad in grads]).sum()
    products = torch.autograd.grad(
        half_square, parameters, create_graph=True, allow_unused=True, materialize_grads=True
    )
    terms = [
        ((g - p) / (g + torch.where(g >= 0, epsilon, -epsilon)) - 1).abs().sum()
        for g, p in zip(grads, products, strict=True)
    ]
    return torch.stack(terms).sum() / sum(parameter.numel() for parameter in parameters)


def random_loss(model: nn.Module, generator: torch.Generator, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Return the mean loss on standard normal inputs with random targets, of the shapes of the batch."""
    x, y = batch
    outputs: Tensor = model(torch.randn(x.shape, generator=generator, dtype=x.dtype))
    if y.is_floating_point():
        return functional.mse_loss(outputs, torch.randn(y.shape, generator=generator, dtype=y.dtype))
    return functional.cross_entropy(outputs, torch.randint(outputs.shape[1], y.shape, generator=generator))


def _length(layer: nn.Module) -> nn.Parameter:
    """Return the parameter whose norm is that of the layer's weight: its lengths g if it has such, else the weight."""
    if is_parametrized(layer, "weight"):
        lengths = getattr(layer.get_submodule("parametrizations.weight"), "original0", None)
        if isinstance(lengths, nn.Parameter):
            return lengths
    return weight_parameter(layer)[1]
