"""The weights of a layer that multiply its input, by the kind of layer, and their names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized

from lottery.network.wrappers import matched

PRUNABLE = (  # layers whose one weight is called `weight`
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)
Value = TypeVar("Value", bound=Tensor)
_RECURRENT = (nn.RNNBase, nn.RNNCellBase)
_EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
_PROJECTIONS = "qkv"  # of queries, keys and values, in the order of attention's packed weight


@dataclass(frozen=True)
class WeightPosition:
    """The position of a weight in a network: rows of a parameter.

    Attributes:
        name: Name of the weight.
        parameter: Name of the parameter in the state dict.
        path: Path of the module that computes with the weight.
        attribute: Name of the tensor that the module computes with; not the parameter under a weight normalization.
        kind: `layer` where the kind of layer says that the weight multiplies an input, `embedding`, or `other`, which
            only the network's own code can tell.
        rows: First row and the row after the last one; None for the whole parameter.
    """

    name: str
    parameter: str
    path: str
    attribute: str
    kind: str
    rows: tuple[int, int] | None = None

    def rows_of(self, value: Value) -> Value:
        """Return the weight's own rows of the whole parameter, or of another tensor in its place; memory is shared."""
        return value if self.rows is None else value[slice(*self.rows)]  # type: ignore[return-value]


def weight_parameter(layer: nn.Module) -> tuple[str, nn.Parameter]:
    """Return the parameter of a linear or convolutional layer that is pruned, and its name inside the layer."""
    if not is_parametrized(layer, "weight"):
        assert isinstance(layer.weight, nn.Parameter)
        return "weight", layer.weight
    held = originals(layer)
    which = "original" if held.is_tensor else "original1"
    weight = getattr(held, which)
    assert isinstance(weight, nn.Parameter)
    return f"parametrizations.weight.{which}", weight


def matrices(model: nn.Module) -> list[nn.Parameter]:
    """Return the weights of linear and convolutional layers, in the order of the modules; a shared one once."""
    layers = [module for module in model.modules() if isinstance(module, PRUNABLE) and _has_one_weight(module)]
    return list({id(weight): weight for _, weight in map(weight_parameter, layers)}.values())


def originals(layer: nn.Module, attribute: str = "weight") -> ParametrizationList:
    """Return the parameters from which a parametrized layer computes its weight."""
    held = layer.get_submodule(f"parametrizations.{attribute}")
    assert isinstance(held, ParametrizationList)
    return held


def places(model: nn.Module) -> Iterator[WeightPosition]:
    """Yield the place of each parameter of two or more dimensions, module by module.

    In a module, parameters of a known kind of layer come first. Attention's packed projections come as three; the
    parameters behind a weight normalization come once, as the weight of their layer. A parameter under several names
    comes once for each module that has it.
    """
    normalized: set[nn.Module] = set()  # what weights of known kinds are computed from
    for path, module in model.named_modules():
        if module in normalized:
            continue
        known = list(_of_layer(path, module))
        yield from known
        if known and is_parametrized(module, known[0].attribute):
            normalized.add(originals(module))
        taken = {place.attribute for place in known}
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            if name not in taken and parameter.dim() > 1:
                yield WeightPosition(_joined(path, name), _joined(path, name), path, name, "other")


def _of_layer(path: str, module: nn.Module) -> Iterator[WeightPosition]:
    """Yield the weights that the kind of this module tells."""
    if isinstance(module, nn.MultiheadAttention):
        yield from _of_attention(path, module)
    elif isinstance(module, _RECURRENT):
        for name, _ in module.named_parameters(recurse=False):
            if name.startswith("weight_"):
                yield WeightPosition(_joined(path, name), _joined(path, name), path, name, "layer")
    elif _has_one_weight(module):
        name = _joined(path, weight_parameter(module)[0])
        kind = "embedding" if isinstance(module, _EMBEDDINGS) else "layer"
        yield WeightPosition(name, name, path, "weight", kind)


def _has_one_weight(module: nn.Module) -> bool:
    # transformers' Conv1D, a linear layer whose weight is (inputs, outputs), is told by its name: it need not be there
    named = any(kind.__name__ == "Conv1D" for kind in type(module).__mro__) and hasattr(module, "nf")
    if not named and not isinstance(module, (*PRUNABLE, nn.Bilinear, *_EMBEDDINGS)):
        return False
    return isinstance(module._parameters.get("weight"), nn.Parameter) or is_parametrized(module, "weight")


def packed_projection(name: str, state: Mapping[str, Tensor]) -> WeightPosition | None:
    """Return where the weight of attention's queries, keys or values is in a state that has all three in one tensor.

    None for a weight of another kind, or one that the state has by its own name.
    """
    path, _, letter = name.removesuffix(".weight").rpartition(".")
    if name in state or not name.endswith(".weight") or letter not in tuple(_PROJECTIONS):
        return None
    wanted = _joined(path, "in_proj_weight")
    parameter = matched([wanted], state)[wanted]
    if parameter is None:
        return None
    place, size = _PROJECTIONS.index(letter), len(state[parameter]) // len(_PROJECTIONS)
    return WeightPosition(name, parameter, path, "in_proj_weight", "layer", (place * size, (place + 1) * size))


def _of_attention(path: str, module: nn.MultiheadAttention) -> Iterator[WeightPosition]:
    for place, letter in enumerate(_PROJECTIONS):
        name = _joined(path, f"{letter}.weight")
        packed, own = module._parameters.get("in_proj_weight"), f"{letter}_proj_weight"
        if packed is not None:
            rows = place * module.embed_dim, (place + 1) * module.embed_dim
            yield WeightPosition(name, _joined(path, "in_proj_weight"), path, "in_proj_weight", "layer", rows)
        elif module._parameters.get(own) is not None:
            yield WeightPosition(name, _joined(path, own), path, own, "layer")


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
