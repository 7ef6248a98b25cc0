"""Import of modules that add entries from outside: how they are found, and which of them an error came from."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Collection
from dataclasses import dataclass

from lottery.errors import UsageError

GROUP = "lottery.plugins"  # of entry points


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


def import_plugin(module: str) -> None:
    """Import a module, from the working folder as well.

    Raises:
        UsageError: The import failed; the message has file and line.
    """
    prefix = f"plugin {module}: cannot be imported:"
    if not all(part.isidentifier() for part in module.split(".")):
        raise UsageError(f"{prefix} it is no module's name; write `module` or `package.module`, and no path")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        importlib.import_module(module)
    except UsageError:
        raise
    except SyntaxError as error:
        raise UsageError(f"{prefix} {error.filename}:{error.lineno}: {error.msg}") from error
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
            hint = f"; write {module[:-3]}" if module.endswith(".py") else ""
            raise UsageError(
                f"{prefix} there is no module {error.name} in {os.getcwd()} or among what is installed{hint}"
            ) from error
        raise UsageError(f"{prefix} {_where(error)}{type(error).__name__}: {_one_line(error)}") from error


def plugin_failure(error: BaseException, modules: Collection[str]) -> str | None:
    """Return the message for an error that arose in a function of one of these modules; None for any other."""
    inside = [
        (frame.f_globals["__name__"], f"{frame.f_code.co_filename}:{line}")
        for frame, line in traceback.walk_tb(error.__traceback__)
        if frame.f_globals.get("__name__") in modules
    ]
    if not inside:
        return None
    module, place = inside[-1]
    return f"the plugin {module} failed: {place}: {type(error).__name__}: {_one_line(error)}"


def _where(error: BaseException) -> str:
    """Return `FILE:LINE: ` of the last line outside of Python's import machinery; empty if there is none."""
    places = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    ours = [frame for frame in places if frame.filename not in (__file__, importlib.__file__)]
    return f"{ours[-1].filename}:{ours[-1].lineno}: " if ours else ""


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or "no message"
