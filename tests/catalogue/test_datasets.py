"""Data sets that come with a package."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits

from lottery.catalogue.datasets import local
from lottery.data.load import load
from lottery.data.splits import fingerprint
from lottery.values import Component


@pytest.mark.parametrize("known", [True, False])
def test_digits_are_those_that_scikit_learn_loads(known: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read from its file without importing it, and where a version of it has no such file."""
    if not known:
        monkeypatch.setattr(local, "find_spec", lambda name: importlib.util.find_spec("json"))
    found, published = local.digits(Path()), load_digits()
    assert isinstance(found.train_x, torch.Tensor) and isinstance(found.test_x, torch.Tensor)
    images, labels = torch.cat((found.train_x, found.test_x)), torch.cat((found.train_y, found.test_y))
    expected = torch.from_numpy(published.images * 255 / 16).round().to(torch.uint8)
    assert images.shape == (1797, 1, 8, 8) and len(found.test_x) == local.DIGITS_TEST
    ours = sorted(zip(images.flatten(1).tolist(), labels.tolist(), strict=True))
    assert ours == sorted(zip(expected.flatten(1).tolist(), published.target.tolist(), strict=True))


@pytest.mark.parametrize(("p", "share"), [(2, 0.5), (7, 0.3), (23, 0.4)])
def test_modular_addition_has_each_pair_once_with_its_sum_in_training_or_test(p: int, share: float) -> None:
    splits = load(Component("modular_addition", {"p": p, "share": share}), Path("nowhere"))
    assert isinstance(splits.train_x, torch.Tensor) and isinstance(splits.test_x, torch.Tensor)
    assert len(splits.train_x) == round(share * p * p) and splits.classes == p
    x, y = torch.cat([splits.train_x, splits.test_x]), torch.cat([splits.train_y, splits.test_y])
    assert x.sum(1).eq(2).all() and x.shape == (p * p, 2 * p)
    pairs = [(row[:p].index(1), row[p:].index(1)) for row in x.int().tolist()]
    assert sorted(pairs) == [(a, b) for a in range(p) for b in range(p)]
    assert [(a + b) % p for a, b in pairs] == y.tolist()


def test_another_seed_of_modular_addition_shows_other_pairs() -> None:
    one, again, other = (load(Component("modular_addition", {"p": 11, "seed": s}), Path("nowhere")) for s in (0, 0, 1))
    assert fingerprint(one) == fingerprint(again) != fingerprint(other)
