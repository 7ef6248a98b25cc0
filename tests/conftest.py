"""Shared pieces of the tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The root of the real data sets; the test is skipped where there is none."""
    root = Path(os.environ.get("LOTTERY_DATA") or "data")
    if not (root / "MNIST" / "raw" / "train-images-idx3-ubyte").is_file():
        pytest.skip(f"no real data in {root}: set LOTTERY_DATA")
    return root


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
