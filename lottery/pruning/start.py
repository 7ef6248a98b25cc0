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
    was learned. `gradual` prunes in the course of the training.
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
        """The start of this level's own training, which is the ticket."""

    @property
    def mask(self) -> Mask:
        """The mask it trained with."""

    @property
    def trained(self) -> Weights:
        """Its weights at the end of training."""

    @property
    def mode(self) -> str:
        """The mode of rewinding, one of `weights`, `lr` (the learning rate only) and `finetune` (nothing)."""

    @property
    def rewound(self) -> Start:
        """The dense network at the rewind step, with its optimizer's state."""

    @property
    def initial(self) -> Start:
        """The dense network at initialization."""

    @property
    def searched(self) -> Fraction:
        """The number of trainings of full length that found this ticket, its own included."""

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
        """The number of times that the recipe's criterion scores anew on the way to a level."""

    def criterion(self, generator: torch.Generator) -> Criterion:
        """The recipe's criterion, which draws from this generator."""

    def fresh(self, generator: torch.Generator) -> Weights:
        """A newly initialized network of this model."""

    def network(self, model: Component, generator: torch.Generator) -> nn.Module:
        """A newly initialized network of another model on the same data, on the CPU."""
