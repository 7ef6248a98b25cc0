"""What a recipe will be able to claim, in a few sentences and as rows of a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from lottery.recipe.claim_rules import selected
from lottery.verdicts.claim_prospects import claim_prospects
from lottery.verdicts.prospects import Prospect, prospects
from lottery.words import counted

if TYPE_CHECKING:
    from lottery.recipe.claims import ClaimSpec
    from lottery.recipe.schema import Recipe
    from lottery.recipe.sweep import Sweep

MOST_TOLD = 3  # claims that are named one by one, and groups of points


def of_points(sweep: Sweep, floor: float = 0.0) -> list[tuple[list[str], list[Prospect]]]:
    """Return the tests of each point of a sweep, those of points that have the same ones together, with their labels.

    `floor` is as for `prospects`.
    """
    grouped: dict[tuple[Prospect, ...], list[str]] = {}
    for point in sweep.points:
        grouped.setdefault(tuple(prospects(point.recipe, floor)), []).append(point.label)
    return [(labels, list(found)) for found, labels in grouped.items()]


def of_claims(sweep: Sweep, floor: float = 0.0) -> list[Prospect]:
    """Return the prospects of the published claims of a recipe, with a sweep or without."""
    if sweep.replicates is None or sweep.chosen:  # of some points, claims about others cannot be told
        return []

    def about(claim: ClaimSpec) -> tuple[Sequence[Recipe], Sequence[Recipe]]:
        if not sweep.keys:
            return [sweep.only], []
        left, right = selected(claim, sweep.where)
        return [point.recipe for point in left], [point.recipe for point in right]

    return claim_prospects(sweep.replicates, about, floor)


def sentences(sweep: Sweep, floor: float = 0.0) -> list[str]:
    """Return what a recipe will be able to claim: what its seeds can show, what they cannot and why, in few lines."""
    told: list[str] = []
    groups = of_points(sweep, floor)
    for labels, found in groups[:MOST_TOLD]:
        where = f" (at {counted(len(labels), 'point')} of {len(sweep.points)})" if len(groups) > 1 else ""
        told += [f"{line}{where}" for line in (*_can(found), *_cannot(found))]
    told += ["claims at the other points: see --claims"] if len(groups) > MOST_TOLD else []
    told += _declares_nothing(sweep)
    return [*told, *_published(of_claims(sweep, floor))]


def rows(sweep: Sweep, floor: float = 0.0) -> list[dict[str, Any]]:
    """Return a row for each test, as `lottery check --claims` prints them."""
    table = []
    for labels, found in of_points(sweep, floor):
        for each in found:
            at = {"points": len(labels)} if sweep.keys else {}
            table.append({**at, **_row(each)})
    return table + [({"points": ""} if sweep.keys else {}) | _row(each) for each in of_claims(sweep, floor)]


def _row(each: Prospect) -> dict[str, Any]:
    return {
        "test": each.word,
        "of": each.against,
        "rewind": each.rewind,
        "together": each.family,
        "seeds": each.seeds,
        "fewest": each.fewest,
        "note": each.why,
    }


def _can(found: Iterable[Prospect]) -> Iterator[str]:
    """Yield one sentence on the tests that can show something, by the fewest seeds with which they can."""
    able = [each for each in found if each.can]
    if not able:
        return
    least: dict[int, list[Prospect]] = {}
    for each in able:
        least.setdefault(each.fewest or 0, []).append(each)
    parts = [f"{_named(each)} ({n} or more)" for n, each in sorted(least.items())]
    yield f"{counted(max(each.seeds for each in able), 'seed')} can show: {'; '.join(parts)}"


def _cannot(found: Iterable[Prospect]) -> Iterator[str]:
    """Yield a sentence for each reason why tests can show nothing."""
    reasons: dict[str, list[Prospect]] = {}
    for each in found:
        if not each.can:
            reasons.setdefault(each.why, []).append(each)
    for why, each in reasons.items():
        yield f"no claim: {_named(each)}: {why}"


def _named(found: Iterable[Prospect]) -> str:
    """Return tests in words, those of one opponent together: `superior, inferior to reinit, shuffle`."""
    words: dict[tuple[str, str], list[str]] = {}
    for each in found:
        words.setdefault((each.against, each.rewind), []).append(each.word)
    opponents: dict[tuple[str, ...], list[str]] = {}
    for (against, rewind), said in words.items():
        name = f"{against} ({rewind})" if rewind else against
        opponents.setdefault(tuple(said), []).append(name)
    parts = []
    for said, names in opponents.items():
        of = "to" if said[0] in ("superior", "inferior") else "of"
        parts.append(", ".join(said) + ("" if names == ["dense"] else f" {of} {', '.join(names)}"))
    return "; ".join(parts)


def _declares_nothing(sweep: Sweep) -> list[str]:
    """Return the sentence on a recipe that makes no verdicts, where it has tickets."""
    recipes = [point.recipe for point in sweep.points]
    if any(recipe.compare is not None or not recipe.prune.deepest for recipe in recipes):
        return []
    return ["no verdicts: no margin is declared; add `compare: {margin: 0.5}`, in percentage points"]


def _published(found: Sequence[Prospect]) -> list[str]:
    """Return sentences on published claims: how many can be shown, and those that cannot."""
    if not found:
        return []
    holds, fails = ([each for each in found if each.word == word] for word in ("holds", "fails"))
    able = [sum(each.can for each in side) for side in (holds, fails)]
    told = [f"of {counted(len(holds), 'published claim')} {able[0]} can be shown to hold, {able[1]} to fail"]
    lacking = [each for each in found if not each.can]
    told += [f"not that it {each.word}: {each.against}: {each.why}" for each in lacking[:MOST_TOLD]]
    return told + ([f"and {len(lacking) - MOST_TOLD} more, see --claims"] if len(lacking) > MOST_TOLD else [])
