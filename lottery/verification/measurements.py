"""Proofs of a study's analyses: that nothing but test values depends on the test set."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lottery.audit.measurement_checks import of_test, patterns_of
from lottery.device import prepared
from lottery.environment import are_alike
from lottery.files.read import parse_json
from lottery.plan.kinds import MEASUREMENT_FILE, Kind
from lottery.runner.measure import Measuring

if TYPE_CHECKING:
    from lottery.data.splits import Splits
    from lottery.plan.jobs import Job
    from lottery.runner.context import RunContext
    from lottery.store.store import Store


def reads_test(store: Store, job: Job) -> bool:
    """Return True for a finished analysis that was given examples of the test set."""
    if job.kind is not Kind.ANALYSIS or store.find(job.key) is None:
        return False
    return "test" in store.read_json(job.key, MEASUREMENT_FILE).get("read", ())


def depending_on_test(context: RunContext, job: Job) -> list[str]:
    """Return what an analysis measured that depends on the test set though its entry does not say so.

    It is measured again with the label of each test example exchanged for another. What is not a test value has to be
    the same to the bit: so no test value has chosen anything. On another machine than the first time, both are measured
    here.
    """
    manifest = context.store.find(job.key)
    assert manifest is not None
    ours = {**context.machine.environment(), "deterministic": None}
    here = all(are_alike({**session, "deterministic": None}, ours) for session in manifest.machines)
    first = context.store.read(job.key, MEASUREMENT_FILE) if here else _measured(context, job)
    again = _measured(replace(context, splits=_exchanged(context.splits), on_device={}), job)
    one, two = (_without(parse_json(each, job.label), patterns_of(job)) for each in (first, again))
    return [name for name in sorted({*one, *two}) if one.get(name) != two.get(name)]


def _measured(context: RunContext, job: Job) -> bytes:
    """Return the file of a measurement that is made now, and not kept."""
    with prepared(context.machine, "fp32"):
        measuring = Measuring(replace(context, checkpoint_seconds=math.inf), job, 0.0)
        for _ in measuring.run():
            pass
    return measuring.result


def _exchanged(splits: Splits) -> Splits:
    """Return the data with another label, or target, for each test example."""
    labels = splits.test_y
    return replace(splits, test_y=labels + 1 if splits.regression else (labels + 1) % splits.classes)


def _without(about: Mapping[str, Any], patterns: Sequence[str]) -> dict[str, Any]:
    """Return the values and the columns of the profile that are not of the test set, by name."""
    columns = {name for row in about["profile"] for name in row if not of_test(name, patterns)}
    return {name: value for name, value in about["values"].items() if not of_test(name, patterns)} | {
        f"{name} of the profile": [row.get(name) for row in about["profile"]] for name in columns
    }
