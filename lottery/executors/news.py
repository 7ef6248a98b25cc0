"""Lines of the store's log as events; nothing in them is believed before it is looked at."""

from __future__ import annotations

import math
from typing import Any

from lottery.runner.events import Event
from lottery.store.manifest import KEY

KINDS = ("start", "progress", "done", "diverged", "failed", "damaged")
_NUMBERS = ("step", "first", "total", "seconds", "images_per_second")  # of a training's progress
_MEASURED = ("train_", "validation_")  # how the names of the columns of its curve begin


def event_of(entry: dict[str, Any]) -> Event | None:
    """Return the event of a line that a worker has logged, None for another line."""
    kind, key, label = (entry.get(name) for name in ("event", "key", "label"))
    if kind not in KINDS or not (isinstance(key, str) and KEY.fullmatch(key) and isinstance(label, str)):
        return None
    if kind == "progress":
        about = _progress(entry.get("about"))
        return None if about is None else Event(kind, key, label, about)
    about = {"message": entry["message"]} if isinstance(entry.get("message"), str) else {}
    if _is_number(entry.get("seconds")):
        about["session_seconds"] = entry["seconds"]
    return Event(kind, key, label, about)


def _progress(about: Any) -> dict[str, Any] | None:
    """Return the progress of a training if it is whole, see `lottery.runner.execute.Progress`."""
    if not isinstance(about, dict) or not all(_is_number(about.get(name)) for name in _NUMBERS):
        return None
    row = about.get("row")
    if not isinstance(row, dict):
        return None
    rows = about.get("rows")
    known = [_row(each) for each in (rows if isinstance(rows, list) else []) if _is_step(each)]
    return {**{name: about[name] for name in _NUMBERS}, "row": _row(row), "rows": known}


def _row(row: dict[str, Any]) -> dict[str, Any]:
    """Return the numbers of a row of a curve."""
    return {
        name: value
        for name, value in row.items()
        if (name == "step" or name.startswith(_MEASURED)) and _is_number(value)
    }


def _is_step(row: Any) -> bool:
    return isinstance(row, dict) and isinstance(row.get("step"), int) and _is_number(row["step"])


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
