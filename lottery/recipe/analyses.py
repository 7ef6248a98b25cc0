"""The sections of a recipe that ask for analyses, and for the states that they look at."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from lottery import registry
from lottery.recipe.readings import READINGS, Reading
from lottery.recipe.types import EntrySection, Label, Point, Section, listed
from lottery.values import Duration

DENSE, TICKET, PRUNED = "dense", "ticket", "pruned"  # networks that every recipe has; `pruned` is dense under the mask
THREE_ERRORS = {  # that the table of an analysis with the trait `adds_up` tells apart, with their units
    f"{measure}_{part}": "points" if measure == "error" else ""
    for measure in ("loss", "error")
    for part in ("representation", "optimization", "generalization")
}
CONNECTED_WITHIN = 2.0  # percentage points of error, Frankle et al. 2020
MOST_POINTS = 1000  # along one training
TABLES = (  # of every study: no analysis is called so
    *(
        "means",
        "matrix",
        "long",
        "curves",
        "transfer",
        "transfer_tests",
        "rates",
        "costs",
        "frontier",
        "verdicts",
        "sparsest",
        "claims",
    ),
    *("decomposition", "audit", "examples", "layers", "overlaps", "connected", "rewind", "replication"),
)
_POINTS = re.compile(r"(\d{1,4}) points")


def units_of(name: str) -> dict[str, str]:
    """Return the unit of each value that a claim about the analysis of this name may speak of."""
    traits = registry.analyses[name].traits
    return {**traits.units, **(THREE_ERRORS if traits.adds_up else {})}


Pairing = Literal["dense-ticket", "level-level", "seed-seed", "optimizer-optimizer"]
PAIRINGS: tuple[Pairing, ...] = ("dense-ticket", "level-level", "seed-seed")  # where a recipe names none
LevelsLookedAt = Annotated[
    tuple[Annotated[int, Field(strict=True, ge=0, le=200)], ...],
    Field(min_length=1),
    BeforeValidator(listed, json_schema_input_type=int | list[int]),
]
ChildrenOf = Annotated[
    tuple[Point, ...],
    Field(min_length=1, max_length=100),
    BeforeValidator(listed, json_schema_input_type=str | list[str]),
]
PAIRS = 3  # of children, where a recipe names no number
_NETWORKS = {"three": (DENSE, TICKET, PRUNED), "children": (DENSE,)}  # where it names none
Networks = Annotated[
    tuple[Label, ...],
    Field(min_length=1, max_length=100),
    BeforeValidator(listed, json_schema_input_type=str | list[str]),
]


def _moments(items: tuple[str, ...]) -> tuple[str, ...]:
    """Return the moments of a training as they are.

    Raises:
        ValueError: One is neither a reading, nor a length, nor a number of points.
    """
    for item in items:
        if item not in READINGS and number_of_points(item) is None:
            Duration.parse(item)
    return items


def number_of_points(moment: str) -> int | None:
    """Return n of `n points`, None for another moment.

    Raises:
        ValueError: There are fewer than 2 points, or more than MOST_POINTS.
    """
    match = _POINTS.fullmatch(moment)
    if match is None:
        return None
    if not 2 <= int(match[1]) <= MOST_POINTS:
        raise ValueError(f"{moment}: write 2 to {MOST_POINTS:,} points, start and end included")
    return int(match[1])


class KeepSpec(Section):
    """The states that trainings keep beside those that the method needs, for analyses that are to come.

    `of` names the networks: `dense`, `ticket` and controls. `at` says when: `early_stop`, `best_accuracy`, `end`, a
    length such as `500it`, or `10 points` at equal distances from the start of the training to its end.
    """

    of: Networks = (DENSE, TICKET)
    at: Annotated[
        tuple[str, ...],
        Field(min_length=1, max_length=100),
        BeforeValidator(listed, json_schema_input_type=str | list[str]),
        AfterValidator(_moments),
    ]


def kept(value: object) -> object:
    """Return a list of moments alone as the section that keeps them."""
    return {"at": value} if isinstance(value, (str, list, tuple)) else value


class AnalysisSpec(EntrySection):
    """An analysis of finished networks: an entry of the catalogue `analyses`, its arguments, and what it looks at.

    Analyses of one state look at each network in `of`; of a pair at those that `between` names, or at the two in `of`;
    of three at those in `through`; of a trajectory at `along` states of each training in `of`, its start and its end
    included; of children at `pairs` of them for each state in `at`. `levels` are those that are looked at, 0 for the
    dense network. Two networks are connected `margin` points or less apart: their error rises by less on the path
    between them. `as` names its table.
    """

    of: Networks | None = None
    between: (
        Annotated[tuple[Pairing, ...], BeforeValidator(listed, json_schema_input_type=Pairing | list[Pairing])] | None
    ) = None
    through: Annotated[tuple[Label, ...] | None, Field(min_length=3, max_length=3)] = None
    along: Annotated[int, Field(strict=True, ge=2, le=MOST_POINTS)] | None = None
    at: ChildrenOf | None = None
    pairs: Annotated[int, Field(strict=True, ge=1, le=100)] | None = None
    levels: LevelsLookedAt | None = None
    reading: Reading = "end"
    margin: Annotated[float, Field(strict=True, gt=0, le=100)] | None = None
    as_: Annotated[Label | None, Field(alias="as")] = None

    @property
    def label(self) -> str:
        """Name of its table."""
        return self.as_ or self.name

    @property
    def networks(self) -> tuple[str, ...]:
        """Networks that it looks at one by one, of which it looks at three, or whose children it looks at."""
        return self.through or self.of or _NETWORKS.get(self.looks_at, (DENSE, TICKET))

    @property
    def pairings(self) -> tuple[str, ...]:
        """Pairs that it looks at."""
        return self.between or (() if self.of else PAIRINGS)

    def starts(self, rewinds: Sequence[Duration]) -> tuple[Duration, ...]:
        """Return the steps whose states have children: those in `at`, else the recipe's rewind points."""
        return self.at or tuple(dict.fromkeys(rewinds))

    @property
    def number_of_pairs(self) -> int:
        """Pairs of children of each state."""
        return self.pairs or PAIRS

    @property
    def within(self) -> float:
        """Margin of the verdict on whether two networks are connected, in percentage points."""
        return CONNECTED_WITHIN if self.margin is None else self.margin

    @property
    def looks_at(self) -> str:
        """What one of its jobs looks at, see `traits.AnalysisTraits`."""
        return registry.analyses[self.name].traits.looks_at


OWN_KEYS = tuple(field.alias or name for name, field in AnalysisSpec.model_fields.items())  # not those of the entry
