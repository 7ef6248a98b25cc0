"""Folders of images, decoded once: the result is kept under the hash of all that went into it."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from lottery.catalogue.datasets._folders import scan
from lottery.catalogue.datasets._pixels import DECODER, ColourRule, orientation, pixels
from lottery.data.splits import Splits
from lottery.data.streaming import Files
from lottery.errors import DataError, MachineError, UsageError
from lottery.files import write
from lottery.files.progress import log_progress

MOST_OF_A_THREAD = 256  # images before it hands them back
TENSORS = ("train_x", "train_y", "test_x", "test_y")

Values = tuple[float, ...]

A = TypeVar("A")
B = TypeVar("B")


@dataclass(frozen=True)
class Images:
    """Decoded images, uint8 (n, size, size, 3), with labels, int64 (n,)."""

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor
    classes: int

    def splits(self) -> Splits:
        """Return the same images as (n, 3, size, size), without a copy."""
        train_x, test_x = self.train_x.permute(0, 3, 1, 2), self.test_x.permute(0, 3, 1, 2)
        return Splits(train_x, self.train_y, test_x, self.test_y, self.classes)


def read(root: Path, folder: Path, size: int, resize: int | None, rule: ColourRule) -> Splits:
    """Return all images of a folder, from the cache in `root` if that has them.

    Raises:
        DataError: What `scan` and `pixels` find; the message names the file or the class.
    """
    classes, train, test = scan(folder)
    files = [*train.files, *test.files]
    hashes = hashes_of(files, folder)
    _look_for_leaks(train.files, test.files, hashes, folder)
    cache = root / ".cache" / f"image_folder-{_key(folder, files, hashes, view(size, resize, rule))}.safetensors"
    images = _cached(cache, classes)
    if images is None:
        train_x, test_x = (_decoded(part.files, folder, size, resize, rule) for part in (train, test))
        train_y, test_y = (torch.tensor(part.labels) for part in (train, test))
        images = Images(train_x, train_y, test_x, test_y, classes)
        _keep(images, cache)
    return replace(images.splits(), content=together(files, hashes, folder) if resize is not None else "")


def view(size: int, resize: int | None, rule: ColourRule) -> str:
    """Return what images are brought to and how they are seen, as a part of the name of a cache."""
    said = {"resize": resize, "transparent": rule.transparent, "bits": rule.bits}
    return " ".join([f"size {size}", *(f"{name} {value}" for name, value in said.items() if value is not None)])


def hashes_of(files: Sequence[Path], folder: Path) -> list[str]:
    """Return the sha256 (hex) of each file of the folder.

    Raises:
        DataError: A file cannot be read.
    """
    return parallel(lambda file: hashlib.sha256(_bytes(file)).hexdigest(), files, folder, "hashed")


def together(files: Sequence[Path], hashes: Sequence[str], folder: Path) -> str:
    """Return one hash of the files in their order, whatever their names.

    A file that is turned upright is marked: the same bytes once stood for the image as it lies.
    """
    turned = parallel(orientation, files, folder, "looked at")
    marked = [each if way == 1 else f"{each} turned {way}" for each, way in zip(hashes, turned, strict=True)]
    return hashlib.sha256("\n".join(marked).encode()).hexdigest()


def _look_for_leaks(train: Sequence[Path], test: Sequence[Path], hashes: Sequence[str], folder: Path) -> None:
    """Warn of files of test/ that are in train/ as well, to the byte."""
    learned = set(hashes[: len(train)])
    leaks = [file for file, each in zip(test, hashes[len(train) :], strict=True) if each in learned]
    if leaks:
        logging.getLogger("lottery").warning(
            "%s: %d of %d test images are training images too, %s is one: test accuracy is too high",
            *(folder, len(leaks), len(test), leaks[0].relative_to(folder)),
        )


def normalized(splits: Splits, folder: Path, mean: Values | None, std: Values | None) -> Splits:
    """Return splits with mean and std, those of the training images if none are given.

    Raises:
        DataError: The std of a channel is 0.
    """
    own_mean, own_std = _statistics(splits.train_x) if mean is None or std is None else ((), ())
    if std is None and not all(own_std):
        raise DataError(f"{folder}: the training images have std {own_std}; give another under data.std")
    return replace(splits, mean=mean or own_mean, std=std or own_std)


def _statistics(images: Tensor | Files) -> tuple[Values, Values]:
    """Return mean and std of each channel of images (n, channels, h, w) in [0, 1], from exact counts of 256 values."""
    counts = np.zeros((images.shape[1], 256), dtype=np.int64)
    for part in images.split(1000):
        for channel in range(len(counts)):
            counts[channel] += np.bincount(part[:, channel].numpy().ravel(), minlength=256)
    values = np.arange(256) / 255
    shares = counts / counts.sum(axis=1, keepdims=True)
    mean = shares @ values
    std = np.sqrt(np.maximum(shares @ values**2 - mean**2, 0))
    return tuple(mean.tolist()), tuple(std.tolist())


def _key(folder: Path, files: Sequence[Path], hashes: Sequence[str], view: str) -> str:
    """Return 16 hex digits for names and bytes of all files, for what they are brought to, and for the decoder."""
    digest = hashlib.sha256(f"{DECODER} {view}\n".encode())
    for file, content in zip(files, hashes, strict=True):
        digest.update(f"{content} {file.relative_to(folder).as_posix()}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from error


def _decoded(files: Sequence[Path], folder: Path, size: int, resize: int | None, rule: ColourRule) -> Tensor:
    images = np.empty((len(files), size, size, 3), dtype=np.uint8)

    def decode(index: int) -> None:
        images[index] = pixels(files[index], size, resize, rule=rule)

    parallel(decode, range(len(files)), folder, "decoded")
    return torch.from_numpy(images)


def parallel(function: Callable[[A], B], items: Sequence[A], folder: Path, doing: str) -> list[B]:
    """Return the results of a function of each image of a folder, run in many threads.

    Reading and decoding let other threads run. A line now and then tells how far it is.

    Args:
        function: Called with each item.
        items: Images, or their numbers.
        folder: Folder that the lines name.
        doing: Word for what is done, in these lines.
    """
    workers = os.cpu_count() or 1
    some = max(1, min(MOST_OF_A_THREAD, -(-len(items) // (4 * workers))))
    parts = [items[begin : begin + some] for begin in range(0, len(items), some)]

    def all_of(part: Sequence[A]) -> tuple[int, list[B]]:
        return len(part), [function(item) for item in part]

    with ThreadPoolExecutor(workers) as pool:
        done = log_progress(pool.map(all_of, parts), folder, len(items), doing)
        return [result for results in done for result in results]


def _cached(cache: Path, classes: int) -> Images | None:
    """Return the cached images; None if there are none, or damaged ones, which are made anew."""
    if not cache.is_file():
        return None
    try:
        with safe_open(cache, framework="pt") as file:
            train_x, train_y, test_x, test_y = (file.get_tensor(name) for name in TENSORS)
            expected = (file.metadata() or {}).get("sha256")
    except (SafetensorError, OSError, ValueError) as error:
        logging.getLogger("lottery").warning("%s: damaged (%s); decoding the images again", cache, error)
        return None
    if _hash((train_x, train_y, test_x, test_y)) != expected:
        logging.getLogger("lottery").warning("%s: damaged (wrong sha256); decoding the images again", cache)
        return None
    return Images(train_x, train_y, test_x, test_y, classes)


def _keep(images: Images, cache: Path) -> None:
    """Write the cache, whole or not at all; if it cannot be written, go on without."""
    tensors: dict[str, Tensor] = {name: getattr(images, name) for name in TENSORS}
    try:
        write.make_folder(cache.parent)
        write.write_atomic(cache, save(tensors, {"sha256": _hash(list(tensors.values()))}))
    except (MachineError, UsageError) as error:
        logging.getLogger("lottery").warning("the decoded images are not kept: %s", error)


def _hash(tensors: Sequence[Tensor]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()
