"""The folder that a tracker writes to."""

from __future__ import annotations

import tempfile
from pathlib import Path

from lottery.errors import MachineError, UsageError
from lottery.files.write import make_folder


def writable(folder: str | Path) -> Path:
    """Return a folder that is there now, and in which a file was made and removed.

    Raises:
        UsageError: It cannot be made or written to: better known before anything is trained than after.
    """
    path = Path(folder)
    try:
        make_folder(path)
        with tempfile.TemporaryFile(dir=path):
            return path
    except (OSError, MachineError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        why = getattr(cause, "strerror", None) or error
        raise UsageError(f"{path}: cannot be written to ({why}); name another folder: folder=DIR") from error
