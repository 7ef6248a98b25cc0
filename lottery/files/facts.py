"""Small facts that are kept in the cache, each as a JSON file: what can be found out again, but takes longer."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from lottery.errors import DamagedFile, MachineError, UsageError
from lottery.files import write
from lottery.files.read import parse_json, read_bytes

MOST_BYTES = 10_000


def recall(path: Path) -> Any:
    """Return what is kept there; None where there is nothing, or something damaged."""
    with suppress(DamagedFile, MachineError):
        return parse_json(read_bytes(path, most=MOST_BYTES), str(path))
    return None


def keep(path: Path, values: Any) -> None:
    """Keep plain values there, in the place of what is kept; a disk that refuses does without."""
    with suppress(MachineError, UsageError, OSError):
        write.make_folder(path.parent)
        write.write_atomic(path, json.dumps(values, sort_keys=True).encode(), durable=False)
