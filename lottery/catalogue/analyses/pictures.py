"""Analyses that draw the surface: slices and planes around one state, through three, and along a training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from lottery.catalogue.analyses._keys import Bn, Examples, PictureParts, Unit, evaluated, shape_units, version
from lottery.registry import analyses
from lottery.traits import Work

if TYPE_CHECKING:
    from lottery.landscape.memo import Memo
    from lottery.landscape.subject import Measurement, Subject

Points = Annotated[int, Field(ge=3)]
Reach = Annotated[float, Field(gt=0)]
Times = Annotated[float, Field(ge=0)]
Room = Annotated[float, Field(gt=0)]
_PRODUCTS = 100  # at most, for the eigenvectors of a plane


def _passes(dimensions: int, states: int = 1) -> Callable[[Mapping[str, Any]], Work]:
    """Return the work of states, of a grid, and of the border of one range, under the first policy for statistics.

    Each widening takes a border once more.
    """

    def passes(args: Mapping[str, Any]) -> Work:
        eigenvectors = args.get("directions") == "eigenvectors"
        border = (3**dimensions - 1) / (2 if args["bn"] == "both" else 1)
        points = args["points"] ** dimensions + states + border
        return evaluated(args, points, products=_PRODUCTS if eigenvectors else 0)

    return passes


_SIDES: dict[str, Unit] = {"half_width": "", "half_height": ""}


@analyses.register(
    "slice",
    source="Goodfellow et al. 2015; Li et al. 2018",
    units={"half_width": "", **shape_units()},
    passes=_passes(1),
    test=("test_*",),
    version_of=version,
)
def slice_(
    subject: Subject,
    memo: Memo,
    *,
    points: Points = 25,
    reach: Reach = 1.0,
    times: Times = 2.0,
    bn: Bn = "reset",
    parts: PictureParts | None = None,
    examples: Examples | None = 1000,
) -> Measurement:
    """Loss and error along a random direction through a state, normalized filter by filter.

    The direction lies within the mask, and each filter of it has the norm of the state's filter, so that 1 is as far as
    its weights are from 0. The slice goes from -`reach` to `reach`, and is widened by half, up to four times, until the
    train loss at its ends is `times` that of the state. `convex` is the fraction of inner points with a curvature that
    is not negative, `minima` the number of points below both neighbours.
    """
    from lottery.landscape.directions import filter_normalized, random_direction
    from lottery.landscape.evaluate import points_of
    from lottery.landscape.planes import Around, Box, picture
    from lottery.landscape.subject import Measurement

    (state,) = subject.states
    surface = subject.surface(state.mask, examples, parts=parts)
    (middle,) = points_of(surface, subject.states)
    drawn = random_direction(surface, subject.generator("directions"))
    at = Around(middle, filter_normalized(surface, drawn, middle.vector)).at
    here = [(state.name, 0.0, 0.0, middle)]
    rows, values = picture(surface, memo, at, Box(0, 0, reach, 0), states=here, points=points, bn=bn, times=times)
    return Measurement(values, rows)


@analyses.register(
    "surface",
    source="Li et al. 2018; eigenvectors: Yao et al. 2020",
    units={"eigenvalue_1": "", "eigenvalue_2": "", **_SIDES, **shape_units()},
    passes=_passes(2),
    test=("test_*",),
    version_of=version,
)
def surface(
    subject: Subject,
    memo: Memo,
    *,
    directions: Literal["random", "eigenvectors"] = "random",
    points: Points = 25,
    reach: Reach | None = None,
    times: Times = 2.0,
    bn: Bn = "reset",
    parts: PictureParts | None = None,
    examples: Examples | None = 1000,
) -> Measurement:
    """Loss and error on a plane through one state.

    `random` directions are normalized filter by filter, as in `slice`; the first is the one of `slice`. They show what
    most directions look like, which is not where training goes: prefer `plane` and `trajectory` for that.
    `eigenvectors` are those of the two largest eigenvalues of the train loss' Hessian over the survivors, each as long
    as the state is from 0: the directions in which the surface is most curved, under the running statistics that the
    state has.

    The plane goes from -`reach` to `reach` along both and is widened as a slice is. Without `reach` that is 1 for
    random directions, and along an eigenvector a tenth more than where the quadratic model is at `times` the train loss
    of the state, or at twice it, and 1 at most. `convex` is the fraction of inner points whose second differences have
    no negative eigenvalue, `minima` the number of points below all eight neighbours.
    """
    from lottery.landscape.directions import filter_normalized, random_direction
    from lottery.landscape.evaluate import points_of
    from lottery.landscape.planes import Around, Box, picture
    from lottery.landscape.sharpest import sharpest_directions
    from lottery.landscape.subject import Measurement

    (state,) = subject.states
    over = subject.surface(state.mask, examples, parts=parts)
    (middle,) = points_of(over, subject.states)
    width = height = 1.0
    known: dict[str, float] = {}
    if directions == "random":
        drawn = [random_direction(over, subject.generator("directions", i)) for i in range(2)]
        axes = [filter_normalized(over, direction, middle.vector) for direction in drawn]
    else:
        found = sharpest_directions(over, middle, partial(subject.generator, "eigenvectors"), memo, times)
        axes, (width, height) = list(found.directions), found.reaches
        known = {f"eigenvalue_{i}": value for i, value in enumerate(found.eigenvalues, start=1)}
    box = Box(0, 0, width, height) if reach is None else Box(0, 0, reach, reach)
    here = [(state.name, 0.0, 0.0, middle)]
    at = Around(middle, *axes).at
    rows, values = picture(over, memo, at, box, states=here, points=points, bn=bn, times=times)
    return Measurement({**known, **values}, rows)


@analyses.register(
    "plane",
    source="Garipov et al. 2018",
    looks_at="three",
    units={**_SIDES, **shape_units()},
    passes=_passes(2, states=3),
    test=("test_*",),
    version_of=version,
)
def plane(
    subject: Subject,
    memo: Memo,
    *,
    points: Points = 25,
    room: Room = 0.5,
    times: Times = 2.0,
    bn: Bn = "reset",
    parts: PictureParts | None = None,
    examples: Examples | None = 1000,
) -> Measurement:
    """Loss and error on the plane through three states, such as dense, ticket and pruned.

    Coordinates are L2 distances: the first state is at (0, 0), the second at (x, 0). The picture leaves `room` on
    each side, a share of the distance that the states take, and is widened by half, up to four times, until the train
    loss at its border is `times` the highest of the three. The plane lies within the weights that survive in any of the
    three. With `bn: interpolate` statistics beyond the states may be none, which gives holes.
    """
    from lottery.landscape.evaluate import check_alike, points_of
    from lottery.landscape.planes import Box, Through, picture
    from lottery.landscape.subject import Measurement

    check_alike(subject.states)
    over = subject.surface(subject.densest, examples, parts=parts)
    three = points_of(over, subject.states)
    through = Through(three)
    here = [
        (state.name, *place, point) for state, place, point in zip(subject.states, through.places, three, strict=True)
    ]
    box = Box.around(through.places, room)
    rows, values = picture(over, memo, through.at, box, states=here, points=points, bn=bn, times=times)
    return Measurement(values, rows)


@analyses.register(
    "trajectory",
    source="Li et al. 2018; Antognini & Sohl-Dickstein 2018",
    looks_at="trajectory",
    units={"explained_1": "fraction", "explained_2": "fraction", "dimensions_90": "", **_SIDES, **shape_units()},
    passes=_passes(2),
    test=("test_*",),
    version_of=version,
)
def trajectory(
    subject: Subject,
    memo: Memo,
    *,
    points: Points = 25,
    room: Room = 0.25,
    times: Times = 2.0,
    bn: Bn = "reset",
    parts: PictureParts | None = None,
    examples: Examples | None = 1000,
) -> Measurement:
    """Loss and error on the plane of the first two principal components of the states along a training.

    The plane goes through the last state, at (0, 0), and the others are projected to it; the values beside them are
    their own, not those of the plane below them. `explained_1` and `explained_2` are the fractions of the states'
    variance along both components, `dimensions_90` the number of components for 90 % of it. A long random walk in many
    dimensions already has .61 and .15. `room` and `times` are as in `plane`.
    """
    from lottery.landscape.planes import Around, Box, picture
    from lottery.landscape.subject import Measurement
    from lottery.landscape.trajectory import components, needed

    over = subject.surface(subject.densest, examples, parts=parts)
    along = [over.point(state.masked()) for state in subject.states]
    found = components([point.vector for point in along])
    at = Around(along[-1], *found.directions.to(over.dtype)).at
    places = [(float(x), float(y)) for x, y in found.coordinates]
    here = [(state.name, *place, point) for state, place, point in zip(subject.states, places, along, strict=True)]
    box = Box.around(places, room)
    rows, values = picture(over, memo, at, box, states=here, points=points, bn=bn, times=times)
    explained = [float(share) for share in found.explained]
    shares = {"explained_1": explained[0], "explained_2": explained[1], "dimensions_90": float(needed(found.explained))}
    each: list[dict[str, float | str]] = [
        {"kind": "component", "name": str(i), "explained": share} for i, share in enumerate(explained, start=1)
    ]
    return Measurement({**shares, **values}, [*rows, *each])
