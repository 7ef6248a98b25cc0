"""The jobs of a recipe and the plan that they make: data only, see `lottery.plan.expand` for how they are made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, Any

from lottery.plan.keys import digest
from lottery.plan.kinds import Kind
from lottery.values import point_label

if TYPE_CHECKING:
    from lottery.recipe.analyses import AnalysisSpec
    from lottery.recipe.schema import BranchSpec, Recipe
    from lottery.recipe.types import RewindSpec
    from lottery.values import Component


@dataclass(frozen=True)
class Look:
    """A state that an analysis looks at.

    Attributes:
        name: the network in words: `dense`, `ticket`, a control's label, `pruned`.
        key: key of its training.
        at: moment of the training: a reading, `start`, a length such as `500it`, or a share such as `1/4`.
        kept: key of the job that has its state; None where the training itself has it.
        mask: key of the ticket whose mask is put on it; None for its own.
    """

    name: str
    key: str
    at: str
    kept: str | None = None
    mask: str | None = None

    @property
    def identity(self) -> list[str]:
        """All that determines the state."""
        return [self.key, self.at, *([self.mask] if self.mask else [])]


@dataclass(frozen=True)
class Job:
    """One training, or the part of one up to a rewind step, the choice of a learning rate among trials, or an analysis.

    Attributes:
        kind: which of these it is.
        identity: all that determines the result, as JSON has it; the key is its hash.
        parent: key of the job whose result it starts from.
        seed: of the initialization, the order of the data, and all else that is drawn.
        optimizer: what trains it.
        optimizer_index: index of the optimizer in the recipe.
        optimizer_label: the optimizer in words, which tell it from others of the recipe; empty where it has no other.
        level: 0 for the dense network, 1 for the first ticket, and so on.
        rewind: the rewind point, and what goes back to it.
        fraction: part of the weights that is pruned, `times` times, to reach the level from the one it is pruned from.
        times: how many times.
        densities: in place of `fraction`, the densities of the layers, by their names' patterns.
        branch: the control.
        sample: number of the control among those that differ in what they draw only.
        transfer: index in the recipe of the optimizer that retrains the ticket.
        transfer_label: that optimizer in words, as `optimizer_label` has them.
        point: key of the rewind job that it goes back to.
        partner: key of the same ticket of another seed.
        noise: number of the noise that a child is trained under, see `lottery.seed.noisy`.
        moments: of the training `parent` whose states a job of kind STATES keeps.
        analysis: what a job of kind ANALYSIS measures.
        looks: what it looks at.
        needs: keys of all jobs of the plan that have to be done before it.
    """

    kind: Kind
    identity: dict[str, Any]
    parent: str | None
    seed: int
    optimizer: Component
    optimizer_index: int = 0
    optimizer_label: str = ""
    level: int = 0
    rewind: RewindSpec | None = None
    fraction: Fraction = Fraction(0)
    times: int = 1
    densities: Mapping[str, float] = field(default_factory=dict)
    branch: BranchSpec | None = None
    sample: int = 0
    transfer: int | None = None
    transfer_label: str = ""
    point: str | None = None
    partner: str | None = None
    noise: int = 0
    moments: tuple[str, ...] = ()
    analysis: AnalysisSpec | None = None
    looks: tuple[Look, ...] = ()
    needs: tuple[str, ...] = ()

    @cached_property
    def key(self) -> str:
        """sha256 of the identity, 64 hexadecimal digits."""
        return digest(self.identity)

    @property
    def trained_by(self) -> str:
        """The optimizer in words that tell it from others of the recipe."""
        return self.optimizer_label or self.optimizer.name

    @property
    def label(self) -> str:
        """Words for the job, as in logs and listings, which no other job of a plan has.

        For example `adam seed 0 level 1 reinit 0 from 500it`: the last is the point that was gone back to.
        """
        name = self.trained_by
        return f"{name} {self._what()}" if self.kind is Kind.CHOICE else f"{name} seed {self.seed} {self._what()}"

    def _what(self) -> str:
        if self.kind is Kind.TRIAL:
            return f"trial lr {self.optimizer.args.get('lr')}"
        if self.kind is Kind.CHOICE:
            return "choice of lr"
        if self.kind is Kind.DENSE:
            return "dense"
        if self.kind is Kind.REWIND:
            assert self.rewind is not None
            return f"to {point_label(self.rewind.to)}"
        if self.analysis is not None:
            return self._measured()
        if self.kind is Kind.CHILD:
            assert self.rewind is not None
            start = "" if self.level else f" from {self.rewind.label}"
            return f"{self._network()}{start} noise {self.noise}"
        if self.kind is Kind.STATES:
            return f"{self._network()} at {', '.join(self.moments)}"
        return self._network()

    def _measured(self) -> str:
        """Return the words for an analysis: its table, and the networks that it looks at, a training as one."""
        assert self.analysis is not None
        names = dict.fromkeys(look.name for look in self.looks)
        level = f" level {self.level}{self._start()}" if self.level else ""
        return f"{self.analysis.label} of {' and '.join(names)}{level}"

    def _network(self) -> str:
        if self.level == 0:
            return "dense"
        level = f"level {self.level}"
        if self.kind is Kind.RETRAINING:
            return f"{level} of a ticket file"
        if self.branch is None:
            return f"{level}{self._start()}"
        if self.transfer is not None:
            other = self.transfer_label or self.branch.component.args["optimizer"].name
            return f"{level} retrained with {other}{self._start()}"
        return f"{level} {self.branch.label} {self.sample}{self._start()}"

    def _start(self) -> str:
        """Return the point that was gone back to in words, ` from 500it`; empty for what goes back to none."""
        return "" if self.rewind is None else f" from {self.rewind.label}"

    @property
    def own_trunk(self) -> bool:
        """True for a level of a control's own trunk, which is built upon as a ticket is."""
        return self.kind is Kind.BRANCH and self.branch is not None and self.branch.trunk == "own"

    @property
    def keeps_weights(self) -> bool:
        """True if it keeps its weights, as it is built upon."""
        return self.kind.keeps_weights or self.own_trunk

    @property
    def keeps_mask(self) -> bool:
        """True if it keeps its mask."""
        return self.kind.keeps_mask or self.own_trunk

    def rewound_to(self, rewind: RewindSpec | None, point: str | None) -> Job:
        """Return this job as the trunk of a rewind point has it: dense networks are shared by those of several."""
        job = replace(self, rewind=rewind, point=point)
        job.__dict__["key"] = self.key  # of the same identity, and hashing that takes longest of all
        return job


@dataclass(frozen=True)
class Plan:
    """The jobs of a recipe in an order in which they can run; iterate over it, or look one up by its key.

    Attributes:
        recipe: the recipe.
        fingerprint: sha256 of its data.
        jobs: by key.
        others: fingerprints of other data, by the digest of their identity.
    """

    recipe: Recipe
    fingerprint: str
    jobs: dict[str, Job]
    others: Mapping[str, str] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Job]:
        return iter(self.jobs.values())

    def __len__(self) -> int:
        return len(self.jobs)

    @property
    def needs(self) -> dict[str, tuple[str, ...]]:
        """The keys of the jobs that have to end before each job, by its key."""
        return {key: job.needs for key, job in self.jobs.items()}

    @cached_property
    def moments(self) -> dict[str, tuple[str, ...]]:
        """The moments of trainings whose states are asked for, by the keys of the trainings."""
        found: dict[str, tuple[str, ...]] = {}
        for job in self:
            if job.kind is Kind.STATES:
                assert job.parent is not None
                found[job.parent] = tuple(dict.fromkeys((*found.get(job.parent, ()), *job.moments)))
        return found

    def trunk(self, job: Job) -> list[Job]:
        """Return the trunk, dense network first, that ends in a ticket.

        For a level of a control's own trunk it ends in that, for another branch in the ticket that it leaves.
        Each job carries this job's rewind point: trunks of several rewinds share their dense network.
        """
        chain = [job] if job.kind is Kind.TICKET or job.own_trunk else []
        above = job.parent
        while above is not None:
            parent = self.jobs[above]
            chain.append(parent.rewound_to(job.rewind, job.point))
            above = parent.parent
        return chain[::-1]
