"""Finished jobs of a few bytes, as tests of stores commit and read them."""

from __future__ import annotations

from typing import Any

from lottery.store.manifest import Manifest
from lottery.store.store import Store

KEY, OTHER = "ab" + "0" * 62, "ab" + "1" * 62
FILES = {"metrics.json": b'{"accuracy": 0.5}', "weights.safetensors": bytes(range(200))}


def commit(store: Store, key: str = KEY, files: dict[str, bytes] | None = None, **about: Any) -> Manifest:
    about = {"kind": "dense", "label": "dense seed 0", "environment": {"torch": "2"}, **about}
    return store.commit(key, FILES if files is None else files, **about)


def bytes_of(store: Store, key: str = KEY) -> dict[str, bytes]:
    manifest = store.find(key)
    return {} if manifest is None else {name: store.read(key, name) for name in manifest.files}
