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
    from torch import Tensor

    from lottery.audit.evidence import Evidence
    from lottery.results.record import Record


def wrong_accuracies(metrics: Mapping[str, Any], correct: Mapping[Any, Tensor]) -> Iterator[str]:
    """Compare the test accuracy of each reading with its bits, one for each test example: exactly their share."""
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


class Accuracies:
    """Reader of the bits that trainings have kept; it says where bits and accuracies disagree."""

    def __init__(self, evidence: Evidence):
        self.evidence = evidence
        self._examples: dict[str, int] = {}  # test examples by the fingerprint of the data, as the first record has it

    def wrong(self, record: Record) -> Iterator[str]:
        """Say what is wrong with the accuracies of a finished training; nothing where the bits give them, and for
        regression, which keeps none. A record that is in no store is passed.
        """
        files, metrics = record.manifest.files, record.metrics
        if not files or record.diverged is not None or self.evidence.store.find(record.manifest.key) is None:
            return
        if CORRECT_FILE not in files:
            classified = any("test_accuracy" in (metrics.get(reading) or {}) for reading in READINGS)
            if classified and not self._of_several(record.manifest.key):
                yield "no bits of test examples are kept"
            return
        try:
            correct = read_correct(self.evidence.store, record.manifest.key)
        except MachineError:
            raise
        except (LotteryError, ValueError) as error:
            yield f"its bits of test examples cannot be read: {error}"
            return
        yield from wrong_accuracies(metrics, correct)
        training = self.evidence.training(record.manifest.key) or {}
        first = next((len(bits) for bits in correct.values()), 0)
        wanted = self._examples.setdefault(str(training.get("fingerprint")), first)
        if any(len(bits) != wanted for bits in correct.values()):
            yield f"its bits are not of the {wanted:,} test examples that others have on these data"

    def _of_several(self, key: str) -> bool:
        """True for a control that may be measured as the mean of several drawn networks, which keeps no bits: one that
        draws masks, or of a plugin.
        """
        branch = (self.evidence.identity(key) or {}).get("branch") or {}
        entry = registry.branches[branch["name"]] if branch.get("name") in registry.branches else None
        return int(branch.get("draws", 1)) > 1 or (bool(branch) and (entry is None or bool(entry.code)))
