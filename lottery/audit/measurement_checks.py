"""Checks of the records of analyses: what they read of the data, and which of their values are of the test set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from lottery import registry
from lottery.plan.keys import digest
from lottery.plan.kinds import IDENTITY_FILE, MEASUREMENT_FILE
from lottery.values import PARTS

if TYPE_CHECKING:
    from lottery.plan.jobs import Job
    from lottery.store.store import Store

PATTERN_OF_TEST = "*test*"  # what a name is called that says it is of the test set


def wrong_in_record(store: Store, job: Job) -> Iterator[str]:
    """Yield in words what is wrong with the record of a finished analysis.

    It is what its key is a hash of. It says of which parts of the data it was given examples: one of the test set
    alone has test values, and its entry says that they are.
    """
    about, patterns = store.read_json(job.key, MEASUREMENT_FILE), patterns_of(job)
    if digest(store.read_json(job.key, IDENTITY_FILE)) != job.key:
        yield "its record is not what its key is a hash of"
    read = about.get("read")
    if not isinstance(read, list) or not set(read) <= set(PARTS):
        yield "it does not say which parts of the data it read"
        return
    if "test" in read and not patterns:
        yield "it read the test set, and its entry says that it does not"
    told = sorted(name for name in _names(about) if fnmatchcase(name, PATTERN_OF_TEST) or of_test(name, patterns))
    if told and "test" not in read:
        yield f"it has {told[0]} without having read the test set"
    if unsaid := [name for name in told if not of_test(name, patterns)]:
        yield f"its entry does not say that {unsaid[0]} is measured on the test set"


def _names(about: Mapping[str, Any]) -> set[str]:
    return {*about["values"], *(name for row in about["profile"] for name in row)}


def of_test(name: str, patterns: Sequence[str]) -> bool:
    """Return True for the name of a value, or of a column of the profile, that an entry says is of the test set."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def patterns_of(job: Job) -> tuple[str, ...]:
    """Return the patterns of what the entry of an analysis says it measures on the test set."""
    assert job.analysis is not None
    patterns: tuple[str, ...] = registry.analyses[job.analysis.name].traits.test
    return patterns
