"""The fairness audit: ticket, controls and dense network compared field by field, as the store recorded them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from lottery.analysis.cells import column_of, points
from lottery.analysis.labels import optimizer_labels, rewind_label
from lottery.audit.accuracy_checks import AccuracyChecker
from lottery.audit.findings import Audit, Cell, Finding, listed_seeds
from lottery.audit.last_rates import with_last_rate
from lottery.audit.step_differences import allowed_by, step_differences
from lottery.audit.stored_jobs import StoredJobs
from lottery.audit.stored_masks import MaskChecker
from lottery.audit.trainings import AuditedTraining, audit_training, changes_of
from lottery.plan.kinds import Kind
from lottery.plan.origins import ABOVE, DENSE, LAST, REWOUND
from lottery.results.study import once

if TYPE_CHECKING:
    from lottery.plan.jobs import Job
    from lottery.results.study import Study


@once
def audit(study: Study) -> Audit:
    """Compare each finished training of a study with the dense network of its seed.

    A ticket retrained with another optimizer of the recipe is compared with that optimizer's dense network. Controls
    are compared with their ticket as well, in the steps trained. Reads each job's identity from the store once.
    """
    metrics = {record.manifest.key: record.metrics for record in study.found.values()}
    stored, report = StoredJobs(study.store, metrics), study.recipe.report
    masks, accuracies = MaskChecker(stored), AccuracyChecker(stored)
    known = {
        key: with_last_rate(stored, record, audit_training(stored, record, report))
        for key, record in study.found.items()
        if record.manifest.key == key  # else it stands for a training that no learning rate was left for
    }
    dense = {(job.optimizer_index, job.seed): job for job in study.plan if job.kind is Kind.DENSE}
    tickets = {_shared_with_controls(job): job.key for job in study.plan if job.kind is Kind.TICKET}
    findings: list[Finding] = []
    cells: set[Cell] = set()
    compared: dict[int, list[str]] = {}
    unproven: dict[int, dict[str, None]] = {}
    for job in study.plan:
        if job.kind is Kind.REWIND:
            findings += _state_findings(study, stored, job, dense[job.optimizer_index, job.seed])
        if not job.kind.measured or job.key not in study.found:
            continue
        cells.update(_cells(study, job))
        if (audited := known.get(job.key)) is None:
            continue
        compared.setdefault(job.optimizer_index, []).append(job.key)
        unproven.setdefault(job.optimizer_index, {}).update(dict.fromkeys(audited.unproven))
        cell = _cells(study, job)[0]
        problems = [*audited.problems, *(("mask", wrong) for wrong in masks.wrong(study.found[job.key]))]
        problems += [("accuracy", wrong) for wrong in accuracies.wrong(study.found[job.key])]
        own = (cell, job.seed, job.key)
        findings += [Finding(*own, field, "", "", "", wrong, found_in=(job.key,)) for field, wrong in problems]
        against = dense[job.optimizer_index if job.transfer is None else job.transfer, job.seed]
        if job.kind is not Kind.DENSE and against.key in known:
            ticket = tickets[_shared_with_controls(job)] if job.kind is Kind.BRANCH else ""
            pairs = {"dense network": (job.key, against.key), "ticket": (job.key, ticket)}
            findings += [
                replace(finding, found_in=pairs[finding.against])
                for finding in _differences(study, job, audited, known[against.key], known.get(ticket))
            ]
    findings += _seed_findings(study)
    left_open = {optimizer_index: tuple(sentences) for optimizer_index, sentences in unproven.items()}
    return Audit(tuple(findings), frozenset(cells), compared, left_open)


def _shared_with_controls(job: Job) -> tuple[object, ...]:
    """Return what a ticket and its controls have in common; a control with its own trunk has another parent."""
    return job.optimizer_index, job.rewind, job.level, job.seed


def _cells(study: Study, job: Job) -> list[Cell]:
    """Return the cells of the tables in which a job stands: for the dense network one for each rewind point."""
    column = column_of(job)
    if job.transfer is not None:
        column = f"with {optimizer_labels(study.recipe.train.optimizer)[job.transfer]}"
    return [(job.optimizer_index, point, job.level, column) for point in points(study.recipe, job)]


def _differences(
    study: Study, job: Job, ours: AuditedTraining, dense: AuditedTraining, ticket: AuditedTraining | None
) -> Iterator[Finding]:
    """Yield the differences of a ticket or control from the dense network, and of a control from its ticket."""
    (cell,) = _cells(study, job)

    def found(field: str, one: str, other: str, against: str = "dense network") -> Finding:
        allowed = allowed_by(study.recipe.compare, ours, dense, field)
        return Finding(cell, job.seed, job.key, field, one, other, allowed, "", against)

    for field in sorted(ours.values.keys() & dense.values.keys()):
        if ours.values[field] != dense.values[field]:
            yield found(field, ours.values[field], dense.values[field])
    for field, one, other, named_by in _differences_by_origin(ours, dense):
        yield Finding(cell, job.seed, job.key, field, one, other, named_by)
    if job.own_trunk:
        own = f"the branch {ours.branch}"
        yield Finding(cell, job.seed, job.key, "trunk", "its own", "the recipe's", own, "", "ticket")
    for each in step_differences(ours, dense, ticket):
        yield found(each.field, each.ours, each.other, each.against)


def _differences_by_origin(ours: AuditedTraining, dense: AuditedTraining) -> Iterator[tuple[str, str, str, str]]:
    """Yield the differences that follow from where a ticket or control starts.

    Yields:
        The field, its value, the value of the dense network, and what allows the difference.
    """
    origin, mode, branch = ours.origin, f"rewind.mode {ours.mode}", f"the branch {ours.branch}"
    if origin is None:
        return
    point = ours.grid[0] if ours.grid and origin.from_the_point else 0
    changed = [field for field in ("optimizer", "data") if field in changes_of(ours.branch)]
    if changed and (point or origin.goes_on):
        yield "weights", f"{origin.weights}, with the {changed[0]} that found the ticket", "its own", branch
    elif origin.weights != REWOUND:
        yield "weights", origin.weights, "its own", mode if origin.weights in (ABOVE, DENSE) else branch
    if origin.schedule == LAST:
        yield "schedule", "one rate throughout", dense.values.get("schedule", "unknown"), mode
    if not point:
        return  # the dense network's state is fresh at step 0 as well
    carried = "carried on"
    if origin.state == "fresh":
        yield "optimizer_state", "fresh", carried, mode if origin.goes_on else branch
    elif not ours.carries_state:
        yield "optimizer_state", "fresh", carried, "the optimizer, whose state no mask can restrict"


def _state_findings(study: Study, stored: StoredJobs, point: Job, dense: Job) -> Iterator[Finding]:
    """Yield a finding if the record of a state at the rewind point is not what its key says.

    No ticket of this dense network can be trusted then.
    """
    if stored.identity(point.key) is not None and not stored.genuine(point.key):
        cell = (point.optimizer_index, rewind_label(study.recipe.rewind[0]), 0, "dense")
        note = "the record of its state at the rewind point is not what its key says"
        yield Finding(cell, point.seed, point.key, "identity", "", "", "", note, found_in=(dense.key,))


def _seed_findings(study: Study) -> Iterator[Finding]:
    """Yield a finding for each cell in which a seed has a result and the dense network has none, or the reverse."""
    planned: dict[Cell, dict[int, list[Job]]] = {}
    for job in study.plan:
        for cell in _cells(study, job) if job.kind.measured else ():
            planned.setdefault(cell, {}).setdefault(job.seed, []).append(job)
    report = study.recipe.report
    done = {
        cell: {seed for seed, jobs in by_seed.items() if all(_why_no_result(study, job, report) == "" for job in jobs)}
        for cell, by_seed in planned.items()
    }
    for cell, by_seed in planned.items():
        optimizer_index, point, _, column = cell
        if column == "dense" or not any(job.key in study.found for jobs in by_seed.values() for job in jobs):
            continue
        transfer = next(iter(by_seed.values()))[0].transfer
        # of `levels: auto` not every seed is asked for at every level
        beside = (optimizer_index if transfer is None else transfer, point, 0, "dense")
        dense = done[beside] & by_seed.keys()
        lacking = sorted(done[cell] ^ dense)
        if not lacking:
            continue
        compare = study.recipe.compare
        allowed = "compare.allow" if compare is not None and "seeds" in compare.allow else ""
        notes = [_why_no_difference(study, seed, by_seed[seed], seed in done[cell], report) for seed in lacking]
        keys = tuple(job.key for side in (cell, beside) for seed in by_seed for job in planned[side].get(seed, ()))
        told = listed_seeds(done[cell]), listed_seeds(dense), allowed, "; ".join(notes)
        yield Finding(cell, None, "", "seeds", *told, found_in=keys)


def _why_no_difference(study: Study, seed: int, jobs: list[Job], ours: bool, report: str) -> str:
    """Return in words why a seed has no difference between a column and the dense network."""
    if ours:
        return f"seed {seed}: the dense network has no result"
    reasons = [reason for job in jobs if (reason := _why_no_result(study, job, report))]
    return f"seed {seed}: {reasons[0]}" + (f", {len(reasons)} of {len(jobs)} samples" if len(jobs) > 1 else "")


def _why_no_result(study: Study, job: Job, report: str) -> str:
    """Return in words why a job has no accuracy at the reading `report`; empty where it has one."""
    record = study.found.get(job.key)
    if record is None:
        return "missing"
    if record.diverged is not None:
        return f"diverged at step {record.diverged}"
    return "" if record.at(report) else f"no result at {report}"
