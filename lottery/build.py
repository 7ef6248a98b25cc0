"""From a recipe's model to a network at initialization, and which of its weights may be pruned."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized, remove_parametrizations

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


Batch = tuple[Tensor, Tensor]  # inputs and targets


def build_model(
    component: Component,
    input_shape: tuple[int, ...],
    classes: int,
    *,
    init: Component,
    seed: int,
    batch: Batch | None = None,
) -> nn.Module:
    """The seed's network for inputs of this shape (without the batch), on the CPU: see `initialized`."""
    construct, draws = stream(seed, "construct"), generator(seed, "init")
    return initialized(component, input_shape, classes, init, construct, draws, batch)


def initialized(
    component: Component,
    input_shape: tuple[int, ...],
    classes: int,
    init: Component,
    construct: int,
    draws: torch.Generator,
    batch: Batch | None = None,
) -> nn.Module:
    """A network whose weights the init draws; what an init leaves alone is drawn by the seed `construct`.

    `batch` are training examples on the CPU, for an init with the trait `batch`. Leaves the process-wide generator as
    it was. Raises UsageError where the model does not take such inputs, the init asks for a batch and there is none,
    or it leaves a parameter that is not finite."""
    entry = registry.inits[init.name]
    if entry.traits.get("batch") and batch is None:
        raise UsageError(f"init {init.name}: it looks at training examples, and none are given here")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(construct)
        model = registry.models[component.name].make(input_shape, classes, **component.args)
    assert isinstance(model, nn.Module)
    entry.make(model, draws, *([batch] if entry.traits.get("batch") else []), **init.args)
    settle(model)
    for name, parameter in model.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise UsageError(f"init {init.name}: {name} of {component.name} is not finite")
    return model


def prunable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Weights of linear and convolutional layers by their names in the state dict, in the order of the modules.

    Under a weight normalization the parameter is the one that is normalized: `fc1.parametrizations.weight.original`
    (spectral) or `fc1.parametrizations.weight.original1` (the direction v). Biases, normalizations and embeddings are
    never pruned; a tied weight counts once."""
    return {name: weight for name, (_, weight) in _layers(model).items()}


def effective(model: nn.Module) -> dict[str, Tensor]:
    """The weight that each prunable layer computes with, by the names of `prunable`, detached, as in evaluation mode.

    A layer without weight normalization gives its parameter itself: the memory is shared."""
    with torch.no_grad(), evaluating(model):
        weights = {name: layer.weight for name, (layer, _) in _layers(model).items()}
        return {name: weight.detach() for name, weight in weights.items() if isinstance(weight, Tensor)}


def lent(model: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    """A copy of the model whose parameters and buffers are the tensors of the state themselves, to look at only."""
    tensors = model.state_dict(keep_vars=True)
    memory = {
        id(tensor): nn.Parameter(state[name], requires_grad=False) if isinstance(tensor, nn.Parameter) else state[name]
        for name, tensor in tensors.items()
    }
    return deepcopy(model, memory)


def on_device(model: nn.Module, device: str) -> nn.Module:
    """A copy of the model whose state has shapes but no values, and on the device "meta" takes no memory either."""
    memory: dict[int, Tensor] = {}
    for tensor in model.state_dict(keep_vars=True).values():
        empty = torch.empty_like(tensor, device=device, requires_grad=False)
        memory[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty
    return deepcopy(model, memory)


def weight_parameter(layer: nn.Module) -> tuple[str, nn.Parameter]:
    """The parameter of a linear or convolutional layer that is pruned, and its name inside the layer."""
    if not is_parametrized(layer, "weight"):
        assert isinstance(layer.weight, nn.Parameter)
        return "weight", layer.weight
    originals = _originals(layer)
    which = "original" if originals.is_tensor else "original1"
    weight = getattr(originals, which)
    assert isinstance(weight, nn.Parameter)
    return f"parametrizations.weight.{which}", weight


@torch.no_grad()
def set_weight(layer: nn.Module, value: Tensor) -> None:
    """Make `value` the layer's weight; a weight normalization takes it apart into its own parameters.

    Spectral normalization keeps it as the weight that it divides by the norm."""
    if is_parametrized(layer, "weight"):
        layer.weight = value.clone()  # the parametrization keeps the tensor that it is given
    else:
        weight_parameter(layer)[1].copy_(value)


def without_weight_norms(model: nn.Module, names: Iterable[str]) -> dict[str, nn.Parameter]:
    """Take the weight normalizations off these layers: each computes with a plain parameter of the same value.

    Names are those of `prunable` before, and the keys of what is returned: the parameters now in their place."""
    layers: dict[str, nn.Parameter] = {}
    for name in names:
        path, parametrized, _ = name.partition(".parametrizations.weight.")
        layer = model.get_submodule(path if parametrized else name.rpartition(".")[0])
        if is_parametrized(layer, "weight"):
            kind = type(layer)  # torch takes the weight off this class, which copies of the model share
            layer.__class__ = type(kind.__name__, kind.__bases__, dict(vars(kind)))
            with torch.enable_grad():  # torch leaves a parameter only where the weight has a gradient
                remove_parametrizations(layer, "weight", leave_parametrized=True)
        assert isinstance(layer.weight, nn.Parameter)
        layers[name] = layer.weight
    return layers


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode while the `with` block runs; afterwards each module is in its own mode again."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@torch.no_grad()
def settle(model: nn.Module, iterations: int = 15) -> None:
    """Bring the power iterations of spectral normalization up to the weights of now, with as many as torch starts with.

    Nothing else changes, and nothing at all in a model without it."""
    for layer, _ in _layers(model).values():
        if is_parametrized(layer, "weight"):
            originals = _originals(layer)
            training = originals.training
            originals.train()
            for _ in range(iterations):
                originals()
            originals.train(training)


def _originals(layer: nn.Module) -> ParametrizationList:
    originals = layer.get_submodule("parametrizations.weight")
    assert isinstance(originals, ParametrizationList)
    return originals


def _layers(model: nn.Module) -> dict[str, tuple[nn.Module, nn.Parameter]]:
    """The prunable layers with the parameter that is pruned, by its name in the state dict."""
    found: dict[str, tuple[nn.Module, nn.Parameter]] = {}
    for path, module in model.named_modules():
        if isinstance(module, PRUNABLE):
            name, weight = weight_parameter(module)
            if not any(weight is known for _, known in found.values()):
                found[f"{path}.{name}" if path else name] = module, weight
    return found
