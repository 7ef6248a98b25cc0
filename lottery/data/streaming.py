"""Images that stay in their files: worker processes decode them as training and evaluation ask for them."""

from __future__ import annotations

import atexit
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from lottery.data.random_crop import Crops, Window
from lottery.errors import DataError, MachineError
from lottery.files.progress import log_progress

DECODED_BYTES = 2**26  # at once, where all images are gone through in order

Image = NDArray[np.uint8]  # (height, width, channels)
Part = tuple[list[int], Crops | None]


@dataclass(frozen=True)
class Files:
    """Images in files, with as much of the interface of a uint8 tensor (n, 3, size, size) as describes them.

    Attributes:
        names: Paths inside `folder`, in one array of bytes, whose memory worker processes share.
        decode: Function of a module (so that it can be sent to other processes) of a file, `size`, `resize` and a
            window. It takes the window and brings it to size x size pixels; without one, the centre of the image whose
            short side is brought to `resize`. It raises DataError for a file that is no image.
        resize: Length of the short side before the centre is taken; with it, windows may be asked for.
    """

    folder: Path
    names: NDArray[np.bytes_]
    size: int
    decode: Callable[[Path, int, int | None, Window | None], Image]
    resize: int | None = None
    dtype: torch.dtype = torch.uint8

    @property
    def shape(self) -> torch.Size:
        """Shape of the tensor that the images would be."""
        return torch.Size((len(self.names), 3, self.size, self.size))

    def dim(self) -> int:
        """Return the number of dimensions of that tensor."""
        return 4

    def __len__(self) -> int:
        return len(self.names)

    def image(self, number: int, crops: Crops | None = None) -> Image:
        """Return one image, decoded: its window among the crops, or its centre without them."""
        window = crops.window(number) if crops is not None else None
        return self.decode(self.folder / os.fsdecode(bytes(self.names[number])), self.size, self.resize, window)

    def split(self, most: int) -> Iterator[Tensor]:
        """Yield all images in order, at most `most` at a time, decoded in many threads; progress is logged."""
        some = min(most, max(1, DECODED_BYTES // (3 * self.size**2)))
        yield from log_progress(self._decoded(some), self.folder, len(self), "decoded")

    def _decoded(self, some: int) -> Iterator[tuple[int, Tensor]]:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for begin in range(0, len(self), some):
                images = list(pool.map(self.image, range(begin, min(begin + some, len(self)))))
                yield len(images), torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class Stream:
    """The examples in `files`, handed out on a device by rows, decoded by `workers` processes of its own.

    Each pass that runs beside another one has its own processes; they stay for the next pass.
    """

    files: Files
    device: torch.device
    channels_last: bool
    workers: int
    _idle: list[DataLoader[Any]] = field(default_factory=list)

    @property
    def width(self) -> int:
        """Number of values in an example."""
        return int(self.files.shape[1:].numel())

    def rows(self, order: Tensor, begin: int, size: int, crops: Crops | None = None) -> Iterator[Tensor]:
        """Yield uint8 tensors (size, width) of the examples `order[begin]` and on; the last one may be smaller.

        Examples before `begin` are not decoded.

        Raises:
            DataError: A file is no image any more.
            MachineError: A worker process has died.
        """
        numbers = order[begin:].tolist()
        loader = self._idle.pop() if self._idle else self._loader()
        passes = loader.batch_sampler
        assert isinstance(passes, _Parts)
        passes.parts = [(numbers[i : i + size], crops) for i in range(0, len(numbers), size)]
        try:
            with self._workers_alive():
                decoded = _started(loader)
            while True:
                with self._workers_alive():
                    part = next(decoded, None)
                if part is None:
                    return
                if isinstance(part, str):
                    raise DataError(part)
                yield part.to(self.device, non_blocking=True)
        finally:  # a pass that is left early is made to start afresh by the next one
            self._idle.append(loader)

    @contextmanager
    def _workers_alive(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # torch's word for a worker that is gone
            raise MachineError(
                f"{self.files.folder}: a process that decodes images has died ({error}); out of memory, or of shared "
                "memory in /dev/shm? Make room and run again: it goes on where it was"
            ) from error

    def _loader(self) -> DataLoader[Any]:
        loader: DataLoader[Any] = DataLoader(
            _Rows(self.files, self.channels_last),  # type: ignore[arg-type]
            batch_sampler=_Parts(),  # type: ignore[arg-type]
            num_workers=self.workers,
            collate_fn=_itself,
            pin_memory=self.device.type == "cuda",
            persistent_workers=True,
            generator=torch.Generator(),  # else the loader draws a seed from the process-wide one, which is dropout's
        )
        _LOADERS[loader] = os.getpid()
        return loader


_LOADERS: WeakKeyDictionary[DataLoader[Any], int] = WeakKeyDictionary()  # with the process that they belong to


@atexit.register  # before multiprocessing's own, which waits for processes that it believes to obey SIGTERM
def _end_processes() -> None:
    """End the processes of loaders that are still there when this process leaves, such as those of a cycle."""
    for loader, process in list(_LOADERS.items()):
        if process == os.getpid() and (iterator := loader._iterator) is not None:
            iterator._shutdown_workers()  # type: ignore[attr-defined]


class _Parts:
    """Batch sampler for DataLoader: the numbers of the examples in each part of a pass, and the pass's windows."""

    def __init__(self) -> None:
        self.parts: list[Part] = []

    def __iter__(self) -> Iterator[Part]:
        return iter(self.parts)

    def __len__(self) -> int:
        return len(self.parts)


@dataclass(frozen=True)
class _Rows:
    """Data set for DataLoader that gives several examples at once."""

    files: Files
    channels_last: bool

    def __getitems__(self, part: Part) -> Tensor | str:
        """Return a tensor (n, values) in the order in memory that batches have, or what is wrong with a file.

        The error is returned, not raised, as torch would wrap it into a traceback.
        """
        numbers, crops = part
        try:
            images = np.stack([self.files.image(number, crops) for number in numbers])
        except DataError as error:
            return str(error)
        rows = images if self.channels_last else images.transpose(0, 3, 1, 2)
        return torch.from_numpy(np.ascontiguousarray(rows).reshape(len(numbers), -1))

    def __len__(self) -> int:
        return len(self.files)


def _itself(part: Any) -> Any:
    return part


def _started(loader: DataLoader[Any]) -> Iterator[Tensor | str]:
    """Return the loader's iterator; its processes ignore signals, and this one has not torch's handler of SIGCHLD.

    Signals to the whole group of processes are for the main one: it saves what needs the images, then ends the others,
    which are forked while the signals are blocked and stay so. Torch's handler raises wherever the main process is when
    one of them dies, in the midst of an optimizer's step; without it, the next fetch does.
    """
    main = threading.current_thread() is threading.main_thread()  # torch sets no handler elsewhere
    before = signal.getsignal(signal.SIGCHLD)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1))
    try:
        return iter(loader)
    finally:
        if main:
            signal.signal(signal.SIGCHLD, before)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
