"""A table of rules: keys of a recipe that do not go together, with the condition and what the user is told.

To add a rule, add a `Conflict` to the table of what it speaks of: the sections, or each optimizer, rewind point,
control or seed of the tuning.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from lottery import registry
from lottery.recipe.readings import CHOSEN, Reading
from lottery.recipe.tuning import learning_rates
from lottery.registry import Problem
from lottery.traits import BranchTraits
from lottery.values import Component, plain

if TYPE_CHECKING:
    from lottery.recipe.schema import (
        BranchSpec,
        CompareSpec,
        DataSpec,
        PruneSpec,
        TrainSpec,
        TransferSpec,
        TuneSpec,
    )
    from lottery.recipe.types import DuringSpec, FrontierSpec

MOST_POOL = 200  # seeds of a recipe with `levels: auto`; the bounds of its tests are computed look after look

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Sections:
    """The sections that rules look at; None for one that is not given, or not valid by itself."""

    data: DataSpec | None
    model: Component | None
    init: Component | None
    train: TrainSpec | None
    prune: PruneSpec | None
    seeds: tuple[int, ...] | None
    tune: TuneSpec | None
    transfer: TransferSpec | None
    compare: CompareSpec | None
    report: Reading | None
    given: Collection[str]  # names of the sections that are valid; `tune: null` is one of them

    @property
    def auto(self) -> FrontierSpec | None:
        """Search of the levels, if `levels: auto` asks for that; else None."""
        return self.prune.auto if self.prune else None

    @property
    def pool(self) -> int:
        """Number of seeds; 0 where none are valid."""
        return len(self.seeds or ())


class Conflict(NamedTuple):
    """A rule: keys that do not go together, and what to tell the user.

    `key` is where it is told, below the item that `condition` is asked about beside the sections: an optimizer, a
    rewind point, a control or a seed, each by itself. `message` may name `{recipe...}`, the sections, and `{item}`.
    """

    key: Path
    condition: Callable[[Sections, Any], object]
    message: str


_OF_SECTIONS = (
    Conflict(
        ("report",),
        lambda recipe, _: recipe.data and recipe.report in CHOSEN and not recipe.data.validation,
        "{recipe.report} needs data.validation above 0; hold examples out, or write `report: end`",
    ),
    Conflict(
        ("data", "stratify"),
        lambda recipe, _: (
            recipe.data and recipe.data.stratify and not recipe.data.validation and recipe.data.limit is None
        ),
        "shares out data.validation and data.limit by class, and neither is given; add one",
    ),
    Conflict(
        ("prune", "levels"),
        lambda recipe, _: recipe.prune and recipe.prune.densities is not None and recipe.prune.levels == 0,
        "densities are reached at the last level, and there is none; write at least 1",
    ),
    Conflict(
        ("prune",),
        lambda recipe, _: recipe.prune and recipe.prune.when == "training" and recipe.prune.during is None,
        "when: training needs `during: {{start: ..., end: ..., every: ...}}`",
    ),
    Conflict(
        ("prune", "during"),
        lambda recipe, _: recipe.prune and recipe.prune.during is not None and recipe.prune.when != "training",
        "during is for `when: training`; write that, or leave it out",
    ),
    Conflict(
        ("prune", "rounds"),
        lambda recipe, _: (
            recipe.prune
            and recipe.prune.during is not None
            and recipe.prune.when == "training"
            and recipe.prune.rounds is not None
        ),
        "in the course of training, `during` says how often the scores are computed",
    ),
    Conflict(
        ("prune", "during", "end"),
        lambda recipe, _: recipe.prune and recipe.prune.during is not None and _is_empty(recipe.prune.during),
        "{recipe.prune.during.end} is not after the start, {recipe.prune.during.start}",
    ),
    Conflict(
        ("seeds",),
        lambda recipe, _: (
            recipe.auto and recipe.seeds is not None and not recipe.auto.first_seeds <= len(recipe.seeds) <= MOST_POOL
        ),
        "with prune.levels auto these are the pool of which as many as needed are used, {recipe.auto.first_seeds} "
        f"(prune.frontier.first_seeds) to {MOST_POOL}, not {{recipe.pool}}",
    ),
    Conflict(
        ("compare", "densities"),
        lambda recipe, _: recipe.auto and recipe.compare and recipe.compare.densities != "fixed_sequence",
        "prune.levels auto tests one density after the other, from dense to sparse; write fixed_sequence",
    ),
    Conflict(
        ("compare", "order"),
        lambda recipe, _: (
            recipe.compare and recipe.compare.order is not None and recipe.compare.controls != "fixed_sequence"
        ),
        "is that of a fixed sequence of controls, and controls is {recipe.compare.controls}, which has none; "
        "write `controls: fixed_sequence`, or leave order out",
    ),
    Conflict(
        ("tune",),
        lambda recipe, _: recipe.tune and recipe.data and not recipe.data.validation,
        "learning rates are chosen on the validation split; hold examples out with data.validation",
    ),
    Conflict(
        ("init",),
        lambda recipe, _: (planting := _plants(recipe)) and recipe.data and not _same_teacher(recipe.data, planting),
        "plants the teacher of the data set planted; write `data: planted` with the same inputs, widths, outputs, "
        "fan_in and seed",
    ),
    Conflict(
        ("model",),
        lambda recipe, _: _plants(recipe) and recipe.model and not _is_rectifying(recipe.model),
        "has more than rectifiers, which are all that the init planted plants a ticket for; write mlp or lenet without "
        "norm, activation, dropout and residual",
    ),
    Conflict(
        ("model",),
        lambda recipe, _: (
            (planting := _plants(recipe))
            and recipe.model
            and _is_rectifying(recipe.model)
            and not _has_room(recipe.model, planting)
        ),
        "has no room for the teacher that the init planted plants; give it as many hidden layers, and as wide at least",
    ),
    Conflict(
        ("transfer",),
        lambda recipe, _: recipe.transfer and recipe.train and len(recipe.train.optimizer) < 2,
        "there is one optimizer only; list at least two in train.optimizer",
    ),
)
_OF_OPTIMIZERS = (
    Conflict(
        ("lr",),
        lambda recipe, optimizer: recipe.tune and "lr" in optimizer.args,
        "tune chooses the learning rate; leave lr out, or give the range to search as `rates`",
    ),
    Conflict(
        ("rates",),
        lambda recipe, optimizer: recipe.tune is None and "tune" in recipe.given and "rates" in optimizer.args,
        "rates are the range that tune searches; write lr, or add `tune: {{}}`",
    ),
    Conflict(
        ("rates",),
        lambda recipe, optimizer: (
            recipe.tune
            and optimizer.name in registry.optimizers
            and len(learning_rates(recipe.tune, optimizer)) < recipe.tune.trials
        ),
        "holds fewer than {recipe.tune.trials} rates that differ in four digits; widen it",
    ),
)
_OF_TUNING_SEEDS = (
    Conflict(
        (),
        lambda recipe, seed: seed in (recipe.seeds or ()),
        "seed {item} is one of the recipe's; tune on seeds of its own, named and not counted: [1000000, 1000001]",
    ),
)
_OF_REWINDS = (
    Conflict(
        ("mode",),
        lambda recipe, rewind: recipe.prune and recipe.prune.when != "trained" and rewind.mode != "weights",
        "with prune.when {recipe.prune.when} no trained network is there to go on from",
    ),
)
_OF_BRANCHES = (
    Conflict(
        (),
        lambda recipe, branch: _traits(branch).partner and recipe.auto,
        "{item.name} takes the mask of the next seed, which prune.levels auto may not reach; write a number",
    ),
    Conflict(
        (),
        lambda recipe, branch: _traits(branch).partner and recipe.seeds and len(recipe.seeds) == 1,
        "{item.name} takes the mask of another seed; give at least two seeds",
    ),
    Conflict(
        (),
        lambda recipe, branch: _traits(branch).longer and recipe.prune and recipe.prune.when != "trained",
        "with prune.when {recipe.prune.when} a ticket costs one training, as `dense` does; leave the branch out",
    ),
    Conflict(
        (),
        lambda recipe, branch: _traits(branch).scales and recipe.model and not _can_be_scaled(recipe.model),
        "{item.name} needs a model whose width can be scaled; {recipe.model.name} has none",
    ),
    Conflict(
        ("dataset",),
        lambda recipe, branch: (
            recipe.data
            and (dataset := branch.component.args.get("dataset")) is not None
            and plain(dataset) == plain(recipe.data.component)
        ),
        "is the recipe's own data; name another data set of the same shapes",
    ),
    Conflict(
        (),
        lambda recipe, branch: branch.name == "planted" and recipe.init and not _plants(recipe),
        "planted is the ticket that the init planted has planted; write `init: planted`, or leave the control out",
    ),
    Conflict(
        (),
        lambda recipe, branch: _traits(branch).scales and _plants(recipe),
        "{item.name} has narrower layers, in which the init planted has no room for its teacher; leave the control out",
    ),
    Conflict(
        ("dataset",),
        lambda recipe, branch: (
            recipe.data and recipe.data.label_noise and branch.component.args.get("dataset") is not None
        ),
        "data.label_noise is of the recipe's own data, and these have none; leave the control or the noise out",
    ),
    Conflict(
        (),
        lambda recipe, branch: recipe.transfer and recipe.train and _is_transfer(branch, recipe.train),
        "transfer retrains with this optimizer already; leave the branch out",
    ),
)


def _is_empty(during: DuringSpec) -> bool:
    """Return True if pruning ends before it starts, as far as the lengths tell without the data."""
    return during.start.unit == during.end.unit and during.start.value >= during.end.value


def _traits(branch: BranchSpec) -> BranchTraits:
    """Return the traits of a control; those of none where the entry is not known, which is told elsewhere."""
    return registry.branches[branch.name].traits if branch.name in registry.branches else BranchTraits()


def _can_be_scaled(model: Component) -> bool:
    return model.name not in registry.models or registry.models[model.name].traits.scaled is not None


def _plants(recipe: Sections) -> Component | None:
    """Return the init if it plants a ticket, else None."""
    return recipe.init if recipe.init is not None and recipe.init.name == "planted" else None


def _same_teacher(data: DataSpec, init: Component) -> bool:
    """Return True if the data are computed by the teacher that an init plants."""
    if data.name != init.name:
        return False
    ours = registry.inits[init.name].all_arguments(init.args)
    theirs = registry.datasets[data.name].all_arguments(data.component.args)
    return all(plain(theirs[key]) == plain(value) for key, value in ours.items())


def _is_rectifying(model: Component) -> bool:
    """Return True if a model is layers of weights with rectifiers between them, as far as its name and keys tell."""
    if model.name not in ("mlp", "lenet"):
        return False
    args = registry.models[model.name].all_arguments(model.args)
    return (args["norm"], args["activation"], args["dropout"], args.get("residual", False)) == (
        "none",
        "relu",
        0,
        False,
    )


def _has_room(model: Component, init: Component) -> bool:
    """Return True if a fully connected model has as many hidden layers as the teacher, each as wide or wider."""
    ours = registry.models[model.name].all_arguments(model.args)["widths"]
    theirs = registry.inits[init.name].all_arguments(init.args)["widths"]
    return len(ours) == len(theirs) and all(own >= other for own, other in zip(ours, theirs, strict=True))


def _is_transfer(branch: BranchSpec, train: TrainSpec) -> bool:
    """Return True if the control retrains with one of the recipe's own optimizers."""
    other = branch.component.args.get("optimizer") if branch.name == "retrain" else None
    if other is None or other.name not in registry.optimizers:
        return False
    known = [registry.optimizers.identity(each) for each in train.optimizer if each.name in registry.optimizers]
    return registry.optimizers.identity(other) in known


def conflicts(valid: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield where a rule of the tables is broken by a recipe, of which `valid` has the sections that are valid."""
    names = ("data", "model", "init", "train", "prune", "seeds", "tune", "transfer", "compare", "report")
    sections = Sections(**{name: valid.get(name) for name in names}, given=valid.keys())
    yield from _broken(_OF_SECTIONS, sections)
    for path, items, rules in (
        (("train", "optimizer"), sections.train.optimizer if sections.train else (), _OF_OPTIMIZERS),
        (("tune", "seeds"), sections.tune.seeds if sections.tune else (), _OF_TUNING_SEEDS),
        (("rewind",), valid.get("rewind", ()), _OF_REWINDS),
        (("branches",), valid.get("branches", ()), _OF_BRANCHES),
    ):
        for index, item in enumerate(items):
            yield from _broken(rules, sections, (*path, index), item)


def _broken(rules: Sequence[Conflict], sections: Sections, here: Path = (), item: Any = None) -> Iterator[Problem]:
    for rule in rules:
        if rule.condition(sections, item):
            yield (*here, *rule.key), rule.message.format(recipe=sections, item=item)
