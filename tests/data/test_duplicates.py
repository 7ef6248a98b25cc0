"""Exact copies in a data set: counted once, kept in the store, said in plan and report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lottery.data import duplicates
from lottery.data.duplicates import Duplicates, look, remembered, sentence
from lottery.data.splits import Splits
from lottery.store.store import Store


def _splits() -> Any:
    """6 training and 4 test examples: training 0 = 1 = test 0 = test 1, training 2 = test 2 with another class."""
    train = torch.arange(6 * 4, dtype=torch.float32).reshape(6, 4)
    train[1] = train[0]
    test = 100 + torch.arange(4 * 4, dtype=torch.float32).reshape(4, 4)
    test[0] = test[1] = train[0]
    test[2] = train[2]
    return Splits(train, torch.tensor([0, 0, 1, 1, 0, 1]), test, torch.tensor([0, 0, 0, 1]), 2)


def test_copies_within_and_between_training_and_test_examples_are_counted() -> None:
    found = duplicates.duplicates(_splits())
    assert found == Duplicates(3, 1, 2, 2, 6, 4)
    assert sentence("made", found) == (
        "made: 3 of 4 test examples are training examples too, 1 of them with another target; 2 of 6 training examples "
        "have a copy among themselves; 2 of 4 test examples have a copy among themselves (exact copies, byte for byte)"
    )


def test_data_without_copies_say_nothing() -> None:
    splits = _splits()
    apart = replace(splits, train_x=splits.train_x + torch.arange(6)[:, None] / 16, test_x=splits.test_x + 1000)
    apart.test_x[1] += 1
    found = duplicates.duplicates(apart)
    assert found == Duplicates(0, 0, 0, 0, 6, 4) and sentence("made", found) == ""
    assert sentence("made", None) == ""


def test_a_machine_counts_the_copies_of_a_data_set_once_for_all_its_stores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOTTERY_CACHE", str(tmp_path / "cache"))
    first = look(Store(tmp_path / "one"), "e" * 64, _splits())
    other = _splits()
    other.train_x[0] += 1  # under the fingerprint of the first it would be taken for it
    assert look(Store(tmp_path / "two"), "e" * 64, other) == first
    assert look(Store(tmp_path / "two"), "d" * 64, other) != first
    for file in (tmp_path / "cache" / "duplicates").iterdir():
        file.write_bytes(b"{")
    assert look(Store(tmp_path / "three"), "e" * 64, _splits()) == first  # what is damaged is counted again


def test_a_store_looks_once_for_each_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, splits = Store(tmp_path / "store"), _splits()
    assert remembered(store, "f" * 64) is None
    first = look(store, "f" * 64, splits)
    monkeypatch.setattr(duplicates, "duplicates", lambda _: pytest.fail("looked again"))
    assert look(store, "f" * 64, splits) == remembered(store, "f" * 64) == first
