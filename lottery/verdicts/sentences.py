"""The verdicts in plain sentences, one for each optimizer and rewind point."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from lottery.analysis.cells import declared, records_by_cell
from lottery.analysis.labels import density_label, head, optimizer_labels, rewind_label
from lottery.plan.kinds import Kind
from lottery.verdicts.verdicts import rows, sparsest_matching
from lottery.words import counted

if TYPE_CHECKING:
    from lottery.analysis.rows import Row, Values
    from lottery.results.record import Record
    from lottery.results.study import Study

SHOWN = ("matching", "winning")
ALSO = {  # by a word of a row's `also`
    "better": "are better than it",
    "equivalent": "are equivalent to it (neither worse nor better by the margin)",
}
DEPENDS = {"verdict": "the verdict", "sign": "the sign of the difference"}  # by what stands in a row's `depends`


def sentences(study: Study) -> list[str]:
    """Return one plain sentence for each optimizer and rewind point: what may be said, and where nothing may, why.

    Raises:
        UsageError: The recipe declares no margin.
    """
    compare, table = declared(study), rows(study)
    how = f"within {compare.points}, one-sided {100 * compare.confidence:g} %"
    down_to = sparsest_matching(study)
    told = []
    for optimizer_index, label in enumerate(optimizer_labels(study.recipe.train.optimizer)):
        for rewind in study.recipe.rewind:
            at = _optimizer_and_rewind(head(study.recipe, rewind_label(rewind), optimizer=label))
            mine = [row for row in table if _optimizer_and_rewind(row) == at]
            name = label + (f", rewound to {at[1]}" if at[1] is not None else "")
            if mine:
                parts = [*_parts(mine, down_to[at], how), *_trained_on(study, optimizer_index, rewind_label(rewind))]
                told.append(f"{name}: {'; '.join(parts)}.")
            elif lost := _diverged(study, optimizer_index):
                told.append(f"{name}: {lost}.")
    return told


def seeds_in_words(counts: Sequence[int]) -> str:
    """Return `1 seed`, `5 seeds` or `2 to 5 seeds`."""
    low, high = min(counts), max(counts)
    return f"{low} to {high} seeds" if low < high else counted(low, "seed")


def _optimizer_and_rewind(row: Values) -> tuple[str, str | None]:
    return row["optimizer"], row.get("rewind")


def _parts(mine: Sequence[Row], down_to: float | None, how: str) -> Iterator[str]:
    """Yield the parts of a sentence on the densities of one optimizer and rewind point, from dense to sparse."""
    pairs = [row["n"] for row in mine if row["n"]]
    how = f"{how}, {seeds_in_words(pairs)}" if pairs else how
    shown = [row for row in mine if row["verdict"] in SHOWN]
    verdicts = ", ".join(f"{density_label(row['density'])} {row['verdict']}" for row in mine)
    if not shown:
        yield f"no density is shown to match the dense network ({how}): {verdicts}"
    elif down_to is None:
        yield f"tickets of {_listed(shown)} of the weights match the dense network ({how})"
        yield f"the densest are not shown to, so there is no sparsest density that all denser ones share: {verdicts}"
    else:
        yield f"tickets down to {density_label(down_to)} of the weights match the dense network ({how})"
        if beyond := [row for row in shown if row["density"] < down_to]:
            yield f"so do those of {_listed(beyond)}, though not all between"
    if shown and (won := [row for row in mine if row["verdict"] == "winning"]):
        yield f"they win at {_listed(won)}: they reach their early-stop step no later than it"
    for word, words in ALSO.items():
        if found := [row for row in mine if word in (row.get("also") or "").split(", ")]:
            yield f"they {words} at {_listed(found)}"
    if shown and down_to is not None and (lost := [row for row in mine if row["verdict"] == "losing"]):
        yield f"they lose at {_listed(lost)}"
    for kind, words in DEPENDS.items():
        if otherwise := [row for row in mine if row.get("depends") == kind]:
            yield f"at {_listed(otherwise)} {words} depends on the step at which accuracy is read"
    if kept := [row for row in mine if row["verdict"] == "withheld"]:
        yield f"the verdict is withheld at {_listed(kept)}: the audit says why"
    if without := [row for row in mine if not row["n"]]:
        yield f"no seed has a result of both ticket and dense network at {_listed(without)}"


def _listed(rows: Sequence[Row]) -> str:
    return ", ".join(density_label(row["density"]) for row in rows)


def _diverged(study: Study, optimizer_index: int) -> str:
    """Return, for an optimizer whose dense networks all diverged, that they did; else nothing."""
    found = [
        study.found.get(job.key)
        for job in study.plan
        if job.kind is Kind.DENSE and job.optimizer_index == optimizer_index
    ]
    steps = [record.diverged for record in found if record is not None and record.diverged is not None]
    if not steps or len(steps) < len(found):
        return ""
    which = "the dense network" if len(found) == 1 else f"all {len(found)} dense networks"
    return f"{which} diverged, first at step {min(steps)}: there is nothing to prune, and no verdict"


def _trained_on(study: Study, optimizer_index: int, rewind: str) -> Iterator[str]:
    """Yield how long tickets that go on from trained weights were trained in all; nothing for others."""
    spans: dict[float, tuple[int, int]] = {}
    for (which, point, level), columns in records_by_cell(study).items():
        for job, record in columns.get("ticket", ()) if (which, point) == (optimizer_index, rewind) and level else ():
            trunk = [study.found.get(each.key) for each in study.plan.trunk(job)]
            if record is None or job.rewind is None or job.rewind.mode == "weights" or record.density in spans:
                continue
            taken = [_own_steps(each) for each in trunk]
            known = [steps for steps in taken if steps is not None]
            if len(known) == len(taken):
                spans[record.density] = sum(known), known[0]
    if not spans:
        return
    order = sorted(spans, reverse=True)
    (least, dense), (most, _) = spans[order[0]], spans[order[-1]]
    weights = density_label(order[0]) if len(order) == 1 else f"{density_label(order[0])} to {density_label(order[-1])}"
    steps = f"{least:,}" if least == most else f"{least:,} to {most:,}"
    times = f"{least / dense:.3g}" if least == most else f"{least / dense:.3g} to {most / dense:.3g}"
    yield (
        f"they go on from trained weights: with the levels above, tickets of {weights} were trained for {steps} steps, "
        f"{times} times the {dense:,} of the dense network"
    )


def _own_steps(record: Record | None) -> int | None:
    """Return the steps of a training after where it started; None where it diverged or has no curve."""
    curve = [] if record is None or record.diverged is not None else record.metrics.get("curve") or []
    return int(curve[-1]["step"] - curve[0]["step"]) if curve else None
