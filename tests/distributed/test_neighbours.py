"""What ranks of one machine send each other through sockets."""

from __future__ import annotations

import socket
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lottery.distributed import neighbours
from lottery.distributed.group import ALONE, Group
from lottery.distributed.neighbours import MOST_BYTES, Neighbours, connect
from lottery.errors import RankLost


def _three(seconds: float = 60) -> list[Neighbours]:
    peers: list[dict[int, socket.socket]] = [{}, {}, {}]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        peers[first][second], peers[second][first] = socket.socketpair()
    return [Neighbours(rank, peers[rank], seconds) for rank in range(3)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.uint8, torch.int64])
@pytest.mark.parametrize("shape", [(), (1,), (2, 5), (4, MOST_BYTES // 32)])
def test_each_rank_gets_the_tensors_of_all_in_order_again_and_again(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    draws = torch.Generator().manual_seed(0)
    rounds = [[(torch.rand(shape, generator=draws) * 100).to(dtype) for _ in range(3)] for _ in range(20)]

    def all_of(rank: int) -> list[Tensor]:
        return [torch.from_numpy(ranks[rank].exchange(own[rank].numpy())) for own in rounds]

    ranks = _three()
    assert ranks[0].take(rounds[0][0])
    with ThreadPoolExecutor(3) as pool:
        for found in pool.map(all_of, range(3)):
            assert all(torch.equal(each, torch.stack(own)) for each, own in zip(found, rounds, strict=True))


@pytest.mark.parametrize("watched", [neighbours.WATCHING, 0.0])
def test_a_rank_that_is_gone_is_noticed_by_one_that_waits_for_it(
    watched: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "WATCHING", watched)
    first, second, third = _three()
    ending = threading.Timer(0.05, second.close)
    ending.start()
    with pytest.raises(RankLost, match="rank 1"):
        first.exchange(np.ones(3))
    ending.join()
    with pytest.raises(RankLost, match="rank 1"):
        third.exchange(np.ones(3))


def test_a_rank_that_stays_silent_is_not_waited_for_without_end() -> None:
    ranks = _three(seconds=0.1)
    with pytest.raises(RankLost, match=r"rank 1 has sent nothing for 0\.1 s"):
        ranks[0].exchange(np.ones(3))


def test_what_would_fill_a_socket_or_lies_elsewhere_is_not_taken() -> None:
    first = _three()[0]
    assert first.take(torch.ones(MOST_BYTES // 8, dtype=torch.float64))
    assert not first.take(torch.ones(MOST_BYTES // 8 + 1, dtype=torch.float64))
    assert not first.take(torch.ones(3, dtype=torch.bfloat16))
    assert not first.take(torch.ones(0)) and not first.take(torch.ones(3, device="meta"))


def test_one_process_has_connections_with_nobody() -> None:
    found = connect(ALONE, 60)
    assert found is not None and found.exchange(np.ones(2)).tolist() == [[1, 1]]


class Two(Group):
    """A group of two as rank 0 sees it, where the other finds no fault."""

    size = ranks_here = 2


def test_where_ranks_cannot_be_connected_all_do_without_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("a" * 200)  # longer than the address of a socket may be
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    assert connect(Two(), 60) is None
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(neighbours, "MEETING", 0.05)
    assert connect(Two(), 60) is None  # the other never comes
    assert list(long.iterdir()) == [] and list(tmp_path.iterdir()) == [long]
    monkeypatch.setattr(Two, "ranks_here", 1)
    assert connect(Two(), 60) is None
