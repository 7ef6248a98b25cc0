"""The recipe: its schema, the reading of a file with `--set` overrides, and all that is wrong with it at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from lottery import check, yaml
from lottery.errors import RecipeError
from lottery.registry import Problem, explain, suggest
from lottery.spec import Component, Duration, plain

MOST_SEEDS = 5_000  # so that a recipe which lists them stays within yaml.MOST_NODES


def _listed(value: object) -> object:
    """One value stands for a list of one."""
    return value if isinstance(value, (list, tuple)) else [value]


def _named(value: object) -> object:
    """A name stands for an entry without arguments."""
    return {"name": value} if isinstance(value, str) else value


def _rewinds(value: object) -> object:
    """A length stands for weight rewinding to it."""
    items = value if isinstance(value, (list, tuple)) else [value]
    return [{"to": item} if isinstance(item, str) else item for item in items]


def _seeds(value: object) -> object:
    """A number n stands for the seeds 0 to n-1."""
    if not isinstance(value, int) or isinstance(value, bool):
        return value
    if not 1 <= value <= MOST_SEEDS:
        raise ValueError(f"{value} seeds; write a number from 1 to {MOST_SEEDS:,}, or a list of seeds")
    return tuple(range(value))


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
Share = Annotated[float, Field(strict=True, gt=0, lt=1)]
Length = Annotated[Duration, AfterValidator(_not_empty)]
Point = Annotated[Duration, BeforeValidator(_init_is_step_0, json_schema_input_type=str)]
Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class _Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)


class _Entry(_Spec):
    """A section that names an entry of a catalogue; the keys that are not its own are the entry's arguments."""

    model_config = ConfigDict(extra="allow")

    name: str

    @property
    def component(self) -> Component:
        """The entry and its arguments."""
        return Component(self.name, dict(self.model_extra or {}))


class AugmentSpec(_Spec):
    """Random changes of each training image: a crop after padding by `crop` pixels, a horizontal flip."""

    crop: Annotated[int, Field(strict=True, ge=0, le=256)] = 0
    flip: Flag = False


class DataSpec(_Entry):
    """Which data; `validation` training examples are held out, at most `limit` of the rest are trained on."""

    validation: Natural = 0
    augment: AugmentSpec | None = None
    limit: Count | None = None


class ScheduleSpec(_Entry):
    """How the learning rate goes, after a linear warm-up."""

    warmup: Duration | None = None


class TrainSpec(_Spec):
    """How every network of the recipe trains; `clip` is the largest norm of the gradient."""

    optimizer: Annotated[
        tuple[Component, ...],
        Field(min_length=1, max_length=100),
        BeforeValidator(_listed, json_schema_input_type=Component | list[Component]),
    ]
    schedule: Annotated[
        ScheduleSpec,
        Field(default_factory=lambda: ScheduleSpec(name="constant")),
        BeforeValidator(_named, json_schema_input_type=str | ScheduleSpec),
    ]
    batch_size: Count
    length: Length
    evaluate_every: Length = Duration(1, "ep")
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    clip: Annotated[float, Field(strict=True, gt=0)] | None = None
    label_smoothing: Annotated[float, Field(strict=True, ge=0, lt=1)] = 0.0


class PruneSpec(_Spec):
    """What is pruned at each level; with `one_shot`, `levels` is the number of its densities."""

    model_config = ConfigDict(json_schema_extra={"required": []})  # levels or one_shot

    criterion: Component = Field(default_factory=lambda: Component("magnitude"))
    scope: Literal["layer", "global"] = "layer"
    fraction: Share = 0.2
    rates: dict[str, Number] = Field(default_factory=dict)
    levels: Annotated[int, Field(strict=True, ge=0, le=200)]
    one_shot: Annotated[tuple[Share, ...], Field(min_length=1, max_length=200)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _level_per_density(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and "levels" not in value and isinstance(value.get("one_shot"), (list, tuple)):
            return {**value, "levels": len(value["one_shot"])}
        return value


class RewindSpec(_Spec):
    """Where a trunk's tickets go back to, and what goes back: weights and all, the learning rate only, nothing."""

    to: Point
    mode: Literal["weights", "lr", "finetune"] = "weights"


class BranchSpec(_Entry):
    """A control at `levels` of the trunk, `samples` times; `as` is its column in the table."""

    samples: Annotated[int, Field(strict=True, ge=1, le=1000)] = 1
    as_: Annotated[Label | None, Field(alias="as")] = None
    levels: (
        Annotated[
            tuple[Annotated[int, Field(strict=True, ge=1, le=200)], ...],
            Field(min_length=1),
            BeforeValidator(_listed, json_schema_input_type=int | list[int]),
        ]
        | None
    ) = None

    @property
    def label(self) -> str:
        """Its column in the table."""
        return self.as_ or self.name


class Recipe(_Spec):
    """An experiment, from the data to the controls. Read one with `load_recipe`, which checks it as a whole."""

    name: Label
    question: str = ""
    data: Annotated[DataSpec, BeforeValidator(_named, json_schema_input_type=str | DataSpec)]
    model: Component
    init: Component
    train: TrainSpec
    prune: PruneSpec
    rewind: Annotated[
        tuple[RewindSpec, ...],
        Field(min_length=1, max_length=100),
        BeforeValidator(_rewinds, json_schema_input_type=str | RewindSpec | list[str | RewindSpec]),
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
    report: Literal["early_stop", "end"] = Field(
        default_factory=lambda fields: "early_stop" if fields["data"].validation else "end"
    )

    @field_validator("*", mode="after")
    @classmethod
    def _collect(cls, value: Any, info: ValidationInfo) -> Any:
        """Hand each valid section to the caller, who looks for contradictions even where others are not valid."""
        if info.context is not None:
            info.context[info.field_name] = value
        return value

    def canonical(self) -> dict[str, Any]:
        """The full form in plain JSON values, defaults written out; `restore_recipe` makes an equal recipe of it."""
        return dict(_written(self))


def _written(value: Any) -> Any:
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        keys = {field.alias or name: getattr(value, name) for name, field in fields.items()}
        if isinstance(value, PruneSpec) and value.one_shot is not None:
            del keys["levels"], keys["fraction"]
        return {key: _written(item) for key, item in {**keys, **(value.model_extra or {})}.items()}
    if isinstance(value, tuple):
        return [_written(item) for item in value]
    return plain(value)


def json_schema() -> dict[str, Any]:
    """The JSON schema of a recipe, for editors that complete and check YAML."""
    return Recipe.model_json_schema()


def shipped() -> dict[str, Path]:
    """The recipes that come with the package, by name."""
    package = Path(__file__).parent
    folder = next((f for f in (package / "recipes", package.parent / "recipes") if f.is_dir()), package)
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find_recipe(source: str | Path) -> Path:
    """The file of a recipe: of the shipped one of that name, else the path itself (./name for a file so called).

    Raises RecipeError where there is no such file."""
    known = shipped() if isinstance(source, str) else {}
    path = known.get(str(source), Path(source))
    if "\0" not in str(path) and path.exists():
        return path
    near = get_close_matches(str(source), known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise RecipeError([f"{source}: neither a file nor a shipped recipe{hint} (lottery list recipes)"])


def load_recipe(source: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file, or the shipped recipe of that name, with `a.b=value` overrides.

    Raises RecipeError with all that is wrong."""
    path = find_recipe(source)
    try:
        with path.open("rb") as file:
            text = file.read(yaml.MOST_BYTES + 1)
    except OSError as error:
        raise RecipeError([f"{source}: cannot be read: {error.strerror}"]) from None
    return parse_recipe(text, str(path), overrides)


def parse_recipe(text: str | bytes, name: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe from text; `name` is what messages call it. Raises RecipeError with all that is wrong."""
    draft = yaml.Draft(yaml.parse(text, name), name, _SHORT)
    for override in overrides:
        draft.set(override)
    return _checked(draft)


def restore_recipe(canonical: Mapping[str, Any]) -> Recipe:
    """The recipe of a canonical form. Raises RecipeError where it is none, such as one of another version."""
    document = yaml.Document(deepcopy(dict(canonical)), {(): yaml.Place((1, 1), (1, 1))})
    return _checked(yaml.Draft(document, "recipe", _SHORT))


def _checked(draft: yaml.Draft) -> Recipe:
    draft.note(check.components(draft.data, _OWN_KEYS))
    draft.note(check.exclusions(draft.data))
    recipe, valid = None, dict[str, Any]()
    try:
        recipe = Recipe.model_validate(draft.data, context=valid)
    except ValidationError as error:
        draft.note(_misfit(each) for each in error.errors() if not _consequence(each))
    draft.note(check.contradictions(valid))
    if problems := draft.problems():
        raise RecipeError(problems)
    assert recipe is not None  # every misfit is among the problems
    return recipe


def _keys(spec: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in spec.model_fields.items()]


_OWN_KEYS: dict[yaml.Path, list[str]] = {
    ("data",): _keys(DataSpec),
    ("train", "schedule"): _keys(ScheduleSpec),
    ("branches",): _keys(BranchSpec),
}
_SHORT: dict[yaml.Path, str] = {
    **dict.fromkeys(check.CATALOGUES, "name"),
    ("branches", "optimizer"): "name",
    ("branches", "schedule"): "name",
    ("rewind",): "to",
}
_SECTIONS: dict[yaml.Path, type[BaseModel]] = {
    (): Recipe,
    ("data", "augment"): AugmentSpec,
    ("train",): TrainSpec,
    ("prune",): PruneSpec,
    ("rewind",): RewindSpec,
}

_WANTED = {  # where pydantic speaks of Python's types
    "model_type": "write keys and values, {key: value}",
    "dict_type": "write keys and values, {key: value}",
    "tuple_type": "write a list, [a, b]",
}


def _consequence(error: Any) -> bool:
    """Whether pydantic says this only because of another problem it reports."""
    return error["type"] == "default_factory_not_called" or (error["type"] == "too_short" and bool(error["input"]))


def _misfit(error: Any) -> Problem:
    """What pydantic says, in the words of the catalogues, at the place of the mapping where a key is missing."""
    path, kind = error["loc"], error["type"]
    if kind == "missing":
        return path[:-1], f"the key {path[-1]!r} is missing"
    if kind == "extra_forbidden":
        section = tuple(step for step in path[:-1] if isinstance(step, str))
        return path, f"there is no key {path[-1]!r} here{suggest(str(path[-1]), _keys(_SECTIONS[section]))}"
    if kind == "too_short":
        return path, "the list is empty; write at least one item"
    message = _WANTED.get(kind, error["msg"])
    return path, explain({**error, "msg": message})
