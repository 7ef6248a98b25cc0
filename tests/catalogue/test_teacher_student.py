"""The data set of a teacher's outputs: what they are, and what students of its width or of fewer units make of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lottery.data.load import load
from lottery.data.splits import fingerprint
from lottery.network.build import build_model
from lottery.values import Component

FUNCTIONS = {"relu": torch.relu, "tanh": torch.tanh, "gelu": torch.nn.functional.gelu}


def taught(**args: Any) -> Any:
    return load(Component("teacher_student", args), Path("/nowhere"))


@pytest.mark.parametrize("activation", FUNCTIONS)
def test_targets_are_the_teachers_sums_brought_to_mean_0_and_variance_1(activation: str) -> None:
    splits = taught(units=5, activation=activation, samples=500)
    assert splits.regression and splits.classes == 1
    assert splits.train_x.shape == splits.test_x.shape == (500, 5)
    sums = FUNCTIONS[activation](splits.train_x.double()).sum(1, keepdim=True)
    expected = (sums - sums.mean()) / sums.std(correction=0)
    assert torch.allclose(splits.train_y.double(), expected, atol=1e-6)
    there = FUNCTIONS[activation](splits.test_x.double()).sum(1, keepdim=True)
    assert torch.allclose(splits.test_y.double(), (there - sums.mean()) / sums.std(correction=0), atol=1e-6)


def test_inputs_are_standard_normal_and_other_in_the_test_set() -> None:
    splits = taught(units=4, samples=5000)
    assert splits.train_x.mean().abs() < 0.03 and splits.train_x.var().item() == pytest.approx(1, abs=0.03)
    assert not torch.equal(splits.train_x, splits.test_x)


def test_a_data_set_is_that_of_its_seed() -> None:
    assert fingerprint(taught()) == fingerprint(taught(units=6, activation="relu", samples=1000, seed=0))
    assert fingerprint(taught()) != fingerprint(taught(seed=1))
    before = torch.get_rng_state()
    taught(seed=2)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_student_with_the_teachers_weights_has_no_loss() -> None:
    splits = taught(units=4, activation="tanh")
    model = build_model(
        Component("mlp", {"widths": (4,), "activation": "tanh"}), (4,), 1, init=Component("torch"), seed=0
    )
    spread = torch.tanh(splits.train_x).sum(1).std(correction=0)
    mean = torch.tanh(splits.train_x).sum(1).mean()
    own = {"fc1.weight": torch.eye(4), "output.weight": torch.ones(1, 4) / spread, "output.bias": -mean / spread}
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.copy_(own.get(name, torch.zeros_like(value)))
        assert torch.nn.functional.mse_loss(model(splits.test_x), splits.test_y) < 1e-10
