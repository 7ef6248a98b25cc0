"""A finished level of the trunk, each part read from the store when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import nn

from lottery.files.tensors import part
from lottery.network.build import prunable
from lottery.network.layout import state_of
from lottery.plan.keys import exact
from lottery.plan.kinds import Kind
from lottery.pruning.amounts import Pruning
from lottery.pruning.iterative import rewind
from lottery.pruning.mask import Mask
from lottery.pruning.scoring import Criterion, Weights
from lottery.pruning.start import Spec, Start
from lottery.results.artifacts import read_mask, read_state, read_trained
from lottery.runner.timelines import search_length
from lottery.training.state import unflatten

if TYPE_CHECKING:
    from lottery.plan.jobs import Job
    from lottery.recipe.schema import Recipe
    from lottery.runner.context import RunContext
    from lottery.values import Component


class StoredLevel:
    """A finished level of the trunk (`pruning.start.Level`), each part read from the store when it is asked for.

    A level that is about to be trained has no mask there yet: that is `pruned`.

    Args:
        context: What all jobs share.
        job: The dense network or ticket, with the rewind point that is asked about.
        partner: Key of the same ticket of another seed, for controls that take its mask.
        criterion: Makes the recipe's criterion of a generator, for controls that score weights.
        pruned: The mask of a level that is about to be trained.
    """

    def __init__(
        self,
        context: RunContext,
        job: Job,
        partner: str | None = None,
        criterion: Callable[[torch.Generator], Criterion] | None = None,
        pruned: Mask | None = None,
    ):
        self.context, self.job, self.number = context, job, job.level
        self._partner, self._criterion, self._pruned = partner, criterion, pruned
        prune = context.plan.recipe.prune
        rates, densities = ({n: exact(v) for n, v in given.items()} for given in (prune.rates, job.densities))
        self.pruning = Pruning(prune.scope, job.fraction, rates, job.times, densities)

    @property
    def model(self) -> Component:
        """The recipe's model."""
        return self.context.plan.recipe.model

    @property
    def init(self) -> Component:
        """The recipe's init."""
        return self.context.plan.recipe.init

    @property
    def partner(self) -> StoredLevel:
        """The same level of another seed's trunk."""
        assert self._partner is not None
        return StoredLevel(self.context, self.context.plan.jobs[self._partner])

    @cached_property
    def mask(self) -> Mask:
        """The mask that it trained with."""
        if self._pruned is not None:
            return self._pruned
        if self.job.kind is Kind.DENSE:
            return Mask.dense(prunable(self.context.networks.blank()))
        return read_mask(self.context.store, self.job.key)

    @property
    def trained(self) -> Weights:
        """Its weights at the end of training."""
        return read_trained(self.context.store, self.job.key, None if self.job.kind is Kind.DENSE else self.mask)

    @cached_property
    def rewound(self) -> Start:
        """The start of the dense network at the rewind point, with the optimizer's state of that step."""
        assert self.job.point is not None
        tensors, values = read_state(self.context.store, self.job.point)
        weights = part(tensors, "model/")
        spec = dense_spec(self.context.plan.recipe, self.job, first=values["step"])
        dense = Mask.dense({name: weights[name] for name in prunable(self.context.networks.blank())})
        state = unflatten(values["optimizer"], tensors) if values["step"] else None
        return Start(weights, dense, spec, state)

    @cached_property
    def start(self) -> Start:
        """The start of this level's own training."""
        trained = {} if self.mode == "weights" else self._ancestor(-2).trained
        return rewind(self.rewound, trained, self.mask, self.mode)

    @property
    def mode(self) -> str:
        """The recipe's mode of rewinding for this trunk: `weights`, `lr` or `finetune`."""
        assert self.job.rewind is not None
        return self.job.rewind.mode

    @property
    def rounds(self) -> int:
        """Number of times that the recipe's criterion scores anew on the way to a level."""
        return self.context.plan.recipe.prune.rounds_of_criterion

    def criterion(self, generator: torch.Generator) -> Criterion:
        """Return the recipe's criterion, which draws from this generator."""
        assert self._criterion is not None
        return self._criterion(generator)

    @property
    def initial(self) -> Start:
        """The start of the dense network at initialization."""
        network = self.context.networks.network(self.job.seed)
        return Start(state_of(network), Mask.dense(prunable(network)), dense_spec(self.context.plan.recipe, self.job))

    @property
    def searched(self) -> Fraction:
        """Number of trainings of full length that found this level; see `timelines.search_length`."""
        return search_length(self.context, self.job)

    @cached_property
    def dense(self) -> Weights:
        """Trained weights of the dense network."""
        return self._ancestor(0).trained

    def _ancestor(self, index: int) -> StoredLevel:
        """Return the level at this place of its trunk, 0 for the dense network."""
        return StoredLevel(self.context, self.context.plan.trunk(self.job)[index])

    def effective(self, weights: Weights) -> Weights:
        """Return the weight that each prunable layer computes with in this state."""
        return self.context.networks.effective(weights)

    def fresh(self, generator: torch.Generator) -> Weights:
        """Return the state of a newly initialized network of the recipe's model."""
        return state_of(self.network(self.model, generator))

    def network(self, model: Component, generator: torch.Generator) -> nn.Module:
        """Return a newly initialized network of another model on the same data, on the CPU."""
        return self.context.networks.fresh(self.job.seed, model, generator)


def dense_spec(recipe: Recipe, job: Job, first: int = 0) -> Spec:
    """Return how the dense network of this job trains from step `first`."""
    schedule, finetune = recipe.train.schedule, recipe.finetune
    rate = None if finetune is None else finetune.rate
    return Spec(job.optimizer, schedule.component, schedule.warmup, first, finetune_rate=rate)
