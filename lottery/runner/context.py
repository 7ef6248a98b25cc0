"""What all jobs of one process share: the plan, the store, the machine, the data and the networks made for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lottery import registry
from lottery.data.loader import Augment, Data
from lottery.data.random_crop import ResizedCrop
from lottery.data.splits import Splits
from lottery.device import Machine, cores
from lottery.errors import UsageError
from lottery.network.build import build_model, effective, initialized, lent, on_device
from lottery.network.layout import Layout
from lottery.plan.keys import digest
from lottery.pruning.start import Spec
from lottery.signals import Stop
from lottery.training.objective import Batch
from lottery.values import Chosen, Component, Duration

if TYPE_CHECKING:
    from lottery.plan.jobs import Job, Plan
    from lottery.recipe.types import AugmentSpec
    from lottery.store.store import Store
    from lottery.training.objective import Batch

INIT_BATCH = 256  # examples for an init that looks at data


@dataclass
class RunContext:
    """The plan's common ground. `load` reads a data set that a branch names beside the recipe's."""

    plan: Plan
    store: Store
    machine: Machine
    splits: Splits
    checkpoint_seconds: float = 60.0
    jobs: int = 1  # processes that work beside this one, this one included
    stop: Stop = field(default_factory=Stop)
    load: Callable[[Component], Splits] | None = None
    _data: dict[tuple[int, str], Data] = field(default_factory=dict)

    def data(self, seed: int, dataset: Component | None = None) -> Data:
        """The data as this seed splits and orders it; those of the last seed asked for are kept."""
        place = (seed, digest(dataset) if dataset is not None else "")
        if place not in self._data:
            for held in [held for held in self._data if held[0] != seed]:
                del self._data[held]  # let go of the last seed's before the next is made
            self._data[place] = self._split(seed, self.splits if dataset is None else self._load(dataset))
        return self._data[place]

    def share_among(self, jobs: int) -> None:
        """So many processes work on this context; those that decode images are shared out anew."""
        self.jobs = jobs
        self._data = {}

    def _split(self, seed: int, splits: Splits) -> Data:
        spec = self.plan.recipe.data
        return Data(
            splits,
            seed=seed,
            validation=spec.validation,
            limit=spec.limit,
            stratify=spec.stratify,
            augment=_augmentation(spec.augment) if spec.augment else None,
            device=self.machine.device,
            channels_last=splits.train_x.dim() == 4,
            workers=max(1, cores() // self.jobs),
        )

    def _load(self, dataset: Component) -> Splits:
        assert self.load is not None
        splits = self.load(dataset)
        here, there = (
            (tuple(s.train_x.shape[1:]), s.train_x.dtype, s.classes, s.train_y.dtype) for s in (self.splits, splits)
        )
        if here != there:
            raise UsageError(
                f"branch dataset {dataset.name}: has examples {there[0]} of {there[2]} classes, the recipe's data "
                f"{here[0]} of {here[2]}; name a data set of the same shapes"
            )
        return splits

    def optimizer(self, component: Component) -> Component:
        """The optimizer with its learning rate, which a finished job of the plan may have chosen."""
        rate = component.args.get("lr")
        if not isinstance(rate, Chosen):
            return component
        return Component(component.name, {**component.args, "lr": self.store.read_json(rate.key, "metrics.json")["lr"]})

    def batch_size(self, optimizer: Component, seed: int, dataset: Component | None = None) -> int:
        """Examples in a step of this optimizer."""
        size = optimizer.args.get("batch_size", self.plan.recipe.train.batch_size)
        return self.data(seed, dataset).train_size if size == "all" else int(size)

    def steps(self, length: Duration, seed: int, optimizer: Component, dataset: Component | None = None) -> int:
        """A length of training in steps of this optimizer, on the recipe's data where no others are named."""
        return length.steps(self.data(seed, dataset).steps_per_epoch(self.batch_size(optimizer, seed, dataset)))

    def searched(self, job: Job) -> Fraction:
        """How many trainings of full length found this ticket, or the one that this branch leaves, its own included.

        The dense network is one; a ticket that goes back to step k of T trains (T - k)/T of one, and so do those above
        it. A ticket pruned before or in the course of its training needs no other network than itself: it is one.
        """
        recipe = self.plan.recipe
        if recipe.prune.when != "trained":
            return Fraction(1)
        assert job.rewind is not None
        total, first = (self.steps(length, job.seed, job.optimizer) for length in (recipe.train.length, job.rewind.to))
        return 1 + (len(self.plan.trunk(job)) - 1) * Fraction(total - first, total)

    def network(self, seed: int) -> nn.Module:
        """The seed's network at initialization, on the CPU."""
        recipe, data = self.plan.recipe, self.data(seed)
        batch = self._batch(seed)
        return build_model(
            recipe.model,
            data.input_shape,
            data.classes,
            init=recipe.init,
            seed=seed,
            batch=batch,
            embeddings=recipe.prune.embeddings,
        )

    def blank(self, model: Component | None = None) -> nn.Module:
        """A network whose weights mean nothing, on the CPU: for the names and shapes of its layers, and to load a state
        into. Of the recipe's model where none is given.
        """
        return on_device(self._template, "cpu") if model is None else self._built(model)

    def effective(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weight that each prunable layer of the recipe's model computes with in this state, whose memory is shared
        by those of layers without weight normalization: to look at only.
        """
        return effective(lent(self._template, Layout.of(self._template).join(weights)))

    def drawn(self) -> nn.Module:
        """A network of the recipe's model, on the CPU, with weights as its layers draw them and no seed's."""
        return self._built(self.plan.recipe.model)

    @cached_property
    def _template(self) -> nn.Module:
        return on_device(self._built(self.plan.recipe.model), "meta")  # else it is one more copy of the weights

    def _built(self, model: Component) -> nn.Module:
        data = self.data(self.plan.recipe.seeds[0])
        quick = Component("torch")  # the recipe's init may take its time
        embeddings = self.plan.recipe.prune.embeddings
        return build_model(model, data.input_shape, data.classes, init=quick, seed=0, embeddings=embeddings)

    def fresh(self, seed: int, model: Component, draws: torch.Generator) -> nn.Module:
        """A network whose weights these draws initialize, on the CPU."""
        recipe, data = self.plan.recipe, self.data(seed)
        construct = int(torch.randint(2**62, (), generator=draws))
        return initialized(
            model,
            data.input_shape,
            data.classes,
            recipe.init,
            construct,
            draws,
            batch=self._batch(seed),
            embeddings=recipe.prune.embeddings,
        )

    def _batch(self, seed: int) -> Batch | None:
        """Training examples for an init that looks at them."""
        if not registry.inits[self.plan.recipe.init.name].traits.batch:
            return None
        x, y = next(self.data(seed).evaluation("train", INIT_BATCH))
        return x.cpu(), y.cpu()

    def spec(self, job: Job, first: int = 0) -> Spec:
        """How the dense network of this job trains from step `first`."""
        recipe = self.plan.recipe
        schedule, finetune = recipe.train.schedule, recipe.finetune
        rate = None if finetune is None else finetune.rate
        return Spec(job.optimizer, schedule.component, schedule.warmup, first, finetune_rate=rate)


def _augmentation(spec: AugmentSpec) -> Augment:
    crop = spec.random_resized_crop
    return Augment(spec.crop, spec.flip, ResizedCrop(crop.scale, crop.ratio) if crop else None)


def loss_of(context: RunContext, data: Data) -> nn.Module:
    """Mean squared error for targets that are numbers, else cross-entropy."""
    smoothing = context.plan.recipe.train.label_smoothing
    return nn.MSELoss() if data.regression else nn.CrossEntropyLoss(label_smoothing=smoothing)
