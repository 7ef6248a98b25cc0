"""From a recipe's model to a network at initialization, and which of its weights may be pruned."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized, register_parametrization, remove_parametrizations

from lottery import registry
from lottery.errors import UsageError
from lottery.network.layout import Layout, choose, prunable_weights
from lottery.network.weights import PRUNABLE, originals, places, weight_parameter
from lottery.seed import generator, stream
from lottery.values import Component

Batch = tuple[Tensor, Tensor]  # inputs and targets


def build_model(
    component: Component,
    input_shape: tuple[int, ...],
    classes: int,
    *,
    init: Component,
    seed: int,
    batch: Batch | None = None,
    embeddings: bool = False,
) -> nn.Module:
    """Return the seed's network for inputs of this shape (without the batch), on the CPU; see `initialized`."""
    construct, draws = stream(seed, "construct"), generator(seed, "init")
    return initialized(component, input_shape, classes, init, construct, draws, batch, embeddings)


def initialized(
    component: Component,
    input_shape: tuple[int, ...],
    classes: int,
    init: Component,
    construct: int,
    draws: torch.Generator,
    batch: Batch | None = None,
    embeddings: bool = False,
) -> nn.Module:
    """Return a network on the CPU whose weights the init draws.

    Args:
        component: Model of the catalogue with its arguments.
        input_shape: Shape of an input without the batch.
        classes: Number of outputs.
        init: Initialization of the catalogue with its arguments.
        construct: Seed for everything that the init leaves alone.
        draws: Generator that the init draws from; the process-wide generator stays as it was.
        batch: Training examples on the CPU, for an init with the trait `batch`.
        embeddings: Embeddings are prunable too; which other weights are, the network itself decides
            (`lottery.network.layout`).

    Raises:
        UsageError: The model does not take such inputs, a layer of it has no weight of its own, the init asks for a
            batch and there is none, or it leaves a parameter that is not finite.
    """
    entry = registry.inits[init.name]
    if entry.traits.batch and batch is None:
        raise UsageError(f"init {init.name}: it looks at training examples, and none are given here")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(construct)
        made = registry.models[component.name].make(input_shape, classes, **component.args)
    model = registry.models[component.name].checked(made, nn.Module)
    check_layers(component.name, model)
    entry.make(model, draws, *([batch] if entry.traits.batch else []), **init.args)
    settle(model)
    for name, parameter in model.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise UsageError(f"init {init.name}: {name} of {component.name} is not finite")
    only = registry.models[component.name].traits.prunable
    choose(model, input_shape, empty=partial(on_device, model, "meta"), only=only, embeddings=embeddings)
    return model


def check_layers(name: str, model: nn.Module) -> None:
    """Check that each linear and convolutional layer has a weight that an init can draw and a mask can hold.

    Raises:
        UsageError: One has none.
    """
    for path, layer in model.named_modules():
        if not isinstance(layer, PRUNABLE) or is_parametrized(layer, "weight"):
            continue
        if not isinstance(layer.weight, nn.Parameter):
            raise UsageError(
                f"model {name}: its layer {path} ({type(layer).__name__}) has no weight of its own, which could be "
                "drawn and pruned; name another model"
            )


def prunable(model: nn.Module) -> dict[str, Tensor]:
    """Return the weights that can be pruned, by name, in the order of the modules: each one that multiplies an input.

    They are those of linear and convolutional, recurrent and attention layers, and those of a module's own code, as the
    network was seen to use them when it was made. Biases, normalizations and positions are not among them, embeddings
    only on request. A name is that in the state dict, but attention's packed projections are three weights
    (`attention.q.weight`). Under a weight normalization the parameter is the one that is normalized:
    `fc1.parametrizations.weight.original` (spectral) or `fc1.parametrizations.weight.original1` (the direction v). A
    shared weight counts once.
    """
    return prunable_weights(model)


def effective(model: nn.Module) -> dict[str, Tensor]:
    """Return the weight that each prunable layer computes with in evaluation mode, detached, by name.

    A layer without weight normalization gives its parameter itself: the memory is shared.
    """
    with torch.no_grad(), evaluating(model):
        return {
            name: place.rows_of(getattr(model.get_submodule(place.path), place.attribute)).detach()
            for name, place in Layout.of(model).weights.items()
        }


def lent(model: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    """Return a read-only copy of the model whose parameters and buffers are the tensors of the state."""
    tensors = model.state_dict(keep_vars=True)
    memory = {
        id(tensor): nn.Parameter(state[name], requires_grad=False) if isinstance(tensor, nn.Parameter) else state[name]
        for name, tensor in tensors.items()
    }
    return deepcopy(model, memory)


def on_device(model: nn.Module, device: str) -> nn.Module:
    """Return a copy of the model whose state has shapes but no values; on "meta" it takes no memory."""
    memory: dict[int, Tensor] = {}
    for tensor in model.state_dict(keep_vars=True).values():
        if tensor.is_meta:  # on which `empty_like` has torch import sympy, half a second of each process
            empty = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device)
        else:
            empty = torch.empty_like(tensor, device=device, requires_grad=False)
        memory[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty
    return deepcopy(model, memory)


@torch.no_grad()
def set_weight(layer: nn.Module, value: Tensor) -> None:
    """Make `value` the layer's weight; a weight normalization takes it apart into its own parameters.

    Spectral normalization keeps it as the weight that it divides by the norm.
    """
    if is_parametrized(layer, "weight"):
        layer.weight = value.clone()  # the parametrization keeps the tensor that it is given
    else:
        weight_parameter(layer)[1].copy_(value)


def own_parameters(model: nn.Module, names: Iterable[str]) -> dict[str, nn.Parameter]:
    """Give each of these weights a plain parameter of its own, with the value that its layer computes with.

    Weight normalizations are removed from the layers and packed weights are split.

    Args:
        model: The network, changed in place.
        names: Names of weights as `prunable` gave them before, or of whole parameters.

    Returns:
        The parameters that are now in their place, by those names.
    """
    layout, weights = Layout.of(model), dict[str, nn.Parameter]()
    for name in names:
        place = layout.place(name)
        module = model.get_submodule(place.path)
        if place.rows is None and is_parametrized(module, place.attribute):
            kind = type(module)  # torch takes the weight off this class, which copies of the model share
            module.__class__ = type(kind.__name__, kind.__bases__, dict(vars(kind)))
            with torch.enable_grad():  # torch leaves a parameter only where the weight has a gradient
                remove_parametrizations(module, place.attribute, leave_parametrized=True)
        elif place.rows is not None and not is_parametrized(module, place.attribute):
            sizes = [part.rows[1] - part.rows[0] for part in layout.parts[place.parameter] if part.rows]
            register_parametrization(module, place.attribute, _Packed(sizes), unsafe=True)
        weight = getattr(module, place.attribute)
        if place.rows is not None:
            number = layout.parts[place.parameter].index(place)
            weight = getattr(originals(module, place.attribute), f"original{number}")
        assert isinstance(weight, nn.Parameter)
        weights[name] = weight
    return weights


class _Packed(nn.Module):
    """Parametrization that stacks several weights, row below row, into one."""

    def __init__(self, sizes: list[int]):
        super().__init__()
        self.sizes = sizes

    def forward(self, *parts: Tensor) -> Tensor:
        return torch.cat(parts)

    def right_inverse(self, whole: Tensor) -> tuple[Tensor, ...]:
        return tuple(part.clone() for part in torch.split(whole, self.sizes))


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put the model in evaluation mode while the `with` block runs; afterwards each module has its own mode again."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def without_fused_recurrence(model: nn.Module) -> Iterator[None]:
    """Let recurrent layers of the model do without cuDNN while the `with` block runs; nothing changes for other models.

    cuDNN's recurrent layers have no gradient in evaluation mode, and no second one in any. What the block runs forward
    can be differentiated after it as well.
    """
    cudnn = torch.backends.cudnn
    if not (cudnn.enabled and any(isinstance(module, nn.RNNBase) for module in model.modules())):
        yield
        return
    cudnn.enabled = False
    try:
        yield
    finally:
        cudnn.enabled = True


@torch.no_grad()
def settle(model: nn.Module, iterations: int = 15) -> None:
    """Bring the power iterations of spectral normalization up to the present weights, as many as torch begins with.

    Nothing else changes, and nothing at all in a model without spectral normalization.
    """
    for place in places(model):
        layer = model.get_submodule(place.path)
        if place.attribute == "weight" and is_parametrized(layer, "weight"):
            held = originals(layer)
            training = held.training
            held.train()
            for _ in range(iterations):
                held()
            held.train(training)
