"""Tables of analyses: what each measured, network by network, over seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lottery import registry
from lottery.analysis.columns import DENSITY, LEVEL, Column
from lottery.analysis.labels import head, optimizer_labels, rewind_label
from lottery.analysis.rows import Row, Values
from lottery.analysis.three_errors import MEASURES, Fit, Measure, ToldApart, told_apart
from lottery.errors import DamagedFile, UsageError
from lottery.plan.analyses import analysis_jobs
from lottery.plan.kinds import MEASUREMENT_FILE, Kind
from lottery.recipe.analysis_subjects import said_together
from lottery.results.measured_values import read_value
from lottery.results.record import record_of
from lottery.results.study import once

if TYPE_CHECKING:
    from lottery.plan.jobs import Job
    from lottery.recipe.analyses import AnalysisSpec
    from lottery.results.record import Record
    from lottery.results.study import Study
    from lottery.store.store import Store

MeasuredCell = tuple[int, str, int, str]  # optimizer's index, rewind point's label, level, networks
STEP = Column("step", "ordinal")
MEASURED = Column("n", words="measurements")
NO_BOUND = "representation is the best fit found to the training set: an estimate, no bound"
NOT_REPEATED = "trained again, another way"
ASCENT_REACHED = "ascent_reached"  # end of the names of values that are below 1 where an ascent failed


@dataclass(frozen=True)
class Measured:
    """A finished analysis.

    Attributes:
        job: The job.
        values: Its numbers by name; they may be NaN or infinite.
        profile: Its rows for pictures.
        states: Step of each state that it looked at, and whether a training that was run again went the same way.
    """

    job: Job
    values: Mapping[str, float]
    profile: Sequence[Mapping[str, Any]]
    states: Sequence[Mapping[str, Any]]

    @property
    def networks(self) -> str:
        """Names of the networks that it looked at, see `networks_of`."""
        return networks_of(self.job)


def networks_of(job: Job) -> str:
    """Return the names of the networks that an analysis looks at, `dense - ticket`, without the numbers of samples."""
    return said_together([look.name for look in job.looks])


@once
def measured(study: Study) -> dict[str, Measured]:
    """Return the finished analyses of a study by key; a damaged one is left out, and the next run computes it again."""
    found: dict[str, Measured] = {}
    for job in study.plan:
        if job.kind is not Kind.ANALYSIS or study.store.find(job.key) is None:
            continue
        try:
            found[job.key] = read_measurement(study.store, job)
        except DamagedFile:
            continue
    return found


def read_measurement(store: Store, job: Job) -> Measured:
    """Return what a finished analysis measured.

    Raises:
        DamagedFile: The file is not what was committed.
    """
    about = store.read_json(job.key, MEASUREMENT_FILE)
    values = {name: float(read_value(value)) for name, value in about["values"].items()}
    profile = [{name: read_value(value) for name, value in row.items()} for row in about["profile"]]
    return Measured(job, values, profile, about["states"])


def analysis_named(study: Study, label: str) -> AnalysisSpec:
    """Return the analysis of a recipe whose table has this name.

    Raises:
        UsageError: There is none.
    """
    for analysis in study.recipe.analyses:
        if analysis.label == label:
            return analysis
    there = ", ".join(analysis.label for analysis in study.recipe.analyses) or "none"
    raise UsageError(f"{study.recipe.name}: has no analysis {label!r}; there are {there}: add it to `analyses`")


def rows(study: Study, label: str) -> list[Row]:
    """Return what an analysis measured: a row for each optimizer, rewind point, level and networks, means over seeds.

    Beside each value stand its standard deviation over the seeds (`_std`, None for one). `n` is the number of seeds or
    pairs, samples of a control counted apart. A mean over values that are not all finite is None, and `note` says so,
    as it does where a network diverged. Analyses of children have the step at which these begin, `step`.
    """
    analysis = analysis_named(study, label)
    traits = registry.analyses[analysis.name].traits
    known = errors_of(study, analysis) if traits.adds_up else {}
    table: list[Row] = []
    for cell, jobs in cells_of(study, analysis).items():
        _, _, level, networks = cell
        found = [measured(study)[job.key] for job in jobs if job.key in measured(study)]
        values = head_of(study, cell)
        values |= {LEVEL: level, DENSITY: density_of(study, jobs), "networks": networks}
        values |= {STEP: step_of_children(study, jobs[0])} if traits.looks_at == "children" else {}
        values[MEASURED] = len(found)
        for name, unit in traits.units.items():
            values |= _cell(name, unit, [each.values[name] for each in found if name in each.values])
        apart = {measure: [errors[each.job.key] for each in found] for measure, errors in known.items()}
        values |= _three_errors(apart)
        values["note"] = "; ".join([*_notes(study, jobs, found), *([NO_BOUND] if found and traits.adds_up else [])])
        keys = dict.fromkeys(key for each in found for key in (each.job.key, *(look.key for look in each.job.looks)))
        keys |= dict.fromkeys(key for each in apart.values() for one in each for key in one.best.keys)
        table.append(Row(values, keys))
    return table


def step_of_children(study: Study, job: Job) -> int | None:
    """Return the step of the state whose children a job looks at; None where its epochs are not yet told in steps."""
    child = study.plan.jobs[job.looks[0].key]
    assert child.rewind is not None
    to = child.rewind.to
    if to.unit == "it" or not to.value:
        return to.value
    record = _record(study, child.key)
    return None if record is None else int(record.metrics["curve"][0]["step"])


def errors_of(study: Study, analysis: AnalysisSpec) -> dict[Measure, dict[str, ToldApart]]:
    """Return the three errors, of loss and of error, of what finished jobs of an analysis looked at, by their keys.

    The analysis has the trait `adds_up`.
    """
    fits = fits_of(study, analysis)
    return {
        measure: {key: told_apart(fit, fits.values(), measure) for key, fit in fits.items()} for measure in MEASURES
    }


def fits_of(study: Study, analysis: AnalysisSpec) -> dict[str, Fit]:
    """Return what the finished jobs of an analysis that has the trait `adds_up` measured, by key."""
    from lottery.runner.states import mask_of  # imports torch, which other tables do not need

    found: dict[str, Fit] = {}
    for job in jobs_of(study, analysis):
        if (each := measured(study).get(job.key)) is not None:
            (look,), (state,) = job.looks, each.states
            mask = mask_of(study.store, study.plan.jobs[look.key], look)
            found[job.key] = Fit(_named(study, job), job.seed, state["step"], mask, (job.key, look.key), each.values)
    return found


def _named(study: Study, job: Job) -> str:
    """Return which network an analysis of one looked at: `ticket at level 2`, with the optimizer where several are."""
    labels = optimizer_labels(study.recipe.train.optimizer)
    level = f" at level {job.level}" if job.level else ""
    return f"{networks_of(job)}{level}" + (f" of {labels[job.optimizer_index]}" if len(labels) > 1 else "")


def _three_errors(apart: Mapping[Measure, Sequence[ToldApart]]) -> Values:
    """Return the columns of the three errors of networks, of loss and of error."""
    values: Values = {}
    for measure, found in apart.items():
        first, rest = ("fraction", "points") if measure == "error" else ("", "")
        values |= _cell(f"{measure}_representation", first, [each.errors.representation for each in found])
        values |= _cell(f"{measure}_optimization", rest, [each.errors.optimization for each in found])
        values |= _cell(f"{measure}_generalization", rest, [each.errors.generalization for each in found])
        values[f"{measure}_best_fit"] = ", ".join(dict.fromkeys(each.source for each in found))
    return values


def head_of(study: Study, cell: MeasuredCell) -> Values:
    """Return the columns that a row of a cell begins with: optimizer, and rewind point where there are several."""
    return {**head(study.recipe, cell[1], optimizer=optimizer_labels(study.recipe.train.optimizer)[cell[0]])}


def jobs_of(study: Study, analysis: AnalysisSpec) -> list[Job]:
    """Return the jobs of an analysis in the order of the plan, those as well that another analysis asks for first."""
    alone = study.recipe.model_copy(update={"analyses": (analysis,), "keep": None})
    found: dict[str, Job] = {}
    for job in analysis_jobs(alone, study.plan.jobs):
        if job.kind is Kind.ANALYSIS:
            found.setdefault(job.key, job)
    return list(found.values())


def cells_of(study: Study, analysis: AnalysisSpec) -> dict[MeasuredCell, list[Job]]:
    """Return the jobs of an analysis by optimizer, rewind point, level and networks."""
    found: dict[MeasuredCell, list[Job]] = {}
    for job in jobs_of(study, analysis):
        rewinds = [rewind_label(job.rewind)] if job.rewind else [rewind_label(each) for each in study.recipe.rewind]
        for rewind in rewinds:
            found.setdefault((job.optimizer_index, rewind, job.level, networks_of(job)), []).append(job)
    return dict(sorted(found.items(), key=lambda cell: (cell[0][0], cell[0][1])))


def _cell(name: str, unit: Any, values: Sequence[float]) -> Values:
    """Return the columns of a value: mean and standard deviation over the jobs; None where they are not finite."""
    known = bool(values) and all(map(math.isfinite, values))
    return {
        Column(name, unit): statistics.fmean(values) if known else None,
        Column(f"{name}_std", unit, "std", whole=name): statistics.stdev(values) if known and len(values) > 1 else None,
    }


def density_of(study: Study, jobs: Sequence[Job]) -> float | None:
    """Return the mean density of the last network that these jobs look at, of those that are finished."""
    records = [_record(study, job.looks[-1].mask or job.looks[-1].key) for job in jobs]
    known = [record.density for record in records if record is not None and "density" in record.metrics]
    return statistics.fmean(known) if known else None


def _record(study: Study, key: str) -> Record | None:
    """Return the record of a training that is looked at; None where it is not finished."""
    job = study.plan.jobs[key]
    return record_of(study.plan, study.store, job) if job.kind is Kind.CHILD else study.found.get(key)


def _notes(study: Study, jobs: Sequence[Job], found: Sequence[Measured]) -> Iterator[str]:
    looked_at = {look.key for job in jobs for look in job.looks}
    diverged = [key for key in looked_at if (record := _record(study, key)) and record.diverged is not None]
    if diverged:
        yield f"diverged: {len(diverged)} of {len(looked_at)} networks"
    for name in dict.fromkeys(name for each in found for name in each.values):
        bad = sum(not math.isfinite(each.values.get(name, 0.0)) for each in found)
        if bad:
            yield f"{name} is not finite in {bad} of {len(found)}"
    for name in dict.fromkeys(name for each in found for name in each.values):
        if name.endswith(ASCENT_REACHED) and (short := sum(each.values.get(name, 1.0) < 1 for each in found)):
            why = "the ascent failed, or the loss grows slower than its quadratic model"
            yield f"{name} is below 1 in {short} of {len(found)}: {why}"
    if any(not state["same"] for each in found for state in each.states):
        yield NOT_REPEATED
    if len(found) < len(jobs) and not diverged:
        yield f"{len(jobs) - len(found)} of {len(jobs)} not finished"
