"""Where the numbers of a study come from: the trainings behind each row, the machines, versions and dates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lottery import registry
from lottery.analysis.cells import column_of
from lottery.analysis.environments import by_environment
from lottery.analysis.labels import Row, optimizer_labels, rewind_label
from lottery.plan.kinds import Kind
from lottery.results.study import once

if TYPE_CHECKING:
    from lottery.plan.jobs import Job
    from lottery.results.record import Record
    from lottery.results.study import Study


@dataclass(frozen=True)
class Source:
    """A finished training and its place in the study: `column` is dense, ticket or the control's label."""

    key: str
    optimizer: str
    rewind: str | None  # None: the dense network, which stands beside every rewind point
    seed: int
    level: int
    density: float
    column: str
    retrained_with: str | None


@once
def sources(study: Study) -> list[Source]:
    """The finished trainings of a study, in the order of its plan; each with the density of its cell of the tables."""
    labels = optimizer_labels(study.recipe.train.optimizer)
    cells: dict[tuple[int, str | None, int], float] = {}
    for job in study.plan:
        if job.kind is Kind.TICKET and (record := study.found.get(job.key)):
            cells.setdefault(_cell(job), record.density)
    return [
        Source(
            key,
            labels[record.job.place],
            _cell(record.job)[1],
            record.job.seed,
            record.job.level,
            cells.get(_cell(record.job), record.density),
            column_of(record.job),
            None if record.job.transfer is None else labels[record.job.transfer],
        )
        for key, record in study.found.items()
    ]


def _cell(job: Job) -> tuple[int, str | None, int]:
    return job.place, rewind_label(job.rewind) if job.rewind else None, job.level


def keys_of(study: Study, view: str, rows: list[Row]) -> list[list[str]]:
    """For each row of a view the full keys of the finished trainings that it was made from, in the plan's order.

    What a row does not say does not count: one without a seed is made from all seeds, one without a level or density
    from all levels. Only networks that a row compares are behind it: dense networks and tickets for verdicts, tickets
    and the control for claims. A ticket's cost is that of the trunk above it and of the tuning as well.
    """
    if view in ("long", "missing"):
        return [[row["key"]] if row["key"] in study.found else [] for row in rows]
    if view == "rates":
        return [_trials(study, row["optimizer"], row["lr"]) for row in rows]
    if view == "environments":
        return [[record.job.key for record in group] for group in by_environment(study)]
    every, behind = sources(study), _TRANSFERRED.get(view) or _Behind(study, view)
    made = [[source.key for source in every if behind(row, source)] for row in rows]
    if view == "costs":
        return [[*_trials(study, row["optimizer"]), *keys] for row, keys in zip(rows, made, strict=True)]
    return made


class _Behind:
    """Whether a row of a view is made from a training."""

    def __init__(self, study: Study, view: str):
        self.view = view
        replicates = study.recipe.replicates
        self.claims = {claim.text: (claim.column, claim.against) for claim in (replicates.claims if replicates else ())}
        branches = {branch.label: registry.branches[branch.name].traits for branch in study.recipe.branches}
        self.longer = next(((label,) for label, traits in branches.items() if traits.longer), ())

    def __call__(self, row: Row, source: Source) -> bool:
        return (
            (source.retrained_with is None or self.view == "audit")
            and (row.get("optimizer") is None or source.optimizer in (row["optimizer"], row.get("other")))
            and (source.rewind is None or row.get("rewind") in (None, source.rewind))
            and row.get("seed") in (None, source.seed)
            and ((columns := self._columns(row)) is None or source.column in columns)
            and (source.column == "dense" or self._there(row, source))
        )

    def _columns(self, row: Row) -> Sequence[str | None] | None:
        """Those of the table of means that a row was made from; None for all of them."""
        if self.view in ("claims", "decomposition"):
            return ("ticket", *row["against"].split(", "))
        if self.view == "replication":
            return self.claims[row["claim"]]
        if self.view == "examples":
            return ("dense", row["network"])
        if self.view == "audit":
            return None if row["kind"] is None else ("dense", row["branch"] or row["kind"])
        if self.view == "layers":
            return ("ticket",) if row["level"] else ("dense",)
        if self.view == "costs":
            return ("dense", "ticket", *self.longer)
        return {"verdicts": _PAIR, "sparsest": _PAIR, "frontier": _PAIR, "overlaps": ("ticket",)}.get(self.view)

    def _there(self, row: Row, source: Source) -> bool:
        """Whether the training is of a level that the row was made from."""
        level, density = row.get("level"), row.get("density")
        if self.view == "sparsest" or row.get("decision") == "sparsest matching":
            return True  # where it lies is told by the levels around it
        if self.view == "costs" and source.column == "ticket":
            return source.level <= int(row["level"])
        if self.view == "layers":
            return source.level in (row["level"] - 1, row["level"])  # a share of the level above survived
        if self.view == "replication" or level is not None:
            return source.level == level
        return density is None or source.density == density


_PAIR = ("dense", "ticket")


def _retrained(row: Row, source: Source) -> bool:
    """A row of the found-with x retrained-with table: dense networks, or tickets and what was retrained of them."""
    from lottery.analysis.labels import DENSE

    if row["found_with"] == DENSE:
        return source.column == "dense"
    at = source.optimizer == row["found_with"] and source.density == row["density"]
    return (
        at and row.get("rewind") in (None, source.rewind) and (source.column == "ticket" or bool(source.retrained_with))
    )


def _compared(row: Row, source: Source) -> bool:
    """A transferred ticket and what it is held against, for a row of the tests between them."""
    if row.get("rewind") not in (None, source.rewind) and source.rewind is not None:
        return False
    if source.retrained_with is not None:
        pair = source.optimizer, source.retrained_with, source.level
        return pair == (row["found_with"], row["retrained_with"], row["level"])
    level, column = (0, "dense") if row["against"] == "dense" else (row["level"], "ticket")
    return (source.optimizer, source.level, source.column) == (row["retrained_with"], level, column)


_TRANSFERRED = {"transfer": _retrained, "transfer_tests": _compared}


def _trials(study: Study, optimizer: str, rate: float | None = None) -> list[str]:
    """The trials of an optimizer's learning rates, or of one of them."""
    labels = optimizer_labels(study.recipe.train.optimizer)
    return [
        job.key
        for job in study.plan
        if job.kind is Kind.TRIAL and labels[job.place] == optimizer and rate in (None, job.optimizer.args["lr"])
    ]


def lacking(study: Study) -> list[Row]:
    """A row for each training that is missing, diverged, or blocked because one that it needs diverged: its place in
    the study, its key, `state`, and the `step` at which its loss was seen not to be finite.
    """
    labels = optimizer_labels(study.recipe.train.optimizer)
    rows: list[Row] = []
    for job in study.plan:
        record = study.found.get(job.key)
        if not job.kind.measured or (record is not None and record.diverged is None):
            continue
        rows.append(
            {
                "state": _state(study, job, record),
                "step": None if record is None else record.diverged,
                "optimizer": labels[job.place],
                "rewind": _cell(job)[1],
                "seed": job.seed,
                "level": job.level,
                "kind": column_of(job),
                "retrained_with": None if job.transfer is None else labels[job.transfer],
                "sample": job.sample if job.kind is Kind.BRANCH else None,
                "key": job.key,
            }
        )
    return rows


def _state(study: Study, job: Job, record: Record | None) -> str:
    return "diverged" if record is not None else "blocked" if job.key in study.blocked else "missing"
