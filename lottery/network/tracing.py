"""The parameters that multiply values which depend on a network's input, seen in one pass through any code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_FACTORS = {  # torch's operators that multiply tensors and add up, and which of their arguments are multiplied
    **dict.fromkeys(("mm", "bmm", "mv", "dot", "linear"), (0, 1)),
    **dict.fromkeys(("addmm", "addmv", "addbmm", "baddbmm", "_addmm_activation"), (1, 2)),
    **dict.fromkeys(("convolution", "_convolution", "convolution_overrideable", "mkldnn_convolution"), (0, 1)),
    "_trilinear": (0, 1, 2),
}
_ATTENTION = "_scaled_dot_product"  # the first letters of the operators of queries, keys and values
_WHOLE = (  # layers that are one operator on a processor: each of their weights is multiplied
    *("lstm", "gru", "rnn_tanh", "rnn_relu", "mkldnn_rnn_layer", "_cudnn_rnn"),
    *("_native_multi_head_attention", "_transformer_encoder_layer_fwd"),
)
_OF_INPUTS = {"mkldnn_rnn_layer": 1, "_native_multi_head_attention": 5, "_transformer_encoder_layer_fwd": 3}  # of
# those on a processor, the argument that is the weight of the inputs


@dataclass(frozen=True)
class Use:
    """One product with a stretch of a parameter.

    Attributes:
        first: First element of the stretch.
        last: Element after the last one.
        multiply_adds: Number of multiply-adds of the product.
        reads_input: The other factor follows from the input alone, so that no gradient of it is wanted.
    """

    first: int
    last: int
    multiply_adds: int
    reads_input: bool = False


@dataclass
class Traced:
    """The products that a pass through a network made, by the names of `named_parameters`.

    Attributes:
        multiplied: Parameters that were factors beside a value that depends on the input.
        uses: All products with each parameter.
        computed: Multiply-adds by parameter from which such a factor was computed without the input.
        computed_reading: Part of `computed` whose other factor follows from the input alone.
        outside: Those of `multiplied` that were read while no module that owns them was running.
    """

    multiplied: set[str] = field(default_factory=set)
    uses: dict[str, list[Use]] = field(default_factory=dict)
    computed: Counter[str] = field(default_factory=Counter)
    computed_reading: Counter[str] = field(default_factory=Counter)
    outside: set[str] = field(default_factory=set)

    def multiply_adds(self, name: str, first: int, last: int) -> int:
        """Return the multiply-adds of a parameter's elements from `first` to `last`, and of what they make."""
        return self.computed[name] + _shared(self.uses.get(name, ()), first, last)

    def reading(self, name: str, first: int, last: int) -> int:
        """Return the part of `multiply_adds` whose other factor follows from the input alone."""
        uses = [use for use in self.uses.get(name, ()) if use.reads_input]
        return self.computed_reading[name] + _shared(uses, first, last)


def _shared(uses: Iterable[Use], first: int, last: int) -> int:
    """Return the multiply-adds of uses with the elements from `first` to `last` of their parameter."""
    return sum(
        use.multiply_adds * max(0, min(last, use.last) - max(first, use.first)) // (use.last - use.first)
        for use in uses
    )


@torch.no_grad()
def trace(model: nn.Module, inputs: Tensor) -> Traced:
    """Follow the inputs through a model, which is left in evaluation mode.

    Raises:
        Exception: Whatever the model's code raises.
    """
    model.eval()
    mode = _Trace(model, inputs)
    running: Counter[int] = mode.running
    handles: list[Any] = []
    for module in model.modules():
        handles += [
            module.register_forward_pre_hook(lambda module, _: running.update([id(module)])),
            module.register_forward_hook(lambda module, *_: running.subtract([id(module)]), always_call=True),
        ]
    try:
        with mode:
            model(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return mode.traced


class _Trace(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows storages, which views share; all that were seen are kept, so that no address stands for two of them."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here, and to keep torch's compiler out of it takes a second to import it

    def __init__(self, model: nn.Module, inputs: Tensor):
        super().__init__()  # type: ignore[no-untyped-call]
        self.traced, self.running = Traced(), Counter[int]()
        self._kept: list[Any] = []
        self._names: dict[int, str] = {}
        self._owners: dict[str, set[int]] = {}
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        for module in model.modules():
            for parameter in module._parameters.values():
                if parameter is not None and parameter.dim() > 1:
                    name = names[id(parameter)]
                    self._names[self._storage(parameter)] = name
                    self._owners.setdefault(name, set()).add(id(module))
        self._inputs = {self._storage(inputs)}
        self._trained = {self._storage(each) for each in model.parameters() if each.requires_grad}
        self._sources: dict[int, frozenset[str]] = {}  # of what is computed of parameters alone

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        given, results = _tensors((args, kwargs)), _tensors(made)
        name = func._schema.name.partition("::")[2]
        factors = _factors(name, args, given)
        if factors:
            self._multiply(factors, _cost(name, args, results), _beside(name, args, factors))
        came = [self._storage(each) for each in given]
        if any(each in self._trained for each in came):
            self._trained.update(self._storage(each) for each in results)
        if any(each in self._inputs for each in came):
            self._inputs.update(self._storage(each) for each in results)
        else:
            sources = frozenset[str]().union(*(self._from(each) for each in came))
            for each in map(self._storage, results):
                if sources and each not in self._names:
                    self._sources[each] = sources
        return made

    def _from(self, storage: int) -> frozenset[str]:
        return frozenset([self._names[storage]]) if storage in self._names else self._sources.get(storage, frozenset())

    def _storage(self, tensor: Tensor) -> int:
        storage = tensor.untyped_storage()
        self._kept.append(storage)
        return int(storage._cdata)

    def _multiply(
        self,
        factors: Sequence[Tensor],
        cost: Callable[[Tensor], int],
        beside: Callable[[Tensor], Sequence[Tensor]],
    ) -> None:
        for factor in factors:
            others = [self._storage(other) for other in factors if other is not factor]
            beside_input = any(other in self._inputs for other in others)
            reads = not any(self._storage(other) in self._trained for other in beside(factor))
            storage = self._storage(factor)
            if storage in self._names:
                name, first = self._names[storage], int(factor.storage_offset())
                extent = sum((size - 1) * int(step) for size, step in zip(factor.shape, factor.stride(), strict=True))
                self.traced.uses.setdefault(name, []).append(Use(first, first + extent + 1, cost(factor), reads))
                if beside_input:
                    self.traced.multiplied.add(name)
                    if not any(self.running[owner] > 0 for owner in self._owners[name]):
                        self.traced.outside.add(name)
            elif beside_input and storage not in self._inputs:
                named = dict.fromkeys(self._sources.get(storage, ()), cost(factor))
                self.traced.computed.update(named)
                if reads:
                    self.traced.computed_reading.update(named)


def _tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def _factors(name: str, args: Sequence[Any], given: Sequence[Tensor]) -> list[Tensor]:
    if name in _WHOLE:
        return list(given)
    places: Iterable[int] = (0, 1, 2) if name.startswith(_ATTENTION) else _FACTORS.get(name, ())
    return [args[place] for place in places]


def _beside(name: str, args: Sequence[Any], factors: Sequence[Tensor]) -> Callable[[Tensor], Sequence[Tensor]]:
    """Return the tensors that a factor of an operator multiplies.

    Where the operator is a whole layer, a weight is taken to multiply its inputs, any other tensor what weights made.
    """
    if name not in _WHOLE:
        return lambda factor: [other for other in factors if other is not factor]
    first = args[_OF_INPUTS[name]] if name in _OF_INPUTS else None
    return lambda factor: [args[0]] if factor is first else factors


def _cost(name: str, args: Sequence[Any], results: Sequence[Tensor]) -> Callable[[Tensor], int]:
    """Return the multiply-adds of an operator for one of its factors."""
    if name in _WHOLE:  # an input of (steps, examples, features), and every weight for each of these
        return lambda factor: factor.numel() * args[0].shape[:-1].numel()
    if name.startswith(_ATTENTION):
        return lambda factor: factor.numel() * args[1 if factor is args[0] else 0].shape[-2]
    made = results[0].numel()
    if name == "_trilinear":
        return lambda factor: made // args[1].shape[-3] * args[1].numel()
    if "convolution" in name:
        transposed = len(args) > 6 and args[6] is True
        return lambda factor: (args[0].numel() if transposed else made) * args[1][0].numel()
    left, right = _factors(name, args, ())
    columns = right.shape[0] if name == "linear" else right.shape[-1] if right.dim() > 1 else 1
    return lambda factor: left.numel() * columns
