"""All that `lottery verify --again` finds wrong with a finished study, in one list."""

from __future__ import annotations

from lottery.results.study import study
from lottery.runner.context import RunContext
from lottery.verification.records import check_records
from lottery.verification.states import jobs_with_states, prove_job


def wrong(context: RunContext) -> list[str]:
    """Return what is wrong with the records and the kept states of a finished run; empty where all holds."""
    found = study(context.plan.recipe, store=context.store)
    records = [line for check in check_records(found) for line in check.wrong]
    states = [line for job in jobs_with_states(context) for proof in prove_job(context, job) for line in proof.wrong]
    return records + states
