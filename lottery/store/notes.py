"""Cache of a store beside its jobs, in `notes/<kind>/<name>.json`; a note that is missing is made anew."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from lottery.errors import DamagedFile, MachineError
from lottery.files.read import MOST_JSON_BYTES, parse_json
from lottery.files.write import safe_name

if TYPE_CHECKING:
    from lottery.store.store import Store


def remember(store: Store, kind: str, name: str, value: Any) -> None:
    """Keep plain values as `notes/<kind>/<name>.json`; a store that cannot be written to does without them."""
    with suppress(MachineError):
        store.place.write(_path(kind, name), json.dumps(value, sort_keys=True, separators=(",", ":")).encode())


def recall(store: Store, kind: str, name: str) -> Any:
    """Return the plain values that were kept; None where there are none that can be read."""
    path = _path(kind, name)
    try:
        return parse_json(store.place.read(path, MOST_JSON_BYTES), store.place.spell(path))
    except DamagedFile:
        return None


def _path(kind: str, name: str) -> str:
    return f"notes/{safe_name(kind)}/{safe_name(name)}.json"
