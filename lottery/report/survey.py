"""The content of the page of a survey: its statements, each with the claims of the recipes that decide it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

from lottery.analysis.environments import environments_of, software
from lottery.analysis.labels import optimizer_labels
from lottery.analysis.rows import Row
from lottery.figures.claim_strips import claim_strips
from lottery.formats.latex import letter
from lottery.recipe.claim_rules import selected
from lottery.report.content import Picture
from lottery.report.survey_claims import Claim, cases_of, claims_in_short, tally
from lottery.report.survey_matrix import Matrix, matrices
from lottery.verdicts.claim_terms import places_of
from lottery.verdicts.claim_units import unit_of
from lottery.verdicts.claims_in_words import claimed
from lottery.words import counted, duration

if TYPE_CHECKING:
    from lottery.recipe.claims import ClaimSpec
    from lottery.results.sweep import SweptStudy
    from lottery.store.manifest import Manifest

_NUMBER = re.compile(r"(\d+)[a-z]*-")


@dataclass(frozen=True)
class RecipeResult:
    """A recipe with its claims, and what it took.

    Attributes:
        name: The recipe.
        question: What it asks.
        finding: What was looked at after the run, where something came out against the survey; empty for nothing.
        claims: Its claims with their verdicts.
        matrices: Those of its claims about tickets that other optimizers train again.
        seeds: Number of its seeds.
        took: Seconds of work of each finished job, by its key; recipes may share jobs.
        missing: Number of trainings that are not finished.
    """

    name: str
    question: str
    finding: str
    claims: Sequence[Claim]
    matrices: Sequence[Matrix]
    seeds: int
    took: Mapping[str, float]
    missing: int

    @property
    def seconds(self) -> float:
        """Seconds of work."""
        return sum(self.took.values())

    @property
    def cost(self) -> str:
        """What it took in words."""
        took = f"{counted(self.seeds, 'seed')}, {duration(self.seconds)} of work"
        return took + (f", {counted(self.missing, 'training')} missing" if self.missing else "")


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
        return claims_in_short(self.claims)

    @property
    def leading(self) -> Claim:
        """The claim whose effect stands for the statement where there is room for one: the first of its recipes'."""
        return self.claims[0]

    @property
    def seeds(self) -> str:
        """The number of seeds of its recipes, the fewest and the most."""
        numbers = sorted({recipe.seeds for recipe in self.recipes})
        return f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"

    @property
    def cost(self) -> str:
        """The time of its work in words; what its recipes share counts once."""
        return duration(sum({key: took for recipe in self.recipes for key, took in recipe.took.items()}.values()))

    @property
    def name(self) -> str:
        """Name of its figure."""
        return f"statement-{self.number:02}"

    @cached_property
    def picture(self) -> Picture | None:
        """The effects of its claims; None where nothing was trained yet."""
        strips = [strip for claim in self.claims for strip in claim.strips]
        caption = "Effects with the bounds that decide; shaded is what is claimed. ● holds, ▼ fails, ○ undecided."
        return Picture(self.name, caption, claim_strips(strips), letters=True) if strips else None

    @property
    def rows(self) -> list[list[str]]:
        """A row of words for each claim of which something was trained, as Markdown and LaTeX have it."""
        return [
            [
                claim.letter,
                f"{claim.verdict} ({claim.cases_in_words})" if claim.cases_in_words else claim.verdict,
                claim.effect,
                claimed(claim.spec),
                str(claim.seeds),
                claim.text,
            ]
            for claim in self.claims
            if not claim.untrained
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
    def cost(self) -> str:
        """The time of all work in words; what recipes share counts once."""
        recipes = [recipe for statement in self.statements for recipe in statement.recipes]
        return duration(sum({key: took for recipe in recipes for key, took in recipe.took.items()}.values()))

    @property
    def summary(self) -> str:
        """A sentence on how many claims hold, fail and are undecided."""
        number = counted(len(self.statements), "statement")
        return f"{counted(len(self.claims), 'claim')} about {number}: {tally(self.claims)}."

    @property
    def counting(self) -> str:
        """A sentence on how a claim about several cases counts; empty where there is none."""
        several = any(len(claim.cases) > 1 for claim in self.claims)
        return (
            "A claim about several optimizers, or pairs of them, counts once: it holds where it holds for all, fails "
            "where it fails for at least one, and is undecided else."
            if several
            else ""
        )

    @property
    def multiplicity(self) -> str:
        """A sentence on how sure each verdict is."""
        sure = " or ".join(f"{100 * confidence:g} %" for confidence in self.confidences)
        cases = sum(len(claim.cases) for claim in self.claims)
        judged = "claim" if cases == len(self.claims) else "optimizer or pair of each claim"
        return (
            f"Each {judged} is judged by itself with a confidence of {sure}, as its recipe says; nothing is corrected "
            f"for their number. Of {cases} that are all exactly at their limits, "
            f"{cases * (1 - min(self.confidences)):.2g} or fewer would be expected to be decided wrongly."
        )

    @property
    def rows(self) -> list[Row]:
        """A row for each claim and density, for programs."""
        return [
            Row({**_place(statement, recipe, claim), "change": case.change, **row}, row.made_from)
            for statement in self.statements
            for recipe in statement.recipes
            for claim in recipe.claims
            for case in claim.cases
            for row in case.rows
        ]


def _place(statement: Statement, recipe: RecipeResult, claim: Claim) -> dict[str, Any]:
    about = {"statement": statement.number, "title": statement.title, "letter": claim.letter, "recipe": recipe.name}
    return about | {"seconds": round(recipe.seconds, 1), "claim_verdict": claim.verdict, "unit": claim.unit}


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
    labels = optimizer_labels(sweep.points[0].recipe.train.optimizer)
    claims = [
        Claim(
            letter(first + place),
            sweep.name,
            spec.text,
            mine[0]["source"],
            unit_of(spec, swept.studies[0]),
            cases_of(spec, mine),
            spec,
        )
        for place, (spec, mine) in enumerate(_rows_by_claim(swept, rows))
    ]
    took = {key: manifest.seconds for key, manifest in _manifests(swept).items()}
    seeds, missing = len(sweep.points[0].recipe.seeds), swept.missing
    found = matrices(claims, labels)
    return RecipeResult(sweep.name, sweep.question, replicates.finding, claims, found, seeds, took, missing)


def _rows_by_claim(swept: SweptStudy, rows: Sequence[Row]) -> Iterator[tuple[ClaimSpec, list[Row]]]:
    """Yield each claim with its rows, which stand in the order of the claims: one for each place and density."""
    sweep, remaining = swept.sweep, iter(rows)
    studies = {point.label: study for point, study in swept}
    assert sweep.replicates is not None
    for spec in sweep.replicates.claims:
        left = selected(spec, sweep.where)[0]
        study = studies[left[0].label] if left else swept.studies[0]
        yield spec, list(islice(remaining, len(places_of(spec, study)) * len(spec.densities)))


def _manifests(swept: SweptStudy) -> Mapping[str, Manifest]:
    """Return the manifests of all finished jobs of a recipe by key, those that points share once."""
    keys = {job.key: study.store for study in swept.studies for job in study.plan}
    return {key: found for key, store in keys.items() if (found := store.find(key)) is not None}
