"""What a recipe will be able to claim, in a few sentences and as rows of a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from lottery.recipe.claim_rules import selected
from lottery.verdicts.claim_prospects import claim_prospects
from lottery.verdicts.prospects import Look, Prospect, matching_spread, prospects
from lottery.words import counted

if TYPE_CHECKING:
    from lottery.recipe.claims import ClaimSpec
    from lottery.recipe.schema import Recipe
    from lottery.recipe.sweep import Sweep

MOST_TOLD = 3  # published claims that are named one by one, and groups of points


def of_points(sweep: Sweep, look: Look) -> list[tuple[list[str], list[Prospect]]]:
    """Return the tests of the points of a sweep, each with the labels of all points that have the same ones."""
    grouped: dict[tuple[Prospect, ...], list[str]] = {}
    for point in sweep.points:
        grouped.setdefault(tuple(prospects(point.recipe, look)), []).append(point.label)
    return [(labels, list(found)) for found, labels in grouped.items()]


def of_claims(sweep: Sweep, look: Look) -> list[Prospect]:
    """Return the prospects of the published claims of a recipe; none where `--point` has left some points only."""
    if sweep.replicates is None or sweep.chosen:
        return []

    def about(claim: ClaimSpec) -> tuple[Sequence[Recipe], Sequence[Recipe]]:
        if not sweep.keys:
            return [sweep.only], []
        left, right = selected(claim, sweep.where)
        return [point.recipe for point in left], [point.recipe for point in right]

    return claim_prospects(sweep.replicates, about, look)


def sentences(sweep: Sweep, floor: float = 0.0) -> list[str]:
    """Return what a recipe will be able to claim: what its seeds can show, what they cannot and why, in few lines.

    `floor` is the least spread that is believed of differences, 0 where the number of test examples is not known.
    """
    look, told = Look(floor, numbers=False), list[str]()
    groups = of_points(sweep, look)
    for labels, found in groups[:MOST_TOLD]:
        which = labels[0] if len(labels) == 1 else counted(len(labels), "point")
        where = f"at {which}: " if len(groups) > 1 else ""
        told += [f"{where}{line}" for line in (*_can(found), *_cannot(found))]
    if len(groups) > MOST_TOLD:
        told.append(
            f"for the other {counted(sum(len(labels) for labels, _ in groups[MOST_TOLD:]), 'point')} see --claims"
        )
    return [*told, *_no_margin(sweep), *_published(of_claims(sweep, look))]


def spreads(sweep: Sweep) -> list[str]:
    """Return how alike seeds have to be for a ticket as good as its dense network to be shown to match, in words.

    It is of the first point that says it: seeds, margin and levels are seldom swept.
    """
    for point in sweep.points:
        compare, spread = point.recipe.compare, matching_spread(point.recipe)
        if compare is not None and spread is not None:
            return [
                f"matching within {compare.points} is shown in {100 * compare.power:g} % of studies of "
                f"{len(point.recipe.seeds)} seeds if tickets are as good as dense networks and differences spread by "
                f"{100 * spread:.2g} points over seeds or less"
            ]
    return []


def rows(sweep: Sweep, floor: float = 0.0) -> list[dict[str, Any]]:
    """Return a row for each test, as `lottery check --claims` lists them; `floor` as in `sentences`."""
    look, table = Look(floor), list[dict[str, Any]]()
    for labels, found in of_points(sweep, look):
        which = "all" if len(labels) == len(sweep.points) else "; ".join(labels)
        points = {"points": which} if sweep.keys else {}
        table += [points | _row(each) for each in found]
    points = {"points": ""} if sweep.keys else {}
    return table + [points | _row(each) for each in of_claims(sweep, look)]


def _row(each: Prospect) -> dict[str, Any]:
    return {
        "shows": each.word,
        "of": each.against,
        "rewind": each.rewind,
        "together": each.family,
        "seeds": each.seeds,
        "fewest": each.fewest,
        "can": each.can,
        "note": each.why,
    }


def _can(found: Sequence[Prospect]) -> Iterator[str]:
    """Yield a sentence on the tests that can show something, for each number of seeds or independent pairs."""
    able: dict[int, list[Prospect]] = {}
    for each in found:
        if each.can:
            able.setdefault(each.seeds, []).append(each)
    for seeds, tests in able.items():
        yield f"{seeds} seeds can show: {_named(tests, found)}"


def _cannot(found: Sequence[Prospect]) -> Iterator[str]:
    """Yield a sentence for each reason why tests can show nothing."""
    reasons: dict[str, list[Prospect]] = {}
    for each in found:
        if not each.can:
            reasons.setdefault(each.why, []).append(each)
    for why, tests in reasons.items():
        yield f"no claim: {_named(tests, found)}: {why}"


def _named(some: Iterable[Prospect], every: Iterable[Prospect]) -> str:
    """Return tests in words, those of one opponent together: `superior or inferior to reinit, shuffle`.

    A rewind point is named where it is not each that the opponent has among `every`.
    """
    words: dict[tuple[str, str], list[str]] = {}
    for each in some:
        words.setdefault((each.against, each.rewind), []).append(each.word)
    rewinds: dict[str, dict[str, None]] = {}
    for each in every:
        rewinds.setdefault(each.against, {})[each.rewind] = None
    told: dict[tuple[str, ...], dict[str, list[str]]] = {}
    for (against, rewind), said in words.items():
        told.setdefault(tuple(said), {}).setdefault(against, []).append(rewind)
    return "; ".join(_words(said, names, rewinds) for said, names in told.items())


def _words(said: Sequence[str], names: dict[str, list[str]], rewinds: dict[str, dict[str, None]]) -> str:
    """Return words said of some opponents, with the rewind points where these are not all."""
    opponents = [
        against if len(found) == len(rewinds[against]) else f"{against} ({', '.join(found)})"
        for against, found in names.items()
    ]
    listed = ", ".join(said[:-1]) + f" or {said[-1]}" if len(said) > 1 else said[0]
    of = "to" if said[0] in ("superior", "inferior") else "against" if "dense" in names else "of"
    return f"{listed} {of} {', '.join(opponents)}"


def _no_margin(sweep: Sweep) -> list[str]:
    """Return the sentence on a recipe with tickets that declares no margin, so that no verdicts are made."""
    recipes = [point.recipe for point in sweep.points]
    if any(recipe.compare is not None or not recipe.prune.deepest for recipe in recipes):
        return []
    return ["no verdicts on tickets: no margin is declared; add `compare: {margin: 0.5}`, in percentage points"]


def _published(found: Sequence[Prospect]) -> list[str]:
    """Return sentences on published claims: how many can be shown to hold and to fail, and why others cannot."""
    if not found:
        return []
    holds, fails = ([each for each in found if each.word == word] for word in ("holds", "fails"))
    able = [sum(each.can for each in side) for side in (holds, fails)]
    told = [f"of {counted(len(holds), 'published claim')} {able[0]} can be shown to hold, {able[1]} to fail"]
    lacking = [each for each in found if not each.can]
    told += [f"not that it {each.word}: {each.against}: {each.why}" for each in lacking[:MOST_TOLD]]
    return told + ([f"and {len(lacking) - MOST_TOLD} more, see --claims"] if len(lacking) > MOST_TOLD else [])
