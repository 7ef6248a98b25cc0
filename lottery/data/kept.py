"""What is known of data without decoding or computing them again: where they lie, and their fingerprint. No torch.

`$LOTTERY_CACHE/data`, else `~/.cache/lottery/data`; anything there may be removed at any time.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lottery import registry
from lottery._version import __version__
from lottery.environment import processor, variables, version
from lottery.errors import DamagedFile, DataError, MachineError
from lottery.files.read import parse_json, read_bytes
from lottery.paths import cache_root

if TYPE_CHECKING:
    from lottery.data_traits import DatasetTraits
    from lottery.values import Component, LabelNoise

VERSION = 1  # of what is kept, and how
ABOUT = "about.json"
MOST_BYTES = 100_000  # of ABOUT
HEX_DIGITS = 64  # of a fingerprint


def folder_of(dataset: Component, root: Path) -> Path | None:
    """Return the folder for what is known of a data set, by the hash of all that decides what it is.

    These are the bytes of its files; or their names, sizes and times where there may be tens of thousands; or, of data
    that are computed, what computes them: packages, processor, and the source of the entry.

    Args:
        dataset: the data set, as the recipe names it.
        root: the folder of data sets.

    Returns:
        None where it is not known what decides, or a file is missing.
    """
    entry = registry.datasets[dataset.name]
    try:
        made_of = _made_of(entry, dataset, root)
    except (OSError, DataError):
        return None
    if made_of is None:
        return None
    about = {"version": VERSION, "dataset": registry.datasets.identity(dataset), **made_of}
    return cache_root() / "data" / hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def _made_of(entry: registry.Entry[DatasetTraits], dataset: Component, root: Path) -> dict[str, Any] | None:
    traits = entry.traits
    if traits.files:
        return {"files": [[name, _sha256(root / name)] for name in traits.files]}
    if traits.state is not None:
        return {"state": traits.state(root, entry.all_arguments(dataset.args))}
    if traits.computed_by is None:
        return None
    file = getattr(sys.modules[entry.module], "__file__", None)
    if file is None:  # of a notebook, whose source may be another one at any time
        return None
    return {
        "packages": {name: version(name) for name in ("torch", "numpy", *traits.computed_by)}
        | {"lottery": __version__},
        "processor": [platform.machine(), processor(), variables()],
        "source": _sha256(Path(file)),
    }


def about(folder: Path) -> dict[str, Any] | None:
    """Return what is written of the data in a folder; None where there is nothing, or that is damaged."""
    with suppress(DamagedFile, MachineError, OSError):
        found = parse_json(read_bytes(folder / ABOUT, most=MOST_BYTES), str(folder / ABOUT))
        if isinstance(found, dict) and isinstance(found.get("fingerprint"), str):
            return found
    return None


def fingerprint_of(dataset: Component, root: Path, noise: LabelNoise | None = None) -> str | None:
    """Return the fingerprint that these data were found to have; None where that is not known."""
    folder = folder_of(dataset, root)
    known = None if folder is None else about(folder)
    if folder is None or known is None:
        return None
    if noise is None:
        return str(known["fingerprint"])
    with suppress(DamagedFile, MachineError, OSError):
        found = read_bytes(noise_file(folder, noise), most=2 * HEX_DIGITS).decode(errors="replace")
        return found if re.fullmatch(f"[0-9a-f]{{{HEX_DIGITS}}}", found) else None
    return None


def noise_file(folder: Path, noise: LabelNoise) -> Path:
    """Return the file, in the folder of the data without noise, of their fingerprint with it."""
    drawn = json.dumps([noise.share, noise.seed, version("torch")])
    return folder / f"noise-{hashlib.sha256(drawn.encode()).hexdigest()}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
