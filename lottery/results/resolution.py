"""The floor of the spread of differences: accuracies are counts of test examples, so none is known better than that."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from typing import TYPE_CHECKING

from lottery.errors import DamagedFile
from lottery.files.read import parse_json
from lottery.plan.kinds import CORRECT_FILE
from lottery.words import short

if TYPE_CHECKING:
    from lottery.results.record import Record
    from lottery.store.store import Store


def floor(examples: int) -> float:
    """Return the least standard deviation that is believed of differences between two accuracies, a fraction.

    An accuracy is a count of test examples, so seeds that differ by less than one are all equal, or all but one. A
    count that is undecided between two neighbours has a spread of half an example, the difference of two such counts
    one of half an example times the root of two.
    """
    return math.sqrt(0.5) / examples


def floor_of(records: Iterable[Record], store: Store) -> float:
    """Return `floor` for the test split of finished trainings; 0 if none says how large it is, as for regression.

    Raises:
        DamagedFile: the file that should say it does not.
    """
    for record in records:
        if CORRECT_FILE in record.manifest.files:
            return floor(_examples(store.read(record.job.key, CORRECT_FILE), record.job.key))
    return 0.0


def _examples(data: bytes, key: str) -> int:
    """Return the number of test examples in the file's header, read without torch, which takes a second to import."""
    try:
        (size,) = struct.unpack_from("<Q", data)
        examples = int(parse_json(data[8 : 8 + size], f"{short(key)}: {CORRECT_FILE}")["__metadata__"]["examples"])
    except (struct.error, KeyError, TypeError, ValueError) as error:
        raise DamagedFile(f"{short(key)}: {CORRECT_FILE} does not say how many test examples there are") from error
    if examples < 1:
        raise DamagedFile(f"{short(key)}: {CORRECT_FILE} is of {examples} test examples")
    return examples
