"""What is known of decoded data without decoding them again: where they lie, and their fingerprint. No torch.

`$LOTTERY_CACHE/data`, else `~/.cache/lottery/data`; anything there may be removed at any time.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lottery import registry
from lottery.errors import DamagedFile, MachineError
from lottery.files.read import parse_json, read_bytes
from lottery.paths import cache_root

if TYPE_CHECKING:
    from lottery.values import Component

VERSION = 1  # of what is kept, and how
ABOUT = "about.json"
MOST_BYTES = 100_000  # of ABOUT
COMPUTED = {  # data sets without files, by the packages whose versions determine them
    "digits": ("scikit-learn", "numpy", "torch"),
    "mnist1d": ("mnist1d", "numpy", "scipy", "torch"),
}


def folder_of(dataset: Component, root: Path) -> Path | None:
    """Return the folder for what is decoded of a data set's files, by the hash of their bytes, or computed of it.

    Args:
        dataset: the data set, as the recipe names it.
        root: the folder of data sets.

    Returns:
        None where neither files nor packages alone determine the data set, or one of them is missing.
    """
    files, packages = registry.datasets[dataset.name].traits.files, COMPUTED.get(dataset.name, ())
    if not (files or packages):
        return None
    try:
        hashes = [[name, _sha256(root / name)] for name in files]
        versions = [[name, metadata.version(name)] for name in packages]
    except (OSError, metadata.PackageNotFoundError):
        return None
    about = {"version": VERSION, "dataset": registry.datasets.identity(dataset), "files": hashes}
    if versions:
        about["packages"] = versions
    return cache_root() / "data" / hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def about(folder: Path) -> dict[str, Any] | None:
    """Return what is written of the decoded data in a folder; None where there are none, or that is damaged."""
    with suppress(DamagedFile, MachineError, OSError):
        found = parse_json(read_bytes(folder / ABOUT, most=MOST_BYTES), str(folder / ABOUT))
        if isinstance(found, dict) and isinstance(found.get("fingerprint"), str):
            return found
    return None


def fingerprint_of(dataset: Component, root: Path) -> str | None:
    """Return the fingerprint that the data in these files were found to have; None where that is not known."""
    folder = folder_of(dataset, root)
    known = None if folder is None else about(folder)
    return None if known is None else str(known["fingerprint"])


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
