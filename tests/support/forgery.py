"""Files of a store that are rewritten with a manifest that fits, as who edits a store can do."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from lottery.store.manifest import MANIFEST, FileRecord
from lottery.store.store import Store


def forge(store: Store, key: str, name: str, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a JSON file of a job."""
    about, manifest = store.read_json(key, name), store.find(key)
    assert manifest is not None
    change(about)
    content = json.dumps(about).encode()
    files = {**manifest.files, name: FileRecord.of(content)}
    (store.folder(key) / name).write_bytes(content)
    (store.folder(key) / MANIFEST).write_bytes(replace(manifest, files=files).encode())
