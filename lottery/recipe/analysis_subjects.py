"""Networks that an analysis will look at, by level, as a recipe alone tells; refused is an analysis that has none.

It says what the plan will have (`lottery.plan.analyses`) before there is one, so that `check` can name key and line; a
test holds the two to each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

from lottery import registry
from lottery.recipe.analyses import DENSE, PRUNED, TICKET, AnalysisSpec, units_of
from lottery.recipe.pruned_once import levels_of
from lottery.registry import Problem, suggest
from lottery.values import point_label, told_apart

if TYPE_CHECKING:
    from lottery.recipe.claims import ClaimSpec
    from lottery.recipe.schema import BranchSpec, PruneSpec
    from lottery.recipe.types import RewindSpec
    from lottery.values import Component

Subject = tuple[int, str]  # level, and the networks in words as tables have them
_NEEDS = {
    "dense-ticket": "dense-ticket a ticket",
    "level-level": "level-level two levels of tickets",
    "seed-seed": "seed-seed two seeds",
    "optimizer-optimizer": "optimizer-optimizer two optimizers",
}


def said_together(names: Sequence[str]) -> str:
    """Return the names of networks that are looked at together, `dense - ticket`, without the numbers of samples."""
    return " - ".join(dict.fromkeys(name.rstrip("0123456789").rstrip() for name in names))


@dataclass(frozen=True)
class Trunks:
    """The parts of a recipe that say which networks it has.

    Attributes:
        prune: How it prunes.
        branches: Its controls.
        rewinds: Its rewind points.
        seeds: Its seeds.
        optimizers: Its optimizers.
    """

    prune: PruneSpec
    branches: Sequence[BranchSpec]
    rewinds: Sequence[RewindSpec]
    seeds: Sequence[int]
    optimizers: Sequence[Component]

    @classmethod
    def of(cls, valid: Mapping[str, Any]) -> Trunks | None:
        """Return those of a recipe's valid sections; None where one that is needed is missing."""
        if any(valid.get(name) is None for name in ("prune", "branches", "rewind", "seeds", "train")):
            return None
        return cls(valid["prune"], valid["branches"], valid["rewind"], valid["seeds"], valid["train"].optimizer)

    def levels(self, name: str) -> list[int]:
        """Return the levels at which there is a network of this name."""
        if name == DENSE:
            return [0]
        sparse = range(1, self.prune.deepest + 1)
        if name in (TICKET, PRUNED):
            return list(sparse)
        return levels_of(next(branch for branch in self.branches if branch.label == name), self.prune)

    def samples(self, name: str) -> int:
        """Return how many networks of this name a trunk has at each of their levels."""
        return next((branch.samples for branch in self.branches if branch.label == name), 1)

    def together(self, names: Sequence[str]) -> Iterator[Subject]:
        """Yield networks of one level that are looked at together, where all of them are there."""
        if len({self.samples(name) for name in names} - {1}) > 1:
            return
        sparse = [set(self.levels(name)) for name in names if name != DENSE]
        if len(names) == 1 and not sparse:
            yield 0, DENSE
        for level in sorted(set.intersection(*sparse)) if sparse else []:
            yield level, said_together(names)

    def pairs(self, pairing: str) -> Iterator[Subject]:
        """Yield the pairs that a pairing is of."""
        if pairing == "dense-ticket":
            yield from self.together((DENSE, TICKET))
        for level in range(self.prune.deepest + 1):
            own = TICKET if level else DENSE
            if pairing == "level-level" and level > 1:
                yield level, said_together((f"{own} above", own))
            elif pairing == "seed-seed" and len(self.seeds) > 1:
                yield level, said_together((own, f"{own} of another seed"))
            elif pairing == "optimizer-optimizer":
                for _, other in combinations(told_apart(self.optimizers), 2):
                    yield level, said_together((own, f"{own} of {other}"))

    def children(self, analysis: AnalysisSpec) -> Iterator[Subject]:
        """Yield the states whose children are looked at; those of a rewind point that is looked for are at `init`."""
        points = [rewind.to for rewind in self.rewinds]
        for at in analysis.starts(points):
            for name in analysis.networks:
                if name == DENSE or at in points:
                    for level in self.levels(name):
                        yield level, said_together((f"{name} from {point_label(at)} 1",))


def subjects(analysis: AnalysisSpec, trunks: Trunks) -> Iterator[Subject]:
    """Yield all that an analysis looks at, as often as there are pairs of optimizers and rewind points."""
    for level, names in _all(analysis, trunks):
        if analysis.levels is None or level in analysis.levels:
            yield level, names


def _all(analysis: AnalysisSpec, trunks: Trunks) -> Iterator[Subject]:
    if analysis.looks_at == "children":
        yield from trunks.children(analysis)
    elif analysis.looks_at == "pair":
        if analysis.of is not None:
            yield from trunks.together(analysis.of)
        for pairing in analysis.pairings:
            yield from trunks.pairs(pairing)
    elif analysis.looks_at == "three":
        yield from trunks.together(analysis.networks)
    else:
        for name in analysis.networks:
            yield from trunks.together((name,))


def about_subjects(here: tuple[str | int, ...], analysis: AnalysisSpec, trunks: Trunks) -> Iterator[Problem]:
    """Refuse an analysis that looks at nothing, and levels at which there is no state whose children it asks for.

    Its networks are some that the recipe has.
    """
    if analysis.looks_at == "children":
        there = {level for level, _ in trunks.children(analysis)}
        for index, level in enumerate(analysis.levels or ()):
            if level not in there:
                yield (*here, "levels", index), _other_children(analysis, level)
    if analysis.levels is None or analysis.looks_at != "children":
        yield from _about_nothing(here, analysis, trunks)


def _about_nothing(here: tuple[str | int, ...], analysis: AnalysisSpec, trunks: Trunks) -> Iterator[Problem]:
    if not any(subjects(analysis, trunks)):
        key = next((key for key in ("levels", "of", "through", "between") if getattr(analysis, key) is not None), None)
        yield (*here, key) if key else here, _nothing(analysis, trunks)


def _other_children(analysis: AnalysisSpec, level: int) -> str:
    named = "" if analysis.of else ", which are what it looks at where nothing is said"
    if level:
        return f"level {level} is of tickets, and there are dense networks alone{named}; write `of: ticket`, or level 0"
    return "level 0 is the dense network, and there are tickets alone; write `of: dense`, or other levels"


def _nothing(analysis: AnalysisSpec, trunks: Trunks) -> str:
    """Return why an analysis looks at nothing, and the way out."""
    if analysis.looks_at == "pair" and analysis.of is None:
        needs = ", ".join(_NEEDS[pairing] for pairing in analysis.pairings)
        return f"no pair of networks is there to look at: {needs}, at the levels that are looked at; add what lacks"
    names = analysis.of or analysis.networks
    if len({trunks.samples(name) for name in names} - {1}) > 1 and analysis.looks_at in ("pair", "three"):
        return f"{' and '.join(names)} have different numbers of samples, so that none go together; give them the same"
    levels = [
        f"{name} of {', '.join(map(str, at)) if (at := trunks.levels(name)) else 'no level'}"
        for name in dict.fromkeys(names)
    ]
    alone = "" if analysis.looks_at in ("state", "trajectory") else " together"
    return f"no networks are there to look at{alone}: {'; '.join(levels)}; name other levels or networks"


def about_measured_claim(
    here: tuple[str | int, ...], claim: ClaimSpec, analyses: Sequence[AnalysisSpec], trunks: Trunks | None
) -> Iterator[Problem]:
    """Yield the analysis, value and networks that a claim of a paper names and the recipe does not have."""
    labels = {analysis.label: analysis for analysis in analyses if analysis.name in registry.analyses}
    if claim.analysis is None:
        return
    if claim.analysis not in labels:
        yield (*here, "analysis"), f"there is no analysis {claim.analysis!r}{suggest(claim.analysis, labels)}"
        return
    analysis = labels[claim.analysis]
    units = units_of(analysis.name)
    if claim.value not in units:
        said = suggest(str(claim.value), units)
        yield (*here, "value"), f"{claim.analysis} measures no {claim.value!r}{said}"
    elif claim.logarithmic and units[str(claim.value)] in ("points", "fraction"):
        yield (*here, "compare"), f"{claim.value} is a share, compared as a difference in points; leave compare out"
    if trunks is None or (analysis.looks_at == "children" and any(rewind.auto for rewind in trunks.rewinds)):
        return  # a point that is looked for has no name yet
    known = list(dict.fromkeys(names for _, names in subjects(analysis, trunks)))
    if known and claim.networks not in known:
        said = suggest(str(claim.networks), known)
        yield (*here, "networks"), f"{claim.analysis} looks at no {claim.networks!r}{said}"
