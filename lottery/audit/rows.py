"""The table of the fairness audit: a row for each kind of finding, and for what a reader must be told."""

from __future__ import annotations

from collections.abc import Sequence

from lottery.analysis.columns import KEY, LEVEL, SEED
from lottery.analysis.engines import how_computed
from lottery.analysis.labels import head, optimizer_labels
from lottery.analysis.rows import Row, keys_of
from lottery.audit.audit import audit
from lottery.audit.disclosures import Disclosure, disclosures
from lottery.audit.findings import Finding, listed_seeds
from lottery.recipe.audit_fields import FIELDS, FIXED
from lottery.results.study import Study
from lottery.words import short

_COLUMNS = (SEED, LEVEL, "kind", "branch", KEY, "field", "ticket", "dense", "allowed", "ok", "note")


def rows(study: Study) -> list[Row]:
    """Return a row for each violation and each difference that is allowed, and for each optimizer what was compared.

    Columns: `optimizer`, `rewind` where there are several points, `seed`, `level`, `kind` and `branch` (the column of
    the table of means), `key` of the training, `field` (of `lottery.recipe.audit_fields`), its value in `ticket` (or
    control) and in `dense`, `allowed` (True if something allows the difference), `ok` (True if nothing is wrong), and a
    `note`: what allows it, or what is wrong. A finding that several trainings of a column share is one row, with their
    seeds and levels in the note and the key of the first. The note of the row `compared` says what the records cannot
    prove.
    """
    labels = optimizer_labels(study.recipe.train.optimizer)
    alike: dict[tuple[object, ...], list[Finding]] = {}
    for finding in sorted(audit(study).findings, key=lambda each: bool(each.allowed_by)):  # violations first
        optimizer_index, point, _, column = finding.cell
        cells = optimizer_index, point, column
        about = finding.allowed_by, finding.field, finding.ours, finding.dense, finding.note, finding.against
        alike.setdefault((*cells, *about), []).append(finding)
    table = [_row(study, labels, same) for same in alike.values()]
    disclosed = [_disclosure_row(study, labels, each) for each in disclosures(study)]
    computed = how_computed(study)  # the same for each optimizer
    summaries = [_summary_row(study, index, label, computed) for index, label in enumerate(labels)]
    return [*table, *disclosed, *summaries]


def _row(study: Study, labels: list[str], same: list[Finding]) -> Row:
    """Return the row for one finding, or for all findings that say the same of several trainings of a column."""
    finding, alone = same[0], len(same) == 1
    optimizer_index, point, level, column = finding.cell
    row = head(study.recipe, None if column == "dense" else point, optimizer=labels[optimizer_index])
    kind = column if column in ("dense", "ticket") else "branch"
    notes = [
        "" if finding.against == "dense network" else f"the value beside it is the {finding.against}'s",
        finding.note,
        f"named by {finding.allowed_by}" if finding.allowed_by else "",
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
        "allowed": bool(finding.allowed_by),
        "ok": bool(finding.allowed_by),
        "note": "; ".join(filter(None, notes)),
    }
    return Row(row, keys_of(study, (study.found.get(key) for each in same for key in each.found_in)))


def _disclosure_row(study: Study, labels: list[str], disclosure: Disclosure) -> Row:
    """Return the row for what a reader must be told though it is no difference between two trainings."""
    index = disclosure.optimizer_index
    row = head(study.recipe, None, optimizer=None if index is None else labels[index])
    row |= dict.fromkeys(_COLUMNS) | {"field": disclosure.field, "ok": True, "note": disclosure.sentence}
    return Row(row, keys_of(study, (r for r in study.found.values() if index in (None, r.job.optimizer_index))))


def _trainings(same: list[Finding]) -> str:
    """Return in words the number of trainings and their seeds and levels; the row has the key of the first."""
    seeds = sorted({finding.seed for finding in same if finding.seed is not None})
    levels = sorted({finding.cell[2] for finding in same})
    where = [f"seeds {listed_seeds(seeds)}"] if len(seeds) > 1 else []
    where += [f"levels {listed_seeds(levels)}"] if len(levels) > 1 else []
    return f"{len(same)} trainings" + (f" ({', '.join(where)})" if where else "")


def _summary_row(study: Study, optimizer_index: int, label: str, computed: Sequence[str]) -> Row:
    """Return the row that says what was compared of an optimizer, what its records cannot prove, and what computed."""
    found = audit(study)
    compared = found.compared.get(optimizer_index, ())
    note = f"{len(compared)} trainings, {len({*FIELDS, *FIXED})} fields"
    if opened := found.unproven.get(optimizer_index):
        note += f"; the records do not prove {' and '.join(opened)}"
    note += "".join(f"; {sentence}" for sentence in computed)
    fair = all(finding.allowed_by for finding in found.findings if finding.cell[0] == optimizer_index)
    row = dict.fromkeys(_COLUMNS) | {"field": "compared", "ok": fair, "note": note}
    keys = keys_of(study, (study.found[key] for key in compared))
    return Row(head(study.recipe, None, optimizer=label) | row, keys)
