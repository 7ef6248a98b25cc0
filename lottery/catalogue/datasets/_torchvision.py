"""Data sets that torchvision reads whole, and downloads; one line on what went wrong."""

from __future__ import annotations

import io
import logging
import socket
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import lottery.files.write
from lottery.data.splits import Splits
from lottery.errors import DataError, UsageError

NETWORK_SECONDS = 15.0  # how long a silent server is waited for


def read(
    name: str, root: Path, files: Sequence[str], *, classes: int, mean: tuple[float, ...], std: tuple[float, ...]
) -> Splits:
    """Return the data set that torchvision calls `name`, downloaded if one of its `files` is missing.

    Args:
        name: Class in `torchvision.datasets`.
        root: Folder of data sets.
        files: Paths relative to `root`.
        classes: Number of classes.
        mean: Mean of each channel in [0, 1].
        std: Standard deviation of each channel in [0, 1].

    Raises:
        DataError: It cannot be had or is damaged.
        UsageError: Torchvision does not work.
    """
    maker = _maker(name)
    missing = [file for file in files if not (root / file).is_file()]
    if missing:
        _download(name, maker, root, missing)
    try:
        train, test = (_tensors(_opened(name, maker, root, part)) for part in ("train", "test"))
    except Exception as error:  # torchvision answers damage with whatever its readers stumble over
        folder = (root / files[0]).parent if "/" in files[0] else root
        raise DataError(
            f"{folder}: the files of {name} are damaged or incomplete ({_line(error)}); "
            f"delete {', '.join(Path(file).name for file in files)} there to have them downloaded again"
        ) from error
    return Splits(*train, *test, classes=classes, mean=mean, std=std)


def _maker(name: str) -> Any:
    try:
        from torchvision import datasets
    except (ImportError, RuntimeError) as error:  # RuntimeError: built for another torch
        raise UsageError(
            f"torchvision, which reads {name}, cannot be imported beside torch {torch.__version__} ({_line(error)}); "
            "each torchvision wants its own torch: pip install --upgrade torch torchvision"
        ) from error
    return getattr(datasets, name)


def _opened(name: str, maker: Any, root: Path, part: str, download: bool = False) -> Any:
    which: dict[str, Any] = {"split": part} if name == "SVHN" else {"train": part == "train"}
    return maker(str(root), download=download, **which)


def _tensors(dataset: Any) -> tuple[Tensor, Tensor]:
    """Return images, uint8 (n, channels, height, width), laid out as networks take them, and labels, int64 (n,)."""
    labels = torch.as_tensor(np.asarray(dataset.labels if hasattr(dataset, "labels") else dataset.targets))
    images = torch.as_tensor(dataset.data)
    if images.dim() == 3:
        images = images[:, None]
    elif images.shape[-1] == 3:  # as CIFAR's reader lays them out
        images = images.permute(0, 3, 1, 2)
    return images.contiguous(memory_format=torch.channels_last), labels.long()


def _download(name: str, maker: Any, root: Path, missing: Sequence[str]) -> None:
    """Fetch what is missing into a folder beside its place and move it there: half a file is never taken for one."""
    logging.getLogger("lottery").warning("%s is not in %s: downloading it", name, root)
    is_new = not root.exists()
    try:
        lottery.files.write.make_folder(root)
        with tempfile.TemporaryDirectory(dir=root, prefix=".download-") as folder, _network():
            for part in ("train", "test"):
                _opened(name, maker, Path(folder), part, download=True)
            for file in missing:
                lottery.files.write.make_folder((root / file).parent)
                lottery.files.write.move(Path(folder) / file, root / file)
    except Exception as error:  # no network, no room, no permission, or an answer that is no data
        if is_new:
            with suppress(OSError):
                root.rmdir()
        raise DataError(
            f"{root / missing[0]} not found and the download failed ({_line(error)}); "
            f"put the files there, or point --data or LOTTERY_DATA to the folder that has {missing[0]}"
        ) from error


@contextmanager
def _network() -> Iterator[None]:
    """Let a server keep us waiting only so long; nothing goes to stdout, and a bar only to a terminal."""
    before = socket.getdefaulttimeout()
    shown = sys.stderr if sys.stderr.isatty() else io.StringIO()
    socket.setdefaulttimeout(NETWORK_SECONDS)
    try:
        with redirect_stdout(shown), redirect_stderr(shown):
            yield
    finally:
        socket.setdefaulttimeout(before)


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
