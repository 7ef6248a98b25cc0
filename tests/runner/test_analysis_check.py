"""Analyses that the recipe's network cannot have are refused before any training."""

from __future__ import annotations

from pathlib import Path

import pytest

from lottery.errors import UsageError
from tests.support.analyses import asking
from tests.support.micro import micro, prepared
from tests.support.plugs import Plugs, plugs

__all__ = ["plugs"]


NETWORKS = '''
import torch
from torch import nn


class Twice(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        return gradient * 2


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.output = nn.Linear(64, 10)

    def forward(self, x):
        return Twice.apply(self.output(x.flatten(1)))


@models.register("once", source="-")
def once(input_shape, classes):
    """A linear network and a function that is once differentiable."""
    return Net()


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.rows, self.output = nn.RNN(8, 6, batch_first=True), nn.Linear(6, 10)

    def forward(self, x):
        return self.output(self.rows(x.view(-1, 8, 8))[0][:, -1])


@models.register("rnn", source="-")
def rnn(input_shape, classes):
    """A network that reads an image row by row."""
    return Recurrent()
'''


def test_curvature_of_a_network_without_second_derivatives_is_refused_with_its_key(
    tmp_path: Path, plugs: Plugs
) -> None:
    plugs.load("mine", NETWORKS)
    prepared(micro("model=once", asking("barrier")), tmp_path)
    with pytest.raises(UsageError, match=r"^analyses\.1: hessian: Net: no second derivative .* analyses of curvature"):
        prepared(micro("model=once", asking("barrier", "hessian")), tmp_path)
    prepared(micro(asking("barrier", "hessian")), tmp_path)


def test_an_alignment_of_a_network_whose_units_cannot_be_permuted_is_refused_with_its_key(
    tmp_path: Path, plugs: Plugs
) -> None:
    plugs.load("mine", NETWORKS)
    prepared(micro("model=rnn", asking("barrier")), tmp_path)
    with pytest.raises(UsageError, match=r"^analyses\.1: aligned: Recurrent: .* leave out `align`$"):
        prepared(micro("model=rnn", asking("barrier", "{name: barrier, as: aligned, align: weights}")), tmp_path)


@pytest.mark.parametrize(
    ("keep", "told"),
    [
        (
            "{of: dense, at: [4it, 99it]}",
            r"^keep\.at\.1: 99it is not between the start of adam seed 0 dense, step 0",
        ),
        (
            "{of: ticket, at: 2it}",
            r"^keep\.at\.0: 2it is not between the start of adam seed 0 level 1 from 4it, step 4",
        ),
        (
            "{of: reinit, at: 1ep}",
            r"^keep\.at\.0: 1ep is not between the start of adam seed 0 level 1 reinit 0 from 4it, st",
        ),
    ],
)
def test_a_step_that_a_training_does_not_have_is_refused_with_its_key(keep: str, told: str, tmp_path: Path) -> None:
    changes = ("rewind=4it", "prune.levels=1", "branches=[reinit]")
    prepared(micro(*changes, "keep={of: [dense, ticket, reinit], at: [4it, 12it]}"), tmp_path)
    with pytest.raises(UsageError, match=told):
        prepared(micro(*changes, f"keep={keep}"), tmp_path)


def test_networks_that_are_too_large_for_an_analysis_are_refused_with_the_level(tmp_path: Path) -> None:
    """974 weights dense, about 502 at level 1, which rounding could have as 500, and 266 at level 2."""
    refused = r"^analyses\.0: critical_points: dense of level 0 has 974 weights, .* takes 500 at most"
    with pytest.raises(UsageError, match=refused):
        prepared(micro(asking("{name: critical_points, of: [dense, ticket]}")), tmp_path)
    with pytest.raises(UsageError, match=r"ticket of level 1 has about 832 weights"):
        prepared(micro("prune.fraction=0.15", asking("{name: critical_points, of: ticket}")), tmp_path)
    prepared(micro(asking("{name: critical_points, of: ticket}")), tmp_path)
