"""Trust in the code of plugins that recipes name: what a user has said may run, remembered by its hash.

Code is trusted as it is: an edit of any of its files, and it is not any more. What was trusted is noted in the user's
own folder of settings, never in a store or beside a recipe, which others may send.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lottery.errors import DamagedFile, MachineError, UsageError
from lottery.files.read import MOST_JSON_BYTES, parse_json, read_bytes
from lottery.files.write import make_folder, write_atomic
from lottery.paths import config_root

if TYPE_CHECKING:
    from lottery.plugins.source import Source

FOLDERS = "LOTTERY_TRUST"  # variable: folders in which all code is trusted, with edits and all


def is_trusted(source: Source) -> bool:
    """Return True if the user has trusted this code as it is, or all code in the folders that it lies in."""
    return _note(source.digest).is_file() or _in_trusted_folders(source)


def was_trusted(file: Path) -> bool:
    """Return True if the code of a plugin in this file was trusted once, whatever it is now."""
    return any(note.get("file") == str(file) for note in _notes())


def trust(source: Source, file: Path) -> None:
    """Note that the user trusts this code as it is.

    Raises:
        MachineError: The folder of settings cannot be written to.
        UsageError: A file is where it should be.
    """
    note = _note(source.digest)
    if note.is_file():
        return
    about = {"file": str(file), "time": datetime.now(UTC).isoformat(timespec="seconds")}
    make_folder(note.parent)
    write_atomic(note, json.dumps(about).encode(), durable=False)


def _note(digest: str) -> Path:
    return config_root() / "trusted" / f"{digest}.json"


def _notes() -> Iterator[dict[str, Any]]:
    with suppress(OSError):
        for path in sorted((config_root() / "trusted").iterdir()):
            with suppress(DamagedFile, MachineError, UsageError):
                found = parse_json(read_bytes(path, most=MOST_JSON_BYTES), str(path))
                if isinstance(found, dict):
                    yield found


def _in_trusted_folders(source: Source) -> bool:
    given = (each for each in os.environ.get(FOLDERS, "").split(os.pathsep) if each)
    folders = [Path(each).expanduser().resolve() for each in given]
    places = [place.resolve() for place in source.units.values()]
    return all(any(place.is_relative_to(folder) for folder in folders) for place in places)
