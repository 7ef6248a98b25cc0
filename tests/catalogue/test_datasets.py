"""Data sets that come with a package."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits

from lottery.catalogue.datasets import local


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
