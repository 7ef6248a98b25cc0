"""The ranks of one training: each sees its share of every batch, and they agree on all that is decided.

`ALONE` is the group of one process, whose methods give back what they are given: one path of code serves both.
"""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lottery.distributed.neighbours import MOST_BYTES, Array, connect
from lottery.errors import RankLost

Messages = Mapping[str, bytes]

TIMEOUT = timedelta(minutes=15)  # a rank may be kept by a slow disk; one that died closes its connections at once
FOREVER = timedelta(days=365)  # while rank 0 does what is not shared
CHECKING = timedelta(seconds=20)  # for all ranks to say that they met the same error
FIRST_PAUSE, LONGEST_PAUSE = 0.0005, 0.02  # seconds between two looks for the next message, each longer than the last


class Group:
    """The processes that train one network together, seen from one of them.

    Attributes:
        rank: Number of this process; rank 0 leases, saves and commits.
        size: Number of processes.
        local_rank: Number of this process among those on its machine, which its GPU has too.
        ranks_here: Number of processes on its machine.
        device: Where the tensors are that are summed.
        handle: The torch process group for what reduces by itself; None for one process.
    """

    rank, size, local_rank, ranks_here = 0, 1, 0, 1
    device = torch.device("cpu")
    handle: Any = None

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over all ranks of tensors of one shape and type on `device`, in place."""
        return values

    def each(self, values: Array) -> Array:
        """Return the ranks' arrays of one shape and type, stacked by rank."""
        return values[None]

    def agree(self, number: int) -> int:
        """Return the largest of the ranks' numbers, which are 0 or more."""
        return number

    def gather(self, values: Tensor) -> Tensor:
        """Return the ranks' tensors one after the other, joined at their first dimension, in which they may differ."""
        return values

    def tell(self, messages: Messages | None) -> dict[str, bytes]:
        """Return the messages by name that rank 0 tells; the others hand over None, and wait however long it takes."""
        assert messages is not None
        return dict(messages)

    def exchange(self, messages: Messages) -> list[dict[str, bytes]]:
        """Return the messages by name of each rank, by rank."""
        return [dict(messages)]

    def same(self, digest: str) -> bool:
        """Return True, on every rank, if the ranks hand over the same text."""
        return True

    def check_all_failed(self) -> None:
        """Return once every rank has called this, after an error that all must have met.

        Raises:
            RankLost: Not all have.
        """


ALONE = Group()


class Ranks(Group):
    """A group of several processes, which `open_group` opens."""

    def __init__(self, local_rank: int, ranks_here: int, device: torch.device):
        from torch import distributed

        self._torch = distributed
        self.rank, self.size = distributed.get_rank(), distributed.get_world_size()
        self.local_rank, self.ranks_here, self.device = local_rank, ranks_here, device
        self.handle = distributed.group.WORLD
        talk = distributed.new_group(backend="gloo", timeout=FOREVER)
        assert isinstance(talk, distributed.ProcessGroup)  # all are members
        self._talk = talk
        self._neighbours = connect(self, TIMEOUT.total_seconds())

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over all ranks of tensors of one shape and type on `device`, in place."""
        if self._neighbours is not None and self._neighbours.take(values):
            rows = self._neighbours.exchange(values.detach().numpy())
            return values.copy_(torch.from_numpy(rows).sum(0, dtype=values.dtype))
        with _lost():
            self._torch.all_reduce(values)
        return values

    def each(self, values: Array) -> Array:
        """Return the ranks' arrays of one shape and type, stacked by rank."""
        if self._neighbours is not None and values.nbytes <= MOST_BYTES:
            return self._neighbours.exchange(values)
        rows = np.zeros((self.size, *values.shape), values.dtype)
        rows[self.rank] = values
        with _lost():
            self._torch.all_reduce(torch.from_numpy(rows))  # the other ranks' rows are 0 here: what is summed is exact
        return rows

    def close(self) -> None:
        """Leave the others, at the end."""
        if self._neighbours is not None:
            self._neighbours.close()

    def agree(self, number: int) -> int:
        """Return the largest of the ranks' numbers, which are 0 or more."""
        largest = torch.tensor(number)
        with _lost():
            self._torch.all_reduce(largest, op=self._torch.ReduceOp.MAX, group=self._talk)
        return int(largest)

    def gather(self, values: Tensor) -> Tensor:
        """Return the ranks' tensors one after the other, joined at their first dimension, in which they may differ."""
        lengths = [torch.tensor(0) for _ in range(self.size)]
        with _lost():
            self._torch.all_gather(lengths, torch.tensor(len(values)), group=self._talk)
        padded = values.new_zeros((int(max(lengths)), *values.shape[1:]))
        padded[: len(values)] = values
        parts = [torch.empty_like(padded) for _ in lengths]
        with _lost():
            self._torch.all_gather(parts, padded)
        return torch.cat([part[: int(length)] for part, length in zip(parts, lengths, strict=True)])

    def tell(self, messages: Messages | None) -> dict[str, bytes]:
        """Return the messages by name that rank 0 tells; the others hand over None, and wait however long it takes."""
        return _unpacked(self._sent(0, None if messages is None else _packed(messages)))

    def exchange(self, messages: Messages) -> list[dict[str, bytes]]:
        """Return the messages by name of each rank, by rank."""
        own = _packed(messages)
        return [_unpacked(self._sent(rank, own if rank == self.rank else None)) for rank in range(self.size)]

    def same(self, digest: str) -> bool:
        """Return True, on every rank, if the ranks hand over the same text."""
        said = [each["digest"] for each in self.exchange({"digest": digest.encode()})]
        return all(each == said[0] for each in said)

    def check_all_failed(self) -> None:
        """Return once every rank has called this, after an error that all must have met.

        Raises:
            RankLost: Not all have.
        """
        with _lost():
            self._torch.monitored_barrier(self._talk, timeout=CHECKING)

    def _sent(self, source: int, data: bytes | None) -> bytes:
        """Return the bytes that rank `source` hands over; the others hand over None."""
        length = torch.tensor(0 if data is None else len(data))
        self._broadcast(length, source)
        room = torch.empty(int(length), dtype=torch.uint8) if data is None else _as_tensor(data)
        if len(room):
            self._broadcast(room, source)
        return room.numpy().tobytes() if data is None else data

    def _broadcast(self, values: Tensor, source: int) -> None:
        """Broadcast a tensor; a rank that waits for it takes note of signals meanwhile."""
        with _lost():
            work = self._torch.broadcast(values, source, group=self._talk, async_op=True)
            assert work is not None
            pause = FIRST_PAUSE
            while source != self.rank and not work.is_completed():
                time.sleep(pause)
                pause = min(LONGEST_PAUSE, 1.2 * pause)
            work.wait()


@contextmanager
def open_group(
    rank: int, size: int, local_rank: int, device: torch.device, place: str, ranks_here: int | None = None
) -> Iterator[Group]:
    """Open the group of a training's ranks, and leave it at the end.

    Args:
        rank: Number of this process.
        size: Number of processes.
        local_rank: Number of this process among those on its machine.
        device: Where it trains.
        place: Where the ranks meet, a URL of `torch.distributed.init_process_group`.
        ranks_here: Number of processes on its machine; all where None.

    Raises:
        RankLost: The ranks do not find one another.
    """
    from torch import distributed

    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    with _lost():
        distributed.init_process_group(backend, init_method=place, rank=rank, world_size=size, timeout=TIMEOUT)
        group = Ranks(local_rank, ranks_here or size, device)
    try:
        yield group
    finally:
        group.close()
        with suppress(RuntimeError):  # of a rank that is gone
            distributed.destroy_process_group()


@contextmanager
def _lost() -> Iterator[None]:
    """Raise RankLost for an error of torch's in what ranks tell one another."""
    try:
        yield
    except RuntimeError as error:
        raise RankLost(str(error)) from error


def _packed(messages: Messages) -> bytes:
    """Return messages as bytes: the length of a header, the header (names and lengths as JSON), the messages."""
    header = json.dumps([[name, len(data)] for name, data in messages.items()]).encode()
    return b"".join([struct.pack("<Q", len(header)), header, *messages.values()])


def _unpacked(data: bytes) -> dict[str, bytes]:
    (length,) = struct.unpack_from("<Q", data)
    messages, begin = dict[str, bytes](), 8 + length
    for name, size in json.loads(data[8:begin]):
        messages[name] = data[begin : begin + size]
        begin += size
    return messages


def _as_tensor(data: bytes) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.empty(0, dtype=torch.uint8)
