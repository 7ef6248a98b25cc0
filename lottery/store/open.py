"""The store that a caller names, or has open already."""

from __future__ import annotations

from pathlib import Path

from lottery.paths import store_root
from lottery.store.store import Store


def open_store(where: Store | str | Path | None) -> Store:
    """Return the store itself, the one at a place, or that of the usual place where None is named.

    Who hands on an open store spares the next one the verification of what it has verified.
    """
    return where if isinstance(where, Store) else Store(store_root(where))
