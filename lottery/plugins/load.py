"""Import of modules that add entries from outside, those of installed packages among them."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from lottery.errors import UsageError
from lottery.plugins.find import Found, open_folder
from lottery.plugins.source import Source, source_of

GROUP = "lottery.plugins"  # of entry points
YOURS = "one of your own comes in by `plugins: [FILE]` in the recipe, or --plugin FILE (docs/own.md)"
LEFT_OUT: dict[str, str] = {}  # why an installed plugin could not be loaded, by its module
_LACKING: ContextVar[tuple[str, ...]] = ContextVar("lacking", default=())


@dataclass(frozen=True)
class Installed:
    """A plugin that an installed distribution announces by an entry point."""

    module: str
    distribution: str


def installed() -> list[Installed]:
    """Return the plugins of all installed distributions, sorted by module."""
    from importlib.metadata import entry_points

    found = {
        point.module: Installed(point.module, point.dist.name if point.dist is not None else point.module)
        for point in entry_points(group=GROUP)
    }
    return sorted(found.values(), key=lambda plugin: plugin.module)


def import_installed(plug_in: Callable[[str], None]) -> None:
    """Load the plugins of installed packages; one that fails is left out with a warning.

    Args:
        plug_in: Imports one, by the name of its module, and raises a UsageError where it cannot.
    """
    for plugin in installed():
        try:
            plug_in(plugin.module)
        except UsageError as error:
            said = str(error).partition("\n")[0]
            way = f"update or uninstall {plugin.distribution}, which brings it"
            LEFT_OUT[plugin.module] = f"{said}; this plugin is left out: {way}"
            logging.getLogger("lottery").warning("%s", LEFT_OUT[plugin.module])


@contextmanager
def lacking(plugins: Sequence[str]) -> Iterator[None]:
    """Have messages about unknown entries name the plugins that were not imported, while the `with` block runs."""
    token = _LACKING.set(tuple(plugins))
    try:
        yield
    finally:
        _LACKING.reset(token)


def not_imported() -> str:
    """Return that an entry may be one of a plugin that was not imported; empty where all were."""
    plugins = " or ".join(_LACKING.get())
    return f"it may be of the plugin {plugins}, which was not imported" if plugins else ""


def other_ways(misspelt: bool) -> str:
    """Return how an entry that is not there may come in, as the end of a message; of one that is misspelt less."""
    return "".join(f"; {way}" for way in [*([] if misspelt else [YOURS]), *LEFT_OUT.values()])


def import_plugin(found: Found) -> None:
    """Import a plugin; one that names a module of the path is looked for in the working folder as well.

    Raises:
        UsageError: The import failed; the message has file and line.
    """
    prefix = f"plugin {found.written}: cannot be imported:"
    if found.folder is not None:
        open_folder(found, names_beside(found, source_of(found.module, folder=found.folder)))
    elif os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        importlib.import_module(found.module)
    except UsageError:
        raise
    except SyntaxError as error:
        raise UsageError(f"{prefix} {error.filename}:{error.lineno}: {error.msg}") from error
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and f"{found.module}.".startswith(f"{error.name}."):
            where = f"in {os.getcwd()} or among what is installed"
            raise UsageError(f"{prefix} there is no module {error.name} {where}") from error
        raise UsageError(f"{prefix} {_where(error)}{type(error).__name__}: {one_line(error)}") from error


def names_beside(found: Found, source: Source) -> list[str]:
    """Return the outermost names of what is imported from the folder of a plugin, by itself included."""
    if found.folder is None:
        return []
    inside = (name for name, place in source.units.items() if place.is_relative_to(found.folder))
    return list(dict.fromkeys(name.partition(".")[0] for name in inside))


def _where(error: BaseException) -> str:
    """Return `FILE:LINE: ` of the last line outside of Python's import machinery; empty if there is none."""
    places = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    here = Path(__file__).parent
    theirs = [each for each in places if Path(each.filename).parent != here and each.filename != importlib.__file__]
    return f"{theirs[-1].filename}:{theirs[-1].lineno}: " if theirs else ""


def one_line(error: BaseException) -> str:
    """Return what an error says, on one line."""
    return " ".join(str(error).split()) or "no message"
