"""A claim on the page of a survey: one row, however many optimizers and rewind points it is judged for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lottery.analysis.labels import density_label
from lottery.figures.claim_strips import Effect, Strip
from lottery.verdicts.claims_in_words import effect, points_in_words, would_change

if TYPE_CHECKING:
    from lottery.analysis.rows import Row
    from lottery.recipe.claims import ClaimSpec

VERDICTS = ("holds", "fails", "undecided")
SHAPES = {"holds": "●", "fails": "▼", "undecided": "○"}  # as in the figures: no one has to tell colours apart
_SEVERAL = {"holds": "hold", "fails": "fail", "undecided": "undecided"}
NOT_TRAINED = "not trained"


@dataclass(frozen=True)
class Case:
    """A claim at one optimizer and rewind point.

    Attributes:
        label: The optimizer, with the rewind point where the recipe has several; the pair where another one retrains.
        verdict: `holds`, `fails` or `undecided`.
        rows: Its rows, one for each density.
        change: What would change the verdict.
    """

    label: str
    verdict: str
    rows: Sequence[Row]
    change: str

    @property
    def effects(self) -> str:
        """The effect with its bounds, at each density."""
        several = len(self.rows) > 1
        told = [(f"{density_label(row['density'])}: " if several else "", effect(row) or "none") for row in self.rows]
        return ", ".join(f"{density}{value}" for density, value in told)


@dataclass(frozen=True)
class Claim:
    """A claim of a recipe with its verdict.

    Attributes:
        letter: What it is called in its statement's figure and table.
        recipe: The recipe.
        text: The claim.
        source: Where in the literature it stands.
        unit: Unit of its effect, as it is said after it.
        cases: Each optimizer and rewind point that it is judged for; one where the recipe has one.
        spec: The claim as the recipe has it.
    """

    letter: str
    recipe: str
    text: str
    source: str
    unit: str
    cases: Sequence[Case]
    spec: ClaimSpec

    @property
    def rows(self) -> list[Row]:
        """All of its rows, one for each case and density."""
        return [row for case in self.cases for row in case.rows]

    @property
    def verdict(self) -> str:
        """`holds` where it does in all cases, `fails` where it does in one, else `undecided`."""
        found = {case.verdict for case in self.cases}
        return "fails" if "fails" in found else "holds" if found == {"holds"} else "undecided"

    @property
    def cases_in_words(self) -> str:
        """How many of its cases hold, fail and are undecided; empty where there is one."""
        return in_short([case.verdict for case in self.cases]) if len(self.cases) > 1 else ""

    @property
    def untrained(self) -> bool:
        """True if it has no value yet because trainings or analyses are not finished."""
        return all(int(row["n"]) == 0 and any(map(_is_missing, row["note"].split("; "))) for row in self.rows)

    @property
    def effect(self) -> str:
        """The effect with its bounds and its unit; of several cases or densities the smallest and the largest one."""
        told = [(row["estimate"], f"{effect(row)}{self._where(case, row)}") for case, row in self._judged]
        if not told:
            return "none"
        least, most = min(told)[1], max(told)[1]
        span = least if len(told) == 1 else f"{least} to {most}"
        missing = len(self.rows) - len(told)
        return f"{span}{f' {self.unit}' if self.unit else ''}{f'; {missing} of {len(self.rows)} none' * bool(missing)}"

    @property
    def points(self) -> str:
        """The points of the sweep that are compared."""
        return points_in_words(self.rows[0])

    @property
    def seeds(self) -> int:
        """The fewest seeds of any case and density."""
        return min(int(row["n"]) for row in self.rows)

    @property
    def notes(self) -> str:
        """What stands in the way of a verdict, or was counted beside it, each with the cases that it is of."""
        found: dict[str, dict[str, None]] = {}
        for case in self.cases:
            for part in (part for row in case.rows for part in row["note"].split("; ")):
                if part and not part.startswith("level "):
                    found.setdefault(part, {})[case.label] = None
        every = len(self.cases)
        return "; ".join(
            part if len(cases) == every else f"{part} ({', '.join(cases)})" for part, cases in found.items()
        )

    @property
    def change(self) -> str:
        """What would change the verdict, in each case."""
        if len(self.cases) == 1:
            return self.cases[0].change
        return ". ".join(f"{case.label}: {case.change}" for case in self.cases if case.change)

    @property
    def strips(self) -> list[Strip]:
        """What is drawn of it: a strip for each density, with an interval for each case."""
        if self.untrained:
            return []
        densities = list(zip(*(case.rows for case in self.cases), strict=True))
        return [
            Strip(
                f"{self.letter} ({density_label(rows[0]['density'])})" if len(densities) > 1 else self.letter,
                [Effect(row["here"], row["estimate"], row["low"], row["high"]) for row in rows],
                self.spec.least,
                self.spec.most,
                self.spec.logarithmic,
            )
            for rows in densities
        ]

    @property
    def _judged(self) -> list[tuple[Case, Row]]:
        return [(case, row) for case in self.cases for row in case.rows if row["estimate"] is not None]

    def _where(self, case: Case, row: Row) -> str:
        """Return in brackets which case and density a row is of, as far as there are several."""
        parts = [case.label] * (len(self.cases) > 1)
        parts += [density_label(row["density"])] * (len(case.rows) > 1)
        return f" ({', '.join(parts)})" if parts else ""


def _is_missing(note: str) -> bool:
    """Return True for a note which says that something is not finished."""
    return note == NOT_TRAINED or note.endswith(" finished")


def cases_of(spec: ClaimSpec, table: Sequence[Row]) -> list[Case]:
    """Return the cases of a claim, from all of its rows."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in table:
        groups.setdefault((row["optimizer"], row["rewind"]), []).append(row)
    rewinds = {rewind for _, rewind in groups}
    optimizers = {optimizer for optimizer, _ in groups}
    made = []
    for (optimizer, rewind), rows in groups.items():
        label = ", ".join([optimizer] * (len(optimizers) > 1) + [rewind] * (len(rewinds) > 1)) or optimizer
        made.append(Case(label, rows[0]["verdict"], rows, would_change(spec, rows)))
    return made


def tally(claims: Sequence[Claim]) -> str:
    """Return how many claims hold, fail and are undecided, in words."""
    found = Counter(claim.verdict for claim in claims)
    words = {"holds": ("holds", "hold"), "fails": ("fails", "fail"), "undecided": ("is undecided", "are undecided")}
    return ", ".join(f"{found[name]} {words[name][found[name] != 1]}" for name in VERDICTS if found[name])


def in_short(verdicts: Sequence[str]) -> str:
    """Return how many of some verdicts hold, fail and are undecided: `all 3 hold`, `5 of 6 hold, 1 undecided`."""
    found = Counter(verdicts)
    if len(verdicts) == 1:
        return verdicts[0]
    if len(found) == 1:
        return f"all {len(verdicts)} {_SEVERAL[verdicts[0]]}"
    told = [f"{found[name]} {name if found[name] == 1 else _SEVERAL[name]}" for name in VERDICTS if found[name]]
    first, _, rest = told[0].partition(" ")
    return ", ".join([f"{first} of {len(verdicts)} {rest}", *told[1:]])


def claims_in_short(claims: Sequence[Claim]) -> str:
    """Return how many claims hold, fail and are undecided, and of how many nothing was trained yet."""
    untrained = sum(claim.untrained for claim in claims)
    if untrained == len(claims):
        return NOT_TRAINED
    undecided = sum(claim.verdict == "undecided" for claim in claims)
    told = in_short([claim.verdict for claim in claims])
    if not untrained:
        return told
    return f"{told} ({NOT_TRAINED if untrained == undecided else f'{untrained} {NOT_TRAINED}'})"
