"""The fairness audit: ticket, controls and dense network compared field by field, from what the store recorded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lottery.analysis.cells import column_of, points
from lottery.analysis.columns import KEY, LEVEL, SEED
from lottery.analysis.environments import roundings
from lottery.analysis.labels import head, optimizer_labels, rewind_label
from lottery.analysis.rows import Row, keys_of
from lottery.audit.accuracy_checks import Accuracies
from lottery.audit.disclosures import Disclosure, disclosures
from lottery.audit.evidence import Evidence, Facts, changes_of, facts_of
from lottery.audit.last_rates import causes, with_last_rate
from lottery.audit.mask_evidence import Masks
from lottery.plan.kinds import Kind
from lottery.plan.origins import ABOVE, DENSE, LAST, REWOUND
from lottery.recipe.audit_fields import FIELDS, FIXED
from lottery.results.study import once
from lottery.words import short

if TYPE_CHECKING:
    from lottery.plan.jobs import Job
    from lottery.results.study import Study

Cell = tuple[int, str, int, str]  # the optimizer's place, the rewind point's label, the level, the column

_COLUMNS = (SEED, LEVEL, "kind", "branch", KEY, "field", "ticket", "dense", "allowed", "ok", "note")
_WITH_THE_OPTIMIZER = ("learning_rate", "batch_size")  # mean something else under another entry of the catalogue


@dataclass(frozen=True)
class Finding:
    """One difference, or one proof that failed. `named` says what allows it, empty where nothing does.

    `found_in` are the full keys of the trainings that show it; they need not all be finished.
    """

    cell: Cell
    seed: int | None
    key: str
    field: str
    ours: str
    dense: str
    named: str = ""
    note: str = ""
    against: str = "dense network"
    found_in: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """What a reader of a verdict is told."""
        values = f"{self.ours}, {self.against} {self.dense}" if self.dense else ""
        return f"{self.field}: {'; '.join(filter(None, (values, self.note)))}"


@dataclass(frozen=True)
class Audit:
    """All that was found; by each optimizer's place the keys `compared`, and in `unproven` what stays open."""

    findings: tuple[Finding, ...]
    cells: frozenset[Cell]
    compared: Mapping[int, Sequence[str]]
    unproven: Mapping[int, tuple[str, ...]]

    def withheld(self) -> dict[Cell, list[str]]:
        """Cells whose verdicts are withheld, with the reasons; those of a dense network count for all its cells."""
        reasons: dict[Cell, dict[str, list[str]]] = {}
        for finding in self.findings:
            if not finding.named:
                seed = [] if finding.seed is None else [str(finding.seed)]
                for cell in self._touched(finding.cell):
                    reasons.setdefault(cell, {}).setdefault(finding.words, []).extend(seed)
        return {cell: [_with_seeds(*each) for each in found.items()] for cell, found in reasons.items()}

    def _touched(self, cell: Cell) -> Iterable[Cell]:
        place, _, _, column = cell
        return [other for other in self.cells if other[0] == place] if column == "dense" else [cell]


def rows(study: Study) -> list[Row]:
    """A row for each violation and each difference that is allowed, and for each optimizer what was compared.

    Columns: `optimizer`, `rewind` where there are several points, `seed`, `level`, `kind` and `branch` (the column of
    the table), `key` of the training, `field` (of `audit_fields`), its value in `ticket` (or control) and in `dense`,
    whether it is `allowed`, whether all is `ok`, and a `note`: what allows it, or what is wrong. What is the same for
    several trainings of a column is one row, with their seeds and levels in the note and the key of the first. The note
    of the row `compared` says what the records cannot prove.
    """
    labels = optimizer_labels(study.recipe.train.optimizer)
    alike: dict[tuple[object, ...], list[Finding]] = {}
    for finding in sorted(audit(study).findings, key=lambda each: bool(each.named)):  # violations first
        place, point, _, column = finding.cell
        kind = (finding.named, place, point, column, finding.field, finding.ours, finding.dense, finding.note)
        alike.setdefault((*kind, finding.against), []).append(finding)
    table = [_row(study, labels, same) for same in alike.values()]
    told = [_told(study, labels, each) for each in disclosures(study)]
    return [*table, *told, *(_summary(study, place, label) for place, label in enumerate(labels))]


@once
def audit(study: Study) -> Audit:
    """Compare each finished training of a study with the dense network of its seed.

    A ticket retrained with another optimizer of the recipe is compared with that one's dense network. Controls are
    compared with their ticket as well, in the steps trained. Reads each job's identity from the store once.
    """
    metrics = {record.manifest.key: record.metrics for record in study.found.values()}
    evidence, report = Evidence(study.store, metrics), study.recipe.report
    masks, accuracies = Masks(evidence), Accuracies(evidence)
    known = {
        key: with_last_rate(evidence, record, facts_of(evidence, record, report))
        for key, record in study.found.items()
        if record.manifest.key == key  # else it stands for a training that no learning rate was left for
    }
    dense = {(job.place, job.seed): job for job in study.plan if job.kind is Kind.DENSE}
    tickets = {_beside(job): job.key for job in study.plan if job.kind is Kind.TICKET}
    findings: list[Finding] = []
    cells: set[Cell] = set()
    compared: dict[int, list[str]] = {}
    unproven: dict[int, dict[str, None]] = {}
    for job in study.plan:
        if job.kind is Kind.REWIND:
            findings += _about_state(study, evidence, job, dense[job.place, job.seed])
        if not job.kind.measured or job.key not in study.found:
            continue
        cells.update(_cells(study, job))
        if (facts := known.get(job.key)) is None:
            continue
        compared.setdefault(job.place, []).append(job.key)
        unproven.setdefault(job.place, {}).update(dict.fromkeys(facts.unproven))
        cell = _cells(study, job)[0]
        problems = [*facts.problems, *(("mask", wrong) for wrong in masks.wrong(study.found[job.key]))]
        problems += [("accuracy", wrong) for wrong in accuracies.wrong(study.found[job.key])]
        own = (cell, job.seed, job.key)
        findings += [Finding(*own, field, "", "", "", wrong, found_in=(job.key,)) for field, wrong in problems]
        against = dense[job.place if job.transfer is None else job.transfer, job.seed]
        if job.kind is not Kind.DENSE and against.key in known:
            ticket = tickets[_beside(job)] if job.kind is Kind.BRANCH else ""
            pairs = {"dense network": (job.key, against.key), "ticket": (job.key, ticket)}
            findings += [
                replace(finding, found_in=pairs[finding.against])
                for finding in _compared(study, job, facts, known[against.key], known.get(ticket))
            ]
    findings += _seeds(study)
    left_open = {place: tuple(sentences) for place, sentences in unproven.items()}
    return Audit(tuple(findings), frozenset(cells), compared, left_open)


def _beside(job: Job) -> tuple[object, ...]:
    """What a ticket and its controls have in common: a control with a trunk of its own has another parent."""
    return job.place, job.rewind, job.level, job.seed


def _cells(study: Study, job: Job) -> list[Cell]:
    """The cells of the tables in which a job stands: the dense network in one for each rewind point."""
    column = column_of(job)
    if job.transfer is not None:
        column = f"with {optimizer_labels(study.recipe.train.optimizer)[job.transfer]}"
    return [(job.place, point, job.level, column) for point in points(study.recipe, job)]


def _compared(study: Study, job: Job, ours: Facts, dense: Facts, ticket: Facts | None) -> Iterator[Finding]:
    """The differences of a ticket or control from the dense network, and of a control from its ticket."""
    (cell,) = _cells(study, job)

    def found(field: str, one: str, other: str, against: str = "dense network") -> Finding:
        return Finding(cell, job.seed, job.key, field, one, other, _named(study, ours, dense, field), "", against)

    for field in sorted(ours.values.keys() & dense.values.keys()):
        if ours.values[field] != dense.values[field]:
            yield found(field, ours.values[field], dense.values[field])
    for field, one, other, named in _by_origin(ours, dense):
        yield Finding(cell, job.seed, job.key, field, one, other, named)
    if job.own_trunk:
        named = f"the branch {ours.branch}"
        yield Finding(cell, job.seed, job.key, "trunk", "its own", "the recipe's", named, "", "ticket")
    if ours.steps is None or dense.steps is None:
        return
    if ours.steps != dense.steps:
        yield found("steps", str(ours.steps), str(dense.steps))
    first, last = ours.grid[0], ours.grid[-1]
    theirs = [step for step in dense.grid if first < step <= last]
    if list(ours.grid[1:]) != theirs and ours.values.get("evaluation_grid") == dense.values.get("evaluation_grid"):
        yield found("evaluation_grid", f"{len(ours.grid) - 1} measures after step {first}", f"{len(theirs)} measures")
    if ticket is not None and ticket.steps is not None:
        if ours.own_steps != ticket.own_steps:
            yield found("own_steps", str(ours.own_steps), str(ticket.own_steps), "ticket")
        if ours.steps != ticket.steps and ticket.steps != dense.steps:
            yield found("steps", str(ours.steps), str(ticket.steps), "ticket")


def _by_origin(ours: Facts, dense: Facts) -> Iterator[tuple[str, str, str, str]]:
    """What follows from where a ticket or control comes from: field, its value, the dense network's, what names it."""
    origin, mode, branch = ours.origin, f"rewind.mode {ours.mode}", f"the branch {ours.branch}"
    if origin is None:
        return
    point = ours.grid[0] if ours.grid and origin.from_the_point else 0
    changed = [what for what in ("optimizer", "data") if what in changes_of(ours.branch)]
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


def _named(study: Study, ours: Facts, dense: Facts, field: str) -> str:
    """What allows a difference, in words: the branch, the way of rewinding, the recipe; empty where nothing does."""
    if field == "last_rate":
        return causes(ours, dense)
    changes = changes_of(ours.branch)
    entries = {facts.values.get("optimizer", "").partition("(")[0] for facts in (ours, dense)}
    if field in changes or ("optimizer" in changes and len(entries) > 1 and field in _WITH_THE_OPTIMIZER):
        return f"the branch {ours.branch}"
    if ours.origin is not None and ours.origin.goes_on and field == "steps":
        return f"rewind.mode {ours.mode}"
    compare = study.recipe.compare
    return "compare.allow" if compare is not None and field in compare.allow else ""


def _about_state(study: Study, evidence: Evidence, point: Job, dense: Job) -> Iterator[Finding]:
    """A state to rewind to whose record is not what its key says: no ticket of this dense network can be trusted."""
    if evidence.identity(point.key) is not None and not evidence.genuine(point.key):
        cell = (point.place, rewind_label(study.recipe.rewind[0]), 0, "dense")
        note = "the record of its state at the rewind point is not what its key says"
        yield Finding(cell, point.seed, point.key, "identity", "", "", "", note, found_in=(dense.key,))


def _seeds(study: Study) -> Iterator[Finding]:
    """Cells of which a seed has a result and the dense network none, or the other way round."""
    planned: dict[Cell, dict[int, list[Job]]] = {}
    for job in study.plan:
        for cell in _cells(study, job) if job.kind.measured else ():
            planned.setdefault(cell, {}).setdefault(job.seed, []).append(job)
    report = study.recipe.report
    done = {
        cell: {seed for seed, jobs in by_seed.items() if all(_why_not(study, job, report) == "" for job in jobs)}
        for cell, by_seed in planned.items()
    }
    for cell, by_seed in planned.items():
        place, point, _, column = cell
        if column == "dense" or not any(job.key in study.found for jobs in by_seed.values() for job in jobs):
            continue
        transfer = next(iter(by_seed.values()))[0].transfer
        # of `levels: auto` not every seed is asked for at every level
        beside = (place if transfer is None else transfer, point, 0, "dense")
        dense = done[beside] & by_seed.keys()
        lacking = sorted(done[cell] ^ dense)
        if not lacking:
            continue
        compare = study.recipe.compare
        named = "compare.allow" if compare is not None and "seeds" in compare.allow else ""
        notes = [_lost(study, seed, by_seed[seed], seed in done[cell], report) for seed in lacking]
        keys = tuple(job.key for side in (cell, beside) for seed in by_seed for job in planned[side].get(seed, ()))
        told = _listed(done[cell]), _listed(dense), named, "; ".join(notes)
        yield Finding(cell, None, "", "seeds", *told, found_in=keys)


def _lost(study: Study, seed: int, jobs: list[Job], ours: bool, report: str) -> str:
    """Why a seed has no difference."""
    if ours:
        return f"seed {seed}: the dense network has no result"
    reasons = [reason for job in jobs if (reason := _why_not(study, job, report))]
    return f"seed {seed}: {reasons[0]}" + (f", {len(reasons)} of {len(jobs)} samples" if len(jobs) > 1 else "")


def _why_not(study: Study, job: Job, report: str) -> str:
    record = study.found.get(job.key)
    if record is None:
        return "missing"
    if record.diverged is not None:
        return f"diverged at step {record.diverged}"
    return "" if record.at(report) else f"no result at {report}"


def _listed(seeds: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(seeds))) or "none"


def _with_seeds(words: str, seeds: list[str]) -> str:
    return f"{words} (seed {', '.join(dict.fromkeys(seeds))})" if seeds else words


def _row(study: Study, labels: list[str], same: list[Finding]) -> Row:
    """A row for one finding, or for all that say the same of several trainings of a column."""
    finding, alone = same[0], len(same) == 1
    place, point, level, column = finding.cell
    row = head(study.recipe, None if column == "dense" else point, optimizer=labels[place])
    kind = column if column in ("dense", "ticket") else "branch"
    notes = [
        "" if finding.against == "dense network" else f"the value beside it is the {finding.against}'s",
        finding.note,
        f"named by {finding.named}" if finding.named else "",
        "" if alone else _trainings(same),
    ]
    row |= {
        SEED: finding.seed if alone else None,
        LEVEL: level if alone else None,
        "kind": kind,
        "branch": column if kind == "branch" else None,
        KEY: short(finding.key) or None,
        "field": finding.field,
        "ticket": finding.ours or None,
        "dense": finding.dense or None,
        "allowed": bool(finding.named),
        "ok": bool(finding.named),
        "note": "; ".join(filter(None, notes)),
    }
    return Row(row, keys_of(study, (study.found.get(key) for each in same for key in each.found_in)))


def _told(study: Study, labels: list[str], told: Disclosure) -> Row:
    """A row for what a reader must be told though it is no difference of two trainings."""
    row = head(study.recipe, None, optimizer=None if told.place is None else labels[told.place])
    row |= dict.fromkeys(_COLUMNS) | {"field": told.field, "ok": True, "note": told.sentence}
    return Row(row, keys_of(study, (r for r in study.found.values() if told.place in (None, r.job.place))))


def _trainings(same: list[Finding]) -> str:
    """How many trainings, and where: the key in the row is the first one's."""
    seeds = sorted({finding.seed for finding in same if finding.seed is not None})
    levels = sorted({finding.cell[2] for finding in same})
    where = [f"seeds {_listed(seeds)}"] if len(seeds) > 1 else []
    where += [f"levels {_listed(levels)}"] if len(levels) > 1 else []
    return f"{len(same)} trainings" + (f" ({', '.join(where)})" if where else "")


def _summary(study: Study, place: int, label: str) -> Row:
    """What was compared of an optimizer, and what its records cannot prove."""
    found = audit(study)
    compared = found.compared.get(place, ())
    note = f"{len(compared)} trainings, {len({*FIELDS, *FIXED})} fields"
    if opened := found.unproven.get(place):
        note += f"; the records do not prove {' and '.join(opened)}"
    note += "".join(f"; {sentence}" for sentence in roundings(study))
    fair = all(finding.named for finding in found.findings if finding.cell[0] == place)
    row = dict.fromkeys(_COLUMNS) | {"field": "compared", "ok": fair, "note": note}
    keys = keys_of(study, (study.found[key] for key in compared))
    return Row(head(study.recipe, None, optimizer=label) | row, keys)
