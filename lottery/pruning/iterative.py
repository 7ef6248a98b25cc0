"""The method itself: from a trained level of the trunk to the starting point of the next."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from lottery.errors import UsageError
from lottery.network.weights import layer_name
from lottery.pruning.layer_densities import counts, erk
from lottery.pruning.mask import Mask, keep_top, pruned_count

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from lottery.values import Component, Duration

Weights = Mapping[str, "Tensor"]  # a whole state dict: parameters and buffers
Criterion = Callable[
    [Weights, Mask], Mapping[str, "Tensor"]
]  # of a state, the layers in the mask; its pruned weights are 0
Counts = dict[str, int] | int  # weights to keep: of each layer, or over all that take part in global pruning


@dataclass(frozen=True)
class Spec:
    """What a training does beside the data: its optimizer and schedule, and where on the schedule it starts."""

    optimizer: Component
    schedule: Component
    warmup: Duration | None = None
    first: int = 0  # step
    last_rate: bool = False  # train at the schedule's last learning rate throughout (fine-tuning)
    finetune_rate: float | None = None  # with last_rate: this share of the peak in place of the schedule's last rate
    goes_on: bool = False  # from trained weights: what is measured before the first step is no result of this training
    untrained: bool = False  # measured as it is, without a step
    stretch: Fraction | int = 1  # times as many steps, with the schedule and the evaluation grid drawn out over them


@dataclass(frozen=True)
class Start:
    """The starting point of a training; `optimizer_state` is a torch state dict, None for a fresh optimizer.

    `model` and `dataset` are others than the recipe's where they are given. `mold` changes the network once its
    weights are in it, for masks that are learned: then `mask` is dense, and what is alive in the end is read from what
    was learned. `gradual` prunes in the course of the training."""

    weights: Weights
    mask: Mask
    spec: Spec
    optimizer_state: Any = None
    model: Component | None = None
    dataset: Component | None = None
    mold: Callable[[nn.Module], None] | None = None
    gradual: Gradual | None = None


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
    def mode(self) -> str:
        """What goes back to the rewind point: `weights`, the learning rate only (`lr`), or nothing (`finetune`)."""

    @property
    def rewound(self) -> Start:
        """The dense network at the rewind step, with its optimizer's state."""

    @property
    def initial(self) -> Start:
        """The dense network at initialization."""

    @property
    def searched(self) -> Fraction:
        """How many trainings of full length found this ticket, its own included."""

    @property
    def dense(self) -> Weights:
        """The dense network's weights at the end of training."""

    @property
    def partner(self) -> Level:
        """The same level of another seed's trunk; only for branches with the trait `partner`."""

    @property
    def model(self) -> Component:
        """The recipe's model."""

    @property
    def rounds(self) -> int:
        """How often the recipe's criterion scores anew on the way to a level."""

    def criterion(self, generator: torch.Generator) -> Criterion:
        """The recipe's criterion, which draws from this generator."""

    def fresh(self, generator: torch.Generator) -> Weights:
        """A newly initialized network of this model."""

    def network(self, model: Component, generator: torch.Generator) -> nn.Module:
        """A newly initialized network of another model on the same data, on the CPU."""


@dataclass(frozen=True)
class Pruning:
    """How much to prune of what: `fraction` of the surviving weights, times the rate of the layer, so many `times`.

    With `densities` each layer is pruned to its own instead; layers that they do not name stay dense."""

    scope: str  # "layer", "global" or "erk"
    fraction: Fraction
    rates: Mapping[str, Fraction]
    times: int = 1
    densities: Mapping[str, Fraction] = field(default_factory=dict)

    def keep(self, mask: Mask) -> Counts:
        """How many weights to keep: of each layer, or over all that take part in global pruning."""
        return self.keep_of(mask.alive(), mask.shapes())

    def keep_of(self, alive: Mapping[str, int], shapes: Mapping[str, tuple[int, ...]]) -> Counts:
        """Return `keep` of a mask with so many weights alive of layers of these shapes, which is all it depends on."""
        names = self.takes_part(shapes)
        sizes = {name: math.prod(shape) for name, shape in shapes.items()}
        if self.densities:
            shares = {name: self._kept(name, shapes) for name in names}
            return {name: min(alive[name], sizes[name] - pruned_count(sizes[name], 1 - shares[name])) for name in names}
        if self.scope == "layer":
            return {name: self._left(alive[name], layer_rate(name, list(shapes), self.rates)) for name in names}
        total = self._left(sum(alive[name] for name in names), Fraction(1))
        if self.scope == "global":
            return total
        density = Fraction(total, sum(sizes[name] for name in names))
        wanted = erk({name: shapes[name] for name in names}, density)
        return counts({name: shapes[name] for name in names}, wanted, total, most={name: alive[name] for name in names})

    def _left(self, count: int, rate: Fraction) -> int:
        for _ in range(self.times):
            count -= pruned_count(count, self.fraction * rate)
        return count

    def takes_part(self, mask: Collection[str]) -> list[str]:
        """The layers of a mask, or of their names in its order, that are pruned at all."""
        return [name for name in mask if layer_rate(name, list(mask), self.densities or self.rates)]

    def shrinks(self, mask: Mask) -> list[str]:
        """The layers that lose weights: those that take part, but for such as `densities` leave dense."""
        return [name for name in self.takes_part(mask) if not self.densities or self._kept(name, mask) < 1]

    def _kept(self, name: str, mask: Collection[str]) -> Fraction:
        return layer_rate(name, list(mask), self.densities)

    def check(self, mask: Mask) -> None:
        """Raises UsageError for a rate or density that names no layer of the model or prunes more than there is."""
        layers = [layer_name(name) for name in mask]
        for key, patterns in (("rates", self.rates), ("densities", self.densities)):
            for pattern, rate in patterns.items():
                if pattern != "output" and not any(fnmatchcase(layer, pattern) for layer in layers):
                    raise UsageError(f"prune.{key}: no layer {pattern!r}; the model has {', '.join(layers)}")
                if key == "rates" and rate * self.fraction >= 1:
                    raise UsageError(
                        f"prune.rates.{pattern}: {float(rate * self.fraction):g} of a layer leaves nothing"
                    )


def next_start(
    level: Level, pruning: Pruning, criterion: Criterion, mode: str, *, when: str = "trained", rounds: int = 1
) -> Start:
    """Prune the trained weights, then rewind: weights, learning rate only, or neither (fine-tuning).

    With `when` "init" the weights at the rewind point are pruned instead (pruning at initialization). Renda, Frankle
    & Carbin 2020. The optimizer is fresh, but for weight rewinding past step 0, which puts back the optimizer's state
    of that step as well."""
    # each is read when it is needed and let go at once: together they would be two copies of a large network
    mask = prune(level.trained if when == "trained" else level.rewound.weights, level.mask, pruning, criterion, rounds)
    return rewind(level.rewound, {} if mode == "weights" else level.trained, mask, mode)


def prune(weights: Weights, mask: Mask, pruning: Pruning, criterion: Criterion, rounds: int) -> Mask:
    """The mask that a criterion leaves, scored anew in each of `rounds`, with exponentially falling counts between
    (Tanaka et al. 2020)."""
    return select(weights, mask, pruning.takes_part(mask), pruning.keep(mask), criterion, rounds)


def select(
    weights: Weights, mask: Mask, names: Sequence[str], target: Counts, criterion: Criterion, rounds: int
) -> Mask:
    """The mask that a criterion leaves of `mask`, with the `target` counts of the layers `names`; see `prune`."""
    kept, alive = mask, _like(target, mask.alive(), names)
    for done in range(1, rounds + 1):
        keep = target if done == rounds else between(alive, target, partial(_falling, share=done / rounds))
        kept = keep_top(criterion(under(weights, kept), kept.of(names)), kept, keep)
    assert kept <= mask  # masks only shrink
    return kept


@dataclass(frozen=True)
class Gradual:
    """Pruning in the course of a training, from step `start` to `end`, every so many steps, to `target` in the end.

    `names` are the layers pruned; `criterion(step)` scores the weights after that step.
    Zhu & Gupta 2017: what is pruned grows with 1 - (1 - x)^3, x the part of the way."""

    start: int
    end: int
    every: int
    target: Counts
    names: Sequence[str]
    criterion: Callable[[int], Criterion]

    def due(self, step: int) -> bool:
        """Whether weights are pruned after this step."""
        inside = self.start < step < self.end and (step - self.start) % self.every == 0
        return inside or step == self.end

    def mask(self, step: int, weights: Weights, mask: Mask) -> Mask:
        """The mask from this step on, where `mask` held until now."""
        scores = self.criterion(step)(weights, mask.of(self.names))
        left = (1 - (step - self.start) / (self.end - self.start)) ** 3
        sizes = _like(self.target, mask.sizes(), self.names)
        return keep_top(scores, mask, between(sizes, self.target, lambda a, b: b + round((a - b) * left)))


def under(weights: Weights, mask: Mask) -> Weights:
    """The state with its pruned weights zero; a layer where they are is not copied."""
    return {
        name: _under(value, mask[name].to(value.device)) if name in mask else value for name, value in weights.items()
    }


def _under(weight: Tensor, alive: Tensor) -> Tensor:
    return weight * alive if weight[~alive].any() else weight


def _falling(alive: int, target: int, share: float) -> int:
    return round(float(alive ** (1 - share) * target**share))


def _like(target: Counts, found: dict[str, int], names: Iterable[str]) -> Counts:
    """Counts by layer or over all of `names`, as the target is."""
    return found if isinstance(target, dict) else sum(found[name] for name in names)


def between(alive: Counts, target: Counts, mean: Callable[[int, int], int]) -> Counts:
    """Counts on the way from those alive to the target."""
    if isinstance(alive, dict) and isinstance(target, dict):
        return {name: mean(alive[name], count) for name, count in target.items()}
    assert isinstance(alive, int) and isinstance(target, int)
    return mean(alive, target)


def rewind(rewound: Start, trained: Weights, mask: Mask, mode: str) -> Start:
    """Where training starts under `mask`: at the `rewound` point, or with `trained` weights and a fresh optimizer."""
    if mode == "weights":
        return replace(rewound, mask=mask)
    return Start(trained, mask, replace(rewound.spec, last_rate=mode == "finetune", goes_on=True))


def layer_rate(name: str, names: list[str], rates: Mapping[str, Fraction]) -> Fraction:
    """A layer's multiplier: that of its own name, else of the first pattern that fits, else 1.

    `output` means the last layer, whatever its name."""
    layer = layer_name(name)
    if layer in rates:
        return rates[layer]
    if name == names[-1] and "output" in rates:
        return rates["output"]
    return next((rate for pattern, rate in rates.items() if fnmatchcase(layer, pattern)), Fraction(1))
