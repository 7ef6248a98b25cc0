"""What published claims will be able to show on a recipe's seeds: each to hold, and each to fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from lottery.audit.planned_steps import shares_steps, withheld_fields
from lottery.recipe.analyses import units_of
from lottery.recipe.pruned_once import levels_of
from lottery.verdicts import published_claims
from lottery.verdicts.fewest_seeds import Scale, of_claim
from lottery.verdicts.prospects import AUTO, Look, Prospect, independent_pairs, prospect, ways_out

if TYPE_CHECKING:
    from lottery.recipe.claims import ClaimSpec, ReplicatesSpec
    from lottery.recipe.schema import Recipe

WORDS = ("holds", "fails")
About = Callable[["ClaimSpec"], tuple[Sequence["Recipe"], Sequence["Recipe"]]]  # the recipes of its left and right side


def claim_prospects(replicates: ReplicatesSpec, about: About, look: Look) -> list[Prospect]:
    """Return for each published claim what its seeds can show: that it holds, that it fails.

    Args:
        replicates: The claims.
        about: Returns the recipes of a claim's left and right side: the one recipe and none, or points of a sweep.
        look: As for `lottery.verdicts.prospects.prospects`.
    """
    found = []
    for claim in replicates.claims:
        left, right = about(claim)
        seeds = min(_units(claim, recipe) for recipe in (*left, *right))
        why = next(filter(None, (hindrance for each in (*left, *right) for hindrance in _hindrances(claim, each))), "")
        scale, densities = _scale(claim, left, right, look.floor), len(claim.densities)
        for word in WORDS:
            if why:
                found.append(Prospect(word, claim.text, "", densities, seeds, None, why))
                continue
            shows = partial(of_claim, word, claim, replicates.confidence, scale)
            rising = not scale.counted or None in (claim.least, claim.most)  # bounds of shares rise in steps
            found.append(prospect(word, (claim.text, "", densities, seeds), shows, look, rising=rising))
    return found


def _units(claim: ClaimSpec, recipe: Recipe) -> int:
    """Return the number of values that a recipe gives a claim, each of seeds of its own."""
    return len(recipe.seeds) if claim.networks is None else independent_pairs(recipe, claim.networks)


def _hindrances(claim: ClaimSpec, recipe: Recipe) -> Iterator[str]:
    """Yield why nothing will be said of a claim, however many seeds there are."""
    if recipe.prune.auto is not None:
        yield AUTO
    for branch in recipe.branches:
        if claim.analysis is not None or branch.label not in (claim.column, claim.against):
            continue
        rewinds = [rewind for rewind in recipe.rewind if claim.rewind in (None, rewind.to)]
        levels = levels_of(branch, recipe.prune)
        fields = [withheld_fields(recipe, branch, rewind, levels) for rewind in rewinds]
        if fields and all(fields):
            fair = shares_steps(recipe, branch, rewinds[0], levels)
            yield f"{branch.label} trains other steps: {ways_out(fields[0], fair)}"


def _scale(claim: ClaimSpec, left: Sequence[Recipe], right: Sequence[Recipe], floor: float) -> Scale:
    """Return the scale that the values of a claim are tested on."""
    two = bool(right) or claim.minus is not None or claim.retrained_with is not None
    two = two or (claim.analysis is None and claim.against is not None)
    if claim.measure == "good_values":
        # one value of the right side at least is good, and none at its ends, beyond which there may be more
        return Scale(1.0 - len(right) if right else 1.0, float(len(left) - bool(right)), 1.0)
    if claim.measure == "diverged":
        return Scale(-100.0 if two else 0.0, 100.0, counted="paired" if two else "share")
    if _points(claim, left[0]):
        low, high = -100.0 if two else 0.0, 100.0
        if not floor:
            return Scale(low, high)
        return Scale(low, high, 100 * floor * 2**0.5, 100 * floor if two else 100 * floor / 2**0.5)
    return Scale.around(published_claims.limits(claim))


def _points(claim: ClaimSpec, recipe: Recipe) -> bool:
    """Return True if a claim's values are percentage points."""
    if claim.logarithmic:
        return False
    if claim.analysis is None:
        return claim.measure == "accuracy"
    names = (analysis.name for analysis in recipe.analyses if analysis.label == claim.analysis)
    return any(units_of(name).get(str(claim.value)) in ("points", "fraction") for name in names)
