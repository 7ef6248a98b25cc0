"""Types of scores, and the context that a criterion of the catalogue is given."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
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
    """Tensors by name that `make` makes anew each time they are read, so that they take no memory beside the weights.

    For scores that cost little more than reading the weights; `make` must give the same tensor each time.
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
    """The surroundings that a criterion may use beside the weights it scores.

    What draws from torch's global generator while a criterion scores draws from a stream of the seed.

    Attributes:
        generator: The seed's stream of random numbers for this level.
        initial: Weights at the rewind point, by the names of the scored ones.
        network: Makes a new copy of the network with the scored weights in it, in evaluation mode, on the device.
        loss: The training loss of (outputs, targets), the mean over a batch.
        examples: Yields batches of the first n training examples (all where None), without augmentation, in a random
            order that is the seed's.
        balanced: Yields batches of the first n training examples of each class, in the same order.
        alive: Bool tensors of the weights that have not been pruned, by name; empty where none has been.
    """

    generator: torch.Generator
    initial: Mapping[str, Tensor] = field(default_factory=dict)
    network: Callable[[], nn.Module] | None = None
    loss: Callable[[Tensor, Tensor], Tensor] | None = None
    examples: Callable[[int | None], Iterator[tuple[Tensor, Tensor]]] | None = None
    balanced: Callable[[int], Iterator[tuple[Tensor, Tensor]]] | None = None
    alive: Mapping[str, Tensor] = field(default_factory=dict)


@contextmanager
def scoring(network: nn.Module, device: torch.device, seed: int) -> Iterator[None]:
    """Give this seed's draws to what asks torch's global generators in the `with` block, without fused recurrence."""
    import torch

    from lottery.network.build import without_fused_recurrence
    from lottery.seed import seed_torch

    with (
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        without_fused_recurrence(network),
    ):
        seed_torch(seed, device)
        yield
