"""The shares of the ranks make up what one process computes."""

from __future__ import annotations

import pytest
import torch

from lottery.data.loader import Augment, Data
from lottery.data.splits import Splits
from lottery.distributed.share import Share, parts_of

CPU = torch.device("cpu")


def _images(count: int) -> Splits:
    draws = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (count, 3, 6, 5), generator=draws, dtype=torch.uint8)
    return Splits(x, torch.arange(count), x[:7], torch.arange(7), count, (0.5, 0.4, 0.3), (0.2, 0.3, 0.25))


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("first", [0, 2])
def test_batches_of_all_ranks_are_those_of_one_process_augmented_alike(ranks: int, first: int) -> None:
    data = Data(_images(50), seed=3, validation=13, augment=Augment(2, True), device=CPU, channels_last=True)
    whole = list(data.epoch(4, 10, first))  # 10, 10, 10 and 7 examples
    shared = [list(data.epoch(4, 10, first, share=Share(rank, ranks))) for rank in range(ranks)]
    for batch, parts in zip(whole, zip(*shared, strict=True), strict=True):
        assert torch.cat([x for x, _ in parts]).equal(batch[0]) and torch.cat([y for _, y in parts]).equal(batch[1])
        assert max(len(y) for _, y in parts) - min(len(y) for _, y in parts) <= 1


@pytest.mark.parametrize("batch", [10, 9, 7])
def test_each_part_of_a_batch_has_the_same_examples_on_any_number_of_ranks(batch: int) -> None:
    places = torch.arange(batch)
    parts = places.tensor_split(parts_of(batch, 3))
    own = [Share(rank, 2, 3) for rank in range(2)]
    cut = [share.places(batch, batch).split(share.counts(batch)) for share in own]
    assert [torch.cat(both).tolist() for both in zip(*cut, strict=True)] == [part.tolist() for part in parts]


def test_a_split_is_shared_without_a_gap_or_an_example_twice() -> None:
    for examples in (0, 1, 7, 31):
        found = [list(range(examples))[Share(rank, 3).among(examples)] for rank in range(3)]
        assert [each for part in found for each in part] == list(range(examples))


def test_evaluation_hands_each_rank_its_part_in_order() -> None:
    data = Data(_images(31), seed=0, device=CPU)
    whole = torch.cat([y for _, y in data.evaluation("train", 4)])
    parts = [torch.cat([y for _, y in data.evaluation("train", 4, Share(rank, 3))]) for rank in range(3)]
    assert torch.cat(parts).equal(whole)
