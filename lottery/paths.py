"""Default places of data sets and of the store."""

from __future__ import annotations

import os
from pathlib import Path


def data_root(given: str | Path | None = None) -> Path:
    """Return the folder of data sets: as given, else $LOTTERY_DATA, else `data`."""
    return Path(given or os.environ.get("LOTTERY_DATA") or "data")


def store_root(given: str | Path | None = None) -> str:
    """Return the place of finished jobs, a folder or a URL: as given, else $LOTTERY_STORE, else `runs`."""
    return str(given or os.environ.get("LOTTERY_STORE") or "runs")
