"""Checks that recorded accuracies are the shares of the kept bits, one for each test example, read from the store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from lottery import registry
from lottery.errors import LotteryError, MachineError
from lottery.plan.kinds import CORRECT_FILE
from lottery.recipe.readings import READINGS
from lottery.results.artifacts import read_correct

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lottery.audit.stored_jobs import StoredJobs
    from lottery.results.record import Record


def wrong_accuracies(metrics: Mapping[str, Any], correct: Mapping[Any, NDArray[np.bool_]]) -> Iterator[str]:
    """Compare the test accuracy of each reading with its bits, one for each test example: exactly their share.

    Args:
        metrics: The metrics of a training.
        correct: The bits by reading, each an array of bools of shape (test examples,).

    Yields:
        What is wrong, in words.
    """
    for reading in READINGS:
        measured = metrics.get(reading) or {}
        if "test_accuracy" not in measured:
            if reading in correct:
                yield f"there are bits of test examples at {reading}, and no accuracy"
            continue
        bits = correct.get(reading)
        if bits is None:
            yield f"no bits of test examples are kept at {reading}"
        elif measured["test_accuracy"] != (share := int(bits.sum()) / max(1, len(bits))):
            yield f"test_accuracy at {reading} is {measured['test_accuracy']:.6g}, {share:.6g} of the bits say correct"


class AccuracyChecker:
    """Reader of the bits that trainings have kept; it says where bits and accuracies disagree."""

    def __init__(self, stored: StoredJobs):
        self.stored = stored
        self._examples: dict[str, int] = {}  # test examples by the fingerprint of the data, as the first record has it

    def wrong(self, record: Record) -> Iterator[str]:
        """Yield what is wrong with the accuracies of a finished training, in words.

        Nothing is wrong where the bits give them, nor with regression, which keeps no bits. A record that is in no
        store is passed.
        """
        files, metrics = record.manifest.files, record.metrics
        if not files or record.diverged is not None or self.stored.store.find(record.manifest.key) is None:
            return
        if CORRECT_FILE not in files:
            classified = any("test_accuracy" in (metrics.get(reading) or {}) for reading in READINGS)
            if classified and not self._of_several(record.manifest.key):
                yield "no bits of test examples are kept"
            return
        try:
            correct = read_correct(self.stored.store, record.manifest.key)
        except MachineError:
            raise
        except (LotteryError, ValueError) as error:
            yield f"its bits of test examples cannot be read: {error}"
            return
        yield from wrong_accuracies(metrics, correct)
        training = self.stored.training(record.manifest.key) or {}
        first = next((len(bits) for bits in correct.values()), 0)
        wanted = self._examples.setdefault(str(training.get("fingerprint")), first)
        if any(len(bits) != wanted for bits in correct.values()):
            yield f"its bits are not of the {wanted:,} test examples that others have on these data"

    def _of_several(self, key: str) -> bool:
        """Return True for a control that may be measured as the mean of several drawn networks, which keeps no bits.

        These are controls that draw masks, and controls of plugins.
        """
        branch = (self.stored.identity(key) or {}).get("branch") or {}
        entry = registry.branches[branch["name"]] if branch.get("name") in registry.branches else None
        return int(branch.get("draws", 1)) > 1 or (bool(branch) and (entry is None or bool(entry.code)))
