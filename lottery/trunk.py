"""The method itself: from a trained level of the trunk to the starting point of the next."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Protocol

from lottery.errors import UsageError
from lottery.mask import Mask, keep_top, pruned_count

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from lottery.spec import Component

Weights = Mapping[str, "Tensor"]  # a whole state dict: parameters and buffers
Criterion = Callable[[Weights], dict[str, "Tensor"]]


@dataclass(frozen=True)
class Spec:
    """What a training does beside the data: its optimizer and schedule, and where on the schedule it starts."""

    optimizer: Component
    schedule: Component
    warmup: int = 0  # steps
    first: int = 0  # step
    last_rate: bool = False  # train at the schedule's last learning rate throughout (fine-tuning)


@dataclass(frozen=True)
class Start:
    """The starting point of a training; `optimizer_state` is a torch state dict, None for a fresh optimizer."""

    weights: Weights
    mask: Mask
    spec: Spec
    optimizer_state: Any = None


class Level(Protocol):
    """A finished level of the trunk, read from the store as it is asked for."""

    number: int
    pruning: Pruning

    @property
    def start(self) -> Start:
        """Where this level's own training started: the ticket."""

    @property
    def mask(self) -> Mask:
        """The mask it trained with."""

    @property
    def trained(self) -> Weights:
        """Its weights at the end of training."""

    @property
    def rewound(self) -> Start:
        """The dense network at the rewind step, with its optimizer's state."""

    @property
    def dense(self) -> Weights:
        """The dense network's weights at the end of training."""

    def fresh(self, generator: torch.Generator) -> Weights:
        """A newly initialized network of this model."""


@dataclass(frozen=True)
class Pruning:
    """How much to prune of what: `fraction` of the surviving weights, times the rate of the layer."""

    scope: str  # "layer" or "global"
    fraction: Fraction
    rates: Mapping[str, Fraction]

    def keep(self, mask: Mask) -> dict[str, int] | int:
        """How many weights to keep: of each layer, or over all that take part in global pruning."""
        alive = mask.alive()
        rates = {name: layer_rate(name, list(alive), self.rates) for name in alive}
        if self.scope == "global":
            count = sum(alive[name] for name, rate in rates.items() if rate)
            return count - pruned_count(count, self.fraction)
        return {
            name: alive[name] - pruned_count(alive[name], self.fraction * rate) for name, rate in rates.items() if rate
        }

    def takes_part(self, mask: Mask) -> list[str]:
        """The layers that are pruned at all."""
        return [name for name in mask if layer_rate(name, list(mask), self.rates)]

    def check(self, mask: Mask) -> None:
        """Raises UsageError for a rate that names no layer of the model or prunes more than there is."""
        layers = [_layer(name) for name in mask]
        for pattern, rate in self.rates.items():
            if pattern != "output" and not any(fnmatchcase(layer, pattern) for layer in layers):
                raise UsageError(f"prune.rates: no layer {pattern!r}; the model has {', '.join(layers)}")
            if rate * self.fraction >= 1:
                raise UsageError(f"prune.rates.{pattern}: {float(rate * self.fraction):g} of a layer leaves nothing")


def next_start(level: Level, pruning: Pruning, criterion: Criterion, mode: str) -> Start:
    """Prune the trained weights, then rewind: weights, learning rate only, or neither (fine-tuning).

    Renda, Frankle & Carbin 2020. The optimizer is fresh, but for weight rewinding past step 0, which puts back the
    optimizer's state of that step as well."""
    scores = criterion({name: level.trained[name] for name in pruning.takes_part(level.mask)})
    mask = keep_top(scores, level.mask, pruning.keep(level.mask))
    assert mask <= level.mask  # masks only shrink
    return rewind(level.rewound, level.trained, mask, mode)


def rewind(rewound: Start, trained: Weights, mask: Mask, mode: str) -> Start:
    """Where training starts under `mask`: at the `rewound` point, or with `trained` weights and a fresh optimizer."""
    if mode == "weights":
        return replace(rewound, mask=mask)
    return Start(trained, mask, replace(rewound.spec, last_rate=mode == "finetune"))


def layer_rate(name: str, names: list[str], rates: Mapping[str, Fraction]) -> Fraction:
    """A layer's multiplier: that of its own name, else of the first pattern that fits, else 1.

    `output` means the last layer, whatever its name."""
    layer = _layer(name)
    if layer in rates:
        return rates[layer]
    if name == names[-1] and "output" in rates:
        return rates["output"]
    return next((rate for pattern, rate in rates.items() if fnmatchcase(layer, pattern)), Fraction(1))


def _layer(name: str) -> str:
    return name.rpartition(".")[0] or name
