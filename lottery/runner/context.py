"""The context of a run, which all its jobs share: the plan, the store, the machine and the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from lottery.data.holdout import Sizes, sizes, split
from lottery.data.loader import Augment, Data, fitting
from lottery.data.random_crop import ResizedCrop
from lottery.data.splits import Splits
from lottery.device import Machine, cores
from lottery.distributed.group import ALONE, Group
from lottery.engines.choices import Choices
from lottery.engines.cohort import Cohort
from lottery.network.factory import NetworkFactory
from lottery.plan.keys import name_of
from lottery.signals import Stop
from lottery.values import Component

if TYPE_CHECKING:
    from lottery.plan.jobs import Job, Plan
    from lottery.recipe.types import AugmentSpec
    from lottery.store.store import Store
    from lottery.training.objective import Batch

INIT_BATCH = 256  # examples for an init that looks at data


@dataclass(frozen=True, eq=False)
class RunContext:
    """The data that all jobs of a run share. It does not change: `dataclasses.replace` makes the next one.

    Attributes:
        plan: The jobs.
        store: Where finished jobs lie.
        machine: Where jobs are trained.
        splits: The recipe's data.
        others: The data sets that branches name beside the recipe's, by `name_of`.
        checkpoint_seconds: Time between two checkpoints of a training at least.
        jobs: Number of processes that work on the plan, this one included.
        stop: Says whether the run has been told to stop.
        group: The processes that train each network together; this one alone where there are no ranks.
        failures: Digests of the failures, by key, that were noted before the run began: these jobs are tried again.
            None for those that are noted when a process begins.
        on_device: The data sets that `data` has put on the device, by `name_of`.
        point: The recipe in words among those of a sweep; empty where it is alone.
        choices: The engines that `auto` takes, in all processes on this machine the same.
        cohort: What trains jobs of this process in lockstep; None where each is trained by itself.
    """

    plan: Plan
    store: Store
    machine: Machine
    splits: Splits
    others: Mapping[str, Splits] = field(default_factory=dict)
    checkpoint_seconds: float = 60.0
    jobs: int = 1
    stop: Stop = field(default_factory=Stop)
    group: Group = ALONE
    failures: Mapping[str, str] | None = None
    on_device: dict[str, Data] = field(default_factory=dict, repr=False)
    point: str = ""
    choices: Choices = field(default_factory=Choices, repr=False)
    cohort: Cohort | None = field(default=None, repr=False)

    def label(self, job: Job) -> str:
        """Return a job in words that tell it from those of other points of a sweep, too."""
        return f"{self.point}: {job.label}" if self.point else job.label

    def told_to_stop(self) -> bool:
        """Return True if the run has been told to stop; all ranks ask together, and the signal of one is for all."""
        if self.group.size == 1:
            return self.stop.told
        told = self.group.agree(self.stop.signal or 0)
        if told and self.stop.signal is None:
            self.stop.signal = told
        return bool(told)

    def splits_of(self, dataset: Component | None = None) -> Splits:
        """Return a data set of the recipe, its own where no other is named."""
        return self.splits if dataset is None else self.others[name_of(dataset)]

    def sizes(self, dataset: Component | None = None) -> Sizes:
        """Return how many examples a seed holds out and trains on: no data are moved, they are the same for each."""
        spec = self.plan.recipe.data
        return sizes(len(self.splits_of(dataset).train_x), spec.validation, spec.limit)

    def data(self, seed: int, dataset: Component | None = None) -> Data:
        """Return the data as this seed splits and orders them. All seeds share one copy on the device."""
        name = "" if dataset is None else name_of(dataset)
        if name not in self.on_device:
            self.on_device[name] = self._put(seed, self.splits_of(dataset))
        elif self.on_device[name].seed != seed:
            self.on_device[name] = self.on_device[name].of_seed(seed)
        return self.on_device[name]

    def check_data(self, seed: int) -> None:
        """Raise UsageError where a data set of the recipe cannot be split, or augmented, as the recipe says."""
        spec, augment = self.plan.recipe.data, _augmentation(self.plan.recipe.data.augment)
        for splits in (self.splits, *self.others.values()):
            sizes(len(splits.train_x), spec.validation, spec.limit)
            fitting(augment, splits.train_x)
            split(splits.train_y, seed, spec.validation, spec.limit, spec.stratify)

    @cached_property
    def networks(self) -> NetworkFactory:
        """The factory of the recipe's networks."""
        return NetworkFactory(self.plan.recipe, self.splits.input_shape, self.splits.classes, self._examples)

    def _examples(self, seed: int) -> Batch:
        """Return training examples of a seed on the CPU, for an init that looks at them."""
        x, y = next(self.data(seed).evaluation("train", INIT_BATCH))
        return x.cpu(), y.cpu()

    def _put(self, seed: int, splits: Splits) -> Data:
        """Return a data set on the device as the recipe has this seed split it."""
        spec = self.plan.recipe.data
        return Data(
            splits,
            seed=seed,
            validation=spec.validation,
            limit=spec.limit,
            stratify=spec.stratify,
            augment=_augmentation(spec.augment),
            device=self.machine.device,
            channels_last=splits.train_x.dim() == 4,
            workers=max(1, cores() // (self.jobs * self.machine.ranks_here)),
        )


def _augmentation(spec: AugmentSpec | None) -> Augment | None:
    if spec is None:
        return None
    crop = spec.random_resized_crop
    return Augment(spec.crop, spec.flip, ResizedCrop(crop.scale, crop.ratio) if crop else None)
