"""A folder of images with a folder for each class: which files belong to which class, and which are missing."""

from __future__ import annotations

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lottery.environment import version
from lottery.errors import DataError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
SYSTEM = ("thumbs.db", "desktop.ini")  # files that no one has put there
PIXELS = 2  # raise the number when decoded pixels change: what is known of images is kept under it
NAMED = 5  # classes that a message lists


@dataclass(frozen=True)
class Part:
    """Files of train/ or test/, sorted by class and name, with the class of each."""

    files: list[Path]
    labels: list[int]


def scan(folder: Path) -> tuple[int, Part, Part]:
    """Return the number of classes and the training and test files; classes are those of train/, by sorted name.

    A warning says which classes have no test images, and which files are left out.

    Raises:
        DataError: A class has no training images, or something else is missing; the message names it.
    """
    other: Counter[str] = Counter()
    names = {part: _classes(folder / part, other) for part in ("train", "test")}
    found = {part: {name: _images(folder / part / name, other) for name in names[part]} for part in names}
    train, test = found["train"], {name: files for name, files in found["test"].items() if files}
    for name, files in train.items():
        if not files:
            raise DataError(f"{folder / 'train' / name}: no images; image_folder takes {', '.join(SUFFIXES)}")
    if unknown := test.keys() - train.keys():
        raise DataError(
            f"{folder}: test/ has images of {_listed(unknown)}, train/ has none; each folder in test/ is a class that "
            "train/ must have as well: put training images there, or take these away"
        )
    if not test:
        raise DataError(f"{folder / 'test'}: no images; image_folder looks for them in test/<class>/")
    if missing := train.keys() - test.keys():
        logging.getLogger("lottery").warning(
            "%s: no test images of %s: test accuracy says nothing of them", folder, _listed(missing)
        )
    if other:
        kinds = ", ".join(f"{count} {kind}" for kind, count in other.most_common())
        logging.getLogger("lottery").warning("%s: left out, since they are no images of a class: %s", folder, kinds)
    classes = list(train)
    return len(classes), _part(folder / "train", train, classes), _part(folder / "test", test, classes)


def state(folder: Path) -> str:
    """Return a hash of the place, of names, sizes and times of all files in train/ and test/, and of the decoder.

    The time at which a file's entry was changed last is among them, which no program sets back.

    Raises:
        OSError: A file or folder cannot be looked at.
    """
    decoder = f"{PIXELS} pillow {version('pillow')}"
    digest = hashlib.sha256(f"{decoder} {os.path.realpath(folder)}\n".encode(errors="surrogateescape"))
    waiting, seen = [os.path.join(folder, part) for part in ("test", "train")], set[str]()
    while waiting:
        inside = waiting.pop()
        if (real := os.path.realpath(inside)) in seen:
            continue  # a link that leads back
        seen.add(real)
        with os.scandir(inside) as entries:
            visible = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda each: each.name)
        for entry in visible:
            if entry.is_dir():
                waiting.append(entry.path)
            found = entry.stat()
            said = f"{entry.path} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}\n"
            digest.update(said.encode(errors="surrogateescape"))
    return digest.hexdigest()


def _classes(folder: Path, other: Counter[str]) -> list[str]:
    """Return the names of the folders, sorted; images beside them are counted in `other`."""
    try:
        visible = {entry.name: entry.is_dir() for entry in folder.iterdir() if not entry.name.startswith(".")}
    except OSError as error:
        raise DataError(
            f"{folder}: {error.strerror}; image_folder looks for train/<class>/ and test/<class>/ in {folder.parent}: "
            "put the images there, or point --data or LOTTERY_DATA to the folder of data sets"
        ) from error
    names = sorted(name for name, is_folder in visible.items() if is_folder)
    loose = sum(name.lower().endswith(SUFFIXES) for name, is_folder in visible.items() if not is_folder)
    if loose:
        other[f"images of no class, beside the folders of {folder.name}/"] += loose
    if not names:
        raise DataError(f"{folder}: no classes; put the images of each class into a folder of its own")
    return names


def _listed(names: Iterable[str]) -> str:
    """Return `class a`, or `classes a, b and 7 more`."""
    ordered = sorted(names)
    more = f" and {len(ordered) - NAMED} more" if len(ordered) > NAMED else ""
    return f"class{'es' if len(ordered) > 1 else ''} {', '.join(ordered[:NAMED])}{more}"


def _images(folder: Path, other: Counter[str]) -> list[str]:
    """Return the images in a class's folder and the folders in it, sorted; `other` counts other files by suffix."""
    found = []
    for path in _walk(folder, PurePosixPath(), ()):
        if path.name.lower().endswith(SUFFIXES):
            found.append(str(path))
        elif path.name.lower() not in SYSTEM:
            other[path.suffix.lower() or "files without a suffix"] += 1
    return sorted(found)


def _walk(root: Path, inside: PurePosixPath, above: tuple[str, ...]) -> Iterator[PurePosixPath]:
    """Yield every file below `root / inside`, relative to the root; names that begin with a dot are hidden."""
    folder = root / inside
    real = os.path.realpath(folder)
    if real in above:
        raise DataError(f"{folder}: a link that leads back to a folder it lies in; take it away")
    try:
        with os.scandir(folder) as entries:
            visible = [(entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror}") from error
    for name, is_folder in visible:
        if is_folder:
            yield from _walk(root, inside / name, (*above, real))
        else:
            yield inside / name


def _part(folder: Path, images: dict[str, list[str]], classes: list[str]) -> Part:
    part = Part([], [])
    for label, name in enumerate(classes):
        files = images.get(name, [])
        part.files.extend(folder / name / file for file in files)
        part.labels.extend([label] * len(files))
    return part
