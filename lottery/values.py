"""Values that recipes are made of: lengths of training, and components with arguments; no torch here."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler
from pydantic_core import core_schema

ONE_ENTRY = "a list is not taken here; write one entry"
_DURATION = re.compile(r"(\d{1,12})(it|ep)")

Part = Literal["train", "validation", "test"]  # of the data
PARTS: tuple[Part, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class Duration:
    """A length of training in optimizer steps (`500it`) or passes over the training set (`2ep`).

    Attributes:
        value: Number of steps or passes.
        unit: `it` or `ep`.
    """

    value: int
    unit: str  # "it" or "ep"

    @classmethod
    def parse(cls, text: object) -> Duration:
        """Return the length that a text such as `500it` or `2ep` says.

        Raises:
            ValueError: The text is no length.
        """
        match = _DURATION.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise ValueError(f"{text!r} is no length; write steps as '500it' or passes over the data as '2ep'")
        return cls(int(match[1]), match[2])

    def steps(self, steps_per_epoch: int) -> int:
        """Return the length in optimizer steps."""
        return self.value if self.unit == "it" else self.value * steps_per_epoch

    def __str__(self) -> str:
        return f"{self.value}{self.unit}"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            lambda value: value if isinstance(value, cls) else cls.parse(value),
            serialization=core_schema.to_string_ser_schema(),
            json_schema_input_schema=core_schema.str_schema(pattern=r"^\d{1,12}(it|ep)$"),
        )


def point_label(to: Duration) -> str:
    """Return `init` for step 0, else the length as a recipe writes it: `500it`, `2ep`."""
    return "init" if to.value == 0 else str(to)


@dataclass(frozen=True)
class Component:
    """An entry of a catalogue and its arguments: written `adam` or `{name: adam, lr: 1e-3}` in a recipe."""

    name: str
    args: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, value: object) -> Component:
        """Return the component that a recipe writes as a name or as `{name: ..., key: value}`.

        Raises:
            ValueError: The value is neither.
        """
        if isinstance(value, Component):
            return value
        if isinstance(value, str):
            return cls(value)
        if isinstance(value, Mapping) and isinstance(value.get("name"), str):
            return cls(value["name"], {str(k): v for k, v in value.items() if k != "name"})
        if isinstance(value, (list, tuple)):
            raise ValueError(ONE_ENTRY)
        raise ValueError("write a name, or {name: ..., key: value}")

    def within(self) -> Iterator[tuple[tuple[str, ...], Component]]:
        """Yield the components among the arguments, with theirs after them, each with the keys that lead to it."""
        for key, value in self.args.items():
            if isinstance(value, Component):
                yield (key,), value
                yield from (((key, *inner), component) for inner, component in value.within())

    def as_dict(self) -> dict[str, Any]:
        """Return `{name: ..., key: value}` with plain values."""
        return {"name": self.name, **{k: plain(v) for k, v in self.args.items()}}

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls.parse,
            serialization=core_schema.plain_serializer_function_ser_schema(cls.as_dict),
            json_schema_input_schema=core_schema.union_schema([core_schema.str_schema(), core_schema.dict_schema()]),
        )


class LabelNoise(BaseModel):
    """Labels of the training set, a `share` of them, replaced by other classes that are drawn by a `seed` of their own.

    A recipe may write the share alone; the share 0 is none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)

    share: Annotated[float, Field(strict=True, gt=0, le=1)]
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**32)] = 0


@dataclass(frozen=True)
class Chosen:
    """A learning rate that the job of this key chooses: known by its key before it is known by its value."""

    key: str


def as_given(value: Any) -> Any:
    """Return the value as a recipe writes it: components by name, with their arguments where they have some."""
    if isinstance(value, Component):
        return as_given({"name": value.name, **value.args}) if value.args else value.name
    if isinstance(value, Mapping):
        return {key: as_given(item) for key, item in value.items()}
    return [as_given(item) for item in value] if isinstance(value, (list, tuple)) else value


def plain(value: Any) -> Any:
    """Return the value as JSON has it: components and lengths written out, tuples as lists, numbers finite.

    Raises:
        ValueError: JSON cannot hold the value.
    """
    if isinstance(value, Duration):
        return str(value)
    if isinstance(value, Component):
        return value.as_dict()
    if isinstance(value, Chosen):
        return {"chosen": value.key}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is no finite number")
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise ValueError(f"{value!r} cannot be written as JSON")


def in_flow(value: Any) -> str:
    """Return a plain value in one line as a recipe writes it: `0.1`, `batch`, `{name: mlp, widths: [100]}`."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {in_flow(item)}' for key, item in value.items())}}}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(in_flow, value))}]"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def told_apart(components: Sequence[Component]) -> list[str]:
    """Return the components' names; those that share one also say in what they differ."""
    labels = []
    for component in components:
        twins = [other for other in components if other.name == component.name]
        keys = sorted({key for twin in twins for key in twin.args})
        differing = [key for key in keys if len({str(twin.args.get(key)) for twin in twins}) > 1]
        given = ", ".join(f"{key}={said(component.args[key])}" for key in differing if key in component.args)
        labels.append(f"{component.name}({given})" if given else component.name)
    return labels


def said(value: Any) -> str:
    """Return an entry of a catalogue with its arguments, `sgd(lr=0.1)`; any other value as text."""
    if not isinstance(value, Component):
        return str(value)
    given = ", ".join(f"{key}={said(item)}" for key, item in value.args.items())
    return f"{value.name}({given})" if given else value.name
