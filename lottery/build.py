"""From a recipe's model to a network at initialization, and which of its weights may be pruned."""

from __future__ import annotations

import torch
from torch import nn

from lottery import registry
from lottery.errors import UsageError
from lottery.seed import generator, stream
from lottery.spec import Component

PRUNABLE = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)


def build_model(
    component: Component, input_shape: tuple[int, ...], classes: int, *, init: Component, seed: int
) -> nn.Module:
    """The seed's network for inputs of this shape (without the batch), on the CPU: see `initialized`."""
    return initialized(component, input_shape, classes, init, stream(seed, "construct"), generator(seed, "init"))


def initialized(
    component: Component,
    input_shape: tuple[int, ...],
    classes: int,
    init: Component,
    construct: int,
    draws: torch.Generator,
) -> nn.Module:
    """A network whose weights the init draws; what an init leaves alone is drawn by the seed `construct`.

    Leaves the process-wide generator as it was. Raises UsageError where the model does not take such inputs, or the
    init leaves a parameter that is not finite."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(construct)
        model = registry.models[component.name].make(input_shape, classes, **component.args)
    assert isinstance(model, nn.Module)
    registry.inits[init.name].make(model, draws, **init.args)
    for name, parameter in model.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise UsageError(f"init {init.name}: {name} of {component.name} is not finite")
    return model


def prunable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Weights of linear and convolutional layers by their names in the state dict, in the order of the modules.

    Biases, normalizations and embeddings are never pruned; a tied weight counts once."""
    found: dict[str, nn.Parameter] = {}
    for name, module in model.named_modules():
        if isinstance(module, PRUNABLE) and not any(module.weight is weight for weight in found.values()):
            weight = module.weight
            assert isinstance(weight, nn.Parameter)
            found[f"{name}.weight" if name else "weight"] = weight
    return found
