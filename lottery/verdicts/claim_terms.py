"""The terms of a published claim: the networks whose values it adds up or takes off, and what hinders a verdict."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lottery.analysis.cells import densities, records_by_cell, transfers_by_cell
from lottery.analysis.labels import optimizer_labels, rewind_label
from lottery.audit.audit import audit
from lottery.environment import Session, differing, mixed
from lottery.plan.kinds import Kind
from lottery.recipe.claims import REACHING

if TYPE_CHECKING:
    from lottery.analysis.cells import CellKey
    from lottery.audit.findings import Cell
    from lottery.plan.jobs import Job
    from lottery.recipe.claims import ClaimSpec
    from lottery.results.record import Record
    from lottery.results.study import Study
    from lottery.store.manifest import Manifest

_COUNTED = ("diverged", "good_values", *REACHING)  # measures of which a seed that diverged has a value


@dataclass(frozen=True)
class Term:
    """A value that a claim adds (`sign` 1) or takes off (-1): a column of the table of means at one cell of a study.

    For a claim about an analysis, `name` is that of its networks. `point` is `left` or `right`, empty where the recipe
    has no sweep.
    """

    study: Study
    at: CellKey
    name: str
    sign: int = 1
    point: str = ""

    @property
    def label(self) -> str:
        """The column in words, with the point."""
        return f"{self.point} {self.name}".lstrip()

    @property
    def cell(self) -> Cell:
        """Where the audit and the table of means have it: dense networks stand at level 0."""
        return (self.at[0], self.at[1], 0 if self.name == "dense" else self.at[2], self.name)

    @property
    def trainings(self) -> Sequence[tuple[Job, Record | None]]:
        """The trainings of the column at this cell, None for those that are not finished."""
        both = [by_cell(self.study).get(self.cell[:3], {}) for by_cell in (records_by_cell, transfers_by_cell)]
        return next((named[self.name] for named in both if self.name in named), [])

    @property
    def records(self) -> list[Record]:
        """The finished trainings of the column at this cell."""
        return [record for _, record in self.trainings if record is not None]

    @property
    def finished(self) -> set[int]:
        """The seeds all of whose trainings are finished."""
        return {job.seed for job, _ in self.trainings} - {job.seed for job, record in self.trainings if record is None}

    @property
    def density(self) -> float:
        """The density of the cell, a fraction."""
        return densities(self.study)[self.at]


def terms_of(claim: ClaimSpec, studies: Sequence[Study], cells: Sequence[CellKey]) -> list[Term]:
    """Return the terms of a claim about one study, or about the studies of two points, each at a cell."""
    points = ("left", "right") if claim.left is not None else ("",)
    found = []
    for study, at, point, sign in zip(studies, cells, points[: len(studies)], (1, -1), strict=False):
        name = claim.column if claim.analysis is None else str(claim.networks)
        if claim.retrained_with is not None:
            found.append(Term(study, at, f"with {labels_of(study)[claim.retrained_with]}", sign))
            found.append(Term(study, (claim.retrained_with, *at[1:]), str(claim.against), -sign))
            continue
        found.append(Term(study, at, name, sign, point))
        if claim.minus is not None:
            optimizer = at[0] if claim.minus.optimizer is None else claim.minus.optimizer
            found.append(Term(study, (optimizer, *at[1:]), claim.minus.networks or name, -sign, point))
        elif claim.analysis is None and claim.against is not None:
            found.append(Term(study, at, claim.against, -sign, point))
    return found


def places_of(claim: ClaimSpec, study: Study) -> list[tuple[int, str]]:
    """Return the optimizers, by their index, and labels of rewind points of a study that a claim speaks of."""
    recipe = study.recipe
    return [
        (index, rewind_label(rewind))
        for index in range(len(recipe.train.optimizer))
        if claim.optimizer in (None, index) and index != claim.retrained_with
        for rewind in recipe.rewind
        if claim.rewind in (None, rewind.to)
    ]


def labels_of(study: Study) -> list[str]:
    """Return the labels of the optimizers of a study."""
    return optimizer_labels(study.recipe.train.optimizer)


def manifests_of(record: Record, study: Study) -> list[Manifest | None]:
    """Return the manifests of the jobs that a training was done in, None for one that is not in the store any more.

    A dense network is trained to the points that tickets go back to, and on from there.
    """
    needs = [study.plan.jobs[key] for key in record.job.needs if record.job.kind is Kind.DENSE]
    points = [job.key for job in needs if job.kind is Kind.REWIND and job.identity["to"] != "init"]
    return [record.manifest, *map(study.store.find, points)]


def hindrances(claim: ClaimSpec, terms: Iterable[Term]) -> list[str]:
    """Return why nothing may be said of these trainings: seeds that are not finished, what the audit withholds.

    Of two points of a sweep, all trainings have to be of environments that differ in rounding only.
    """
    terms = list(terms)
    found = [why for term in terms for why in _own(claim, term)]
    if len({term.point for term in terms}) > 1:
        found += apart([record.manifest.sessions for term in terms for record in term.records], terms)
    if claim.measure == "seconds":
        manifests = (each for term in terms for record in term.records for each in manifests_of(record, term.study))
        fields = differing(manifest.machines for manifest in manifests if manifest is not None)
        found += [f"seconds of different environments: {', '.join(fields)}"] * bool(fields)
    return found


def apart(sessions: Sequence[Sequence[Session]], terms: Sequence[Term]) -> list[str]:
    """Return a sentence if two points are of environments that differ in more than rounding, and not allowed to."""
    allowed = set.intersection(*(_allowed(term.study) for term in terms))
    fields = [name for name in mixed(sessions) if name not in allowed]
    return [f"left and right are of different environments: {', '.join(fields)}"] if fields else []


def _own(claim: ClaimSpec, term: Term) -> Iterator[str]:
    if term.study.recipe.prune.auto is not None:
        yield "levels: auto adds seeds by what it sees: bounds of a number of seeds fixed before do not hold"
        return
    seeds = {job.seed for job, _ in term.trainings}
    if term.finished != seeds or not seeds:
        yield f"{term.label}: {len(term.finished)} of {len(seeds)} seeds finished"
    for reason in audit(term.study).withheld().get(term.cell, ()):
        if claim.measure not in _COUNTED or not reason.startswith("seeds:"):
            yield f"{term.label}: {reason}"


def _allowed(study: Study) -> set[str]:
    compare = study.recipe.compare
    return set() if compare is None else set(compare.allow)
