"""Cache of a store beside its jobs, in `notes/<kind>/<name>.json`; a note that is missing is made anew."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from lottery.errors import DamagedFile, MachineError
from lottery.files import write
from lottery.files.read import parse_json, read_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from lottery.store.store import Store


def remember(store: Store, kind: str, name: str, value: Any) -> None:
    """Keep plain values as `notes/<kind>/<name>.json`; a store that cannot be written to does without them."""
    with suppress(MachineError):
        path = _path(store, kind, name)
        write.make_folder(path.parent)
        write.write_atomic(path, json.dumps(value, sort_keys=True, separators=(",", ":")).encode())


def recall(store: Store, kind: str, name: str) -> Any:
    """Return the plain values that were kept; None where there are none that can be read."""
    path = _path(store, kind, name)
    try:
        return parse_json(read_bytes(path), str(path))
    except DamagedFile:
        return None


def _path(store: Store, kind: str, name: str) -> Path:
    return store.root / "notes" / write.safe_name(kind) / f"{write.safe_name(name)}.json"
