"""Data sets that need neither a file nor a network: one that comes with a package, one that is computed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from lottery.registry import datasets

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from lottery.data.splits import Splits

    Array = np.ndarray[Any, np.dtype[np.float64]]

DIGITS_TEST = 360  # of 1797
KEPT_SIGNALS = 20_000  # data sets of MNIST-1D with more samples are not kept in memory: 3 MB


@datasets.register("digits", source="Alpaydin & Kaynak 1998; scikit-learn load_digits")
def digits(root: Path) -> Splits:
    """Digits of scikit-learn: 1,437 + 360 handwritten digits, 8x8 grey; always the same images are the test set.

    The published values 0..16 are spread over 0..255. Mean and std are those of all images, so spread.
    """
    import torch

    from lottery.data.splits import Splits
    from lottery.seed import generator

    published = torch.from_numpy(_published())
    x = (published[:, :-1].view(-1, 1, 8, 8) * 255 / 16).round().to(torch.uint8)
    y = published[:, -1].long()
    order = torch.randperm(len(x), generator=generator(0, "digits-test"))
    test, train = order[:DIGITS_TEST], order[DIGITS_TEST:]
    return Splits(x[train], y[train], x[test], y[test], classes=10, mean=(0.3053,), std=(0.3759,))


def _published() -> Array:
    """Return the table of scikit-learn's `load_digits`: a row an image, 64 values 0..16 and the digit.

    Its file is read here: to import scikit-learn takes half a second of each process, as it brings pandas along.
    """
    import numpy as np

    package = find_spec("sklearn")
    places = package.submodule_search_locations if package else None
    file = Path((places or [""])[0], "datasets", "data", "digits.csv.gz")
    if file.is_file():
        return np.loadtxt(file, delimiter=",")
    from sklearn.datasets import load_digits  # a version that keeps it elsewhere

    bunch = load_digits()
    table: Array = np.column_stack([bunch.data, bunch.target])
    return table


@datasets.register("mnist1d", source="Greydanus & Kobak 2024")
def mnist1d(
    root: Path,
    *,
    samples: Annotated[int, Field(strict=True, ge=50, le=1_000_000, multiple_of=10)] = 5000,
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**32)] = 42,
) -> Splits:
    """MNIST-1D: signals of 40 values in 10 classes, computed here; four fifths of the `samples` are for training."""
    from lottery.data.splits import Splits

    signals = _kept_signals if samples <= KEPT_SIGNALS else _signals
    train_x, train_y, test_x, test_y = (tensor.clone() for tensor in signals(samples, seed))
    return Splits(train_x, train_y, test_x, test_y, classes=10)


def _signals(samples: int, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return training signals and labels, test signals and labels; 5,000 of them take a second."""
    import torch
    from mnist1d.data import get_dataset_args, make_dataset

    args = get_dataset_args()
    args.num_samples, args.seed = samples, seed
    with _global_generators_kept():
        made = make_dataset(args)
    train_x, test_x = (torch.from_numpy(made[key]).float() for key in ("x", "x_test"))
    train_y, test_y = (torch.from_numpy(made[key]).long() for key in ("y", "y_test"))
    return train_x, train_y, test_x, test_y


_kept_signals = lru_cache(maxsize=4)(_signals)  # a run and the tables after it ask for the same ones


@contextmanager
def _global_generators_kept() -> Iterator[None]:
    """Put back the states of the process-wide generators, which mnist1d seeds and draws from."""
    import random

    import numpy as np
    import torch

    python, array, tensor = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(array)
        torch.set_rng_state(tensor)
