"""What scores weights: the function that pruning asks, and what a criterion of the catalogue is given."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from lottery.pruning.mask import Mask

Weights = Mapping[str, "Tensor"]  # a whole state dict: parameters and buffers
Scores = Mapping[str, "Tensor"]
# the scores of the layers in the mask, in a state whose pruned weights are 0
Criterion = Callable[[Weights, "Mask"], Scores]


@dataclass(frozen=True)
class Lazy(Mapping[str, "Tensor"]):
    """Tensors by name that are made each time they are asked for and held by nobody: `make` gives the same each time.

    Scores that cost little more than looking at the weights need no memory beside them.
    """

    names: Collection[str]
    make: Callable[[str], Tensor]

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.names:
            raise KeyError(name)
        return self.make(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class Context:
    """All that a criterion may look at beside the weights it scores.

    What draws from torch's global generator while a criterion scores draws from a stream of the seed's.

    Attributes:
        generator: the seed's stream for this level.
        initial: the weights at the rewind point, by the names of the scored ones.
        network: `network()` is a new copy of the network with the scored weights in it, in evaluation mode, on the
            device.
        loss: `loss(outputs, targets)` is the training loss, the mean over a batch.
        examples: `examples(n)` are batches of the first n of the training set, of all where n is None, in a random
            order that is the seed's and without augmentation.
        balanced: `balanced(n)` are batches of the first n of each class, in the same order.
        alive: which of the scored weights have not been pruned; a layer that is not in it has all of them.
    """

    generator: torch.Generator
    initial: Mapping[str, Tensor] = field(default_factory=dict)
    network: Callable[[], nn.Module] | None = None
    loss: Callable[[Tensor, Tensor], Tensor] | None = None
    examples: Callable[[int | None], Iterator[tuple[Tensor, Tensor]]] | None = None
    balanced: Callable[[int], Iterator[tuple[Tensor, Tensor]]] | None = None
    alive: Mapping[str, Tensor] = field(default_factory=dict)
