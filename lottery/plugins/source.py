"""Hash of the source of entries from outside this package: which files count, and how they are hashed.

What a function does depends on more than its own lines. The files that count are all modules of its package, or its own
file if it is in no package, and in the same way the modules that these import, directly or not, unless they are
Python's own or installed: an edit of any of these files may change results. Not seen are imports under a name made up
at run time, and files that are read.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES, ModuleSpec, PathFinder
from pathlib import Path

from lottery.environment import PACKAGES

DIGITS = 16  # of the hash: it tells a few edits apart, nobody chooses them

_OURS = "lottery"
_VERSIONED = {"torch", *PACKAGES, "PIL"}  # recorded by their version, wherever they are installed
_INSTALLED = {"site-packages", "dist-packages"}
_SUFFIXES = (*SOURCE_SUFFIXES, *EXTENSION_SUFFIXES)

Unit = tuple[str, Path]  # the dotted name, and the file of a module or the folder of a package


def is_ours(module: str) -> bool:
    """Return True if a module is one of this package."""
    return module.partition(".")[0] == _OURS


def code_of(module: str, *others: str) -> str:
    """Return the hash of all source that counts for the entries of a module that has been imported.

    It is the same wherever the files lie, whatever the module is called, and with either kind of line ends.

    Args:
        module: Dotted name of the module that registers.
        others: Dotted names of modules whose source counts as well.

    Raises:
        ValueError: The module's source is in no file.
    """
    return source_of(module, *others).digest[:DIGITS]


@dataclass(frozen=True)
class Source:
    """The files that count for the entries of a module.

    Attributes:
        digest: Hash of all of them, 64 digits.
        units: Places of the outermost packages and files, by their names, those of the module first.
    """

    digest: str
    units: Mapping[str, Path]


def source_of(module: str, *others: str, folder: Path | None = None) -> Source:
    """Return the source that counts for the entries of a module, imported or not; nothing is imported.

    Args:
        module: Dotted name of the module that registers.
        others: Dotted names of modules whose source counts as well.
        folder: Folder in which modules are looked for first.

    Raises:
        ValueError: The module's source is in no file.
    """
    find = cache(partial(_unit, folder=folder))  # for this call: the files of a package import the same modules
    first = find(module)
    if first is None:
        raise ValueError("its source is in no file, so that an edit of it could not be seen; put it into a module")
    beside = [unit for other in others if (unit := find(other)) is not None and _counts(*unit)]
    units, places, pending = dict[str, dict[str, bytes]](), dict[str, Path](), [*beside, first]
    while pending:
        name, place = pending.pop()
        if name not in units:
            units[name], places[name] = _contents(place), place
            pending += _used(name, place, units[name], find)
    digest = hashlib.sha256()
    order = sorted(units, key=lambda name: (name != first[0], name))
    for name in order:
        for relative, content in units[name].items():
            said = "" if name == first[0] else name
            digest.update(f"{said}/{relative} {hashlib.sha256(content).hexdigest()}\n".encode())
    return Source(digest.hexdigest(), {name: places[name] for name in order})


def _unit(module: str, folder: Path | None = None) -> Unit | None:
    """Return the outermost package that a module is in, or its file, without importing anything."""
    if module == "__main__":
        main = sys.modules["__main__"]
        if (spec := getattr(main, "__spec__", None)) is None:
            file = getattr(main, "__file__", None)
            return (module, Path(file)) if file and Path(file).is_file() else None
        module = spec.name
    head, *rest = module.split(".")
    spec, name = _top(head, folder), head
    while spec is not None and not spec.has_location and spec.submodule_search_locations is not None and rest:
        name = f"{name}.{rest.pop(0)}"  # a folder without __init__.py is a place where packages lie, and no package
        spec = PathFinder.find_spec(name, list(spec.submodule_search_locations))
    if spec is None or not spec.has_location or spec.origin is None or not Path(spec.origin).is_file():
        return None
    origin = Path(spec.origin)
    return name, origin.parent if spec.submodule_search_locations is not None else origin


def _top(name: str, folder: Path | None) -> ModuleSpec | None:
    try:
        own = None if folder is None else PathFinder.find_spec(name, [str(folder)])
        if own is not None and own.has_location:
            return own
        return importlib.util.find_spec(name) or own  # a mere folder comes after what is a package, as in Python
    except (ImportError, ValueError):  # ValueError: a module that was made up at run time
        return None


def _contents(place: Path) -> dict[str, bytes]:
    """Return the content of each file of a unit that Python could import, by its path inside the unit."""
    if place.is_file():
        return {"": _read(place)}
    found, seen = dict[str, Path](), set[str]()
    for folder, folders, names in os.walk(place, followlinks=True):
        if (real := os.path.realpath(folder)) in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if name.isidentifier() and name != "__pycache__")
        for path in (Path(folder, name) for name in names if name.endswith(_SUFFIXES) and not name.startswith(".")):
            found[path.relative_to(place).as_posix()] = path
    return {relative: _read(path) for relative, path in sorted(found.items())}


def _read(path: Path) -> bytes:
    content = path.read_bytes()
    return content.replace(b"\r\n", b"\n") if path.name.endswith(tuple(SOURCE_SUFFIXES)) else content


def _used(name: str, place: Path, files: dict[str, bytes], find: Callable[[str], Unit | None]) -> Iterator[Unit]:
    """Yield the units that the files of one unit import and that count; `find` is `_unit`, or one that remembers."""
    modules = dict[str, None]()
    for relative, content in files.items():
        path = Path(relative) if relative else Path(place.name)
        if path.suffix not in SOURCE_SUFFIXES:
            continue
        inside = [name, *path.parent.parts] if relative else name.split(".")[:-1]
        modules |= dict.fromkeys(_imports(content, ".".join(inside)))
    for module in modules:
        if _known_by_version(module):  # before it is looked for, which takes long
            continue
        if (unit := find(module)) is not None and unit[0] != name and _counts(*unit):
            yield unit


def _counts(name: str, place: Path) -> bool:
    return not _known_by_version(name) and not _INSTALLED & set(place.parts)


def _known_by_version(module: str) -> bool:
    """Return True for modules of Python, of this package and of those whose version is recorded."""
    head = module.partition(".")[0]
    return head in sys.stdlib_module_names or head in _VERSIONED or is_ours(head)


@cache
def _imports(content: bytes, package: str) -> tuple[str, ...]:
    """Return the full names of the modules that a source may import anywhere in it."""
    try:
        nodes = list(ast.walk(ast.parse(content)))
    except (SyntaxError, ValueError):  # it is not imported, or the import says so
        return ()
    found = dict[str, None]()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= dict.fromkeys(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found |= dict.fromkeys([base, *(f"{base}.{alias.name}" for alias in node.names)])
        elif isinstance(node, ast.Call) and _called(node.func) in ("import_module", "__import__"):
            found |= dict.fromkeys(
                arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant) and isinstance(arg.value, str)
            )
    return tuple(name for name in found if name and not name.startswith("."))


def _called(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
