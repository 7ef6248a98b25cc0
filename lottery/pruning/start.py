"""Where a training starts: its weights, its mask and how it goes on; and the finished level that it comes from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Protocol

from lottery.pruning.amounts import Pruning
from lottery.pruning.gradual import Gradual
from lottery.pruning.mask import Mask
from lottery.pruning.scoring import Criterion, Weights

if TYPE_CHECKING:
    import torch
    from torch import nn

    from lottery.values import Component, Duration


@dataclass(frozen=True)
class Spec:
    """The course of a training apart from its data: optimizer, schedule, and where on the schedule it starts.

    Attributes:
        optimizer: Optimizer of the recipe with its arguments.
        schedule: Schedule of the learning rate with its arguments.
        warmup: Length of the linear warm-up, None for none.
        first: Step on the schedule at which the training starts.
        last_rate: Train at the schedule's last learning rate throughout (fine-tuning).
        finetune_rate: With `last_rate`, this share of the peak in place of the schedule's last rate.
        goes_on: The weights are trained already: what is measured before the first step is no result of this training.
        untrained: Measure the network as it is, without a step.
        stretch: Multiplier of the number of steps; schedule and evaluation grid are drawn out over them.
        noise: Number of another draw of data order, augmentation and dropout than the seed's own, which is 0.
    """

    optimizer: Component
    schedule: Component
    warmup: Duration | None = None
    first: int = 0
    last_rate: bool = False
    finetune_rate: float | None = None
    goes_on: bool = False
    untrained: bool = False
    stretch: Fraction | int = 1
    noise: int = 0


@dataclass(frozen=True)
class Start:
    """The starting point of a training: weights, mask, and how it goes on.

    Attributes:
        weights: State dict of the network, parameters and buffers.
        mask: Mask that holds while it trains.
        spec: Optimizer, schedule and first step.
        optimizer_state: State dict of the optimizer; None for a fresh one.
        model: Model in place of the recipe's, None for that one.
        dataset: Data set in place of the recipe's, None for that one.
        mold: Changes the network once its weights are in it, for masks that are learned: then `mask` is dense, and the
            mask at the end is read from what was learned.
        gradual: Prunes in the course of the training, None for a fixed mask.
    """

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
        """The start of this level's own training: the ticket."""

    @property
    def mask(self) -> Mask:
        """The mask that this level trained with."""

    @property
    def trained(self) -> Weights:
        """The weights at the end of this level's training."""

    @property
    def mode(self) -> str:
        """The mode of rewinding: one of `weights`, `lr` (the learning rate only) and `finetune` (nothing)."""

    @property
    def rewound(self) -> Start:
        """The dense network at the rewind step, with its optimizer's state."""

    @property
    def initial(self) -> Start:
        """The dense network at initialization."""

    @property
    def searched(self) -> Fraction:
        """Number of trainings of full length that found this ticket, its own included."""

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
    def init(self) -> Component:
        """The recipe's init."""

    @property
    def rounds(self) -> int:
        """Number of times the recipe's criterion scores anew on the way to a level."""

    def criterion(self, generator: torch.Generator) -> Criterion:
        """Return the recipe's criterion, which draws from this generator."""

    def fresh(self, generator: torch.Generator) -> Weights:
        """Return the state of a newly initialized network of the recipe's model."""

    def network(self, model: Component, generator: torch.Generator) -> nn.Module:
        """Return a newly initialized network of another model for the same data, on the CPU."""
