"""What the layers and activations of a network take and give in a forward pass, seen by hooks."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from torch import Tensor, nn
from torch.nn.modules import activation as torch_activations

from lottery import registry
from lottery.network.weights import places

_ATTENTION = (nn.MultiheadAttention, nn.Softmax, nn.Softmax2d, nn.LogSoftmax, nn.Softmin, nn.GLU)  # not elementwise


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a layer or an activation in a forward pass.

    Attributes:
        name: Path of the module.
        label: The path, with the number of the call where a module is called more than once.
        kind: `layer` for a module whose weights multiply, or `activation`.
        module: The module.
        input: What it was given, detached.
        output: What it gave, in the graph of the pass: gradients can be taken in it.
        channels: True if units are along the second dimension, False if along the last.
        source: Number of the call whose outputs it was given unchanged but for their shape; None for any other input.
    """

    name: str
    label: str
    kind: str
    module: nn.Module
    input: Tensor
    output: Tensor
    channels: bool
    source: int | None


class Watch:
    """Follows the forward passes of a network while a `with` block runs; what the network computes stays the same.

    Args:
        model: The network; the hooks on it are removed at the end of the block.
    """

    def __init__(self, model: nn.Module):
        layers = {place.path for place in places(model) if place.kind == "layer"}
        kinds = _activations()
        self._watched = {
            name: (module, "layer" if name in layers else "activation")
            for name, module in model.named_modules()
            if name in layers or type(module) in kinds
        }
        lines = (nn.Conv1d, nn.ConvTranspose1d)
        self._lines = any(isinstance(module, lines) for module in model.modules())
        self._calls: list[Call] = []
        self._inputs: dict[int, list[tuple[Tensor, Tensor]]] = {}  # of modules that are running
        self._held: list[Tensor] = []  # so that no storage is used twice within a pass
        self._sources: dict[int, int] = {}  # by the address of a storage, the call that filled it
        self._counts: Counter[str] = Counter()
        self._handles: list[Any] = []

    def __enter__(self) -> Watch:
        for name, (module, kind) in self._watched.items():
            self._handles.append(module.register_forward_pre_hook(self._before))
            self._handles.append(module.register_forward_hook(self._after(name, kind)))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for handle in self._handles:
            handle.remove()
        self.take()

    def take(self) -> list[Call]:
        """Return the calls since the last time, in their order, and forget them."""
        calls, self._calls = self._calls, []
        self._inputs, self._held, self._sources, self._counts = {}, [], {}, Counter()
        return calls

    def _before(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        given = inputs[0]
        self._inputs.setdefault(id(module), []).append((given, given.detach().clone()))  # it may be written over

    def _after(self, name: str, kind: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
            given, value = self._inputs[id(module)].pop()
            source = self._sources.get(_address(given))
            whole = isinstance(output, Tensor)
            kept = output if whole else output[0]
            passed = kept.clone() if whole else kept  # a later operation may write over what it is given
            self._counts[name] += 1
            label = name if self._counts[name] == 1 else f"{name} {self._counts[name]}"
            channels = (kept.dim() != 3 and kept.dim() > 1) or (kept.dim() == 3 and self._lines)
            self._calls.append(Call(name, label, kind, module, value, kept, channels, source))
            self._held += [given, kept, passed]
            self._sources[_address(passed)] = len(self._calls) - 1
            return passed if whole else output

        return hook


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _activations() -> set[type[nn.Module]]:
    """Return the types of modules that are activations: torch's, and those of the catalogue."""
    own = {type(entry.make()) for entry in registry.activations}
    theirs = {
        kind
        for kind in vars(torch_activations).values()
        if isinstance(kind, type) and issubclass(kind, nn.Module) and kind not in _ATTENTION
    }
    return {kind for kind in own | theirs if kind not in (nn.Module, nn.Sequential, nn.Identity)}
