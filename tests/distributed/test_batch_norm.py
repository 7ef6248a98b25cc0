"""Which layers are synchronized, and which are refused; what they compute is held in test_two_ranks.py."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lottery import registry
from lottery.distributed.batch_norm import alone, synchronize
from lottery.distributed.group import ALONE, Group
from lottery.errors import UsageError


class Two(Group):
    """A group as rank 0 of two sees it, without the other."""

    size = 2


class TwoGpus(Two):
    device = torch.device("cuda")


def test_on_gpus_a_layer_becomes_torchs_own_and_stays_one_of_its_dimensions() -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 2), nn.BatchNorm2d(3))
    x, names = torch.randn(2, 1, 4, 4), list(model.state_dict())
    before, weight = model.eval()(x), model[1].weight
    synchronize(model, TwoGpus())
    assert isinstance(model[1], nn.SyncBatchNorm) and isinstance(model[1], nn.BatchNorm2d)
    assert list(model.state_dict()) == names and model[1].weight is weight
    assert torch.equal(model(x), before)
    with alone(model):
        assert type(model[1]) is nn.BatchNorm2d
    assert isinstance(model[1], nn.SyncBatchNorm)


def test_one_rank_changes_nothing() -> None:
    model = nn.BatchNorm1d(3)
    synchronize(model, ALONE)
    assert type(model) is nn.BatchNorm1d


def test_a_layer_without_running_statistics_is_refused_since_evaluation_is_shared() -> None:
    with pytest.raises(UsageError, match=r"model: 0 \(BatchNorm1d\) keeps no running statistics: .*, or run on one"):
        synchronize(nn.Sequential(nn.BatchNorm1d(3, track_running_stats=False)), Two())


def test_a_layer_that_keeps_statistics_in_a_way_of_its_own_is_refused() -> None:
    class Mine(nn.BatchNorm1d):
        pass

    with pytest.raises(UsageError, match=r"model: 1 \(Mine\) keeps running statistics .* `train.batch_norm: local`"):
        synchronize(nn.Sequential(nn.BatchNorm1d(3), Mine(3)), Two())


@pytest.mark.parametrize("spatial", [True, False])
@pytest.mark.parametrize("name", [entry.name for entry in registry.normalizations if not entry.traits.weight])
def test_each_normalization_of_the_catalogue_can_be_synchronized(name: str, spatial: bool) -> None:
    layer = registry.normalizations[name].make(8, spatial)
    assert isinstance(layer, nn.Module)
    synchronize(layer, Two())
    changed = "sum_over_ranks" in vars(layer) or "group_of_ranks" in vars(layer)
    assert changed == registry.normalizations[name].traits.running
