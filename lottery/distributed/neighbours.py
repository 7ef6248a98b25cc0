"""The ranks of one machine, each connected with each: what a step waits for goes from one to the other at once.

gloo hands each reduction to a thread of its own, which talks to a thread of the other rank: on the way several of
them have to wake up. A step of a network with batch normalizations has dozens of reductions of a few hundred numbers,
so that this is what it takes. Here the thread that computes sends and receives by itself, through sockets of the file
system, which only processes of this user can open.
"""

from __future__ import annotations

import os
import shutil
import socket
import struct
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lottery.errors import RankLost

Array = NDArray[Any]

MOST_BYTES = 1 << 14  # of a message: two lie in any socket's buffer, so that nobody has to wait to send
MOST_RANKS = 16  # each sends to each
WATCHING = 0.001  # seconds in which a rank looks for a message, before it sleeps, from which it wakes up late
MEETING = 30.0  # seconds for all to connect, before all do without
_TIME = "@ll"  # a struct timeval: seconds and microseconds


class Talking(Protocol):
    """The ranks, one of them seen from inside, as they can talk before they are connected: a `Group`."""

    rank: int
    size: int
    ranks_here: int

    def agree(self, number: int) -> int:
        """Return the largest of the ranks' numbers, which are 0 or more."""

    def tell(self, messages: Mapping[str, bytes] | None) -> dict[str, bytes]:
        """Return the messages by name that rank 0 tells; the others hand over None."""


class Neighbours:
    """The connections of one rank with the others, `connect` makes them.

    Args:
        rank: Number of this rank.
        peers: A connected socket for each other rank.
        seconds: How long a rank that is there is waited for.
    """

    def __init__(self, rank: int, peers: dict[int, socket.socket], seconds: float):
        self._rank, self._peers, self._seconds = rank, peers, seconds
        for peer in peers.values():
            peer.setblocking(True)
            peer.setsockopt(
                socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack(_TIME, int(seconds), int(seconds % 1 * 1e6))
            )

    def take(self, values: Tensor) -> bool:
        """Return True if tensors of this shape and type can be exchanged, as arrays."""
        if values.device.type != "cpu" or values.dtype == torch.bfloat16:  # which arrays do not have
            return False
        return 0 < values.numel() * values.element_size() <= MOST_BYTES

    def exchange(self, own: Array) -> Array:
        """Return the ranks' arrays of one shape and type, stacked by rank.

        Raises:
            RankLost: A rank is gone, or silent for too long.
        """
        rows = np.empty((1 + len(self._peers), *own.shape), own.dtype)
        rows[self._rank] = own
        sent = rows[self._rank : self._rank + 1].data
        for rank, peer in self._peers.items():
            try:
                peer.sendall(sent)
            except OSError as error:
                raise RankLost(f"rank {rank} is gone: {error}") from error
        for rank, peer in self._peers.items():
            self._receive(rank, peer, rows[rank : rank + 1])
        return rows

    def close(self) -> None:
        """Close the connections."""
        for peer in self._peers.values():
            peer.close()

    def _receive(self, rank: int, peer: socket.socket, row: Array) -> None:
        """Fill the row with what the rank sends."""
        until, missing = time.perf_counter() + WATCHING, row.nbytes
        flags: int = socket.MSG_DONTWAIT
        while missing:
            try:
                # nearly always it comes in one piece
                room = row.data if missing == row.nbytes else row.reshape(-1).view(np.uint8).data[-missing:]
                count = peer.recv_into(room, 0, flags)
            except BlockingIOError as error:
                if not flags:
                    raise RankLost(f"rank {rank} has sent nothing for {self._seconds:g} s") from error
                if time.perf_counter() > until:
                    flags = 0  # from here on the system wakes this process up
                else:
                    os.sched_yield()
                continue
            except OSError as error:
                raise RankLost(f"rank {rank} is gone: {error}") from error
            if not count:
                raise RankLost(f"rank {rank} has closed its connection")
            missing -= count


def connect(group: Talking, seconds: float) -> Neighbours | None:
    """Return the connections with all other ranks; None, on every rank, where they cannot be made.

    Args:
        group: The ranks, which have no neighbours yet.
        seconds: How long a rank that is there is waited for once all are connected.
    """
    able = group.ranks_here == group.size <= MOST_RANKS and hasattr(socket, "AF_UNIX") and hasattr(os, "sched_yield")
    if group.agree(not able):
        return None
    folder = Path(
        group.tell({"": tempfile.mkdtemp(prefix="lottery-").encode()} if not group.rank else None)[""].decode()
    )
    peers: dict[int, socket.socket] = {}
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            failed = not _listens(listening, folder / str(group.rank), group.size)
            if group.agree(failed):
                return None
            failed = not _meets(listening, folder, group, peers)
        if group.agree(failed):
            for peer in peers.values():
                peer.close()
            return None
    finally:
        if not group.rank:
            shutil.rmtree(folder, ignore_errors=True)
    return Neighbours(group.rank, dict(sorted(peers.items())), seconds)


def _listens(listening: socket.socket, place: Path, ranks: int) -> bool:
    """Listen at a place of the file system, and return False where that cannot be done: its name may be too long."""
    try:
        listening.bind(str(place))
        listening.listen(ranks)
    except OSError:
        return False
    return True


def _meets(listening: socket.socket, folder: Path, group: Talking, peers: dict[int, socket.socket]) -> bool:
    """Connect to the ranks below and take the connections of those above; return False where one fails."""
    try:
        for rank in range(group.rank):
            peers[rank] = socket.socket(socket.AF_UNIX)
            peers[rank].connect(str(folder / str(rank)))
            peers[rank].sendall(bytes([group.rank]))
        listening.settimeout(MEETING)
        for _ in range(group.rank + 1, group.size):
            peer, _ = listening.accept()
            peer.settimeout(MEETING)
            peers[peer.recv(1)[0]] = peer
    except (OSError, IndexError):
        return False
    return True
