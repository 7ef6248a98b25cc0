"""Errors that arise in the code of a plugin: whose they are, and where in that code."""

from __future__ import annotations

import inspect
import re
import tempfile
import traceback
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from lottery.plugins.load import one_line
from lottery.plugins.source import source_of

_FRAME = re.compile(r'^ *File "(.+)", line (\d+)', re.MULTILINE)  # of a traceback as text


def plugin_failure(error: BaseException, modules: Collection[str]) -> str | None:
    """Return the message for an error that arose in the code of a plugin: file, line and what it says.

    The innermost line of theirs counts: what torch, or this package, refuses there was asked for by it.

    Args:
        error: The error.
        modules: Names of the modules that plugins have registered entries from.

    Returns:
        None for an error that no code of theirs is part of.
    """
    places = dict(_places(modules))
    for file, line in reversed(list(_lines(error))):
        path = Path(file).resolve()
        for place, module in places.items():
            if path == place or place in path.parents:
                return f"the plugin {module} failed: {file}:{line}: {type(error).__name__}: {one_line(error)}"
    return None


def place_of(function: Callable[..., Any]) -> str:
    """Return `FILE:LINE` of a function; its module's name where its source is in no file."""
    function = inspect.unwrap(function)
    code = getattr(function, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code is not None else str(function.__module__)


def write_traceback(error: BaseException) -> str:
    """Write the traceback of an error to a file that is kept, and return its path."""
    handle, path = tempfile.mkstemp(prefix="lottery-", suffix=".log")
    with open(handle, "w", encoding="utf-8") as log:
        log.writelines(traceback.format_exception(error))
    return path


def _places(modules: Collection[str]) -> Iterator[tuple[Path, str]]:
    """Yield the files and folders of the plugins, each with the module that it was imported for."""
    for module in modules:
        try:
            for place in source_of(module).units.values():
                yield place.resolve(), module
        except ValueError:  # its file is gone
            continue


def _lines(error: BaseException) -> Iterator[tuple[str, int]]:
    """Yield file and line of each frame, the innermost last; those of another process as it has told them."""
    for frame, line in traceback.walk_tb(error.__traceback__):
        yield frame.f_code.co_filename, line
    if type(error.__cause__).__name__ == "_RemoteTraceback":
        for file, number in _FRAME.findall(str(error.__cause__)):
            yield file, int(number)
