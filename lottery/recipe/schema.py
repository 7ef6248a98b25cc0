"""Schema of a recipe: its sections, their keys, types and defaults."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from lottery.recipe.analyses import AnalysisSpec, KeepSpec, kept
from lottery.recipe.claims import ReplicatesSpec
from lottery.recipe.criterion_rules import own_rounds, own_scope
from lottery.recipe.readings import Reading
from lottery.recipe.types import (
    AugmentSpec,
    BatchSize,
    Count,
    DuringSpec,
    EntrySection,
    FinetuneSpec,
    Flag,
    FrontierSpec,
    Label,
    Length,
    Metrics,
    Natural,
    Noise,
    Number,
    Plugins,
    RewindSearchSpec,
    RewindSpec,
    Section,
    Share,
    listed,
    rewinds,
)
from lottery.traits import Scope
from lottery.values import Component, Duration, plain
from lottery.words import counted

LEAST_DENSITY = 0.005  # to which `levels: auto` walks where nothing else is said
MOST_SEEDS = 5_000  # so that a recipe which lists them stays within yaml.MOST_NODES


def _named(value: object) -> object:
    """Return the value with a name alone written out as an entry without arguments."""
    return {"name": value} if isinstance(value, str) else value


def _seeds(value: object) -> object:
    """Return a number n as the seeds 0 to n - 1."""
    if not isinstance(value, int) or isinstance(value, bool):
        return value
    if not 1 <= value <= MOST_SEEDS:
        raise ValueError(f"{value} seeds; write a number from 1 to {MOST_SEEDS:,}, or a list of seeds")
    return tuple(range(value))


def _transfers(value: object) -> object:
    """Return `all` as the section that retrains at all levels."""
    return {} if value == "all" else value


Levels = Annotated[
    tuple[Annotated[int, Field(strict=True, ge=1, le=200)], ...],
    Field(min_length=1),
    BeforeValidator(listed, json_schema_input_type=int | list[int]),
]


class DataSpec(EntrySection):
    """The data set, and how it is split: `validation` examples are held out, at most `limit` of the rest trained on.

    With `stratify` both are shared out by class. With `label_noise` a share of the training set's labels is wrong.
    """

    validation: Natural = 0
    stratify: Flag = False
    augment: AugmentSpec | None = None
    limit: Count | None = None
    label_noise: Noise = None


class ScheduleSpec(EntrySection):
    """The course of the learning rate, after a linear warm-up."""

    warmup: Duration | None = None


class TrainSpec(Section):
    """The training of every network of the recipe; `clip` is the largest norm of the gradient.

    An optimizer may have a batch size of its own. With `accumulate` a batch goes through the network in so many parts,
    which saves memory and changes nothing else but the statistics of batch normalization. `engine` says what computes
    the steps: torch, with one matrix library or another, compiled kernels that skip pruned weights or the background of
    images, or a CUDA graph.
    On several ranks batch normalization has the statistics of the whole batch (`sync`) or of each rank's share
    (`local`); the latter makes their number, `ranks`, a part of the result.
    """

    optimizer: Annotated[
        tuple[Component, ...],
        Field(min_length=1, max_length=100),
        BeforeValidator(listed, json_schema_input_type=Component | list[Component]),
    ]
    schedule: Annotated[
        ScheduleSpec,
        Field(default_factory=lambda: ScheduleSpec(name="constant")),
        BeforeValidator(_named, json_schema_input_type=str | ScheduleSpec),
    ]
    batch_size: BatchSize
    accumulate: Count = 1
    length: Length
    evaluate_every: Length = Duration(1, "ep")
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    clip: Annotated[float, Field(strict=True, gt=0)] | None = None
    label_smoothing: Annotated[float, Field(strict=True, ge=0, lt=1)] = 0.0
    batch_norm: Literal["sync", "local"] = "sync"
    ranks: Count | None = None
    engine: Literal["auto", "dense", "onednn", "sparse", "background", "graph"] = "auto"


class TuneSpec(Section):
    """A fair learning rate for each optimizer: the same number of trials for each, over its range, on seeds of its own.

    Each trial trains the dense network; the best mean on the validation split at the recipe's `report` is chosen.
    """

    trials: Annotated[int, Field(strict=True, ge=2, le=1000)] = 8
    search: Literal["grid", "log_uniform"] = "grid"
    by: Literal["accuracy", "loss"] = "accuracy"
    seeds: Annotated[
        tuple[Natural, ...],
        Field(min_length=1, max_length=1000),
        BeforeValidator(listed, json_schema_input_type=int | list[int]),
    ] = (1_000_000,)


class TransferSpec(Section):
    """Each optimizer's ticket is retrained with each other optimizer: at these levels, all where none are given."""

    levels: Levels | None = None


class PruneSpec(Section):
    """The pruning at each level; with `one_shot`, `levels` is the number of its densities.

    With `levels: auto` the results decide how many levels and seeds there are, see FrontierSpec.
    `when` says which weights are scored: those trained at the level before (iterative pruning), those of the rewind
    point (pruning at initialization), or those of the training itself as it goes, on a cubic schedule. In `rounds`
    the scores are computed anew so many times on the way to a level. `densities` are those of each layer at the last
    level, instead of a fraction. `scope` is the criterion's own where none is given. `embeddings` are on request.
    """

    model_config = ConfigDict(json_schema_extra={"required": []})  # levels or one_shot

    criterion: Component = Field(default_factory=lambda: Component("magnitude"))
    when: Literal["trained", "init", "training"] = "trained"
    rounds: Annotated[int, Field(strict=True, ge=1, le=10_000)] | None = None
    during: DuringSpec | None = None
    densities: Annotated[dict[str, Share], Field(min_length=1)] | None = None
    scope: Scope = Field(default_factory=own_scope)
    fraction: Share = 0.2
    rates: dict[str, Number] = Field(default_factory=dict)
    embeddings: Flag = False
    levels: Annotated[int, Field(strict=True, ge=0, le=200)] | Literal["auto"]
    frontier: FrontierSpec | None = None
    one_shot: Annotated[tuple[Share, ...], Field(min_length=1, max_length=200)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _level_per_density(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and "levels" not in value and isinstance(value.get("one_shot"), (list, tuple)):
            return {**value, "levels": len(value["one_shot"])}
        return value

    @property
    def auto(self) -> FrontierSpec | None:
        """Search of the levels, if they are not given; else None."""
        return (self.frontier or FrontierSpec()) if self.levels == "auto" else None

    @property
    def alone(self) -> bool:
        """True if each level is pruned from the dense network or the rewind point, and not from the level before."""
        return self.one_shot is not None or self.when != "trained"

    @property
    def rounds_of_criterion(self) -> int:
        """Number of times that scores are computed anew on the way to a level."""
        return self.rounds or own_rounds(self.criterion.name)

    @property
    def deepest(self) -> int:
        """Last level that there may be."""
        if self.auto is None:
            assert self.levels != "auto"
            return self.levels
        sparse_enough = math.floor(math.log(LEAST_DENSITY) / math.log1p(-self.fraction))
        return self.auto.most_levels or max(1, min(200, sparse_enough))


class BranchSpec(EntrySection):
    """A control at `levels` of the trunk, `samples` times; `as` names its column in the table.

    With `trunk: own` it leaves its own training of the level above, not the ticket, see docs/recipes.md.
    """

    samples: Annotated[int, Field(strict=True, ge=1, le=1000)] = 1
    as_: Annotated[Label | None, Field(alias="as")] = None
    levels: Levels | None = None
    trunk: Literal["ticket", "own"] = "ticket"

    @property
    def label(self) -> str:
        """Name of its column in the table."""
        return self.as_ or (f"{self.name}_own" if self.trunk == "own" else self.name)


class CompareSpec(Section):
    """The claims that are tested of tickets against dense networks, and how sure each has to be.

    A ticket matches where its accuracy is shown to be less than `margin` percentage points below the dense network's
    (of r2 likewise), and wins where it also stops early no later, or at most `later` times as late more (0.1: 10 %).
    Each family of claims over the densities of one optimizer errs with probability 1 - `confidence` at most: against
    dense networks by the procedure `densities`, against a control by `controls`, whose fixed sequence goes in `order`;
    with `families: all` the probability is that of all families together. `power` is that of the number of seeds asked
    for. `allow` names what may differ between ticket and dense network.
    """

    margin: Annotated[float, Field(strict=True, gt=0, le=100)]
    later: Number = 0.0
    confidence: Annotated[float, Field(strict=True, ge=0.5, lt=1)] = 0.95
    power: Annotated[float, Field(strict=True, ge=0.5, lt=1)] = 0.8
    densities: Literal["fixed_sequence", "holm", "fallback"] = "fixed_sequence"
    controls: Literal["step_down", "holm", "fixed_sequence"] = "step_down"
    order: Literal["dense_to_sparse", "sparse_to_dense"] | None = None  # from dense to sparse where not given
    families: Literal["each", "all"] = "each"
    allow: tuple[Label, ...] = ()

    @property
    def alpha(self) -> float:
        """Chance of an error that is allowed: 1 - `confidence`, as it is written in decimals."""
        return round(1 - self.confidence, 12)

    @property
    def points(self) -> str:
        """The margin in words."""
        return f"{self.margin:g} point{'' if self.margin == 1 else 's'}"


def _report_of(data: DataSpec, rewinds: tuple[RewindSpec, ...]) -> Reading:
    """Return the reading of accuracy if a recipe names none: `best_accuracy` with a validation split, else `end`.

    Not `early_stop`: dense networks grow overconfident and are stopped by their lowest loss long before their accuracy
    peaks. Tickets that go on from trained weights are read at the end.
    """
    rewound = all(rewind.mode == "weights" for rewind in rewinds)
    return "best_accuracy" if data.validation and rewound else "end"


class Recipe(Section):
    """An experiment, from the data to the controls. Read one with `load_recipe`, which checks it as a whole."""

    name: Label
    question: str = ""
    plugins: Plugins = ()
    data: Annotated[DataSpec, BeforeValidator(_named, json_schema_input_type=str | DataSpec)]
    model: Component
    init: Component
    train: TrainSpec
    prune: PruneSpec
    rewind: Annotated[
        tuple[RewindSpec, ...],
        Field(min_length=1, max_length=100),
        BeforeValidator(rewinds, json_schema_input_type=str | RewindSpec | list[str | RewindSpec]),
    ]
    seeds: Annotated[
        tuple[Natural, ...],
        Field(min_length=1, max_length=MOST_SEEDS),
        BeforeValidator(_seeds, json_schema_input_type=int | list[int]),
    ]
    branches: Annotated[
        tuple[Annotated[BranchSpec, BeforeValidator(_named, json_schema_input_type=str | BranchSpec)], ...],
        Field(max_length=100),
    ] = ()
    finetune: FinetuneSpec | None = None
    tune: TuneSpec | None = None
    transfer: Annotated[
        TransferSpec | None, BeforeValidator(_transfers, json_schema_input_type=Literal["all"] | TransferSpec)
    ] = None
    compare: CompareSpec | None = None
    replicates: ReplicatesSpec | None = None
    metrics: Metrics = ()
    keep: Annotated[KeepSpec | None, BeforeValidator(kept, json_schema_input_type=str | list[str] | KeepSpec)] = None
    analyses: Annotated[
        tuple[Annotated[AnalysisSpec, BeforeValidator(_named, json_schema_input_type=str | AnalysisSpec)], ...],
        Field(max_length=100),
    ] = ()
    report: Reading = Field(default_factory=lambda fields: _report_of(fields["data"], fields["rewind"]))

    def __repr__(self) -> str:
        what = f"{self.model.name} on {self.data.name}, {', '.join(each.name for each in self.train.optimizer)}"
        return f"Recipe {self.name}: {what}, levels {self.prune.levels}, {counted(len(self.seeds), 'seed')}"

    @property
    def search(self) -> RewindSearchSpec | None:
        """Search of the rewind point, if it is not given; else None."""
        return self.rewind[0].auto

    @property
    def grows(self) -> bool:
        """True if results decide what is run."""
        return self.prune.auto is not None or self.search is not None

    @field_validator("*", mode="after")
    @classmethod
    def _collect(cls, value: Any, info: ValidationInfo) -> Any:
        """Hand each valid section to the caller, who looks for contradictions even where others are not valid."""
        if info.context is not None:
            info.context[info.field_name] = value
        return value

    def canonical(self) -> dict[str, Any]:
        """Return the full form in plain JSON values, defaults written out, as `restore_recipe` takes it."""
        return dict(_written(self))


def _written(value: Any) -> Any:
    """Return a value of the recipe in plain JSON values."""
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        keys = {field.alias or name: getattr(value, name) for name, field in fields.items()}
        if isinstance(value, PruneSpec) and value.one_shot is not None:
            del keys["levels"], keys["fraction"]
        if isinstance(value, PruneSpec) and value.densities is not None:
            del keys["fraction"], keys["rates"], keys["scope"]
        if isinstance(value, DataSpec) and value.label_noise is None:
            del keys["label_noise"]  # ticket files from before it state their recipes without
        if isinstance(value, Recipe) and not value.plugins:
            del keys["plugins"]  # as above
        if isinstance(value, RewindSpec):
            del keys["auto" if value.auto is None else "to"]
        return {key: _written(item) for key, item in {**keys, **(value.model_extra or {})}.items()}
    if isinstance(value, tuple):
        return [_written(item) for item in value]
    return plain(value)
