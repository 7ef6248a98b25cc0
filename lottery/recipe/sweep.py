"""A sweep: one recipe file that is read as several recipes, its points, which differ in the values of some keys."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lottery.errors import RecipeError, UsageError
from lottery.recipe.claim_rules import about_claims_of_points
from lottery.recipe.claims import ReplicatesSpec
from lottery.recipe.draft import Draft, Written
from lottery.recipe.load import check_draft, consequence, find_recipe, misfit, parse_draft, read_file
from lottery.recipe.schema import Recipe
from lottery.recipe.swept import Where, axes, combinations, problems
from lottery.recipe.yaml import parse_value
from lottery.registry import suggest
from lottery.values import in_flow
from lottery.words import counted

NOT_OF_POINTS = ("sweep", "replicates")  # sections that a point does not have


@dataclass(frozen=True)
class Point:
    """One recipe of a sweep.

    Attributes:
        values: The values of the swept keys, as the file has them.
        recipe: The recipe with these values, checked as any other.
    """

    values: Mapping[str, Any]
    recipe: Recipe

    @property
    def label(self) -> str:
        """Words for the point, as `--point` takes them: `model.norm=batch, train.optimizer.lr=0.1`; empty for none."""
        return ", ".join(f"{key}={in_flow(value)}" for key, value in self.values.items())


@dataclass(frozen=True)
class Origin:
    """What a sweep was made of, so that it can be made again.

    Attributes:
        source: Path of the file, for people; empty where it was made by a program.
        text: The YAML document.
        overrides: The values of `--set`.
        plugins: The modules of `--plugin`.
    """

    source: str
    text: str
    overrides: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sweep:
    """The recipes of one file.

    Attributes:
        name: Name of the recipe.
        question: Its question.
        keys: The swept keys, in the order of the file; empty where there is no sweep.
        points: The recipes, the last key fastest; the one recipe where there is no sweep.
        replicates: Claims about the points; those of the recipe where there is no sweep.
        document: What the file says under its overrides, in plain JSON values: reading it gives an equal sweep.
        chosen: The settings of `--point` that these points are left by.
        origin: What it was read from; None where it was made by hand.
    """

    name: str
    question: str
    keys: tuple[str, ...]
    points: tuple[Point, ...]
    replicates: ReplicatesSpec | None = None
    document: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    chosen: tuple[str, ...] = ()
    origin: Origin | None = field(default=None, repr=False, compare=False)

    @property
    def only(self) -> Recipe:
        """The recipe of the only point.

        Raises:
            UsageError: There are several.
        """
        if len(self.points) == 1:
            return self.points[0].recipe
        key = self.keys[0]
        example = f"{key}={in_flow(self.points[0].values[key])}"
        raise UsageError(
            f"{self.name}: sweeps {', '.join(self.keys)}, {len(self.points)} points, and this is done of one; choose "
            f"it with --point, such as --point '{example}'"
        )

    def where(self, values: Mapping[str, Any]) -> tuple[Point, ...]:
        """Return the points at which swept keys have these values, in order.

        Raises:
            UsageError: A key is not swept, or never has the value.
        """
        for key, value in values.items():
            if key not in self.keys:
                known = f"; swept are {', '.join(self.keys)}" if self.keys else "; nothing is swept"
                raise UsageError(f"{key}: is not swept{suggest(key, self.keys)}{known}")
            if not any(_same(point.values[key], value) for point in self.points):
                seen = dict.fromkeys(in_flow(point.values[key]) for point in self.points)
                raise UsageError(f"{key}: is never {in_flow(value)}; its values are {', '.join(seen)}")
        return tuple(
            point for point in self.points if all(_same(point.values[key], value) for key, value in values.items())
        )

    def at(self, settings: Sequence[str]) -> Sweep:
        """Return the sweep with only the points of `key=value` settings, as `--point` takes them.

        Raises:
            UsageError: A setting names no point, or all of them together none.
        """
        values: dict[str, Any] = {}
        for setting in settings:
            key, equals, text = setting.partition("=")
            if not equals:
                raise UsageError(f"--point {setting}: write it as key=value, such as model.norm=batch")
            try:
                values[key] = parse_value(text, f"--point {setting}").value
                self.where({key: values[key]})
            except UsageError as error:
                raise UsageError(f"--point {setting}: {error}") from None
        points = self.where(values)
        if not points:
            raise UsageError(f"--point {' --point '.join(settings)}: no point has these values together")
        return replace(self, points=points, chosen=(*self.chosen, *settings))


def _same(value: Any, wanted: Any) -> bool:
    """Return True for the same value as YAML has it; the name of an entry stands for one with arguments too."""
    if isinstance(value, dict) and isinstance(wanted, str):
        return value.get("name") == wanted
    if isinstance(value, (int, float)) and isinstance(wanted, (int, float)):
        return value == wanted and isinstance(value, bool) == isinstance(wanted, bool)
    return json.dumps(value, sort_keys=True) == json.dumps(wanted, sort_keys=True)


def load_sweep(source: str | Path, overrides: Sequence[str] = ()) -> Sweep:
    """Read a recipe file, or the shipped recipe of that name, as the recipes that it makes.

    A recipe without `sweep` is one point without values.

    Raises:
        RecipeError: With all that is wrong, a line for each problem.
    """
    path = find_recipe(source)
    return parse_sweep(read_file(path), str(path), overrides)


def parse_sweep(text: str | bytes, name: str, overrides: Sequence[str] = ()) -> Sweep:
    """Read the recipes that a text makes; arguments and errors are those of `lottery.recipe.load.parse_recipe`."""
    sweep = _checked(parse_draft(text, name, overrides))
    said = text if isinstance(text, str) else text.decode()  # it is valid YAML, and so UTF-8
    return replace(sweep, origin=Origin(name, said, tuple(overrides)))


def _checked(draft: Draft) -> Sweep:
    document = deepcopy(draft.data)
    if "sweep" not in draft.data:
        recipe = check_draft(draft)
        _stop_at(draft)
        assert recipe is not None  # every misfit is among the problems
        return Sweep(recipe.name, recipe.question, (), (Point({}, recipe),), recipe.replicates, document)
    draft.note(problems(draft.data["sweep"]))
    _stop_at(draft)
    every = axes(draft.data["sweep"])
    lists = {key: where for axis in every for key, where in axis.keys.items()}
    _refuse_overridden(draft, lists)
    _stop_at(draft)
    places = list(combinations(every))
    drafts = [draft.point(_outer_first(at), NOT_OF_POINTS) for at in places]
    recipes = [check_draft(each) for each in drafts]
    values = [{key: _at(document, where) for key, where in at.items()} for at in places]
    draft.found += _merged(draft, drafts, values, places)
    replicates = _replicates(draft)
    _stop_at(draft)
    points = tuple(Point(own, recipe) for own, recipe in zip(values, recipes, strict=True) if recipe is not None)
    _refuse_equal(draft, points, places)
    _stop_at(draft)
    sweep = Sweep(points[0].recipe.name, points[0].recipe.question, tuple(lists), points, replicates, document)
    if replicates is not None:
        draft.note(about_claims_of_points(replicates, sweep.keys, sweep.where))
        _stop_at(draft)
    return sweep


def _stop_at(draft: Draft) -> None:
    if found := draft.problems():
        raise RecipeError(found)


def _at(document: Any, where: Where) -> Any:
    for step in where:
        document = document[step]
    return document


def _outer_first(at: Mapping[str, Where]) -> dict[str, Where]:
    """Return the keys in an order in which one inside another is set after it, whichever is written first."""
    return dict(sorted(at.items(), key=lambda each: each[0].count(".")))


def _refuse_overridden(draft: Draft, lists: Mapping[str, Where]) -> None:
    """Note each override that values of the sweep would take the place of."""
    for name, place in draft.overridden.items():
        for key, where in lists.items():
            if f"{name}.".startswith(f"{key}."):
                way = f"choose one of its values with --point, or write --set '{'.'.join(map(str, where))}=[...]'"
                draft.found.append((place, f"{name}: is swept ({draft.place(where).text}); {way}"))


def _replicates(draft: Draft) -> ReplicatesSpec | None:
    """Return the claims about the points; what is wrong with them is noted."""
    given = draft.data.get("replicates")
    if given is None:
        return None
    try:
        return ReplicatesSpec.model_validate(given)
    except ValidationError as error:
        every = [{**each, "loc": ("replicates", *each["loc"])} for each in error.errors()]
        draft.note(misfit(each) for each in every if not consequence(each))
        return None


def _merged(
    draft: Draft, drafts: Sequence[Draft], values: Sequence[Mapping[str, Any]], places: Sequence[Mapping[str, Where]]
) -> list[tuple[Written, str]]:
    """Return what is wrong at the points, once for all points, with the values at which it is.

    Nothing is added where a value of the sweep is wrong by itself, at the place of that value.
    """
    bad: dict[str, dict[int, Written]] = {}
    for number, point in enumerate(drafts):
        for place, text in point.found:
            bad.setdefault(text, {}).setdefault(number, place)
    found = []
    for text, at in bad.items():
        first = next(iter(at))
        common = {key: where for key, where in places[first].items() if all(places[n][key] == where for n in at)}
        alike = [number for number, where in enumerate(places) if common.items() <= where.items()]
        place = min(at.values())
        by_itself = len(common) == 1 and place in draft.places_in(*common.values())
        if len(at) < len(places) and not (len(alike) == len(at) and by_itself):
            shown = common if len(alike) == len(at) else places[first]
            told = ", ".join(f"{key}={in_flow(values[first][key])}" for key in shown)
            others = f" and {counted(len(at) - 1, 'other point')}" if shown is not common and len(at) > 1 else ""
            text = f"{text} (at {told}{others})"
        found.append((place, text))
    return found


def _refuse_equal(draft: Draft, points: Sequence[Point], places: Sequence[Mapping[str, Where]]) -> None:
    """Note points that are the same recipe, such as those of `lenet` and `{name: lenet}`."""
    seen: dict[str, int] = {}
    for number, point in enumerate(points):
        first = seen.setdefault(json.dumps(point.recipe.canonical(), sort_keys=True), number)
        if first < number:
            where = next(path for key, path in places[number].items() if path != places[first][key])
            draft.note([(where, f"the point {point.label} is the same recipe as {points[first].label}; keep one")])
