"""Duplicates in a data set: exact copies, byte for byte, in training, validation and test data.

Counts are kept in the store, and in `$LOTTERY_CACHE/duplicates` for other stores of the machine, by the fingerprint of
the data.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lottery.files import facts
from lottery.paths import cache_root
from lottery.store.notes import recall, remember

if TYPE_CHECKING:
    from torch import Tensor

    from lottery.data.splits import Splits
    from lottery.store.store import Store

DIGEST_BYTES = 16
NOTED = "duplicates"  # counts by the fingerprint of the data
VERSION = 1  # of how they are counted


@dataclass(frozen=True)
class Duplicates:
    """Counts of exact copies in one data set.

    Attributes:
        training: Number of training examples with another copy among them; each seed draws its validation examples from
            these.
        test: Number of test examples with another copy among them.
        test_in_training: Number of test examples that are training examples too.
        other_class: Those of `test_in_training` that have another target there.
    """

    test_in_training: int
    other_class: int
    training: int
    test: int
    training_size: int
    test_size: int

    def as_dict(self) -> dict[str, int]:
        """Return plain values, for JSON."""
        return asdict(self)

    @property
    def any(self) -> bool:
        """True if there is a copy of any example."""
        return bool(self.test_in_training or self.training or self.test)


def duplicates(splits: Splits) -> Duplicates | None:
    """Count the exact copies in a data set; None for images that stay in their files, which are not decoded for it."""
    from lottery.data.streaming import Files

    if isinstance(splits.train_x, Files) or isinstance(splits.test_x, Files):
        return None
    training, test = list(_digests(splits.train_x)), list(_digests(splits.test_x))
    times, test_times = Counter(training), Counter(test)
    targets: dict[bytes, set[bytes]] = {}
    both = times.keys() & test_times.keys()
    for digest, target in zip(training, _targets(splits.train_y), strict=True):
        if digest in both:
            targets.setdefault(digest, set()).add(target)
    inside = [(digest, target) for digest, target in zip(test, _targets(splits.test_y), strict=True) if digest in both]
    return Duplicates(
        len(inside),
        sum(target not in targets[digest] for digest, target in inside),
        sum(count for count in times.values() if count > 1),
        sum(count for count in test_times.values() if count > 1),
        len(training),
        len(test),
    )


def _digests(x: Tensor) -> Iterator[bytes]:
    from lottery.data.splits import HASHED_AT_ONCE

    for begin in range(0, len(x), HASHED_AT_ONCE):
        part = x[begin : begin + HASHED_AT_ONCE]
        for row in part.contiguous().flatten(1).numpy():
            yield hashlib.blake2b(row.data, digest_size=DIGEST_BYTES).digest()


def _targets(y: Tensor) -> Iterator[bytes]:
    return (row.tobytes() for row in y.contiguous().numpy())


def remembered(store: Store, fingerprint: str) -> Duplicates | None:
    """Return the counts that a store has of the data with this fingerprint; None where nobody has looked."""
    return _counts(recall(store, NOTED, fingerprint))


def _counts(found: Any) -> Duplicates | None:
    names = Duplicates.__dataclass_fields__.keys()
    if not isinstance(found, dict) or found.keys() != names or not all(type(n) is int for n in found.values()):
        return None
    return Duplicates(**found)


def known_duplicates(fingerprint: str, splits: Splits) -> Duplicates | None:
    """Return the counts of exact copies in a data set: those that this machine has, else counted now, and kept."""
    path = cache_root() / NOTED / f"{VERSION}-{fingerprint}.json"
    if (known := _counts(facts.recall(path))) is not None:
        return known
    found = duplicates(splits)
    if found is not None:
        facts.keep(path, found.as_dict())
    return found


def look(store: Store, fingerprint: str, splits: Splits) -> Duplicates | None:
    """Count the exact copies in a data set once, and keep the counts in the store."""
    if (known := remembered(store, fingerprint)) is not None:
        return known
    found = known_duplicates(fingerprint, splits)
    if found is not None:
        remember(store, NOTED, fingerprint, found.as_dict())
    return found


def sentence(name: str, found: Duplicates | None) -> str:
    """Say how many exact copies the data set of this name has; empty where nobody has looked or there is none."""
    if found is None or not found.any:
        return ""
    parts: list[str] = []
    if found.test_in_training:
        other = f", {found.other_class:,} of them with another target" if found.other_class else ""
        parts.append(f"{_of(found.test_in_training, found.test_size)} test examples are training examples too{other}")
    for count, size, where in (
        (found.training, found.training_size, "training"),
        (found.test, found.test_size, "test"),
    ):
        if count:
            parts.append(f"{_of(count, size)} {where} examples have a copy among themselves")
    return f"{name}: {'; '.join(parts)} (exact copies, byte for byte)"


def _of(count: int, size: int) -> str:
    return f"{count:,} of {size:,}"
