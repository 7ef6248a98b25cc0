"""Decodes a folder of images once and keeps the result, under the hash of all that went into it."""

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
import PIL
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from lottery import io
from lottery.crops import Window
from lottery.data import Splits
from lottery.errors import DataError, MachineError, UsageError
from lottery.passes import told
from lottery.streaming import Files

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # none that starts another program, as EPS does
DECODER = f"1 pillow {PIL.__version__}"  # raise the number when decoded pixels change
BILINEAR = Image.Resampling.BILINEAR
MOST_OF_A_THREAD = 256  # images before it hands them back
TENSORS = ("train_x", "train_y", "test_x", "test_y")

Values = tuple[float, ...]

A = TypeVar("A")
B = TypeVar("B")


@dataclass(frozen=True)
class Images:
    """Decoded images uint8 (n, size, size, 3), labels int64 (n,)."""

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor
    classes: int

    def splits(self) -> Splits:
        """The same images as (n, 3, size, size), without a copy."""
        train_x, test_x = self.train_x.permute(0, 3, 1, 2), self.test_x.permute(0, 3, 1, 2)
        return Splits(train_x, self.train_y, test_x, self.test_y, self.classes)


@dataclass(frozen=True)
class Part:
    """The files of train/ or test/, sorted by class and name, and the class of each."""

    files: list[Path]
    labels: list[int]


def read(root: Path, place: Path, size: int, resize: int | None = None) -> Splits:
    """All images of a folder, from the cache in `root` where that has them.

    Raises DataError for what `scan` finds, and naming the file that is no image."""
    classes, train, test = scan(place)
    files = [*train.files, *test.files]
    hashes = hashes_of(files, place)
    cache = root / ".cache" / f"image_folder-{_key(place, files, hashes, view(size, resize))}.safetensors"
    images = _cached(cache, classes)
    if images is None:
        train_x, test_x = (_decoded(part.files, place, size, resize) for part in (train, test))
        train_y, test_y = (torch.tensor(part.labels) for part in (train, test))
        images = Images(train_x, train_y, test_x, test_y, classes)
        _keep(images, cache)
    return replace(images.splits(), content=together(hashes) if resize is not None else "")


def view(size: int, resize: int | None) -> str:
    """What images are brought to, for the name of a cache."""
    return f"size {size}" if resize is None else f"size {size} resize {resize}"


def hashes_of(files: Sequence[Path], place: Path) -> list[str]:
    """sha256 (hex) of each file of the folder. Raises DataError for one that cannot be read."""
    return parallel(lambda file: hashlib.sha256(_bytes(file)).hexdigest(), files, place, "hashed")


def together(hashes: Sequence[str]) -> str:
    """One hash of the files in their order, whatever their names."""
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def scan(place: Path) -> tuple[int, Part, Part]:
    """Number of classes, training and test files. Raises DataError naming what is missing, or differs between them."""
    names = {part: _classes(place / part) for part in ("train", "test")}
    if names["train"] != names["test"]:
        only = [f"only in {part}: {', '.join(_only(names, part))}" for part in names if _only(names, part)]
        raise DataError(f"{place}: train and test must have the same classes; {'; '.join(only)}")
    train, test = (_files(place / part, names["train"]) for part in names)
    return len(names["train"]), train, test


def normalized(splits: Splits, place: Path, mean: Values | None, std: Values | None) -> Splits:
    """With mean and std, those of the training images where none are given. Raises DataError for a std of 0."""
    own_mean, own_std = _statistics(splits.train_x) if mean is None or std is None else ((), ())
    if std is None and not all(own_std):
        raise DataError(f"{place}: the training images have std {own_std}; give another under data.std")
    return replace(splits, mean=mean or own_mean, std=std or own_std)


def _statistics(images: Tensor | Files) -> tuple[Values, Values]:
    """Mean and std of each channel of images (n, channels, h, w) in [0, 1], from exact counts of the 256 values."""
    counts = np.zeros((images.shape[1], 256), dtype=np.int64)
    for part in images.split(1000):
        for channel in range(len(counts)):
            counts[channel] += np.bincount(part[:, channel].numpy().ravel(), minlength=256)
    values = np.arange(256) / 255
    shares = counts / counts.sum(axis=1, keepdims=True)
    mean = shares @ values
    std = np.sqrt(np.maximum(shares @ values**2 - mean**2, 0))
    return tuple(mean.tolist()), tuple(std.tolist())


def _classes(folder: Path) -> list[str]:
    try:
        names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise DataError(
            f"{folder}: {error.strerror}; image_folder looks for train/<class>/ and test/<class>/ in {folder.parent}: "
            "put the images there, or point --data or LOTTERY_DATA to the folder of data sets"
        ) from error
    if not names:
        raise DataError(f"{folder}: no classes; put the images of each class into a folder of its own")
    return names


def _only(names: dict[str, list[str]], part: str) -> list[str]:
    others = {name for other, found in names.items() if other != part for name in found}
    return [name for name in names[part] if name not in others]


def _files(folder: Path, classes: Sequence[str]) -> Part:
    part = Part([], [])
    for label, name in enumerate(classes):
        with os.scandir(folder / name) as entries:
            found = sorted(e.name for e in entries if e.name.lower().endswith(SUFFIXES) and not e.name.startswith("."))
        if not found:
            raise DataError(f"{folder / name}: no images; image_folder takes {', '.join(SUFFIXES)}")
        part.files.extend(folder / name / file for file in found)
        part.labels.extend([label] * len(found))
    return part


def _key(place: Path, files: Sequence[Path], hashes: Sequence[str], view: str) -> str:
    """16 hex digits that stand for names and bytes of all files, what they are brought to and the decoder."""
    digest = hashlib.sha256(f"{DECODER} {view}\n".encode())
    for file, content in zip(files, hashes, strict=True):
        digest.update(f"{content} {file.relative_to(place).as_posix()}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from error


def _decoded(files: Sequence[Path], place: Path, size: int, resize: int | None) -> Tensor:
    images = np.empty((len(files), size, size, 3), dtype=np.uint8)

    def decode(index: int) -> None:
        images[index] = pixels(files[index], size, resize)

    parallel(decode, range(len(files)), place, "decoded")
    return torch.from_numpy(images)


def pixels(file: Path, size: int, resize: int | None = None, window: Window | None = None) -> NDArray[np.uint8]:
    """The image as (size, size, 3): one of another size is scaled to cover the square and cut at its centre.

    With `window` that part of it is scaled to the square instead; with `resize` its short side is scaled to so many
    pixels, and the square cut at the centre: both to the pixels of torchvision's resized_crop, Resize and CenterCrop.
    Raises DataError where it cannot be read."""
    try:
        with Image.open(file, formats=FORMATS) as opened:
            image = opened.convert("RGB")
    except Exception as error:  # decoders of damaged files raise whatever they stumble over
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{file}: no image that can be read ({reason}); replace it or take it away") from error
    if window is not None:
        top, left, height, width = window(image.height, image.width)
        image = image.crop((left, top, left + width, top + height)).resize((size, size), BILINEAR)
    elif resize is not None:
        image = _centre(image, size, resize)
    elif image.size != (size, size):
        image = ImageOps.fit(image, (size, size), BILINEAR)
    return np.asarray(image)


def _centre(image: Image.Image, size: int, resize: int) -> Image.Image:
    short = min(image.size)
    width, height = (resize if side == short else int(resize * side / short) for side in image.size)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return image.resize((width, height), BILINEAR).crop((left, top, left + size, top + size))


def parallel(function: Callable[[A], B], items: Sequence[A], place: Path, doing: str) -> list[B]:
    """The function of each image of a folder, in many threads: reading and decoding let the others run. A line now and
    then of how far it is."""
    workers = os.cpu_count() or 1
    some = max(1, min(MOST_OF_A_THREAD, -(-len(items) // (4 * workers))))
    parts = [items[begin : begin + some] for begin in range(0, len(items), some)]

    def all_of(part: Sequence[A]) -> tuple[int, list[B]]:
        return len(part), [function(item) for item in part]

    with ThreadPoolExecutor(workers) as pool:
        done = told(pool.map(all_of, parts), place, len(items), doing)
        return [result for results in done for result in results]


def _cached(cache: Path, classes: int) -> Images | None:
    """What the cache has; None where it has nothing, or something damaged, which is made anew."""
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
    """Write the cache, whole or not at all; where that cannot be, go on without."""
    tensors: dict[str, Tensor] = {name: getattr(images, name) for name in TENSORS}
    try:
        io.make_folder(cache.parent)
        io.write_atomic(cache, save(tensors, {"sha256": _hash(list(tensors.values()))}))
    except (MachineError, UsageError) as error:
        logging.getLogger("lottery").warning("the decoded images are not kept: %s", error)


def _hash(tensors: Sequence[Tensor]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()
