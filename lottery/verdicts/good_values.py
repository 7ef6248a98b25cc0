"""The number of values of a swept key that are good, seed by seed: those whose accuracy is near to the best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lottery.analysis.cells import diverged
from lottery.verdicts.claim_terms import Term, hindrances
from lottery.verdicts.claim_values import Side, accuracy, without_value
from lottery.verdicts.published_claims import Observed
from lottery.words import counted

if TYPE_CHECKING:
    from lottery.recipe.claims import ClaimSpec


@dataclass(frozen=True)
class Range:
    """The points of one side, a term for each value of the swept key.

    Attributes:
        label: The side, `left` or `right`.
        terms: The terms, by the values' places in the recipe.
        ends: Places of the least and the greatest value; none where they are no numbers.
    """

    label: str
    terms: Sequence[Term]
    ends: frozenset[int]


def range_of(label: str, terms: Sequence[Term], values: Sequence[Any]) -> Range:
    """Return a side from the terms and values of its points."""
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
    ends = {values.index(min(values)), values.index(max(values))} if numbers else set()
    return Range(label, terms, frozenset(ends))


def good(found: Sequence[Mapping[int, float]], within: float) -> dict[int, list[int]]:
    """Return the places of the good values of each seed.

    A seed is judged by the best of its own values. One that has no accuracy at a value, as it diverged there, does not
    have that value among its good ones.

    Args:
        found: Accuracies by seed, a mapping for each value.
        within: How far from the best is good, on the same scale.
    """
    places: dict[int, list[int]] = {}
    for seed in sorted(set[int]().union(*found)):
        best = max(each[seed] for each in found if seed in each)
        places[seed] = [place for place, each in enumerate(found) if each.get(seed, -math.inf) >= best - within - 1e-9]
    return places


def observe(claim: ClaimSpec, ranges: Sequence[Range]) -> Observed:
    """Return the number of good values of the left side, less that of the right one where there is one, by seed.

    Where a value at an end of the range is good, there may be more beyond it: the number may be higher, which bounds
    the verdict.
    """
    assert claim.within is not None
    terms = [term for side in ranges for term in side.terms]
    why, notes, counts, more = hindrances(claim, terms), list[str](), list[dict[int, int]](), list[bool]()
    for side in ranges:
        accuracies = [{seed: 100 * value for seed, value in accuracy(term).items()} for term in side.terms]
        lost = [diverged(term.records) for term in side.terms]
        for term, found, gone in zip(side.terms, accuracies, lost, strict=True):
            why += without_value(claim, term, Side(found, gone))
        places = good(accuracies, claim.within)
        all_lost = set.intersection(*lost) - places.keys()  # none of its values is good
        counts.append({seed: len(places.get(seed, ())) for seed in sorted({*places, *all_lost})})
        beyond = sum(bool(side.ends & set(each)) for each in places.values())
        more.append(bool(beyond))
        notes += [f"{side.label}: good at the end of the values in {counted(beyond, 'seed')}"] * bool(beyond)
        notes += [f"{side.label} diverged: {sum(map(len, lost))} of {counted(_trainings(side), 'training')}"] * any(
            lost
        )
    seeds = [seed for seed in counts[0] if all(seed in each for each in counts)]
    values = [counts[0][seed] - sum(each[seed] for each in counts[1:]) for seed in seeds]
    left, right = more[0], any(more[1:])
    about = terms[0].at[2], terms[0].density
    return Observed(*about, [float(each) for each in values], (right, left), tuple(why), tuple(notes))


def _trainings(side: Range) -> int:
    return sum(len(term.records) for term in side.terms)
