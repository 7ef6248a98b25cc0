"""Types of the values in a recipe's sections, and the smaller sections inside others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from lottery.values import Component, Duration, LabelNoise, point_label


def listed(value: object) -> object:
    """Return a list as it is, and one value as a list of one."""
    return value if isinstance(value, (list, tuple)) else [value]


def _init_is_step_0(value: object) -> object:
    return "0it" if value == "init" else value


def _not_empty(duration: Duration) -> Duration:
    if duration.value == 0:
        raise ValueError(f"{duration} is no training at all; write at least 1it")
    return duration


Flag = Annotated[bool, Field(strict=True)]
Natural = Annotated[int, Field(strict=True, ge=0, lt=10**9)]
Count = Annotated[int, Field(strict=True, ge=1, lt=10**9)]
Number = Annotated[float, Field(strict=True, ge=0)]
BatchSize = Count | Literal["all"]  # all: the whole training set
Share = Annotated[float, Field(strict=True, gt=0, lt=1)]
Length = Annotated[Duration, AfterValidator(_not_empty)]
Point = Annotated[Duration, BeforeValidator(_init_is_step_0, json_schema_input_type=str)]
Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


Metric = Literal["balanced_accuracy", "top5"]  # what may be measured beside accuracy
Metrics = Annotated[tuple[Metric, ...], BeforeValidator(listed, json_schema_input_type=Metric | list[Metric])]


class Section(BaseModel):
    """A mapping of a recipe: no keys but its own, and never changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)


def _switch(value: object) -> object:
    """Return `true` as a section of defaults, and `false` as none."""
    return ({} if value else None) if isinstance(value, bool) else value


def _rising(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError(f"goes from {pair[0]:g} down to {pair[1]:g}; write the smaller one first")
    return pair


_Area = Annotated[float, Field(strict=True, gt=0, le=1)]
_Ratio = Annotated[float, Field(strict=True, ge=0.01, le=100)]


class ResizedCropSpec(Section):
    """Random windows of images in their files: their share of the area, and width over height (Szegedy et al. 2015)."""

    scale: Annotated[tuple[_Area, _Area], AfterValidator(_rising)] = (0.08, 1.0)
    ratio: Annotated[tuple[_Ratio, _Ratio], AfterValidator(_rising)] = (3 / 4, 4 / 3)


class AugmentSpec(Section):
    """Random changes of each training image.

    `crop` is a crop after padding by so many pixels, `random_resized_crop` a window of the image in its file, scaled to
    the size of the others, `flip` a horizontal flip.
    """

    crop: Annotated[int, Field(strict=True, ge=0, le=256)] = 0
    flip: Flag = False
    random_resized_crop: Annotated[
        ResizedCropSpec | None, BeforeValidator(_switch, json_schema_input_type=bool | ResizedCropSpec)
    ] = None


class RewindSearchSpec(Section):
    """The search of `rewind: auto` for the earliest step from which a network is stable (Frankle et al. 2020).

    A step is stable where pairs of copies that train on from it under different noise end without a barrier between
    them: one of at most `tolerance` of error, on the examples of `part`, on average over `pairs` pairs of each of the
    first `seeds` seeds. The copies are those of tickets of the level whose density is nearest to `density`, or with 1
    of the dense network. The steps from the initialization to `latest` are bisected `halvings` times.
    """

    density: Annotated[float, Field(strict=True, gt=0, le=1)] | None = None
    pairs: Annotated[int, Field(strict=True, ge=1, le=100)] = 3
    seeds: Count = 1
    tolerance: Annotated[float, Field(strict=True, gt=0, lt=1)] = 0.02
    part: Literal["train", "validation"] = "train"  # never the test set: nothing is chosen by it
    latest: Length | None = None
    halvings: Annotated[int, Field(strict=True, ge=1, le=20)] = 4


class RewindSpec(Section):
    """A point that tickets go back to, and what goes back: `weights` (and all else), `lr` alone, or nothing.

    With `auto` the results tell the point; until they do, `to` is the one that is looked at, at first step 0.
    """

    model_config = ConfigDict(json_schema_extra={"required": []})  # to or auto

    to: Point
    mode: Literal["weights", "lr", "finetune"] = "weights"
    auto: RewindSearchSpec | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_step_0(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and value.get("auto") is not None:
            if "to" in value:
                raise ValueError("auto looks for the point to go back to; leave `to` out")
            return {**value, "to": "init"}
        return value

    @property
    def label(self) -> str:
        """The point in words, with the mode where that is not the rewinding of weights: `init`, `100it (lr)`."""
        to = point_label(self.to)
        return to if self.mode == "weights" else f"{to} ({self.mode})"


def rewinds(value: object) -> object:
    """Return the rewind points with a length alone, or `auto`, written out as rewinding of weights to it."""
    items = value if isinstance(value, (list, tuple)) else [value]
    return [_searched({"to": item} if isinstance(item, str) else item) for item in items]


def _searched(point: Any) -> Any:
    """Return a rewind point with `auto` alone written out as a search with its defaults."""
    if not isinstance(point, Mapping):
        return point
    if point.get("to") == "auto":
        point = {"auto": {}, **{key: item for key, item in point.items() if key != "to"}}
    return {**point, "auto": point["auto"] or {}} if "auto" in point else point


class FinetuneSpec(Section):
    """The learning rate at which `mode: finetune` trains throughout, as a share of the highest.

    Without this section it is the schedule's last.
    """

    rate: Annotated[float, Field(strict=True, gt=0, le=1)]


def _noise(value: object) -> object:
    """Return a share alone as noise of seed 0, and the share 0 as none."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return value
    return {"share": value} if value else None


Noise = Annotated[LabelNoise | None, BeforeValidator(_noise, json_schema_input_type=float | LabelNoise | None)]


class EntrySection(Section):
    """A section that names an entry of a catalogue; the keys that are not its own are the entry's arguments."""

    model_config = ConfigDict(extra="allow")

    name: str

    @property
    def component(self) -> Component:
        """The entry with its arguments."""
        return Component(self.name, dict(self.model_extra or {}))


class DuringSpec(Section):
    """Pruning in the course of training: at every so many steps from one step to another (Zhu & Gupta 2017)."""

    start: Point = Duration(0, "it")
    end: Length
    every: Length
