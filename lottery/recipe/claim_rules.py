"""Checks of published claims: what they name is there, in the recipe or at the points of its sweep."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from lottery.errors import UsageError
from lottery.recipe.analysis_subjects import Trunks, about_measured_claim
from lottery.registry import Problem, suggest
from lottery.values import in_flow
from lottery.words import counted

if TYPE_CHECKING:
    from lottery.recipe.claims import ClaimSpec, ReplicatesSpec
    from lottery.recipe.schema import Recipe
    from lottery.recipe.types import RewindSpec

Path = tuple[str | int, ...]


class PointLike(Protocol):
    """A point of a sweep."""

    @property
    def values(self) -> Mapping[str, Any]:
        """The values of the swept keys."""

    @property
    def recipe(self) -> Recipe:
        """The recipe."""

    @property
    def label(self) -> str:
        """The point in words."""


Where = Callable[[Mapping[str, Any]], Sequence[PointLike]]  # raises UsageError for a key or value that is not swept


def about_claims(valid: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield what claims name and a recipe without a sweep does not have; `valid` has its valid sections."""
    for index, claim in enumerate(valid["replicates"].claims):
        here = ("replicates", "claims", index)
        if claim.left is not None:
            yield (*here, "left"), "the recipe has no `sweep` whose points could be selected; leave left and right out"
        yield from _about_claim(here, claim, valid)


def about_claims_of_points(replicates: ReplicatesSpec, keys: Sequence[str], where: Where) -> Iterator[Problem]:
    """Yield what claims name and the points of a sweep do not have.

    Args:
        replicates: The claims.
        keys: The swept keys.
        where: Returns the points that have these values.
    """
    for index, claim in enumerate(replicates.claims):
        here = ("replicates", "claims", index)
        if claim.left is None:
            number = counted(len(where({})), "point")
            yield here, f"is of which of the {number} of the sweep? write `left: {{{keys[0]}: ...}}`"
            continue
        problems = [problem for name in ("left", "right") for problem in _about_side(here, name, claim, keys, where)]
        if claim.over is not None and claim.over not in keys:
            said = suggest(claim.over, keys)
            problems.insert(0, ((*here, "over"), f"{claim.over} is not swept{said}; swept are {', '.join(keys)}"))
        if not problems:
            problems += _about_both(here, claim, where)
        yield from problems


def selected(claim: ClaimSpec, where: Where) -> tuple[list[PointLike], list[PointLike]]:
    """Return the points on the left and on the right of a claim that is right; several a side for `over`."""
    left, right = ([] if side is None else list(where(side)) for side in (claim.left, claim.right))
    return left, right


def _about_side(here: Path, name: str, claim: ClaimSpec, keys: Sequence[str], where: Where) -> Iterator[Problem]:
    """Yield why a selector does not select one point, or with `over` one for each value of that key."""
    selector: Mapping[str, Any] | None = getattr(claim, name)
    wrong = False
    for key, value in (selector or {}).items():
        try:
            where({key: value})
        except UsageError as error:
            wrong = True
            yield (*here, name, key), str(error)
    if selector is None or wrong:
        return
    if claim.over is not None and claim.over in selector:
        yield (*here, name, claim.over), f"good values of {claim.over} are counted; leave it out of {name}"
        return
    points = where(selector)
    varied = [key for key in keys if key != claim.over and len({in_flow(point.values[key]) for point in points}) > 1]
    if not points:
        yield (*here, name), "selects no point: none has these values together"
    elif varied:
        yield (
            (*here, name),
            f"selects {len(points)} points, which differ in {', '.join(varied)}; name values of these too",
        )
    elif claim.over is not None and len({in_flow(point.values.get(claim.over)) for point in points}) < len(points):
        yield (*here, name), f"selects several points for one value of {claim.over}; name the values of other keys too"


def _about_both(here: Path, claim: ClaimSpec, where: Where) -> Iterator[Problem]:
    """Yield what is wrong with the two sides together, and what their recipes do not have."""
    left, right = selected(claim, where)
    if right and left[0].label == right[0].label:
        yield (*here, "right"), "is the point that left is; nothing is compared"
        return
    places = {_places(claim, point.recipe) for point in (*left, *right)}
    if len({len(each) for each in places}) > 1 or (len(places) > 1 and any(len(each) > 1 for each in places)):
        yield here, "the points have other optimizers or rewind points; name one with `optimizer` and `rewind`"
    told = set()
    for point in (*left, *right):
        valid = {name: getattr(point.recipe, name) for name in type(point.recipe).model_fields}
        for path, words in _about_claim(here, claim, valid):
            if (path, words) not in told:
                told.add((path, words))
                yield path, f"{words} (at {point.label})"


def _places(claim: ClaimSpec, recipe: Recipe) -> tuple[tuple[str, str], ...]:
    """Return the optimizers and rewind points of a recipe that a claim speaks of, by names."""
    return tuple(
        (optimizer.name, f"{rewind.to} {rewind.mode}")
        for index, optimizer in enumerate(recipe.train.optimizer)
        if claim.optimizer in (None, index)
        for rewind in recipe.rewind
        if claim.rewind in (None, rewind.to)
    )


def _about_claim(here: Path, claim: ClaimSpec, valid: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield what a claim names and one recipe does not have."""
    train, data = valid.get("train"), valid.get("data")
    branches, rewinds = valid.get("branches", ()), valid.get("rewind", ())
    optimizers = len(train.optimizer) if train else 0
    yield from _about_names(here, claim, [branch.label for branch in branches], rewinds, optimizers)
    if claim.retrained_with is not None:
        yield from _about_retrained(here, claim.retrained_with, valid.get("transfer"), optimizers)
    yield from about_measured_claim(here, claim, valid.get("analyses") or (), Trunks.of(valid))
    if claim.reaches is not None and claim.reaches.train_loss is None and data is not None and not data.validation:
        yield (*here, "reaches"), "is measured on a validation split; add data.validation, or write train_loss"
    if claim.measure == "epochs_to" and train is not None:
        if train.length.unit != "ep":
            yield (*here, "measure"), f"epochs_to needs train.length in epochs, such as 20ep, not {train.length}"
        if not {claim.column, claim.against} <= {"dense", "ticket", None}:
            yield (*here, "measure"), "epochs_to is of dense networks and tickets; write steps_to for controls"


def _about_retrained(here: Path, place: int, transfer: object, optimizers: int) -> Iterator[Problem]:
    """Yield why a recipe retrains no ticket with the optimizer that a claim names by its place."""
    if transfer is None:
        yield (*here, "retrained_with"), "the recipe retrains no ticket with another optimizer; add `transfer: all`"
    if optimizers and place >= optimizers:
        there = f"the last of train.optimizer is {optimizers - 1}, counted from 0"
        yield (*here, "retrained_with"), f"no optimizer {place}; {there}"


def _about_names(
    here: Path, claim: ClaimSpec, controls: Sequence[str], rewinds: Sequence[RewindSpec], optimizers: int
) -> Iterator[Problem]:
    """Yield the columns, rewind points and optimizers that a claim names and the table does not have."""
    columns = ["dense", "ticket", *controls]
    points = [rewind.to for rewind in rewinds if rewind.auto is None]  # what is looked for may be any
    for key, column in (("column", claim.column), ("against", claim.against)):
        if column is not None and column not in columns:
            yield (*here, key), f"no column {column!r}; there are {', '.join(columns)}"
    if claim.rewind is not None and points and claim.rewind not in points:
        yield (*here, "rewind"), f"no ticket is rewound to {claim.rewind}; there are {', '.join(map(str, points))}"
    for side, path in ((claim, ()), (claim.minus, ("minus",))):
        if side is not None and side.optimizer is not None and optimizers and side.optimizer >= optimizers:
            there = f"the last of train.optimizer is {optimizers - 1}, counted from 0"
            yield (*here, *path, "optimizer"), f"no optimizer {side.optimizer}; {there}"
