"""Traits of catalogue entries: the facts that the machinery has to know of an entry beside how to call it.

One dataclass per catalogue, one field per trait; `register` takes them by name and type. Each description says what the
trait means and which modules read it; the table in docs/contributing.md is made of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

Arguments = Mapping[str, Any]  # of an entry, by the keys of a recipe
Claim = Literal["mask", "initialization", "signs", "magnitudes", "iteration", "capacity"]
Scope = Literal["layer", "global", "erk"]
Setting = Literal["accumulate", "clip", "bf16", "batch_size"]

CHECKED = ConfigDict(strict=True, extra="forbid", defer_build=True)


def _rising(rates: tuple[float, float]) -> tuple[float, float]:
    if rates[0] >= rates[1]:
        raise ValueError(f"{list(rates)} is no range; write the lower rate first")
    return rates


Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Rates = Annotated[tuple[Rate, Rate], AfterValidator(_rising)]


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Traits:
    """The traits that an entry of any catalogue may have; activations and schedules have no others."""

    version_of: Callable[[Arguments], int] | None = Field(
        default=None,
        description="`f(arguments)`: the version by all arguments, in place of the decorator's `version`, where only "
        "the results of some have changed. Read by `lottery/registry.py`.",
    )
    how: tuple[str, ...] = Field(
        default=(),
        description="Names of keys that change no result, only how it is come by: they are no part of a job's key. "
        "Read by `lottery/registry.py`.",
    )

    def positional(self, called: Sequence[str]) -> list[str]:
        """Return the names of the positional arguments of this entry; `called` are those of its catalogue."""
        return list(called)

    def named_keys(self) -> dict[str, tuple[str, ...]]:
        """Return the keys of the entry that traits name, by trait."""
        return {"how": self.how}


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class ModelTraits(Traits):
    """The traits of a model."""

    scaled: Callable[[Arguments, float], dict[str, Any]] | None = Field(
        default=None,
        description="`f(arguments, factor)`: all arguments of the same model with its widths times the factor, which "
        "`small_dense` needs. Read by `lottery/catalogue`, `lottery/recipe`.",
    )
    gates: bool = Field(
        default=False,
        description="True if it multiplies what it computes, so that it has no sums over paths. Read by "
        "`lottery/recipe`.",
    )
    chain: Callable[[Arguments], bool] | None = Field(
        default=None,
        description="`f(arguments)`: True if its prunable weights are those of fully connected layers, each of which "
        "reads the layer before it and nothing else. Read by `lottery/structure`.",
    )
    prunable: tuple[str, ...] = Field(
        default=(),
        description='Patterns of the layers that are prunable, such as `("encoder.*", "output")`, by the names that '
        "`prune.rates` takes; without any, all weights are that multiply an input. Read by `lottery/network`.",
    )


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class InitTraits(Traits):
    """The traits of an initialization."""

    batch: bool = Field(
        default=False,
        description="True if it is called as `f(model, generator, batch)`, where batch are inputs and targets of the "
        "first 256 training examples. Read by `lottery/network`, `lottery/tickets`, `lottery/verification`.",
    )
    zeros: bool = Field(default=False, description="True if it leaves weights at exactly 0. Read by `lottery/plan`.")

    def positional(self, called: Sequence[str]) -> list[str]:
        """Return the names of the positional arguments; with `batch` there is one more than the catalogue's."""
        return [*called, "batch"] if self.batch else list(called)


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class NormalizationTraits(Traits):
    """The traits of a normalization."""

    weight: bool = Field(
        default=False,
        description="True if it normalizes weights and is called as `f(layer)` on each layer; the others normalize "
        "activations and are called as `f(channels, spatial)`. Read by `lottery/catalogue`, `lottery/recipe`.",
    )
    running: bool = Field(default=True, description="True if it keeps running statistics. Read by `lottery/recipe`.")

    def positional(self, called: Sequence[str]) -> list[str]:
        """Return the names of the positional arguments: `layer` where weights are normalized."""
        return ["layer"] if self.weight else list(called)


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class OptimizerTraits(Traits):
    """The traits of an optimizer."""

    rates: Rates | None = Field(
        default=None,
        description="`(low, high)`, the learning rates that `tune` searches where a recipe names none; every "
        "optimizer of this package has them. Read by `lottery/recipe`.",
    )
    refuses: Mapping[Setting, str] = Field(
        default={},
        description="Settings it cannot work with, each with the reason that the user is told: `accumulate`, `clip`, "
        "`bf16`, `batch_size` (which must then be `all`). Read by `lottery/recipe`.",
    )
    coordinatewise: bool = Field(
        default=True,
        description="False if its state is not one value per weight, so that no mask can be applied to it: under a "
        "mask it starts afresh at the rewind point. Read by `lottery/plan`.",
    )
    projects: bool = Field(
        default=False,
        description="True if the masked step is a projection of the full one, and not the step of the problem in the "
        "surviving weights alone. Read by `tests/pruning`.",
    )
    needs: Literal["closure", "training_set", "examples"] | None = Field(
        default=None,
        description="`closure`: it needs loss and gradient of a batch; `training_set`: those of the whole set too; "
        "`examples`: the batch itself, of which each rank has a share, so that it is refused on several. Without it, "
        "one with an attribute `objective` is taken to need examples. Read by `lottery/recipe`, `lottery/runner`.",
    )
    nests: bool = Field(
        default=True,
        description="False if it evaluates the loss itself, so that it cannot work inside another optimizer. Read by "
        "`lottery/catalogue`, `lottery/recipe`.",
    )
    inner_lr: bool = Field(
        default=True,
        description="False if its learning rate is that of the optimizer inside it, which has none of its own. Read "
        "by `lottery/recipe`.",
    )
    package: str | None = Field(
        default=None,
        description="The optional package that it imports, by the name of its module. Read by `lottery/recipe`.",
    )
    passes: Callable[[Arguments], float | None] | None = Field(
        default=None,
        description="`f(arguments)`: forward and backward passes over the examples of a step, on average, by all "
        "arguments; it returns None where the course of the training decides. Without it there is one. "
        "Read by `lottery/structure`.",
    )


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class CriterionTraits(Traits):
    """The traits of a pruning criterion."""

    draws: bool | None = Field(
        default=None,
        description="True if its scores depend on random numbers. Where nothing is said, they do for a plugin's "
        "criterion and do not for one of this package. Read by `lottery/recipe`.",
    )
    dataless: bool = Field(
        default=False,
        description="True if it scores weights without a pass of data through the network, so that one machine chooses "
        "the same mask again. Read by `lottery/verification`.",
    )
    scope: Scope = Field(
        default="layer",
        description="Over what its scores are ranked by default. Read by `lottery/recipe`, `lottery/pruning`.",
    )
    rounds: Annotated[int, Field(ge=1)] = Field(
        default=1,
        description="How often its scores are computed on the way to a level where no rounds are named. Read by "
        "`lottery/recipe`, `lottery/pruning`.",
    )
    paths: bool = Field(
        default=False,
        description="True if its scores are sums over paths (`lottery/pruning/path_sums.py`): networks that have none "
        "are refused. Read by `lottery/recipe`, `lottery/runner`, `lottery/pruning`.",
    )


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class BranchTraits(Traits):
    """The traits of a control."""

    # the value of each option is the `Origins` of lottery/plan/origins.py, a room above this module
    origins: Mapping[str, Mapping[Any, Any]] = Field(
        default={},
        description='Where its trainings come from: by each value of its key `weights` (`""` where it has none) what '
        "`in_any_mode` and the like return; [controls.md](controls.md) is made from it. Read by `lottery/plan`.",
    )
    claim: Claim | None = Field(
        default=None,
        description="The part of the ticket's gain that the control lacks, and a comparison tests: `mask`, `signs`, "
        "`initialization`, `magnitudes`, `iteration`, `capacity`. Read by `lottery/recipe`, `lottery/verdicts`.",
    )
    changes: tuple[str, ...] = Field(
        default=(),
        description="Fields of the audit (docs/fairness.md) in which it differs from its ticket on purpose. Read by "
        "`lottery/audit`.",
    )
    own_trunk: bool = Field(
        default=False,
        description="True if it puts weights under the level's mask and trains from step 0, so that it may have "
        "`trunk: own`. Read by `lottery/recipe`.",
    )
    criterion: bool = Field(
        default=False,
        description="True if it prunes with the recipe's criterion, which is then part of its key where it is not "
        "magnitude. Read by `lottery/plan`, `lottery/results`.",
    )
    once: bool = Field(
        default=False,
        description="True if it prunes the trained dense network once: at level 1 it is the ticket itself, and left "
        "out. Read by `lottery/recipe`.",
    )
    partner: bool = Field(
        default=False,
        description="True if it needs the same ticket of another seed, as `level.partner`. Read by `lottery/plan`, "
        "`lottery/recipe`, `lottery/results`.",
    )
    suits: Callable[[Any, Arguments], None] | None = Field(
        default=None,
        description="`f(network, arguments)`: raises a UsageError for networks that lack it. Read by `lottery/runner`.",
    )
    scales: bool = Field(
        default=False,
        description="True if it needs a model with the trait `scaled`. Read by `lottery/recipe`.",
    )
    longer: bool = Field(
        default=False,
        description="True if it is the control of equal cost: the dense network, for as many steps as the search for "
        "its ticket took. Read by `lottery/analysis`, `lottery/audit`, `lottery/recipe`, `lottery/runner`.",
    )
    mask_alone: bool = Field(
        default=False,
        description="True if no weight is trained, so that running statistics are measured anew before each "
        "evaluation. Read by `lottery/plan`, `lottery/recipe`, `lottery/runner`.",
    )
    learned: bool = Field(
        default=False,
        description="True if its mask is learned, layer by layer: refused for weights that are no layer's own. Read "
        "by `lottery/network`, `lottery/plan`, `lottery/recipe`.",
    )


@dataclass(frozen=True)
class Work:
    """The work of an analysis, by what it does again and again.

    Attributes:
        points: Number of points whose loss and error are measured on each part of the data.
        bn: Policies for running statistics at them: `reset` is a pass over the training examples more, `both` measures
            each point twice; a network without is measured once.
        parts: The parts of the data; None for all.
        forwards: Number of other forward passes over the training examples.
        gradients: Number of forward and backward passes over the training examples.
        products: Number of products of the Hessian, over the training examples, with a vector.
        block_products: `f(size)`: the number of further products for each parameter of so many weights.
        each: True if all this is done for each state along a training.
    """

    points: float = 0.0
    bn: Literal["interpolate", "reset", "both"] = "interpolate"
    parts: tuple[str, ...] | None = None
    forwards: float = 0.0
    gradients: float = 0.0
    products: float = 0.0
    block_products: Callable[[int], float] | None = None
    each: bool = False


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class AnalysisTraits(Traits):
    """The traits of an analysis."""

    looks_at: Literal["state", "pair", "three", "trajectory", "children"] = Field(
        default="state",
        description="What one of its jobs looks at: a `state`, a `pair` of them, `three`, the states that were kept "
        "along a training (`trajectory`), or two `children` of one state that were trained on under different noise. "
        "Read by `lottery/analysis`, `lottery/recipe`, `lottery/runner`.",
    )
    units: Mapping[str, Literal["", "fraction", "points", "steps"]] = Field(
        default={},
        description="Unit of each value that it measures, by the value's name; tables show the values in this order, "
        "and no others. Read by `lottery/analysis`, `lottery/recipe`, `lottery/report`.",
    )
    passes: Callable[[Arguments], Work | float] | None = Field(
        default=None,
        description="`f(arguments)`: the work by all arguments, as `traits.Work`, or as a number of forward and "
        "backward passes over the training examples for each state. Read by `lottery/runner`.",
    )
    curvature: bool = Field(
        default=False,
        description="True if it takes second derivatives; networks without any are refused. Read by `lottery/runner`.",
    )
    suits: Callable[[Any, Arguments], None] | None = Field(
        default=None,
        description="`f(network, arguments)`: raises a UsageError where the network lacks what the analysis needs with "
        "all arguments; asked before any training. Read by `lottery/runner`.",
    )
    largest: int | None = Field(
        default=None,
        description="Largest number of surviving weights, biases among them, that it takes; networks with more are "
        "refused before any training, as far as the recipe tells. Read by `lottery/runner`.",
    )
    connects: str | None = Field(
        default=None,
        description="Name of the value that says how far the error rises on a path between two networks, for the "
        "verdict on whether they are connected; with `_reset` behind it, under running statistics measured anew. Read "
        "by `lottery/recipe`, `lottery/report`, `lottery/verdicts`.",
    )
    adds_up: bool = Field(
        default=False,
        description="True if it measures `train_loss`, `test_loss`, `train_error` and `test_error` of a state, which "
        "its table tells apart into three errors. Read by `lottery/analysis`, `lottery/figures`, `lottery/recipe`.",
    )
    test: tuple[str, ...] = Field(
        default=(),
        description='Patterns of the values and columns that are measured on the test set, such as `("test_*",)`, as '
        "nothing else may; without any, it is given no test example. Read by `lottery/audit`, `lottery/runner`.",
    )
