"""The tensors that a dataset entry returns, and their fingerprint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from lottery import registry
from lottery.data.streaming import Files
from lottery.errors import DataError, UsageError
from lottery.seed import generator
from lottery.values import Component, LabelNoise

HASHED_AT_ONCE = 4096  # examples: a tensor that is not laid out in order is copied piece by piece


@dataclass(frozen=True)
class Splits:
    """The training and test examples that a dataset entry returns.

    Attributes:
        train_x: uint8 images (n, channels, height, width), or float32 features (n, ...) that are used as they are.
        train_y: int64 (n,) classes, or float32 (n, classes) targets of a regression.
        test_x: the same of the test set.
        test_y: the same of the test set.
        classes: their number; of a regression, that of the targets of an example.
        mean: of each channel of images scaled to [0, 1]; empty for features.
        std: of each channel of images scaled to [0, 1]; empty for features.
        known: the fingerprint, where finding it would mean to read all images once more.
        content: a hash of the files, where training may look at more of an image than there is in `train_x`.
    """

    train_x: Tensor | Files
    train_y: Tensor
    test_x: Tensor | Files
    test_y: Tensor
    classes: int
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    known: str = ""
    content: str = ""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return tuple(self.train_x.shape[1:])

    @property
    def regression(self) -> bool:
        """True if targets are numbers to approximate, not classes."""
        return self.train_y.is_floating_point()


def load(component: Component, root: Path, noise: LabelNoise | None = None) -> Splits:
    """Return the data set that a recipe names, from the folder of data sets, with noise in its training labels.

    Raises:
        DataError: It is missing, damaged, or not what training needs.
        UsageError: There is noise, and the targets are not classes.
    """
    splits: Splits = registry.datasets[component.name].make(root, **component.args)
    for problem in _problems(splits):
        raise DataError(f"data set {component.name}: {problem}")
    return splits if noise is None else with_label_noise(splits, noise)


def with_label_noise(splits: Splits, noise: LabelNoise) -> Splits:
    """Return the data set with a share of its training labels replaced by other classes; test labels stay.

    Of n training examples round(share n), drawn without replacement, get one of the other classes, each with the same
    chance. All is drawn from the noise's own seed, so that the seeds of a recipe train on the same labels. A larger
    share of the same seed replaces the labels that a smaller one does, by the same classes, and others beside them.

    Raises:
        UsageError: The targets are numbers, or there is one class only.
    """
    if splits.regression:
        raise UsageError("data.label_noise: is for classes, the targets of these data are numbers; leave it out")
    if splits.classes < 2:
        raise UsageError("data.label_noise: needs another class to draw, and there is one only; leave it out")
    labels, draws = splits.train_y, generator(noise.seed, "label noise")
    order = torch.randperm(len(labels), generator=draws)
    others = (labels + torch.randint(1, splits.classes, labels.shape, generator=draws)) % splits.classes
    chosen = order[: round(noise.share * len(labels))]
    noisy = labels.clone()
    noisy[chosen] = others[chosen]
    # of the clean data and the labels, so that images in memory and those in their files have the same one
    known = hashlib.sha256(fingerprint(splits).encode() + noisy.numpy().tobytes()).hexdigest()
    return replace(splits, train_y=noisy, known=known)


def fingerprint(splits: Splits) -> str:
    """Return the sha256 (hex) over shapes, dtypes and bytes of the tensors, classes, mean, std and content.

    Where the data came from is not part of it.
    """
    if splits.known:
        return splits.known
    tensors = {name: getattr(splits, name) for name in ("train_x", "train_y", "test_x", "test_y")}
    header = {
        "tensors": [[name, str(tensor.dtype), list(tensor.shape)] for name, tensor in tensors.items()],
        "classes": splits.classes,
        "mean": list(splits.mean),
        "std": list(splits.std),
        **({"content": splits.content} if splits.content else {}),
    }
    digest = hashlib.sha256(json.dumps(header).encode())
    for tensor in tensors.values():
        for part in tensor.split(HASHED_AT_ONCE):
            digest.update(part.contiguous().numpy().data)
    return digest.hexdigest()


def _problems(splits: Splits) -> Iterator[str]:
    x, features = splits.train_x, splits.train_x.shape[1:]
    if splits.test_x.dtype != x.dtype or splits.test_x.shape[1:] != features:
        yield f"test examples are {_kind(splits.test_x)}, training examples {_kind(x)}"
    if x.dtype == torch.uint8 and x.dim() == 4:
        if not len(splits.mean) == len(splits.std) == features[0]:
            yield f"{features[0]} channels need as many means and stds, not {splits.mean} and {splits.std}"
        elif not all(std > 0 for std in splits.std):
            yield f"std is {splits.std}, each must be above 0 to divide by"
    elif x.dtype != torch.float32 or splits.mean or splits.std:
        yield f"examples are {_kind(x)}; they must be uint8 images with mean and std, or float32 without"
    if splits.train_y.dtype != splits.test_y.dtype:
        yield f"training targets are {splits.train_y.dtype}, test targets {splits.test_y.dtype}"
    for part, images, labels in (("training", x, splits.train_y), ("test", splits.test_x, splits.test_y)):
        if labels.dtype == torch.float32:
            if labels.shape != (len(images), splits.classes) or not len(images):
                yield f"{len(images)} {part} examples with targets {tuple(labels.shape)}, not {splits.classes} for each"
            elif not bool(torch.isfinite(labels).all()):
                yield f"{part} targets are not all finite"
        elif labels.dtype != torch.int64 or labels.shape != images.shape[:1] or not len(images):
            yield f"{len(images)} {part} examples with labels {labels.dtype} {tuple(labels.shape)}"
        elif labels.min() < 0 or labels.max() >= splits.classes:
            yield f"{part} labels go from {labels.min()} to {labels.max()}, the classes from 0 to {splits.classes - 1}"


def _kind(x: Tensor | Files) -> str:
    return f"{str(x.dtype).removeprefix('torch.')} {tuple(x.shape[1:])}"
