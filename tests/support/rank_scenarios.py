"""What two ranks compute, held against one process that computes it whole; `tests/distributed` runs them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lottery import registry
from lottery.catalogue.normalizations._switchable import Switchable
from lottery.distributed.batch_norm import alone, average_statistics, synchronize
from lottery.distributed.group import Group
from lottery.distributed.neighbours import MOST_BYTES
from lottery.distributed.share import WHOLE, Share
from lottery.distributed.survivors import Survivors
from lottery.pruning.mask import Mask
from lottery.pruning.masking import masked
from lottery.training.objective import Objective
from lottery.training.running_statistics import running_statistics
from lottery.training.shared import SharedObjective
from tests.support.entries import Study, make, weights

EXACT = 1e-10
SHAPES: list[tuple[Callable[..., nn.Module], tuple[int, ...]]] = [
    (nn.BatchNorm1d, (7, 5)),
    (nn.BatchNorm1d, (7, 5, 3)),
    (nn.BatchNorm2d, (7, 5, 3, 4)),
    (nn.BatchNorm3d, (7, 5, 2, 3, 2)),
]


def batch_normalization_equals_that_of_the_whole_batch(group: Group) -> None:
    for kind, shape in SHAPES:
        for options in ({}, {"affine": False}, {"momentum": None}):
            for cut in (3, 0, 6):  # of seven examples: an empty share is one too
                _compare(group, lambda: kind(5, **options), shape, cut)  # noqa: B023


def switchable_normalization_equals_that_of_the_whole_batch(group: Group) -> None:
    _compare(group, lambda: Switchable(5, spatial=True), (7, 5, 3, 4), 3)
    _compare(group, lambda: Switchable(5, spatial=False), (7, 5), 6)


def maps_with_channels_last_give_the_same(group: Group) -> None:
    _compare(group, lambda: nn.BatchNorm2d(5), (7, 5, 3, 4), 3, torch.channels_last)


def batch_normalization_takes_bf16_and_keeps_its_statistics_in_fp32(group: Group) -> None:
    torch.manual_seed(0)
    x = (torch.randn(8, 5, 4, 4) * 3 + 1).bfloat16()
    whole, mine = nn.BatchNorm2d(5), nn.BatchNorm2d(5)
    synchronize(mine, group)
    share = x[4 * group.rank : 4 * group.rank + 4].clone().requires_grad_()
    y = mine(share)
    y.float().square().sum().backward()
    assert share.grad is not None and mine.weight.grad is not None
    assert mine.running_var is not None and whole.running_var is not None
    assert y.dtype == share.grad.dtype == torch.bfloat16
    assert mine.weight.grad.dtype == mine.running_var.dtype == torch.float32
    assert torch.allclose(y.float(), whole(x)[4 * group.rank : 4 * group.rank + 4].float(), atol=0.04)
    assert torch.allclose(mine.running_var, whole.running_var, rtol=1e-4)


def one_value_on_all_ranks_together_is_refused_on_each(group: Group) -> None:
    layer = nn.BatchNorm1d(5)
    synchronize(layer, group)
    try:
        layer(torch.randn(1 - group.rank, 5))
    except ValueError as error:
        assert "Expected more than 1 value per channel" in str(error)
    else:
        raise AssertionError("taken")


def a_pass_alone_sees_the_examples_of_this_rank_only(group: Group) -> None:
    torch.manual_seed(group.rank)
    x = torch.randn(6, 5)
    plain, mine = (
        nn.Sequential(nn.BatchNorm1d(5), Switchable(5, False)),
        nn.Sequential(nn.BatchNorm1d(5), Switchable(5, False)),
    )
    synchronize(mine, group)
    with alone(mine):
        assert torch.equal(mine(x), plain(x))
    assert not torch.allclose(mine(x), plain(x), atol=1e-3)


def local_statistics_are_the_means_over_ranks(group: Group) -> None:
    torch.manual_seed(0)
    x = torch.randn(7, 5, dtype=torch.float64)
    layers = [nn.BatchNorm1d(5).double() for _ in range(3)]
    for _ in range(2):
        layers[0](x[:3])
        layers[1](x[3:])
        layers[2](x[:3] if group.rank == 0 else x[3:])
        average_statistics(running_statistics(layers[2]), group)
    for name in ("running_mean", "running_var"):
        mean = (getattr(layers[0], name) + getattr(layers[1], name)) / 2
        assert (getattr(layers[2], name) - mean).abs().max() < EXACT


def _compare(
    group: Group,
    make: Callable[[], Any],
    shape: tuple[int, ...],
    cut: int,
    layout: torch.memory_format = torch.contiguous_format,
) -> None:
    """Hold a layer on this rank's share of three batches against the same layer on the whole, in float64.

    The share of rank 0 are the first `cut` examples. Means far from 0 show what a sum of squares would lose.
    """
    torch.manual_seed(0)
    whole, mine = make().double(), make().double()
    with torch.no_grad():
        for parameter in whole.parameters():
            parameter.normal_()
    mine.load_state_dict(whole.state_dict())
    names = list(mine.state_dict())
    parameters = dict(mine.named_parameters())
    synchronize(mine, group)
    assert list(mine.state_dict()) == names and isinstance(mine, type(whole))
    assert all(parameters[name] is parameter for name, parameter in mine.named_parameters())
    share = slice(0, cut) if group.rank == 0 else slice(cut, None)
    for _ in range(3):
        x = (torch.randn(shape, dtype=torch.float64) * 3 + 1000).contiguous(memory_format=layout)
        slopes, cubes = torch.randn(2, *shape, dtype=torch.float64)
        own = x[share].contiguous(memory_format=layout).requires_grad_()
        x.requires_grad_()
        for layer in (whole, mine):
            layer.zero_grad()
        y, z = whole(x), mine(own)
        (y * slopes + y**3 * cubes).sum().backward()
        (z * slopes[share] + z**3 * cubes[share]).sum().backward()
        assert z.shape == own.shape and z.dtype == own.dtype
        _close(z, y[share])
        assert own.grad is not None and x.grad is not None
        _close(own.grad, x.grad[share])
        for name, parameter in whole.named_parameters():
            _close(group.sum(parameters[name].grad), parameter.grad)
        for ours, theirs in zip(mine.buffers(), whole.buffers(), strict=True):
            _close(ours, theirs)
    _close(mine.eval()(own), whole.eval()(x)[share])


def _close(ours: Tensor, theirs: Tensor) -> None:
    assert ours.shape == theirs.shape
    if ours.numel():
        distance = float((ours.detach() - theirs.detach()).abs().max())
        assert distance <= EXACT * max(1.0, float(theirs.detach().abs().max())), distance


def synchronized_networks_train_as_one_process_does(group: Group) -> None:
    """Batch normalization behind a convolution, in DistributedDataParallel, on shares of three and four examples."""
    torch.manual_seed(0)
    x, y = torch.randn(7, 2, 5, 5, dtype=torch.float64), torch.randint(3, (7,))
    whole, mine = _network(), _network()
    synchronize(mine, group)
    share = slice(0, 3) if group.rank == 0 else slice(3, None)
    ddp = DistributedDataParallel(mine, forward_sync_buffers=False)
    optimizers = [torch.optim.SGD(model.parameters(), 0.1, momentum=0.9) for model in (whole, mine)]
    for _ in range(5):
        for optimizer in optimizers:
            optimizer.zero_grad()
        nn.functional.cross_entropy(whole(x), y).backward()
        (nn.functional.cross_entropy(ddp(x[share]), y[share], reduction="sum") * group.size / 7).backward()
        for optimizer in optimizers:
            optimizer.step()
    for (name, ours), theirs in zip(mine.state_dict().items(), whole.state_dict().values(), strict=True):
        assert (ours - theirs).abs().max() < EXACT, name


def _network() -> nn.Sequential:
    torch.manual_seed(1)
    layers = [nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(36, 8), nn.BatchNorm1d(8)]
    return nn.Sequential(*layers, nn.ReLU(), nn.Linear(8, 3)).double()


# ---- what a rank sends by itself ----


def small_tensors_are_summed_without_gloo_to_the_bits_that_gloo_gives(group: Group) -> None:
    torch.manual_seed(group.rank)
    for dtype in (torch.float32, torch.float64):
        values = torch.randn(2 * MOST_BYTES, dtype=dtype) * 10 ** torch.randn(2 * MOST_BYTES)
        by_gloo, rows_by_gloo = group.sum(values.clone()), group.each(values.numpy())
        with mock.patch("torch.distributed.all_reduce", side_effect=AssertionError("gloo was asked")):
            by_sockets, rows = group.sum(values[:99].clone()), group.each(values[:99].numpy())
            assert group.sum(values[0].clone()) == by_gloo[0]
        assert torch.equal(by_sockets, by_gloo[:99])
        assert np.array_equal(rows, rows_by_gloo[:, :99]) and np.array_equal(rows[group.rank], values[:99])


# ---- the communication hook ----


def survivors_reduce_to_the_bits_of_the_plain_reduction(group: Group) -> None:
    """In one bucket or many, channels first or last, in fp32 and bf16, under a mask that tightens to nothing."""
    for dtype in (torch.float32, torch.bfloat16):
        for megabytes in (25, 1e-4):
            for layout in (torch.contiguous_format, torch.channels_last):
                plain, sparse = (_image_network(dtype, layout) for _ in range(2))
                hook = Survivors(group)
                kwargs: dict[str, Any] = {"bucket_cap_mb": megabytes, "forward_sync_buffers": False}
                ddps = [DistributedDataParallel(model, **kwargs) for model in (plain, sparse)]
                ddps[1].register_comm_hook(None, hook.reduce)
                for step, density in enumerate((1.0, 1.0, 0.3, 0.3, 0.05, 0.0)):
                    factors = [_factors(model, density) for model in (plain, sparse)]
                    hook.restrict(factors[1])
                    before = hook.bytes_sent
                    for ddp, model, masks in zip(ddps, (plain, sparse), factors, strict=True):
                        _backward(ddp, model, masks, seed=10 * step + group.rank, dtype=dtype, layout=layout)
                    for ours, theirs in zip(sparse.parameters(), plain.parameters(), strict=True):
                        assert ours.grad is not None and theirs.grad is not None
                        assert torch.equal(ours.grad, theirs.grad)
                        factor = factors[1].get(ours)
                        assert factor is None or not ours.grad[factor == 0].any()
                    alive = sum(int(factor.sum()) for factor in factors[1].values())
                    rest = sum(p.numel() for p in sparse.parameters() if p not in factors[1])
                    assert hook.bytes_sent - before == (alive + rest) * dtype.itemsize


def what_is_left_at_pruned_weights_on_one_rank_reaches_no_other(group: Group) -> None:
    layer = nn.Linear(3, 2)
    hook = Survivors(group)
    ddp = DistributedDataParallel(layer)
    ddp.register_comm_hook(None, hook.reduce)
    assert isinstance(layer.weight, nn.Parameter)
    hook.restrict({layer.weight: torch.tensor([[1.0, 0, 1], [0, 0, 1]])})
    ddp(torch.full((1, 3), torch.inf if group.rank else 1.0)).sum().backward()
    assert layer.weight.grad is not None
    assert torch.equal(layer.weight.grad == 0, torch.tensor([[False, True, False], [True, True, False]]))


def _image_network(dtype: torch.dtype, layout: torch.memory_format) -> nn.Sequential:
    torch.manual_seed(2)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.Flatten(), nn.Linear(24, 4))
    return model.to(dtype).to(memory_format=layout)


def _factors(model: nn.Module, density: float) -> dict[nn.Parameter, Tensor]:
    """The factors of a mask over all weights but the last layer's; every one is alive at density 1."""
    if density == 1.0:
        return {}
    draws = torch.Generator().manual_seed(3)
    weights = [p for p in model.parameters() if isinstance(p, nn.Parameter) and p.dim() == 4]
    factors: dict[nn.Parameter, Tensor] = {}
    for weight in weights:
        factors[weight] = weight.detach().clone().copy_(torch.rand(weight.shape, generator=draws) < density)
    return factors


def _backward(
    ddp: nn.Module,
    model: nn.Module,
    factors: dict[nn.Parameter, Tensor],
    *,
    seed: int,
    dtype: torch.dtype,
    layout: torch.memory_format,
) -> None:
    """Leave the reduced gradients of one batch, masked as they are accumulated."""
    model.zero_grad()
    draws = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 3, 6, 6, generator=draws).to(dtype=dtype, memory_format=layout)
    handles = [w.register_post_accumulate_grad_hook(_multiply_gradient(factor)) for w, factor in factors.items()]
    ddp(x).square().sum().backward()
    for handle in handles:
        handle.remove()


# ---- optimizers ----


COMMON = ("sgd", "momentum", "adam", "lars", "lamb", "muon", "sam", "svrg")
# A weight that one process starts 1e-15 elsewhere ends as far away: line searches amplify it a hundredfold each step,
# and SOAP's basis is of float32, in which the next number is 1e-7 away.
STEPS = {"lbfgs": 2, "cg": 2}
CLOSE = {"soap": 0.02}


def common_optimizers_take_the_steps_of_one_process(group: Group) -> None:
    """Twenty steps under a mask in float64, on shares of seven and eight examples."""
    _check_steps(group, COMMON)


def other_optimizers_take_the_steps_of_one_process(group: Group) -> None:
    """All of the catalogue but those that need the examples themselves."""
    _check_steps(group, [e.name for e in registry.optimizers if e.traits.needs != "examples" and e.name not in COMMON])


def _check_steps(group: Group, names: Sequence[str]) -> None:
    far = {name: _distance(group, name) for name in names}
    assert {name: distance for name, distance in far.items() if not distance <= CLOSE.get(name, 1e-6)} == {}, far


def _distance(group: Group, name: str) -> float:
    """The largest distance of a weight or loss that two ranks trained from that of one process, under a mask."""
    study = Study(name, (12,), 3, torch.float64)
    trained = []
    for several in (False, True):
        torch.manual_seed(4)
        layers = [
            nn.Linear(12, 10, bias=False),
            nn.BatchNorm1d(10),
            nn.Tanh(),
            nn.Linear(10, 8),
            nn.Tanh(),
            nn.Linear(8, 3),
        ]
        model = nn.Sequential(*layers).double()
        mask = Mask({"0.weight": torch.rand(10, 12) < 0.4, "3.weight": torch.rand(8, 10) < 0.4})
        optimizer = make(name, model)
        share = Share(group.rank, group.size) if several else WHOLE
        if several:
            synchronize(model, group)
            objective: Objective = SharedObjective(
                model,
                nn.CrossEntropyLoss(),
                study.whole,
                steps_per_epoch=study.steps_per_epoch,
                group=group,
                share=share,
            )
        else:
            objective = study.objective(model, optimizer)
        if hasattr(optimizer, "objective"):
            optimizer.objective = objective
        losses = []
        with masked(model, mask, optimizer):
            for step in range(STEPS.get(name, 20)):
                x, y = (each[: len(each) - step % 2] for each in study.batch(step))
                if isinstance(objective, SharedObjective):
                    objective.batch = len(y)
                own = share.among(len(y))
                objective.x, objective.y = x[own], y[own]
                losses.append(float(optimizer.step(objective.closure)))  # type: ignore[arg-type]
        trained.append(torch.cat([weights(model), torch.tensor(losses, dtype=torch.float64)]))
        for layer, bits in mask.items():
            assert not model.get_parameter(layer)[~bits].any()
    own_digest = hashlib.sha256(trained[1].numpy().tobytes()).hexdigest()
    assert group.same(own_digest), f"{name}: ranks differ"
    return float((trained[0] - trained[1]).abs().max())


def _multiply_gradient(factor: Tensor) -> Callable[[Tensor], None]:
    def hook(weight: Tensor) -> None:
        assert weight.grad is not None
        weight.grad.mul_(factor)

    return hook


SLOW = ["other_optimizers_take_the_steps_of_one_process"]
SCENARIOS = [
    name
    for name, value in list(globals().items())
    if callable(value)
    and getattr(value, "__module__", "") == __name__
    and not name.startswith("_")
    and name not in SLOW
]
