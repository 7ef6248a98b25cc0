"""The files of data sets that lie in a folder, told without reading them."""

from __future__ import annotations

from pathlib import Path

from lottery.registry import datasets


def files_of_data_sets() -> dict[str, tuple[str, ...]]:
    """Return the paths in the folder of data sets that alone determine a data set, by its name; none for some."""
    return {entry.name: entry.traits.files for entry in datasets}


def missing_files(root: Path) -> dict[str, list[str]]:
    """Return the files that a folder lacks, by the name of each data set that is read from files of known names."""
    every = files_of_data_sets()
    return {name: [file for file in files if not (root / file).is_file()] for name, files in every.items() if files}
