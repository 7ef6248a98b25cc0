"""Folders of images that are too large for memory: what has to be known of all of them at once is cached."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lottery.catalogue.datasets._folders import scan
from lottery.catalogue.datasets._images import Values, hashes_of, normalized, parallel, together, view
from lottery.catalogue.datasets._pixels import DECODER, ColourRule, pixels
from lottery.data.splits import Splits, fingerprint
from lottery.data.streaming import Files
from lottery.errors import DataError, MachineError, UsageError
from lottery.files import write


def read_stream(
    root: Path, folder: Path, size: int, resize: int | None, rule: ColourRule, mean: Values | None, std: Values | None
) -> Splits:
    """Return the images of a folder as files; mean, std and fingerprint are those of the same images in memory.

    They are kept under the names, sizes and modification times of all files; where those are new, all images are
    decoded, once more for mean or std that is not given.

    Raises:
        DataError: As `_images.read` raises it.
    """
    classes, train, test = scan(folder)
    files, how = [*train.files, *test.files], f"{view(size, resize, rule)} mean {mean} std {std}"
    cache = root / ".cache" / f"image_folder-{_key(folder, files, how)}.json"
    decode = partial(pixels, rule=rule)
    train_x, test_x = (Files(folder, _names(folder, part.files), size, decode, resize=resize) for part in (train, test))
    splits = Splits(train_x, torch.tensor(train.labels), test_x, torch.tensor(test.labels), classes)
    known = _known(cache)
    if known is None:
        count = len(train_x) + len(test_x)
        logging.getLogger("lottery").warning("%s: reading all %d images once, for their fingerprint", folder, count)
        splits = normalized(splits, folder, mean, std)
        splits = replace(
            splits, content=together(files, hashes_of(files, folder), folder) if resize is not None else ""
        )
        known = {"mean": splits.mean, "std": splits.std, "fingerprint": fingerprint(splits)}
        _keep(known, cache)
    return replace(splits, mean=tuple(known["mean"]), std=tuple(known["std"]), known=known["fingerprint"])


def _names(folder: Path, files: Sequence[Path]) -> np.ndarray[Any, np.dtype[np.bytes_]]:
    return np.array([os.fsencode(file.relative_to(folder)) for file in files])


def _key(folder: Path, files: Sequence[Path], how: str) -> str:
    """Return 16 hex digits for what is asked, and for names, sizes and modification times of all files."""
    digest = hashlib.sha256(f"{DECODER} {how}\n".encode())
    for file, (length, changed) in zip(files, parallel(_state, files, folder, "looked at"), strict=True):
        digest.update(f"{length} {changed} {file.relative_to(folder).as_posix()}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]


def _state(file: Path) -> tuple[int, int]:
    try:
        state = file.stat()
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from error
    return state.st_size, state.st_mtime_ns


def _known(cache: Path) -> dict[str, Any] | None:
    """Return the cached facts; None if there are none, or damaged ones, which are made anew."""
    if not cache.is_file():
        return None
    try:
        content = json.loads(cache.read_bytes())
        known = content["known"]
        if content["sha256"] == _hash(known):
            return dict(known)
        error: object = "wrong sha256"
    except (OSError, ValueError, KeyError, TypeError) as found:
        error = found
    logging.getLogger("lottery").warning("%s: damaged (%s); reading the images again", cache, error)
    return None


def _keep(known: dict[str, Any], cache: Path) -> None:
    """Write the cache, whole or not at all; if it cannot be written, go on without."""
    try:
        write.make_folder(cache.parent)
        write.write_atomic(cache, json.dumps({"known": known, "sha256": _hash(known)}, indent=1).encode())
    except (MachineError, UsageError) as error:
        logging.getLogger("lottery").warning("what was found of the images is not kept: %s", error)


def _hash(known: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()
