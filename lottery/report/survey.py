"""The content of the page of a survey: its statements, each with the claims of the recipes that decide it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from lottery.analysis.environments import environments_of, software
from lottery.analysis.labels import density_label
from lottery.analysis.rows import Row
from lottery.figures.claim_strips import Strip, claim_strips
from lottery.formats.latex import letter
from lottery.recipe.claims import ClaimSpec
from lottery.report.content import Picture
from lottery.verdicts.claims_in_words import claimed, claims_in_words, effect, points_in_words, would_change
from lottery.words import counted, duration

if TYPE_CHECKING:
    from lottery.results.sweep import SweptStudy
    from lottery.store.manifest import Manifest

VERDICTS = ("holds", "fails", "undecided")
_NUMBER = re.compile(r"(\d+)[a-z]*-")


@dataclass(frozen=True)
class Claim:
    """A claim of a recipe with its verdict.

    Attributes:
        letter: What it is called in its statement's figure and table.
        recipe: The recipe.
        text: The claim.
        source: Where in the literature it stands.
        verdict: `holds`, `fails` or `undecided`.
        rows: Its rows, one for each density.
        spec: The claim as the recipe has it.
    """

    letter: str
    recipe: str
    text: str
    source: str
    verdict: str
    rows: Sequence[Row]
    spec: ClaimSpec

    @property
    def effects(self) -> list[str]:
        """The effect with its interval, at each density."""
        effects = [effect(row) or "none" for row in self.rows]
        return [f"{label}: {told}" if label else told for label, told in zip(self._densities, effects, strict=True)]

    @property
    def points(self) -> str:
        """The points of the sweep that are compared."""
        return points_in_words(self.rows[0])

    @property
    def seeds(self) -> int:
        """The fewest seeds of any density."""
        return min(int(row["n"]) for row in self.rows)

    @property
    def notes(self) -> str:
        """What stands in the way of a verdict, or was counted beside it."""
        found = dict.fromkeys(part for row in self.rows for part in row["note"].split("; "))
        return "; ".join(part for part in found if part and not part.startswith("level "))

    @property
    def change(self) -> str:
        """What would change the verdict."""
        return would_change(self.spec, self.rows)

    @property
    def strips(self) -> list[Strip]:
        """What is drawn of it."""
        return [
            Strip(
                f"{self.letter} ({label})" if label else self.letter,
                row["here"],
                row["estimate"],
                row["low"],
                row["high"],
                self.spec.least,
                self.spec.most,
                self.spec.logarithmic,
            )
            for label, row in zip(self._densities, self.rows, strict=True)
        ]

    @property
    def _densities(self) -> list[str]:
        """The densities in words; empty ones where there is one only."""
        return [density_label(row["density"]) if len(self.rows) > 1 else "" for row in self.rows]


@dataclass(frozen=True)
class RecipeResult:
    """A recipe with its claims, and what it took."""

    name: str
    question: str
    finding: str
    claims: Sequence[Claim]
    seeds: int
    seconds: float
    missing: int

    @property
    def cost(self) -> str:
        """What it took in words."""
        took = f"{counted(self.seeds, 'seed')}, {duration(self.seconds)} of work"
        return took + (f", {self.missing} trainings missing" if self.missing else "")


@dataclass(frozen=True)
class Statement:
    """A statement of the survey; `number` is that of its recipes' names, 0 where they have none."""

    number: int
    title: str
    recipes: Sequence[RecipeResult]

    @property
    def claims(self) -> list[Claim]:
        """The claims of all of its recipes."""
        return [claim for recipe in self.recipes for claim in recipe.claims]

    @property
    def tally(self) -> str:
        """How many of its claims hold, fail and are undecided."""
        return tally(self.claims)

    @property
    def name(self) -> str:
        """Name of its figure."""
        return f"statement-{self.number:02}"

    @cached_property
    def picture(self) -> Picture:
        """The effects of its claims."""
        caption = "Effects with the bounds that decide; shaded is what is claimed. ● holds, ▼ fails, ○ undecided."
        return Picture(self.name, caption, claim_strips([strip for claim in self.claims for strip in claim.strips]))

    @property
    def rows(self) -> list[Row]:
        """A row for each claim, as pages have it."""
        return [
            Row(
                {
                    "claim": claim.letter,
                    "verdict": claim.verdict,
                    "effect": ", ".join(claim.effects),
                    "claimed": claimed(claim.spec),
                    "seeds": claim.seeds,
                    "text": claim.text,
                    "source": claim.source,
                    "compared": "; ".join(filter(None, (claim.rows[0]["compared"], claim.points))),
                    "bounds": claim.rows[0]["bounds"],
                    "change": claim.change,
                    "note": claim.notes,
                },
                [key for row in claim.rows for key in row.made_from],
            )
            for claim in self.claims
        ]


@dataclass(frozen=True)
class Survey:
    """All that the page says, in plain values."""

    statements: Sequence[Statement]
    environments: Sequence[Row]
    software: str
    date: str | None
    confidences: Sequence[float] = field(default=(0.95,))

    @property
    def claims(self) -> list[Claim]:
        """All claims."""
        return [claim for statement in self.statements for claim in statement.claims]

    @property
    def summary(self) -> str:
        """A sentence on how many claims hold, fail and are undecided."""
        number = counted(len(self.statements), "statement")
        return f"{counted(len(self.claims), 'claim')} about {number}: {tally(self.claims)}."

    @property
    def multiplicity(self) -> str:
        """A sentence on how sure each verdict is."""
        sure = " or ".join(f"{100 * confidence:g} %" for confidence in self.confidences)
        return (
            f"Each claim is judged by itself with a confidence of {sure}, as its recipe says; nothing is corrected for "
            f"the number of claims. Of {len(self.claims)} claims that are all exactly at their limits, "
            f"{len(self.claims) * (1 - min(self.confidences)):.2g} or fewer would be expected to be decided wrongly."
        )

    @property
    def rows(self) -> list[Row]:
        """A row for each claim and density, for programs."""
        return [
            Row({**_place(statement, recipe, claim), **row}, row.made_from)
            for statement in self.statements
            for recipe in statement.recipes
            for claim in recipe.claims
            for row in claim.rows
        ]


def _place(statement: Statement, recipe: RecipeResult, claim: Claim) -> dict[str, Any]:
    about = {"statement": statement.number, "title": statement.title, "letter": claim.letter, "recipe": recipe.name}
    return about | {"seconds": round(recipe.seconds, 1), "change": claim.change}


def tally(claims: Sequence[Claim]) -> str:
    """Return how many claims hold, fail and are undecided, in words."""
    found = Counter(claim.verdict for claim in claims)
    words = {"holds": ("holds", "hold"), "fails": ("fails", "fail"), "undecided": ("is undecided", "are undecided")}
    return ", ".join(f"{found[name]} {words[name][found[name] != 1]}" for name in VERDICTS if found[name])


def collect(found: Sequence[tuple[SweptStudy, Sequence[Row]]]) -> Survey:
    """Return the survey of the studies of recipes with the rows of their claims, in the order of statements.

    Args:
        found: The studies, each with its rows, see `lottery.verdicts.swept_claims.rows`.
    """
    groups: dict[tuple[int, str], list[tuple[SweptStudy, Sequence[Row]]]] = {}
    for swept, rows in found:
        number = number_of(swept.sweep.name)
        groups.setdefault((number, "" if number else swept.sweep.name), []).append((swept, rows))
    records = [each for swept, _ in found for study in swept.studies for each in study.found.values()]
    confidences = {swept.sweep.replicates.confidence for swept, _ in found if swept.sweep.replicates is not None}
    return Survey(
        [_statement(number, group) for (number, _), group in sorted(groups.items())],
        environments_of(records),
        software(),
        max((record.manifest.created for record in records), default=None),
        tuple(sorted(confidences, reverse=True)),
    )


def number_of(name: str) -> int:
    """Return the number of the statement that a recipe is about, by its name, `07-floor`; 0 where it has none."""
    found = _NUMBER.match(name)
    return int(found[1]) if found else 0


def _statement(number: int, group: Sequence[tuple[SweptStudy, Sequence[Row]]]) -> Statement:
    titles = [swept.sweep.replicates.statement for swept, _ in group if swept.sweep.replicates is not None]
    title = next(filter(None, titles), group[0][0].sweep.question)
    recipes, first = [], 0
    for swept, rows in group:
        recipes.append(_recipe(swept, rows, first))
        first += len(recipes[-1].claims)
    return Statement(number, title, recipes)


def _recipe(swept: SweptStudy, rows: Sequence[Row], first: int) -> RecipeResult:
    sweep, replicates = swept.sweep, swept.sweep.replicates
    assert replicates is not None
    specs = {(spec.text, claimed(spec)): spec for spec in replicates.claims}
    claims = [
        Claim(letter(first + place), sweep.name, told.text, told.source, told.verdict, told.rows, spec)
        for place, told in enumerate(claims_in_words(rows))
        for spec in [specs[told.text, told.rows[0]["claimed"]]]
    ]
    manifests = _manifests(swept)
    seconds = sum(manifest.seconds for manifest in manifests.values())
    seeds = len(sweep.points[0].recipe.seeds)
    return RecipeResult(sweep.name, sweep.question, replicates.finding, claims, seeds, seconds, swept.missing)


def _manifests(swept: SweptStudy) -> Mapping[str, Manifest]:
    """Return the manifests of all finished jobs of a recipe by key, those that points share once."""
    keys = {job.key: study.store for study in swept.studies for job in study.plan}
    return {key: found for key, store in keys.items() if (found := store.find(key)) is not None}
