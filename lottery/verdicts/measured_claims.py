"""Published claims about what an analysis measures: its values by independent seeds, and what hinders a verdict."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lottery.analysis.measurements import analysis_named, cells_of, errors_of, measured
from lottery.recipe.analyses import THREE_ERRORS, units_of
from lottery.statistics.independent import independent_means
from lottery.verdicts.claim_terms import Term, apart
from lottery.verdicts.connected import least_spread, seeds_of, unproven
from lottery.verdicts.published_claims import Observed
from lottery.words import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lottery.analysis.measurements import Measured
    from lottery.plan.jobs import Job
    from lottery.recipe.analyses import AnalysisSpec
    from lottery.recipe.claims import ClaimSpec
    from lottery.results.study import Study


def jobs_of(term: Term, claim: ClaimSpec) -> Sequence[Job]:
    """Return the analyses that a term of a claim is about; none where its study has no such networks there."""
    assert claim.analysis is not None
    return cells_of(term.study, analysis_named(term.study, claim.analysis)).get((*term.at, term.name), [])


def observe(claim: ClaimSpec, terms: Sequence[Term]) -> Observed:
    """Return the values of an analysis at one place, one for each independent unit, and what stands in the way.

    Values with a unit are percentage points. Pairs of networks that share a seed are not independent of each other, see
    `lottery.statistics.independent`. Where the claim has several terms, they are added up within a unit.
    """
    assert claim.analysis is not None and claim.value is not None
    analysis = analysis_named(terms[0].study, claim.analysis)
    points = units_of(analysis.name)[claim.value] in ("points", "fraction")
    scale = 100 if points else 1
    found = [_side(claim, term) for term in terms]
    hindrances = list(dict.fromkeys(why for _, whys in found for why in whys))
    if not hindrances and any(units.keys() != found[0][0].keys() for units, _ in found):
        hindrances.append("the two sides are not of the same seeds")
    hindrances += _environments(claim, terms)
    units: dict[frozenset[int], float] = {}
    for seeds in found[0][0]:
        if all(seeds in each for each, _ in found):
            pairs = zip(terms, found, strict=True)
            units[seeds] = math.fsum(term.sign * each[seeds] for term, (each, _) in pairs)
    least = math.sqrt(sum(least_spread(term.study, analysis_named(term.study, claim.analysis)) ** 2 for term in terms))
    spread = scale * least if points and not claim.logarithmic else 0.0
    values = [scale * value for value in units.values()]
    return Observed(terms[0].at[2], terms[0].density, values, hindrances=tuple(hindrances), floor=spread)


def _side(claim: ClaimSpec, term: Term) -> tuple[dict[frozenset[int], float], list[str]]:
    """Return a value of one term by independent unit, none where one cannot be used, and what stands in the way."""
    assert claim.analysis is not None and claim.value is not None
    analysis = analysis_named(term.study, claim.analysis)
    cells = cells_of(term.study, analysis)
    jobs, known = jobs_of(term, claim), measured(term.study)
    done = [known[job.key] for job in jobs if job.key in known]
    values = [(seeds_of(term.study, each.job), _value(term.study, analysis, each, claim.value)) for each in done]
    bad = sum(not math.isfinite(value) for _, value in values)
    there = sorted({cell[3] for cell in cells if cell[:3] == term.at})
    hindrances = [] if jobs else [f"no {term.name!r} there, but {', '.join(there) or 'nothing'}"]
    if len(done) < len(jobs):
        hindrances.append(f"{len(done)} of {counted(len(jobs), 'measurement')} finished")
    if bad:
        hindrances.append(f"{claim.value} is not finite in {bad} of {len(done)}")
    hindrances += unproven(term.study, jobs)
    units = independent_means(values) if not bad else {}
    if claim.logarithmic:
        if none := sum(value <= 0 for value in units.values()):
            hindrances.append(f"{claim.value} is not above 0 in {none} of {len(units)}, which have no ratio")
        units = {seeds: math.log(value) for seeds, value in units.items() if value > 0}
    return units, [f"{term.point}: {why}" if term.point else why for why in hindrances]


def _value(study: Study, analysis: AnalysisSpec, found: Measured, name: str) -> float:
    """Return a value that was measured, or one of the three errors that the table makes of such; NaN for none."""
    if name not in THREE_ERRORS or name in found.values:
        return found.values.get(name, math.nan)
    measure, _, part = name.partition("_")
    errors = {str(each): apart for each, apart in errors_of(study, analysis).items()}
    return float(getattr(errors[measure][found.job.key].errors, part))


def _environments(claim: ClaimSpec, terms: Sequence[Term]) -> list[str]:
    """Return a sentence if two points were measured, or what was measured there was trained, in different places."""
    if len({term.point for term in terms}) < 2:
        return []
    found = []
    for term in terms:
        jobs = jobs_of(term, claim)
        keys = dict.fromkeys(key for job in jobs for key in (job.key, *(look.key for look in job.looks)))
        found += [manifest.sessions for key in keys if (manifest := term.study.store.find(key)) is not None]
    return apart(found, terms)
