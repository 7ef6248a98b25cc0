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
    from lottery.recipe.types import ClaimSpec
    from lottery.results.study import Study


def jobs_of(study: Study, claim: ClaimSpec, at: CellKey) -> Sequence[Job]:
    """Return the analyses that a claim speaks of at one place; none where it has no such networks."""
    assert claim.analysis is not None
    found = cells_of(study, analysis_named(study, claim.analysis))
    return found.get((at[0], at[1], at[2], claim.networks or ""), [])


def observe(study: Study, claim: ClaimSpec, at: CellKey, density: float) -> Observed:
    """Return the values of an analysis at one place, one for each independent unit, and what stands in the way.

    Values with a unit are percentage points. Pairs of networks that share a seed are not independent of each other, see
    `lottery.statistics.independent`.
    """
    assert claim.analysis is not None and claim.value is not None
    analysis, jobs = analysis_named(study, claim.analysis), jobs_of(study, claim, at)
    points = registry.analyses[analysis.name].traits.units.get(claim.value, "") in ("points", "fraction")
    scale = 100 if points else 1
    done = [measured(study)[job.key] for job in jobs if job.key in measured(study)]
    values = [(seeds_of(study, each.job), scale * each.values.get(claim.value, math.nan)) for each in done]
    bad = sum(not math.isfinite(value) for _, value in values)
    there = sorted({cell[3] for cell in cells_of(study, analysis) if cell[:3] == at})
    hindrances = [] if jobs else [f"no {claim.networks!r} there, but {', '.join(there) or 'nothing'}"]
    if len(done) < len(jobs):
        hindrances.append(f"{len(done)} of {counted(len(jobs), 'measurement')} finished")
    if bad:
        hindrances.append(f"{claim.value} is not finite in {bad} of {len(done)}")
    hindrances += unproven(study, jobs)
    units = list(independent_means(values).values()) if not bad else []
    spread = scale * least_spread(study, analysis) if points else 0.0
    return Observed(at[2], density, units, hindrances=tuple(hindrances), floor=spread)
