"""One copy of a data set in memory for all ranks on a machine: the first of them reads it, the others map it."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from lottery.data.load import TENSORS, back, described, file_tensor, in_order, load, mapped
from lottery.data.splits import Splits, fingerprint
from lottery.distributed.group import Group
from lottery.errors import MachineError
from lottery.values import Component, LabelNoise

SHARED_MEMORY = Path("/dev/shm")


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
        about: dict[str, bytes] = {}
        if own is not None and folder is not None:
            about = {"shared": json.dumps({"folder": str(folder), **described(own)}).encode()}
        messages = group.exchange(about)[group.rank - group.local_rank]
        if own is None and "shared" in messages:
            there = json.loads(messages["shared"])
            own = mapped(there, Path(there["folder"]), shared=True)
        elif own is None:
            own = load(component, root, noise)
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
        value = in_order(getattr(splits, name))
        try:
            file = file_tensor(folder / name, str(value.dtype), value.shape, shared=True)
        except RuntimeError as error:
            raise MachineError(f"{folder}: no room for a copy of the data that all ranks share: {error}") from error
        shared[name] = back(file.copy_(value))
    return replace(splits, known=fingerprint(splits), **shared)
