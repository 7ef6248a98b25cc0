"""Matrix factorization: the data set, and what linear networks of one hidden layer make of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lottery.data.load import load
from lottery.data.loader import Data
from lottery.data.splits import Splits, fingerprint
from lottery.errors import DataError, UsageError
from lottery.network.build import build_model
from lottery.registry import datasets
from lottery.values import Component

CPU = torch.device("cpu")


def matrix(**args: Any) -> Any:
    return load(Component("matrix_factorization", args), Path("/nowhere"))


def test_the_rows_of_the_identity_are_to_give_the_rows_of_a_matrix_of_low_rank() -> None:
    splits = matrix(size=60, rank=4)
    assert splits.regression and splits.classes == 60
    assert torch.equal(splits.train_x, torch.eye(60)) and splits.train_y.dtype == torch.float32
    assert torch.equal(splits.test_x, splits.train_x) and torch.equal(splits.test_y, splits.train_y)
    values = np.linalg.svd(splits.train_y.double().numpy(), compute_uv=False)
    assert values[3] > 1 and values[4] < 1e-4


def test_entries_have_variance_one_at_every_rank_and_noise_adds_its_own() -> None:
    for rank in (1, 30):
        variances = [matrix(size=100, rank=rank, seed=seed).train_y.var().item() for seed in range(20)]
        # at rank 1 the product of two means of 100 squares: it spreads by 0.2, the mean of 20 by 0.045
        assert np.mean(variances) == pytest.approx(1, abs=0.2)
    noise = matrix(size=100, noise=0.5).train_y - matrix(size=100).train_y
    assert noise.std().item() == pytest.approx(0.5, rel=5 / np.sqrt(2 * 10_000))


def test_a_matrix_is_that_of_its_seed() -> None:
    assert fingerprint(matrix()) == fingerprint(matrix(seed=0, rank=5, size=100))
    assert fingerprint(matrix()) != fingerprint(matrix(seed=1))
    before = torch.get_rng_state()
    matrix(seed=2)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_rank_above_the_size_is_refused() -> None:
    with pytest.raises(UsageError, match=r"data\.rank: a matrix of size 10 has no rank 11; write at most 10"):
        matrix(size=10, rank=11)


@pytest.mark.parametrize("width", [1, 3])
def test_gradient_descent_reaches_the_best_matrix_of_the_hidden_layers_rank_and_no_better(width: int) -> None:
    """Eckart & Young 1936: its mean squared error is the energy of the singular values beyond the first ones."""
    splits = matrix(size=12, rank=4, noise=0.1)
    data = Data(splits, seed=0, device=CPU)
    values = np.linalg.svd(splits.train_y.double().numpy(), compute_uv=False)
    best = float((values[width:] ** 2).sum()) / 144
    component = Component("deep_linear", {"width": width})
    model = build_model(component, data.input_shape, data.classes, init=Component("orthogonal"), seed=0).double()
    lr = 144 / (8 * values[0])  # a fourth of what the curvature 4 s_1 / n^2 at the optimum allows
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    losses: list[Tensor] = []
    for epoch in range(1500):
        for x, y in data.epoch(epoch, 12):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(x.double()), y.double())
            loss.backward()
            losses.append(loss.detach())
            optimizer.step()
    assert min(losses) >= best * (1 - 1e-9)
    assert losses[-1].item() == pytest.approx(best, rel=1e-6)
    reached = model(torch.eye(12, dtype=torch.float64)).detach().numpy()
    assert np.linalg.matrix_rank(reached, tol=1e-9) == width


# Regression in general


def regression(n: int = 9) -> Splits:
    x, y = torch.arange(2.0 * n).view(n, 2), torch.arange(3.0 * n).view(n, 3)
    return Splits(x, y, x[:4], y[:4], classes=3)


def test_batches_keep_each_target_with_its_example() -> None:
    data = Data(regression(), seed=0, validation=3, device=CPU)
    assert data.regression and (data.train_size, data.validation_size) == (6, 3)
    seen = [*data.epoch(0, 4), *data.evaluation("validation")]
    assert [tuple(y.shape) for _, y in seen] == [(4, 3), (2, 3), (3, 3)]
    x, y = (torch.cat(parts) for parts in zip(*seen, strict=True))
    assert torch.equal(y[:, 0] / 3, x[:, 0] / 2) and sorted(y[:, 0].tolist()) == [3.0 * i for i in range(9)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_y": torch.zeros(9, 2)}, r"9 training examples with targets \(9, 2\), not 3 for each"),
        ({"train_y": torch.zeros(9)}, r"9 training examples with targets \(9,\), not 3 for each"),
        ({"test_y": torch.zeros(5, 3)}, r"4 test examples with targets \(5, 3\)"),
        ({"test_y": torch.full((4, 3), torch.inf)}, "test targets are not all finite"),
        ({"test_y": torch.zeros(4, dtype=torch.int64)}, "training targets are torch.float32, test targets torch.int64"),
        ({"train_y": torch.zeros(9, 3, dtype=torch.float64)}, "torch.float64"),
    ],
)
def test_targets_that_cannot_be_trained_on_are_refused(
    change: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LOTTERY_CACHE", str(tmp_path / "cache"))  # where nothing is kept of the right ones
    broken = replace(regression(), **change)
    monkeypatch.setitem(datasets._entries, "digits", replace(datasets["digits"], make=lambda root: broken))
    with pytest.raises(DataError, match=f"data set digits: .*{message}"):
        load(Component("digits"), tmp_path)
