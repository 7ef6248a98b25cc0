"""Data sets by name: decoded once, then mapped into memory from this machine's cache, whose pages processes share."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lottery import registry
from lottery.data import kept
from lottery.data.splits import Splits, fingerprint, problems, with_label_noise
from lottery.errors import DataError, MachineError, UsageError
from lottery.files import write

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lottery.values import Component, LabelNoise

TENSORS = ("train_x", "train_y", "test_x", "test_y")


def load(component: Component, root: Path, noise: LabelNoise | None = None) -> Splits:
    """Return the data set that a recipe names, from the folder of data sets, with noise in its training labels.

    Raises:
        DataError: It is missing, damaged, or not what training needs.
        UsageError: There is noise, and the targets are not classes.
    """
    splits, folder = _clean(component, root)
    if noise is None:
        return splits
    noisy = with_label_noise(splits, noise)
    if folder is not None:
        with suppress(MachineError, UsageError, OSError):
            write.write_atomic(kept.noise_file(folder, noise), noisy.known.encode(), durable=False)
    return noisy


def _clean(component: Component, root: Path) -> tuple[Splits, Path | None]:
    """Return the data set as it is, and its folder in the cache, None where it has none."""
    folder = kept.folder_of(component, root)
    if folder is not None and (found := _read(folder)) is not None:
        return found, folder
    entry = registry.datasets[component.name]
    splits = entry.checked(entry.make(root, **component.args), Splits)
    for problem in problems(splits):
        raise DataError(str(entry.fault(problem)) if entry.code else f"data set {component.name}: {problem}")
    before, folder = folder, kept.folder_of(component, root)  # it may have been downloaded
    if folder is None or before not in (None, folder):  # files were changed while they were read
        return splits, None
    splits = replace(splits, known=fingerprint(splits))
    _keep(splits, folder, tensors=entry.traits.state is None)
    return splits, folder


def described(splits: Splits) -> dict[str, Any]:
    """Return all of a data set but the values of its tensors, for JSON; `mapped` takes it back."""
    tensors = {name: in_order(getattr(splits, name)) for name in TENSORS}
    kinds = {name: [str(value.dtype), list(value.shape)] for name, value in tensors.items()}
    rest = {name: getattr(splits, name) for name in ("classes", "mean", "std", "known", "content")}
    return {"tensors": kinds, **rest}


def mapped(about: Mapping[str, Any], folder: Path, *, shared: bool) -> Splits:
    """Return the data set whose tensors are the files of a folder.

    Args:
        about: What `described` returned of it.
        folder: Has a file for each of TENSORS.
        shared: True to map the files themselves; else what a process writes to the tensors is its own.
    """
    tensors = {name: back(file_tensor(folder / name, *kind, shared=shared)) for name, kind in about["tensors"].items()}
    mean, std = tuple(about["mean"]), tuple(about["std"])
    return Splits(
        **tensors, classes=about["classes"], mean=mean, std=std, known=about["known"], content=about["content"]
    )


def file_tensor(path: Path, dtype: str, shape: Any, *, shared: bool) -> Tensor:
    """Return a tensor whose memory is a file; one that is shared is made where it is not there."""
    kind = getattr(torch, dtype.removeprefix("torch."))
    return torch.from_file(str(path), shared=shared, size=math.prod(shape), dtype=kind).view(tuple(shape))


def in_order(value: Tensor) -> Tensor:
    """Return images with their channels last, as batches have them in memory, other tensors as they are."""
    return value.permute(0, 2, 3, 1) if value.dim() == 4 else value


def back(value: Tensor) -> Tensor:
    """Return what `in_order` was given."""
    if value.dim() != 4:
        return value
    count, height, width, channels = value.shape
    # with one channel both layouts have the same bytes: the strides are those of images that were never moved
    return value.view(count, 1, height, width) if channels == 1 else value.permute(0, 3, 1, 2)


def _keep(splits: Splits, folder: Path, *, tensors: bool) -> None:
    """Write a data set to the cache, what describes it last; a disk that refuses does without.

    Without `tensors` only its fingerprint is written, of a data set that keeps what it decodes by itself.
    """
    about: dict[str, Any] = {"fingerprint": splits.known}
    if tensors:
        about |= {**described(splits), "bytes": {name: getattr(splits, name).nbytes for name in TENSORS}}
    with suppress(MachineError, UsageError, OSError):
        write.make_folder(folder)
        for name in TENSORS if tensors else ():
            data = in_order(getattr(splits, name)).contiguous().numpy().tobytes()
            write.write_atomic(folder / name, data, durable=False)
        write.write_atomic(folder / kept.ABOUT, json.dumps(about).encode(), durable=False)


def _read(folder: Path) -> Splits | None:
    """Return the data set in a folder of the cache; None where there is none, or it is not what it was."""
    about = kept.about(folder)
    if about is None:
        return None
    try:
        if any((folder / name).stat().st_size != about["bytes"][name] for name in TENSORS):
            return None  # what is mapped beyond the end of a file kills the process
        splits = mapped({**about, "known": ""}, folder, shared=False)
    except (KeyError, TypeError, AttributeError, ValueError, RuntimeError, OSError):  # removed, or damaged
        return None
    found = fingerprint(splits)
    return replace(splits, known=found) if found == about["fingerprint"] else None
