"""Published claims in a recipe: statements that can be checked, in words and in numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from lottery.recipe.types import Flag, Label, Natural, Point, Section

Measure = Literal[
    "accuracy",
    "loss",
    "train_loss",
    "steps_to",
    "epochs_to",
    "diverged",
    "seconds",
    "early_stop_step",
    "good_values",
]
REACHING = ("steps_to", "epochs_to")  # measures of when a training first reaches a reading
RATIOS = (*REACHING, "early_stop_step", "seconds")  # measures that are compared as ratios where nothing else is said
NO_RATIO = ("accuracy", "diverged", "good_values")  # shares and counts, which are 0 at times

Selector = Annotated[dict[Annotated[str, Field(min_length=1)], Any], Field(min_length=1)]
_Words = Annotated[str, Field(min_length=1)]
_Limit = Annotated[float, Field(strict=True)]


class MinusSpec(Section):
    """What a claim takes off: the same value of another optimizer, of other networks of the analysis, or of both."""

    optimizer: Natural | None = None
    networks: _Words | None = None

    @model_validator(mode="after")
    def _says_something(self) -> MinusSpec:
        if self.optimizer is None and self.networks is None:
            raise ValueError("takes nothing off; write optimizer, networks or both")
        return self


class ReachesSpec(Section):
    """The reading that a training has to reach, one of three.

    It is a training loss, a mean over the steps since the evaluation before; or a loss or an accuracy (r2 for
    regression) of the validation split.
    """

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    train_loss: Annotated[float, Field(strict=True, gt=0)] | None = None
    loss: Annotated[float, Field(strict=True, gt=0)] | None = None
    accuracy: Annotated[float, Field(strict=True, gt=0, le=1)] | None = None

    @model_validator(mode="after")
    def _is_one(self) -> ReachesSpec:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError("names one reading: train_loss, loss or accuracy")
        return self

    @property
    def words(self) -> str:
        """The reading in words."""
        if self.train_loss is not None:
            return f"a training loss of {self.train_loss:g}"
        return f"a validation loss of {self.loss:g}" if self.loss is not None else f"{self.accuracy:g} of validation"


class ClaimSpec(Section):
    """One published claim as a statement that can be checked, in words and in numbers.

    What is compared is what `measure` says of `column` and of `against`, paired by seed: accuracies as differences in
    percentage points, steps as ratios, see docs/survey.md; without `against` the value itself. It is claimed to
    be at least `least` and at most `most`, at `all` of the `densities` or at `any` of them, of tickets rewound to
    `rewind` where that is given, else of each of the recipe's.

    In a recipe with a `sweep` it is about the points that `left` and `right` select, the value of the one against that
    of the other, or without `right` about the value of the left one. There `column` is `dense` where all densities are
    1, and `against` nothing, where they are not given. `good_values` counts the values of the swept key `over` at which
    accuracy is `within` so many percentage points of the best.

    With `analysis` it is about a `value` that an analysis of the recipe measures of some `networks`, such as `dense -
    ticket`, as its table names them: in percentage points where it is of an error.

    It is claimed of one `optimizer`, by its place in `train.optimizer` from 0, where that is given, else of each. With
    `minus` it is about a difference, paired by seed: the same of another optimizer, or of other networks, is taken off.
    """

    text: _Words
    source: _Words
    left: Selector | None = None
    right: Selector | None = None
    column: Label = "ticket"
    against: Label | None = "dense"
    measure: Measure = "accuracy"
    compare: Literal["difference", "ratio"] | None = None
    reaches: ReachesSpec | None = None
    over: _Words | None = None
    within: Annotated[float, Field(strict=True, gt=0, le=100)] | None = None
    analysis: Label | None = None
    networks: _Words | None = None
    value: Label | None = None
    densities: Annotated[tuple[Annotated[float, Field(strict=True, gt=0, le=1)], ...], Field(min_length=1)]
    rewind: Point | None = None
    optimizer: Natural | None = None
    minus: MinusSpec | None = None
    where: Literal["all", "any"] = "all"
    least: _Limit | None = None
    most: _Limit | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_points(cls, value: Any) -> Any:
        """Return a claim about points of a sweep with the column that it is about and nothing that it is against."""
        if not isinstance(value, Mapping) or value.get("left") is None or value.get("analysis") is not None:
            return value
        given = value.get("densities")
        dense = isinstance(given, (list, tuple)) and all(density == 1 for density in given)
        return {"column": "dense" if dense else "ticket", "against": None, **value}

    @model_validator(mode="after")
    def _says_something(self) -> ClaimSpec:
        if self.least is None and self.most is None:
            raise ValueError("claims nothing; write least, most or both")
        if self.right is not None and self.left is None:
            raise ValueError("right is compared with `left`; write that as well")
        if self.measure == "early_stop_step" and self._alone:
            raise ValueError("a ratio of steps needs `against`, a column of the table")
        about = (self.analysis, self.networks, self.value)
        if None in about and about != (None, None, None):
            raise ValueError("a claim about an analysis needs `analysis`, `networks` and `value`")
        if self.analysis is not None and self.measure != "accuracy":
            raise ValueError(f"is about {self.value} of {self.analysis}; leave `measure` out")
        return self

    @model_validator(mode="after")
    def _measures_what_it_says(self) -> ClaimSpec:
        if (self.measure in REACHING) != (self.reaches is not None):
            raise ValueError("`reaches`, {train_loss: 0.5}, belongs to `measure: steps_to` or epochs_to; write both")
        if (self.measure == "good_values") != (self.over is not None) or (self.over is None) != (self.within is None):
            raise ValueError("`measure: good_values`, `over` and `within` belong together; write all three")
        if self.measure == "good_values" and (self.left is None or self.against or self.minus):
            raise ValueError("good_values are of points of a sweep: write `left`, and neither `against` nor `minus`")
        if self.measure == "diverged" and self.right is not None and (self.against or self.minus):
            raise ValueError("diverged compares two shares of seeds; leave `against` and `minus` out, or `right`")
        if self.compare == "ratio" and self.analysis is None and self.measure in NO_RATIO:
            raise ValueError(f"{self.measure} is compared as a difference; leave `compare` out")
        if self.compare == "ratio" and self._alone:
            raise ValueError("a ratio is of two; write `right`, `against` or `minus`")
        limits = [limit for limit in (self.least, self.most) if limit is not None]
        if self.logarithmic and min(limits) <= 0:
            raise ValueError(f"claims a ratio, or a number of steps or seconds, of {min(limits):g}; those are above 0")
        return self

    @model_validator(mode="after")
    def _takes_off_what_there_is(self) -> ClaimSpec:
        if self.minus is None:
            return self
        if self.analysis is None and self.minus.networks is not None:
            raise ValueError("minus.networks are those of an analysis; write `analysis`, or `column` and `against`")
        if self.analysis is None and self.against is not None:
            raise ValueError(f"takes two off, minus and {self.against}; write `against: null`, or leave minus out")
        if self.minus.optimizer is not None and self.optimizer is None:
            raise ValueError("takes another optimizer's off; write `optimizer` for the one that it is claimed of")
        ours = (self.optimizer, self.networks)
        if (self.minus.optimizer in (None, ours[0])) and (self.minus.networks in (None, ours[1])):
            raise ValueError("takes the value off itself; name another optimizer or other networks in minus")
        return self

    @property
    def logarithmic(self) -> bool:
        """True if values are tested on their logarithms: ratios, and steps and seconds."""
        if self.compare is not None:
            return self.compare == "ratio"
        return self.analysis is None and self.measure in RATIOS

    @property
    def _alone(self) -> bool:
        """True if it is about a value itself, compared with nothing."""
        compared = self.right, self.minus, self.against if self.analysis is None else None
        return all(other is None for other in compared)


class ReplicatesSpec(Section):
    """The claims of a paper that the recipe sets out to see again, for `lottery replicate`.

    `statement` is what they are about in one sentence, `finding` what was found, written after the run; neither changes
    a verdict.
    """

    source: _Words
    statement: str = ""
    finding: str = ""
    needs_gpu: Flag = False
    confidence: Annotated[float, Field(strict=True, ge=0.5, lt=1)] = 0.95
    claims: Annotated[tuple[ClaimSpec, ...], Field(min_length=1, max_length=100)]
