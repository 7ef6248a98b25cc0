"""The module that a plugin's name leads to, found without importing anything, and the import of one beside a recipe.

What lies beside a recipe may be a stranger's. So its folder never joins Python's path: only the files that were looked
at before (`lottery.plugins.source`) are imported from it, from their source, never from compiled code beside it.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader, SourcelessFileLoader
from pathlib import Path
from types import CodeType, ModuleType

from lottery.errors import UsageError

SUFFIX = ".py"  # ends the name of a plugin that is given by its file


@dataclass(frozen=True)
class Found:
    """A plugin before it is imported.

    Attributes:
        written: As the recipe or the command line names it.
        module: Dotted name that it is imported by.
        folder: Folder that its outermost package or its file lies in, which is not on Python's path; None for a module
            of the path.
        file: File of the module; None where the path is to tell.
    """

    written: str
    module: str
    folder: Path | None = None
    file: Path | None = None

    @property
    def reference(self) -> str:
        """Name by which other processes find it, whatever their working folder: a path, or the module's name."""
        return self.module if self.folder is None else str(self.file)


def find(written: str, beside: Path | None = None) -> Found:
    """Return where a plugin lies; nothing is imported.

    Args:
        written: `package.module`, or the path of a file that ends in `.py`.
        beside: Folder that is looked in before Python's path, and that a path starts from; the working folder for paths
            where there is none.

    Raises:
        UsageError: It is neither, or the file is not there.
    """
    if written.endswith(SUFFIX):
        return _of_file(written, Path(os.path.abspath((beside or Path()) / written)))
    parts = written.split(".")
    if not all(part.isidentifier() for part in parts):
        raise UsageError(
            f"plugin {written}: is no module's name; write `mynet`, `package.module` or the path of a "
            "file such as mynet.py"
        )
    if beside is not None:
        folder = Path(os.path.abspath(beside))
        if (file := _file_in(folder, parts)) is not None:
            return Found(written, written, folder, file)
    return Found(written, written)


def _file_in(folder: Path, parts: Sequence[str]) -> Path | None:
    """Return the file of a module in a folder: one of a package, or one that stands alone; None if there is none."""
    *packages, last = parts
    place = folder.joinpath(*packages)
    if packages and not (folder / packages[0] / "__init__.py").is_file():
        return None
    return next((each for each in (place / last / "__init__.py", place / f"{last}{SUFFIX}") if each.is_file()), None)


def _of_file(written: str, file: Path) -> Found:
    """Return the module of a file: its name and those of the packages that it is in."""
    if not file.is_file():
        raise UsageError(f"plugin {written}: there is no file {file}")
    folder, parts = file.parent, [] if file.name == "__init__.py" else [file.stem]
    while (folder / "__init__.py").is_file() and folder != folder.parent:
        folder, parts = folder.parent, [folder.name, *parts]
    if not all(part.isidentifier() for part in parts):
        raise UsageError(
            f"plugin {written}: {'.'.join(parts)} is no name of a module; use letters, digits and '_' in the names of "
            "the file and its folders"
        )
    return Found(written, ".".join(parts), folder, file)


class _FromSource(SourceFileLoader):
    """Loader that compiles the source each time: what lies in `__pycache__` need not be what the source says."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code


class _Beside(MetaPathFinder):
    """Finder of modules in folders that are not on the path, each by the name of its outermost package or file."""

    def __init__(self) -> None:
        self.folders: dict[str, Path] = {}
        self.imported: dict[str, Found] = {}  # by the names that recipes and commands have for them

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of a module in one of the folders; None for any other."""
        folder = self.folders.get(fullname.partition(".")[0])
        if folder is None:
            return None
        spec = PathFinder.find_spec(fullname, [str(folder)] if path is None else path, target)
        if spec is not None and isinstance(spec.loader, SourcelessFileLoader):
            raise ImportError(f"{spec.origin}: is compiled code without its source, which nobody can read")
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = _FromSource(spec.loader.name, spec.loader.path)
        return spec


BESIDE = _Beside()


def open_folder(found: Found, names: Collection[str]) -> None:
    """Make these names importable from the folder of a plugin that is not on the path.

    Args:
        found: The plugin.
        names: Outermost packages and files that it and what it imports are made of.

    Raises:
        UsageError: A module of such a name was imported from elsewhere.
    """
    if found.folder is None:
        return
    for name in names:
        if name in sys.stdlib_module_names:
            raise UsageError(f"plugin {found.written}: {name} is a module of Python; give yours another name")
        spec = PathFinder.find_spec(name, [str(found.folder)])
        here, there = _origin(spec), _origin(getattr(sys.modules.get(name), "__spec__", None))
        if name in sys.modules and here != there:
            raise UsageError(
                f"plugin {found.written}: a module {name} was imported before, from {there or 'elsewhere'}, and this "
                f"one is {here}; give one of them another name, or use them in different processes"
            )
    importlib.invalidate_caches()  # a file that was written a moment ago
    BESIDE.folders |= dict.fromkeys(names, found.folder)
    BESIDE.imported[found.written] = found
    if BESIDE not in sys.meta_path:
        sys.meta_path.insert(0, BESIDE)


def reference_of(written: str) -> str:
    """Return the name by which other processes find a plugin that was imported here, see `Found.reference`."""
    return BESIDE.imported[written].reference if written in BESIDE.imported else written


def _origin(spec: ModuleSpec | None) -> str | None:
    """Return where a module lies: its file, or the first folder of one without."""
    if spec is None:
        return None
    place = spec.origin or next(iter(spec.submodule_search_locations or ()), None)
    return None if place is None else os.path.realpath(place)
