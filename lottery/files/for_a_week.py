"""Facts about this machine that are kept for a week: a timing, a choice that was made by one.

Each is a small JSON file in the cache. Other work on the machine may have disturbed what was measured, so none is kept
for longer. A disk that refuses does without.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lottery.errors import DamagedFile, MachineError, UsageError
from lottery.files import write
from lottery.files.read import parse_json, read_bytes

WEEK = 7 * 24 * 3600.0
MOST_BYTES = 10_000


def recall(path: Path) -> dict[str, Any] | None:
    """Return the values that were kept there in the last week; None where there are none."""
    with suppress(DamagedFile, MachineError, TypeError, KeyError, ValueError):
        found = parse_json(read_bytes(path, most=MOST_BYTES), str(path))
        if 0 <= time.time() - float(found["time"]) < WEEK:
            return dict(found)
    return None


def keep(path: Path, values: Mapping[str, Any]) -> None:
    """Keep values there, in the place of what is kept."""
    with suppress(MachineError, UsageError, OSError):
        write.make_folder(path.parent)
        write.write_atomic(path, _encoded(values), durable=False)


def keep_first(path: Path, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Keep values there unless another process was faster, and return those that all processes find from now on."""
    aside = path.with_name(f"{path.name}.tmp-{write.unique()}")
    keep(aside, values)
    try:
        write.perform("link", path, lambda: os.link(aside, path))
    except FileExistsError:
        if (known := recall(path)) is not None:
            return known
        keep(path, values)  # it is too old, or damaged
    except OSError:
        keep(path, values)  # there are folders that know no links
    finally:
        with suppress(MachineError):
            write.remove(aside)
    return values


def _encoded(values: Mapping[str, Any]) -> bytes:
    return json.dumps({**values, "time": time.time()}, sort_keys=True).encode()
