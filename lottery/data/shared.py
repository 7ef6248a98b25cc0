"""One copy of a data set in memory for all ranks on a machine: the first of them reads it, the others map it."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lottery.data.splits import Splits, fingerprint, load
from lottery.distributed.group import Group
from lottery.errors import MachineError
from lottery.values import Component, LabelNoise

SHARED_MEMORY = Path("/dev/shm")
TENSORS = ("train_x", "train_y", "test_x", "test_y")


def load_once(component: Component, root: Path, group: Group, noise: LabelNoise | None = None) -> Splits:
    """Return the data set that a recipe names, on every rank, with one copy of it in the memory of a machine.

    Images that stay in their files are no copy, and each rank reads them by itself.

    Raises:
        DataError: It is missing, damaged, or not what training needs.
        MachineError: There is no room to share it in.
    """
    if group.size == 1:
        return load(component, root, noise)
    if group.ranks_here == 1:
        return _with_others(component, root, group, noise)
    own, folder = None, None
    if group.local_rank == 0:
        own = load(component, root, noise)
        if isinstance(own.train_x, Tensor) and isinstance(own.test_x, Tensor):
            folder = Path(tempfile.mkdtemp(prefix="lottery-data-", dir=_place(own)))
    try:
        if own is not None and folder is not None:
            own = _put(own, folder)
        about = {} if own is None or folder is None else {"shared": _described(own, folder)}
        messages = group.exchange(about)[group.rank - group.local_rank]
        if own is None:
            own = _mapped(json.loads(messages["shared"])) if "shared" in messages else load(component, root, noise)
        group.agree(0)  # all have mapped it, and need its name no more
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
    return own


def _with_others(component: Component, root: Path, group: Group, noise: LabelNoise | None) -> Splits:
    """Return the data set on a machine with one rank, where others may share theirs meanwhile."""
    splits = load(component, root, noise)
    group.exchange({})
    group.agree(0)
    return splits


def _place(splits: Splits) -> Path | None:
    """Return the folder of files in memory, None for that of temporary files where it is missing or too small."""
    size = sum(getattr(splits, name).nbytes for name in TENSORS)
    return SHARED_MEMORY if SHARED_MEMORY.is_dir() and shutil.disk_usage(SHARED_MEMORY).free > 2 * size else None


def _put(splits: Splits, folder: Path) -> Splits:
    """Return the same data set in files of the folder, images in the order in memory in which batches have them."""
    shared: dict[str, Any] = {}
    for name in TENSORS:
        value = _in_order(getattr(splits, name))
        try:
            file = _file(folder / name, str(value.dtype), value.shape)
        except RuntimeError as error:
            raise MachineError(f"{folder}: no room for a copy of the data that all ranks share: {error}") from error
        shared[name] = _back(file.copy_(value))
    return replace(splits, known=fingerprint(splits), **shared)


def _described(splits: Splits, folder: Path) -> bytes:
    tensors = {name: _in_order(getattr(splits, name)) for name in TENSORS}
    kinds = {name: [str(value.dtype), list(value.shape)] for name, value in tensors.items()}
    rest = {name: getattr(splits, name) for name in ("classes", "mean", "std", "known", "content")}
    return json.dumps({"folder": str(folder), "tensors": kinds, **rest}).encode()


def _mapped(about: Mapping[str, Any]) -> Splits:
    """Return the data set that the first rank on this machine has put into files."""
    folder = Path(about["folder"])
    tensors = {name: _back(_file(folder / name, *kind)) for name, kind in about["tensors"].items()}
    mean, std = tuple(about["mean"]), tuple(about["std"])
    return Splits(
        **tensors, classes=about["classes"], mean=mean, std=std, known=about["known"], content=about["content"]
    )


def _file(path: Path, dtype: str, shape: Any) -> Tensor:
    """Return a tensor whose memory is a file, which is made where it is not there."""
    kind = getattr(torch, dtype.removeprefix("torch."))
    return torch.from_file(str(path), shared=True, size=math.prod(shape), dtype=kind).view(tuple(shape))


def _in_order(value: Tensor) -> Tensor:
    """Return images with their channels last, other tensors as they are."""
    return value.permute(0, 2, 3, 1) if value.dim() == 4 else value


def _back(value: Tensor) -> Tensor:
    return value.permute(0, 3, 1, 2) if value.dim() == 4 else value
