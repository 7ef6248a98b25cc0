"""The section `sweep` of a recipe: which values its keys take, one after the other or together."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Annotated, Any, NamedTuple

from pydantic import ConfigDict, Field

from lottery.recipe.schema import Recipe
from lottery.recipe.types import Section
from lottery.registry import Problem

MOST_POINTS = 1_000
FIXED = {  # keys that every point shares
    "name": "all points are of one study",
    "question": "all points are of one study",
    "plugins": "they are imported once, for all points",
    "seeds": "they pair the points, each of which has them all",
    "replicates": "its claims are about the points",
    "sweep": "the section itself",
}

Values = Annotated[list[Any], Field(min_length=1)]
Where = tuple[str | int, ...]  # the path of a value in the recipe's document


class SweepSpec(Section):
    """Keys of the recipe, each with the values that it takes: every combination is a point, an ordinary recipe.

    The lists of `zip` have one length and go together, value by value.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Values]

    zip: Annotated[dict[str, Values], Field(min_length=1)] | None = None


def _swept_keys_may_be_missing(schema: dict[str, Any]) -> None:
    required = schema.pop("required")
    schema["anyOf"] = [{"required": required}, {"required": ["sweep"]}]


class SweptRecipe(Recipe):
    """A recipe as a file has it: one experiment, or with `sweep` as many as the sweep has points."""

    model_config = ConfigDict(json_schema_extra=_swept_keys_may_be_missing)

    sweep: SweepSpec | None = None


class Axis(NamedTuple):
    """Keys that change together, and how many values each of them has."""

    keys: Mapping[str, Where]  # by key, where the list of its values is
    length: int


def axes(sweep: Mapping[str, Any]) -> list[Axis]:
    """Return the axes of a section in the order in which it is written; `problems` must have found nothing."""
    found = []
    for key, values in sweep.items():
        if key != "zip":
            found.append(Axis({key: ("sweep", key)}, len(values)))
        else:
            lists = {name: ("sweep", "zip", name) for name in values}
            found.append(Axis(lists, len(next(iter(values.values())))))
    return found


def combinations(every: list[Axis]) -> Iterator[dict[str, Where]]:
    """Yield for each point where the value of each key is, the last axis fastest."""
    for indices in product(*(range(axis.length) for axis in every)):
        yield {
            key: (*where, index) for axis, index in zip(every, indices, strict=True) for key, where in axis.keys.items()
        }


def problems(sweep: Any) -> Iterator[Problem]:
    """Yield what is wrong with a section, whatever its keys and values mean; the paths are those of the document."""
    if not isinstance(sweep, dict) or not sweep:
        yield ("sweep",), "write keys and lists of values, such as `model.norm: [none, batch]`"
        return
    lists: dict[Where, Any] = {("sweep", key): values for key, values in sweep.items() if key != "zip"}
    together = sweep.get("zip", {})
    if "zip" in sweep:
        if not isinstance(together, dict) or not together:
            yield ("sweep", "zip"), "write keys and lists of one length, whose values go together"
            return
        lists |= {("sweep", "zip", key): values for key, values in together.items()}
    found = [problem for where, values in lists.items() for problem in _about_list(where, values)]
    found += [
        (("sweep", "zip", key), f"{key} is swept by itself too; keep one of the two")
        for key in together
        if key in sweep
    ]
    yield from found
    if not found:
        yield from _about_lengths(sweep, together)


def _about_list(where: Where, values: Any) -> Iterator[Problem]:
    """Yield what is wrong with one key and its values."""
    key = str(where[-1])
    first = key.partition(".")[0]
    if not all(key.split(".")):
        yield where, f"{key!r} is no key; write it as `--set` takes it, such as train.optimizer.lr"
    elif first in FIXED:
        yield where, f"{first} cannot be swept: {FIXED[first]}"
    if not isinstance(values, list):
        yield where, "write a list of values; a value that is a list itself stands in a second pair of brackets"
    elif not values:
        yield where, "the list is empty; write at least one value"
    elif where[:2] != ("sweep", "zip"):  # what goes together may repeat a value beside another
        seen: dict[str, int] = {}
        for index, value in enumerate(values):
            earlier = seen.setdefault(json.dumps(value, sort_keys=True), index)
            if earlier < index:
                yield (*where, index), f"the same as value {earlier}; every one may be given once"


def _about_lengths(sweep: Mapping[str, Any], together: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield lists of `zip` that differ in length, and a number of points beyond the most."""
    lengths = {key: len(values) for key, values in together.items()}
    first, length = next(iter(lengths.items()), ("", 1))
    for key, own in lengths.items():
        if own != length:
            yield ("sweep", "zip", key), f"{own} values, and {length} of {first}; those of zip go together, one by one"
    points = length * math.prod(len(values) for key, values in sweep.items() if key != "zip")
    if points > MOST_POINTS:
        yield ("sweep",), f"makes {points:,} points, {MOST_POINTS:,} is the most; sweep fewer values, or in two recipes"
