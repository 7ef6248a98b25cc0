"""Published claims compared with studies: which of them hold, with figures."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from lottery.analysis import columns
from lottery.analysis.cells import CellKey, densities
from lottery.analysis.columns import DENSITY, LEVEL_OF_DENSITY, SEEDS
from lottery.analysis.labels import density_label, finite, optimizer_labels
from lottery.analysis.rows import Row, Values, in_plan_order, keys_of
from lottery.errors import UsageError
from lottery.results.study import once
from lottery.verdicts import claim_values, good_values, measured_claims, published_claims
from lottery.verdicts.claim_terms import Term, places_of, terms_of
from lottery.verdicts.claim_units import unit_of
from lottery.verdicts.claims_in_words import claimed, compared
from lottery.verdicts.other_readings import others, read_at, with_other_readings, with_readings
from lottery.verdicts.published_claims import Judgement, Observed

if TYPE_CHECKING:
    from lottery.recipe.claims import ClaimSpec, ReplicatesSpec
    from lottery.recipe.readings import Reading
    from lottery.results.study import Study

NEAR = 0.08  # a level stands for a density of a paper that is at most this part away from its own
POWER = 0.8  # of the number of seeds asked for, where the recipe has no `compare`


@dataclass(frozen=True)
class About:
    """The studies that a claim is about: of one point, or of two; of several a side for the values of a swept key.

    Attributes:
        left: The studies on the left, all there are where the recipe has no sweep.
        right: Those on the right; none where a value is compared with nothing.
        values: Of each side, the values of the key that `over` names, one for each study.
        words: The points in words, `left` and `right`; empty without a sweep.
    """

    left: Sequence[Study]
    right: Sequence[Study] = ()
    values: tuple[Sequence[Any], Sequence[Any]] = ((), ())
    words: Mapping[str, str] = field(default_factory=dict)

    @property
    def studies(self) -> list[Study]:
        """The studies of both sides."""
        return [*self.left, *self.right]


@once
def rows(study: Study) -> list[Row]:
    """Return a row for each claim, optimizer, rewind point and density, with the verdict on the claim as a whole.

    `estimate` and its bounds `low` and `high` are in percentage points of accuracy, or ratios, see docs/survey.md. The
    bounds are those that decide, one-sided, each at the confidence that `bounds` names; `here` is the verdict at this
    density. A claim on all of its densities holds where it holds at each, and fails where it fails at one of them; a
    claim on any of them the other way round, see `lottery.verdicts.published_claims.confidences`. Where the audit
    withholds a side, or a seed of the plan is not finished, nothing is decided and `note` says why. `seeds_needed`
    would decide this density, `claim_seeds_needed` the claim. The values at the other readings stand beside it
    (`estimate_end`, `here_end`, see `lottery.verdicts.other_readings`).

    Raises:
        UsageError: The recipe replicates nothing.
    """
    return with_other_readings(study, _at_report(study), _at_report, "estimate", "here")


def _at_report(study: Study) -> list[Row]:
    replicates = study.recipe.replicates
    if replicates is None:
        raise UsageError(f"{study.recipe.name}: replicates nothing of the literature; its recipe has no `replicates`")
    return judged(replicates, lambda claim: About([study]))


def rows_of_points(replicates: ReplicatesSpec, about: Callable[[ClaimSpec], About]) -> list[Row]:
    """Return the rows, see `rows`, of claims about points of a sweep, with the points in `left` and `right`.

    The values at other readings stand beside them where all points that claims speak of have these.
    """
    table = judged(replicates, about)
    recipes = [study.recipe for claim in replicates.claims for study in about(claim).studies]
    common = [reading for reading in others(recipes[0]) if all(reading in others(recipe) for recipe in recipes)]
    adaptive = any(recipe.prune.auto is not None for recipe in recipes)

    def at(reading: Reading) -> list[Row]:
        known: dict[int, Study] = {}  # each point once, as what is made of it is kept with it

        def about_there(claim: ClaimSpec) -> About:
            there = about(claim)
            for study in there.studies:
                known.setdefault(id(study), read_at(study, reading))
            left, right = ([known[id(study)] for study in side] for side in (there.left, there.right))
            return replace(there, left=left, right=right)

        return judged(replicates, about_there)

    return with_readings(table, common, at, adaptive, "estimate", "here")


def judged(replicates: ReplicatesSpec, about: Callable[[ClaimSpec], About]) -> list[Row]:
    """Return the rows of claims, each about the studies that `about` says, at the readings of their recipes."""
    return [row for claim in replicates.claims for row in _rows_of(replicates, claim, about(claim))]


def _rows_of(replicates: ReplicatesSpec, claim: ClaimSpec, about: About) -> list[Row]:
    table, first = list[Row](), about.left[0]
    compare = first.recipe.compare
    labels, power = optimizer_labels(first.recipe.train.optimizer), POWER if compare is None else compare.power
    said = compared(claim, labels, unit_of(claim, first))
    for places in zip(*(places_of(claim, study) for study in about.studies), strict=True):
        cells = [
            [_nearest_cell(*each, wanted) for each in zip(about.studies, places, strict=True)]
            for wanted in claim.densities
        ]
        terms = [
            _terms(claim, about, [cell for cell in at if cell is not None]) if None not in at else [] for at in cells
        ]
        seen = [_observed(claim, about, each) for each in terms]
        found = [published_claims.judge(claim, each, replicates.confidence, power) for each in seen]
        values: Values = {"claim": claim.text, "source": f"{replicates.source}, {claim.source}", **about.words}
        values |= {"optimizer": labels[places[0][0]], "rewind": places[0][1]}
        values |= {"verdict": published_claims.verdict(claim, found)}
        needed = {"claim_seeds_needed": published_claims.seeds_needed(claim, found)}
        for wanted, each, one, judgement in zip(claim.densities, terms, seen, found, strict=True):
            figures = _row(claim, said, wanted, each[0].at[2] if each else None, one, judgement)
            table.append(Row({**values, **figures, **needed, "note": _note(one)}, _made_from(claim, each)))
    return table


def _terms(claim: ClaimSpec, about: About, cells: Sequence[CellKey]) -> list[Term]:
    """Return the terms of a claim at a cell of each study; of several a side, one for each study."""
    if claim.measure != "good_values":
        return terms_of(claim, about.studies, cells)
    points = ["left"] * len(about.left) + ["right"] * len(about.right)
    found = zip(about.studies, cells, points, strict=True)
    return [Term(study, at, claim.column, 1 if point == "left" else -1, point) for study, at, point in found]


def _observed(claim: ClaimSpec, about: About, terms: Sequence[Term]) -> Observed:
    """Return the values at one cell, and what stands in the way of a verdict."""
    if not terms:
        return Observed(0, 0.0, (), hindrances=("not trained",))
    if claim.analysis is not None:
        return measured_claims.observe(claim, terms)
    if claim.measure != "good_values":
        return claim_values.observe(claim, terms)
    sides = zip(("left", "right"), about.values, strict=True)
    ranges = [(label, [term for term in terms if term.point == label], values) for label, values in sides]
    return good_values.observe(claim, [good_values.range_of(*each) for each in ranges if each[1]])


def seeds_needed(table: Sequence[Row]) -> int | None:
    """Return the number of seeds that would decide all claims that more seeds can decide; None where there are none."""
    return max((row["claim_seeds_needed"] for row in table if row["claim_seeds_needed"] is not None), default=None)


def _row(claim: ClaimSpec, said: str, wanted: float, level: int | None, seen: Observed, judged: Judgement) -> Values:
    estimate = statistics.fmean(seen.values) if seen.values else math.nan
    low, high = columns.interval("", 0.0, words="low, high")  # `bounds` says at which confidence
    figures: Values = {"estimate": estimate, low: judged.low, high: judged.high}
    if claim.logarithmic:
        figures = {name: math.exp(figure) if figure != -math.inf else figure for name, figure in figures.items()}
    return {
        DENSITY: wanted,
        LEVEL_OF_DENSITY: level,
        "compared": said,
        "claimed": claimed(claim),
        **finite(figures),
        "bounds": _bounds(judged),
        SEEDS: len(seen.values),
        "here": judged.here,
        "seeds_needed": judged.seeds_needed,
    }


def _bounds(judged: Judgement) -> str:
    """Return in words the confidence of the bounds."""
    low, high = (f"{100 * confidence:.4g} %" for confidence in judged.confidences)
    return f"one-sided {low}" if low == high else f"one-sided {low} and {high}"


def _note(seen: Observed) -> str:
    where = [f"level {seen.level} at {density_label(seen.density)}"] if seen.density else []
    return "; ".join([*where, *seen.notes, *seen.hindrances])


def _nearest_cell(study: Study, place: tuple[int, str], wanted: float) -> CellKey | None:
    """Return the cell of an optimizer and rewind point whose density is nearest to the one wanted; None for none."""
    mine = {at: density for at, density in densities(study).items() if at[:2] == place}
    at = min(mine, key=lambda at: abs(math.log(mine[at] / wanted)), default=None)
    return at if at is not None and abs(mine[at] / wanted - 1) <= NEAR else None


def _made_from(claim: ClaimSpec, terms: Sequence[Term]) -> list[str]:
    """Return the keys of the jobs that a claim is judged by at one cell, each once, in the order of the plans."""
    found = dict[str, None]()
    for study in {id(term.study): term.study for term in terms}.values():
        mine = [term for term in terms if term.study is study]
        if claim.analysis is None:
            keys = keys_of(study, (record for term in mine for record in term.records))
        else:
            keys = in_plan_order(study, (job.key for term in mine for job in measured_claims.jobs_of(term, claim)))
        found |= dict.fromkeys(keys)
    return list(found)
