"""The learning rates that were tried for each optimizer, and the one that was chosen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lottery.analysis.columns import RATE, Column
from lottery.analysis.labels import optimizer_labels
from lottery.analysis.rows import Row, Values, in_plan_order
from lottery.errors import UsageError
from lottery.plan.kinds import METRICS_FILE, Kind

if TYPE_CHECKING:
    from lottery.plan.jobs import Job, Plan
    from lottery.results.study import Study
    from lottery.store.store import Store


def _all_ruled_out(plan: Plan, store: Store, choice: Job) -> Iterator[Values]:
    """Yield the trials of a choice that found no rate, with the number of seeds of each that diverged."""
    diverged: dict[float, int] = {}
    for key in choice.needs:
        rate = plan.jobs[key].optimizer.args["lr"]
        diverged[rate] = diverged.get(rate, 0) + ("diverged" in store.read_json(key, METRICS_FILE))
    return ({"lr": rate, "diverged": count} for rate, count in sorted(diverged.items()))


def rates(study: Study) -> list[Row]:
    """Return the learning rates that were tried: a row for each optimizer and rate.

    It has the mean validation measures over the tuning seeds, the number of them that diverged, and which rate was
    chosen.

    Raises:
        UsageError: Where the recipe tunes no learning rate.
    """
    plan, store = study.plan, study.store
    if plan.recipe.tune is None:
        raise UsageError(f"{plan.recipe.name}: tunes no learning rate; add `tune: {{}}`")
    labels = optimizer_labels(plan.recipe.train.optimizer)
    table: list[Row] = []
    for job in plan:
        if job.kind is not Kind.CHOICE or store.find(job.key) is None:
            continue
        chosen = store.read_json(job.key, METRICS_FILE)
        trials = chosen.get("trials") or list(_all_ruled_out(plan, store, job))
        for trial in trials:
            measures: Values = {_column(name): value for name, value in trial.items() if name.startswith("validation_")}
            note = ["chosen"] if trial["lr"] == chosen.get("lr") else []
            note += [f"the {chosen['edge']} tried"] if note and chosen["edge"] else []
            row: Values = {
                "optimizer": labels[job.optimizer_index],
                RATE: trial["lr"],
                **measures,
                "diverged": trial["diverged"],
            }
            tried = [key for key in job.needs if plan.jobs[key].optimizer.args["lr"] == trial["lr"]]
            table.append(Row({**row, "note": ", ".join(note)}, in_plan_order(study, tried)))
    names = dict.fromkeys(name for row in table for name in row if name != "note")
    return [Row({**{name: row.get(name) for name in names}, "note": row["note"]}, row.made_from) for row in table]


def _column(measure: str) -> Column:
    return Column(measure, "" if measure.endswith("_loss") else "fraction")
