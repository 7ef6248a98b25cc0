"""Trainings on ranks held against the same trainings in one process; `tests/distributed` runs them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from lottery.data.load import load
from lottery.data.loader import Augment, Data
from lottery.data.shared import load_once
from lottery.data.splits import Splits, fingerprint
from lottery.distributed.batch_norm import synchronize
from lottery.distributed.group import ALONE, Group
from lottery.distributed.share import Share
from lottery.errors import RankLost
from lottery.network.build import prunable
from lottery.pruning.mask import Mask
from lottery.pruning.masking import masked
from lottery.registry import optimizers
from lottery.training.engine import DenseEngine
from lottery.training.evaluation import Classes, Squares
from lottery.training.objective import Objective
from lottery.training.shared import SharedObjective
from lottery.values import Component

CPU = torch.device("cpu")
EXAMPLES, BATCH, PARTS, STEPS = 31, 10, 2, 20  # the last batch of a pass has one example
TRAINED: dict[str, dict[str, Any]] = {"momentum": {"lr": 0.02}, "adam": {"lr": 1e-3}}


def images_augmented_in_parts_of_batches_train_as_in_one_process(group: Group) -> None:
    """Clipped gradients, a mask that tightens, batches of 10 and 1 in two parts; in float64 weights are within 1e-6."""
    for name, args in TRAINED.items():
        _same_weights(group, name, args)


def _same_weights(group: Group, name: str, args: dict[str, Any]) -> None:
    whole, here = (_trained(each, name, args) for each in (ALONE, group))
    for key, value in whole.items():
        distance = float((here[key].double() - value.double()).abs().max())
        assert distance < 1e-6, (name, key, distance)
        assert value.dim() < 2 or torch.equal(here[key] == 0, value == 0), (name, key)
    assert group.same(str([value.tolist() for value in here.values()])), name


def _trained(group: Group, name: str, args: dict[str, Any]) -> dict[str, Tensor]:
    """Train with an optimizer on the shares of a group's ranks; return weights and running statistics."""
    model, data = _network(), Data(_images(EXAMPLES), seed=0, augment=Augment(1, True), device=CPU)
    synchronize(model, group)
    share = Share(group.rank, group.size, PARTS)
    optimizer: Any = optimizers[name].make(model, **args)
    options: dict[str, Any] = {"steps_per_epoch": data.steps_per_epoch(BATCH), "clip": 1.0, "accumulate": PARTS}
    objective: Objective = Objective(model, nn.CrossEntropyLoss(), lambda: _doubles(data), **options)
    restrict: Any = lambda factors: None  # noqa: E731
    if group.size > 1:
        objective = SharedObjective(
            model, nn.CrossEntropyLoss(), lambda: _doubles(data), group=group, share=share, **options
        )
        restrict = objective.hook.restrict
    engine, step, epoch = DenseEngine(objective, optimizer), 0, 0
    masks = [_mask(model, density) for density in (1.0, 0.5, 0.2)]
    with masked(model, masks[0], optimizer, restrict) as held:
        while step < STEPS:
            for index, (x, y) in enumerate(data.epoch(epoch, BATCH, share=share)):
                if isinstance(objective, SharedObjective):
                    objective.batch = min(BATCH, EXAMPLES - index * BATCH)
                if objective.steps_per_epoch - 1 == index:
                    break  # of one example
                engine.step(x.double(), y)
                step += 1
                if step in (5, 12):
                    held.tighten(masks[1 if step == 5 else 2])
                if step == STEPS:
                    break
            epoch += 1
        for weight, bits in ((model.get_parameter(name), bits) for name, bits in held.mask.items()):
            assert not weight[~bits].any() and (weight.grad is None or not weight.grad[~bits].any())
    return {key: value.detach().clone() for key, value in model.state_dict().items()}


def evaluation_is_that_of_one_process(group: Group) -> None:
    """A split of 31 examples, none of which is seen twice, and one of a single example."""
    for count in (EXAMPLES, 1):
        draws = torch.Generator().manual_seed(0)
        scores, y = torch.randn(count, 7, generator=draws), torch.randint(7, (count,), generator=draws)
        own = Share(group.rank, group.size).among(count)
        measures = ("balanced_accuracy", "top5")
        whole, ours = Classes(CPU, 7, measures), Classes(CPU, 7, measures)
        whole.add(scores, y)
        if len(y[own]):
            ours.add(scores[own], y[own])
        ours.reduce(group)
        _close(ours.result(), whole.result())
        assert torch.equal(ours.correct(), whole.correct())
        squares, our_squares = Squares(CPU), Squares(CPU)
        squares.add(scores, scores.flip(0))
        our_squares.add(scores[own], scores.flip(0)[own])
        our_squares.reduce(group)
        _close(our_squares.result(), squares.result())


def messages_of_any_size_reach_all_ranks(group: Group) -> None:
    for size in (0, 1, 3_000_000):
        sent = {"a": b"x" * size, "b": b"", "c": bytes([group.rank])}
        assert group.tell(sent if group.rank == 0 else None) == {**sent, "c": b"\0"}
        assert group.exchange(sent) == [{**sent, "c": bytes([rank])} for rank in range(group.size)]
    assert group.agree(15 if group.rank else 0) == 15
    assert group.same("one") and not group.same(str(group.rank))
    assert group.gather(torch.arange(group.rank * 3)).tolist() == [0, 1, 2]


def data_are_in_memory_once(group: Group) -> None:
    splits = load_once(Component("digits"), Path("nowhere"), group)
    assert group.same(fingerprint(splits)) and fingerprint(splits) == fingerprint(replace(splits, known=""))
    assert fingerprint(splits) == fingerprint(load(Component("digits"), Path("nowhere")))
    if group.rank == 0:
        splits.train_y[3] = 77  # in the memory of all
    group.agree(0)
    assert splits.train_y[3] == 77


def an_error_of_all_ranks_is_told_from_one_that_a_rank_meets_alone(group: Group) -> None:
    group.check_all_failed()
    with mock.patch("lottery.distributed.group.CHECKING", timedelta(seconds=1)):
        try:
            if group.rank == 0:
                group.check_all_failed()  # the other is in a step, as it believes
        except RankLost:
            pass
        else:
            assert group.rank


def _close(ours: dict[str, float], theirs: dict[str, float]) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert abs(ours[name] - value) < 1e-6, (name, ours[name], value)


def _network() -> nn.Module:
    draws = torch.Generator().manual_seed(1)
    model = nn.Sequential(
        *(nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.Flatten()),
        *(nn.Linear(16, 12, bias=False), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 5)),
    ).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draws, dtype=torch.float64) / 3)
    return model


def _mask(model: nn.Module, density: float) -> Mask:
    draws = torch.Generator().manual_seed(2)
    return Mask({name: torch.rand(weight.shape, generator=draws) < density for name, weight in prunable(model).items()})


def _images(count: int) -> Splits:
    draws = torch.Generator().manual_seed(3)
    x = torch.randint(0, 256, (count, 3, 6, 6), generator=draws, dtype=torch.uint8)
    y = torch.randint(5, (count,), generator=draws)
    return Splits(x, y, x[:2], y[:2], 5, (0.5, 0.4, 0.3), (0.2, 0.3, 0.25))


def _doubles(data: Data) -> Iterator[tuple[Tensor, Tensor]]:
    return ((x.double(), y) for x, y in data.evaluation("train", BATCH))


SCENARIOS = [
    name
    for name, value in list(globals().items())
    if callable(value) and getattr(value, "__module__", "") == __name__ and not name.startswith("_")
]
