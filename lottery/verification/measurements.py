"""Proofs of a study's analyses: what they read, and that nothing but test values depends on the test set."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from lottery import registry
from lottery.device import prepared
from lottery.environment import are_alike
from lottery.files.read import parse_json
from lottery.landscape.evaluate import PARTS
from lottery.plan.keys import digest
from lottery.plan.kinds import IDENTITY_FILE, MEASUREMENT_FILE, Kind
from lottery.runner.measure import Measuring

if TYPE_CHECKING:
    from lottery.data.splits import Splits
    from lottery.plan.jobs import Job
    from lottery.runner.context import RunContext
    from lottery.store.store import Store

PATTERN_OF_TEST = "*test*"  # what a name is called that says it is of the test set


def wrong_in_record(store: Store, job: Job) -> Iterator[str]:
    """Yield in words what is wrong with the record of a finished analysis.

    It is what its key is a hash of. It says of which parts of the data it was given examples: one of the test set
    alone has test values, and its entry says that they are.
    """
    about, patterns = store.read_json(job.key, MEASUREMENT_FILE), _patterns(job)
    if digest(store.read_json(job.key, IDENTITY_FILE)) != job.key:
        yield "its record is not what its key is a hash of"
    read = about.get("read")
    if not isinstance(read, list) or not set(read) <= set(PARTS):
        yield "it does not say which parts of the data it read"
        return
    if "test" in read and not patterns:
        yield "it read the test set, and its entry says that it does not"
    told = sorted(name for name in _names(about) if fnmatchcase(name, PATTERN_OF_TEST) or _of_test(name, patterns))
    if told and "test" not in read:
        yield f"it has {told[0]} without having read the test set"
    if unsaid := [name for name in told if not _of_test(name, patterns)]:
        yield f"its entry does not say that {unsaid[0]} is measured on the test set"


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
    one, two = (_without(parse_json(each, job.label), _patterns(job)) for each in (first, again))
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
    columns = {name for row in about["profile"] for name in row if not _of_test(name, patterns)}
    return {name: value for name, value in about["values"].items() if not _of_test(name, patterns)} | {
        f"{name} of the profile": [row.get(name) for row in about["profile"]] for name in columns
    }


def _names(about: Mapping[str, Any]) -> set[str]:
    return {*about["values"], *(name for row in about["profile"] for name in row)}


def _of_test(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _patterns(job: Job) -> tuple[str, ...]:
    assert job.analysis is not None
    patterns: tuple[str, ...] = registry.analyses[job.analysis.name].traits.test
    return patterns
