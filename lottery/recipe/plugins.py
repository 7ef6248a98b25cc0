"""The plugins that a recipe names: found beside it or on Python's path, and imported only where they are trusted."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lottery import registry
from lottery.errors import MachineError, UsageError
from lottery.plugins.find import Found, find, reference_of
from lottery.plugins.load import installed
from lottery.plugins.source import Source, source_of
from lottery.recipe import trust

if TYPE_CHECKING:
    from lottery.recipe.draft import Draft

MOST_SHOWN = 3  # files of a plugin in a message
MOST_LETTERS = 4000  # of it: the paths of all of them, and the way out


def import_plugins(draft: Draft, folder: Path | None, others: Sequence[str], trusted: bool) -> None:
    """Import the plugins that a draft names, as far as they are trusted; those that are not are noted as problems.

    Args:
        draft: The recipe; `lacks` becomes the names of the plugins that were not imported.
        folder: Folder of the recipe, in which plugins are looked for first; None for a recipe in no file.
        others: Plugins that are named beside it, by a store that may be a stranger's too.
        trusted: True to trust them, and to remember it.
    """
    given = draft.data.get("plugins")
    names = given if isinstance(given, list) else [given]
    every: list[tuple[tuple[str | int, ...], Any]] = [(("plugins", index), name) for index, name in enumerate(names)]
    for path, name in [*every, *((("plugins",), name) for name in others)]:
        if isinstance(name, str) and (problem := _imported(name, folder, trusted)) is not None:
            draft.lacks = (*draft.lacks, name)
            draft.note([(path, problem)], MOST_LETTERS)


def import_named(names: Sequence[str]) -> None:
    """Import plugins that the user has named beside a recipe, and trust them from now on.

    Raises:
        UsageError: One cannot be imported.
    """
    for name in names:
        found = find(name)
        registry.plug_in(found)
        with suppress(ValueError):  # a module without a file, which no store could name as one of a stranger's
            source = source_of(found.module, folder=found.folder)
            _remember(source, _file(source))


def references(recipe: Sequence[str], others: Sequence[str] = ()) -> list[str]:
    """Return the names by which other processes find plugins that were imported here, each once.

    Args:
        recipe: Plugins as the recipe names them.
        others: Plugins that were named beside it, as on the command line.
    """
    return list(dict.fromkeys(reference_of(name) for name in (*others, *recipe)))


def files_of(name: str, folder: Path | None) -> list[Path]:
    """Return the files and packages of a plugin, those that it imports included, without importing it.

    Raises:
        UsageError: There is no such plugin.
    """
    return list(_looked_up(name, folder)[1].units.values())


def _imported(name: str, folder: Path | None, trusted: bool) -> str | None:
    """Import a plugin of a recipe; return why that was not done, None where it was."""
    try:
        found, source = _looked_up(name, folder)
        if trusted:
            _remember(source, _file(source))
        elif not (trust.is_trusted(source) or _announced(found) or _named_already(found, source)):
            return _untrusted(found, source)
        registry.plug_in(found)
    except UsageError as error:
        return str(error).removeprefix(f"plugin {name}: ")
    return None


def _looked_up(name: str, folder: Path | None) -> tuple[Found, Source]:
    """Return where a plugin of a recipe lies and all its source: beside the recipe, in the working folder, on the path.

    Raises:
        UsageError: It is in none of them.
    """
    found = find(name, folder)
    if found.folder is None:
        found = find(name, Path())
    try:
        return found, source_of(found.module, folder=found.folder)
    except ValueError as error:
        where = f"beside the recipe, in {os.getcwd()} or among what is installed"
        raise UsageError(f"plugin {name}: there is no module {found.module} {where}") from error


def _announced(found: Found) -> bool:
    """Return True for the plugin of an installed package, which is imported without being named."""
    return found.folder is None and found.module in {plugin.module for plugin in installed()}


def _named_already(found: Found, source: Source) -> bool:
    """Return True if the user has named the very module on the command line, or imported it."""
    origin = getattr(getattr(sys.modules.get(found.module), "__spec__", None), "origin", None)
    return origin is not None and Path(origin).resolve().is_relative_to(_file(source).resolve())


def _remember(source: Source, file: Path) -> None:
    try:
        trust.trust(source, file)
    except (MachineError, UsageError):  # it is trusted for this once
        logging.getLogger("lottery").warning("plugin %s: that it is trusted could not be noted", file)


def _untrusted(found: Found, source: Source) -> str:
    edited = trust.was_trusted(_file(source))
    why = "was edited since it was trusted" if edited else "is code, and not trusted yet"
    return (
        f"{found.written} {why}, so it was not imported: {_shown(list(source.units.values()))}; read it, then "
        f"`lottery check RECIPE --trust` (in Python trust=True); {trust.FOLDERS}={_file(source).parent} trusts all in "
        "that folder"
    )


def _file(source: Source) -> Path:
    """Return the file, or the folder of the package, that a plugin is in."""
    return next(iter(source.units.values()))


def _shown(places: Sequence[Path]) -> str:
    names = [str(place) for place in places[:MOST_SHOWN]]
    return ", ".join([*names, *([f"{len(places) - MOST_SHOWN} more"] if len(places) > MOST_SHOWN else [])])


def plugin_lines(names: Sequence[str]) -> Iterator[str]:
    """Yield a line for each plugin of a recipe that was imported, with its place."""
    for name in names:
        reference = reference_of(name)
        yield f"{name} ({reference})" if reference != name else name
