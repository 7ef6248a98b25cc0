"""Published claims about what an analysis measures: its values by independent seeds, and what hinders a verdict."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lottery import registry
from lottery.analysis.measurements import analysis_named, cells_of, measured
from lottery.statistics.independent import independent_means
from lottery.verdicts.connected import least_spread, seeds_of, unproven
from lottery.verdicts.published_claims import Observed
from lottery.words import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lottery.analysis.cells import CellKey
    from lottery.plan.jobs import Job
    from lottery.recipe.analyses import AnalysisSpec
    from lottery.recipe.claims import ClaimSpec
    from lottery.results.study import Study


Side = tuple[int, str, int, str]  # optimizer's index, rewind point's label, level, networks


def sides_of(claim: ClaimSpec, at: CellKey) -> list[Side]:
    """Return the place and networks that a claim speaks of, and those whose value it takes off, if any."""
    sides = [(at[0], at[1], at[2], claim.networks or "")]
    if claim.minus is not None:
        optimizer = at[0] if claim.minus.optimizer is None else claim.minus.optimizer
        sides.append((optimizer, at[1], at[2], claim.minus.networks or claim.networks or ""))
    return sides


def jobs_of(study: Study, claim: ClaimSpec, at: CellKey) -> Sequence[Job]:
    """Return the analyses that a claim speaks of at one place, on both sides; none where it has no such networks."""
    assert claim.analysis is not None
    found = cells_of(study, analysis_named(study, claim.analysis))
    return [job for side in sides_of(claim, at) for job in found.get(side, [])]


def observe(study: Study, claim: ClaimSpec, at: CellKey, density: float) -> Observed:
    """Return the values of an analysis at one place, one for each independent unit, and what stands in the way.

    Values with a unit are percentage points. Pairs of networks that share a seed are not independent of each other, see
    `lottery.statistics.independent`. Where the claim takes another side off, they are differences within a unit.
    """
    assert claim.analysis is not None and claim.value is not None
    analysis = analysis_named(study, claim.analysis)
    points = registry.analyses[analysis.name].traits.units.get(claim.value, "") in ("points", "fraction")
    scale = 100 if points else 1
    found = [_side(study, analysis, claim.value, side) for side in sides_of(claim, at)]
    hindrances = list(dict.fromkeys(why for _, whys in found for why in whys))
    units = found[0][0]
    for taken, _ in found[1:]:
        if not hindrances and units.keys() != taken.keys():
            hindrances.append("the two sides are not of the same seeds")
        units = {seeds: value - taken[seeds] for seeds, value in units.items() if seeds in taken}
    spread = scale * least_spread(study, analysis) * math.sqrt(len(found)) if points else 0.0
    values = [scale * value for value in units.values()]
    return Observed(at[2], density, values, hindrances=tuple(hindrances), floor=spread)


def _side(
    study: Study, analysis: AnalysisSpec, value: str, side: Side
) -> tuple[dict[frozenset[int], float], list[str]]:
    """Return a value of one side by independent unit, none where one is not finite, and what stands in the way."""
    cells = cells_of(study, analysis)
    jobs = cells.get(side, [])
    done = [measured(study)[job.key] for job in jobs if job.key in measured(study)]
    values = [(seeds_of(study, each.job), each.values.get(value, math.nan)) for each in done]
    bad = sum(not math.isfinite(value) for _, value in values)
    there = sorted({cell[3] for cell in cells if cell[:3] == side[:3]})
    hindrances = [] if jobs else [f"no {side[3]!r} there, but {', '.join(there) or 'nothing'}"]
    if len(done) < len(jobs):
        hindrances.append(f"{len(done)} of {counted(len(jobs), 'measurement')} finished")
    if bad:
        hindrances.append(f"{value} is not finite in {bad} of {len(done)}")
    hindrances += unproven(study, jobs)
    return independent_means(values) if not bad else {}, hindrances
