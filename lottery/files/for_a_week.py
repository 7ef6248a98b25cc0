"""Facts about this machine that are kept for a week: a timing, a choice that was made by one.

They are kept as `lottery.files.facts` keeps others. Other work on the machine may have disturbed what was measured, so
none is kept for longer.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lottery.errors import MachineError
from lottery.files import facts, write

WEEK = 7 * 24 * 3600.0


def recall(path: Path) -> dict[str, Any] | None:
    """Return the values that were kept there in the last week; None where there are none."""
    with suppress(TypeError, KeyError, ValueError):
        found = facts.recall(path)
        if 0 <= time.time() - float(found["time"]) < WEEK:
            return dict(found)
    return None


def keep(path: Path, values: Mapping[str, Any]) -> None:
    """Keep values there, in the place of what is kept."""
    facts.keep(path, {**values, "time": time.time()})


def keep_first(path: Path, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Keep values there unless another process was faster, and return those that are there.

    Where what is there is too old or damaged, or the folder knows no links, a file is replaced: of two processes that
    do so at the same moment each returns its own values, and those that look later find the values of the second one.
    """
    aside = path.with_name(f"{path.name}.tmp-{write.unique()}")
    keep(aside, values)
    try:
        write.perform("link", path, lambda: os.link(aside, path))
    except OSError:
        if (known := recall(path)) is not None:
            return known
        keep(path, values)  # what is there is too old or damaged, or the folder knows no links
    finally:
        with suppress(MachineError):
            write.remove(aside)
    return values
