"""Trainings in lockstep: each has what dense steps give it alone, within rounding, whatever the others are."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lottery import registry
from lottery.catalogue.models._perceptron import Perceptron
from lottery.engines.cuda_graph import WARM_UP, GraphEngine, Recorder
from lottery.engines.lockstep import Lockstep, Member
from lottery.errors import UsageError
from lottery.pruning.mask import Mask
from lottery.pruning.masking import masked
from lottery.training.engine import DenseEngine
from lottery.training.objective import Objective
from tests.support.perceptrons import INPUTS, OPTIMIZERS, Trained, batch, mask_of, network, values
from tests.support.recorder import Recordings

DENSITIES = (1.0, 0.3, 0.05)
STEPS = 20


def trained(optimizer: str, residual: bool, dtype: torch.dtype, seed: int) -> tuple[Trained, Mask]:
    """A network of a seed, with a learning rate and a mask of its own."""
    made = network(optimizer, residual, dtype, seed)
    made[1].param_groups[0]["lr"] *= 1 + seed / 10
    density = DENSITIES[seed % len(DENSITIES)]
    weights = {name: p for name, p in made[0].named_parameters() if name.endswith("weight")}
    return made, Mask.dense(weights) if density == 1 else mask_of(made[0], density)


def batch_of(seed: int, step: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """A batch of a seed's own, as large as that of the other seeds at this step."""
    x, y = batch(step, dtype)
    return x.roll(seed, dims=1) + seed, (y + seed) % 7


def by_dense_steps(optimizer: str, residual: bool, dtype: torch.dtype, seed: int) -> tuple[Trained, list[float]]:
    """Train one network alone by the dense engine; return it and its losses."""
    made, mask = trained(optimizer, residual, dtype, seed)
    engine, rate = DenseEngine(made[2], made[1]), made[1].param_groups[0]["lr"]
    losses = []
    with masked(made[0], mask, made[1]):
        for step in range(STEPS):
            made[1].param_groups[0]["lr"] = rate * (1 - step / 40)  # as a schedule does
            losses.append(engine.step(*batch_of(seed, step, dtype)).item())
    return made, losses


def in_lockstep(
    optimizer: str,
    residual: bool,
    dtype: torch.dtype,
    seeds: Sequence[int],
    recorder: Recorder | None = None,
    broken_at: int | None = None,
    rates: dict[int, float] | None = None,
) -> tuple[list[Trained], Tensor]:
    """Train the networks of these seeds together; return them and their losses (steps, K)."""
    made = [trained(optimizer, residual, dtype, seed) for seed in seeds]
    losses = []
    with ExitStack() as held:
        for (model, its_optimizer, _), mask in made:
            held.enter_context(masked(model, mask, its_optimizer))
        lockstep = Lockstep([Member(each[2], each[1], mask) for each, mask in made], recorder)
        first = [
            (rates or {}).get(seed, each[1].param_groups[0]["lr"]) for seed, (each, _) in zip(seeds, made, strict=True)
        ]
        for step in range(STEPS):
            for rate, (each, _) in zip(first, made, strict=True):
                each[1].param_groups[0]["lr"] = rate * (1 - step / 40)
            xs, ys = zip(*(batch_of(seed, step, dtype) for seed in seeds), strict=True)
            losses.append(lockstep.step(torch.stack(xs), torch.stack(ys)).clone())
            if step == broken_at:
                for engine, (each, _) in zip(lockstep.engines, made, strict=True):
                    engine.flush()
                    kept = {p: {name: v.clone() for name, v in s.items()} for p, s in each[1].state.items()}
                    each[1].state.clear()
                    each[1].state.update(kept)
                lockstep = Lockstep([Member(each[2], each[1], mask) for each, mask in made], recorder)
        for engine in lockstep.engines:
            engine.flush()
    return [each for each, _ in made], torch.stack(losses)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_each_member_has_the_losses_weights_and_state_of_dense_steps_alone(optimizer: str, residual: bool) -> None:
    together, losses = in_lockstep(optimizer, residual, torch.float64, [0, 1, 2])
    for seed, ours in enumerate(together):
        alone, its_losses = by_dense_steps(optimizer, residual, torch.float64, seed)
        assert losses[:, seed].tolist() == pytest.approx(its_losses, abs=1e-10)
        for here, there in zip(values(ours), values(alone), strict=True):
            assert (here - there).abs().max() <= 1e-10
            assert torch.equal(here == 0, there == 0) or here.ndim == 1  # pruned is zero, in the state as well


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_members_in_float32_are_as_close_to_double_precision_as_dense_steps(optimizer: str) -> None:
    together, _ = in_lockstep(optimizer, True, torch.float32, [0, 1, 2])
    for seed, ours in enumerate(together):
        dense, _ = by_dense_steps(optimizer, True, torch.float32, seed)
        exact, _ = by_dense_steps(optimizer, True, torch.float64, seed)
        for here, there, wanted in zip(values(ours), values(dense), values(exact), strict=True):
            assert (here - wanted).abs().max() <= 4 * (there - wanted).abs().max() + 1e-7


@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_on_one_thread_a_member_has_the_same_bytes_alone_and_among_others_at_any_place(
    optimizer: str, request: pytest.FixtureRequest
) -> None:
    request.addfinalizer(partial(torch.set_num_threads, torch.get_num_threads()))
    torch.set_num_threads(1)
    alone, _ = in_lockstep(optimizer, True, torch.float32, [1])
    for company in ([0, 1, 2], [2, 5, 4, 3, 1], [1, 3]):
        together, _ = in_lockstep(optimizer, True, torch.float32, company)
        ours = values(together[company.index(1)])
        assert all(torch.equal(*pair) for pair in zip(ours, values(alone[0]), strict=True)), company


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_flushed_and_taken_up_again_members_go_on_to_the_same_bits(optimizer: str) -> None:
    whole, _ = in_lockstep(optimizer, False, torch.float32, [0, 1])
    broken, _ = in_lockstep(optimizer, False, torch.float32, [0, 1], broken_at=6)
    for ours, theirs in zip(broken, whole, strict=True):
        assert all(torch.equal(*pair) for pair in zip(values(ours), values(theirs), strict=True))


def test_a_member_that_diverges_leaves_the_others_their_bytes() -> None:
    well, _ = in_lockstep("momentum", False, torch.float32, [0, 1, 2])
    broken, losses = in_lockstep("momentum", False, torch.float32, [0, 1, 2], rates={0: 1e30})
    assert not losses[-1, 0].isfinite()
    for seed in (1, 2):
        assert all(torch.equal(*pair) for pair in zip(values(broken[seed]), values(well[seed]), strict=True))


def test_a_recorded_step_has_the_bits_of_the_step_itself() -> None:
    recordings = Recordings()
    launched, losses = in_lockstep("momentum", False, torch.float32, [0, 1])
    replayed, its_losses = in_lockstep("momentum", False, torch.float32, [0, 1], recordings)
    assert recordings.recorded == 2 and recordings.replayed == STEPS - 2 * WARM_UP  # two sizes of batches
    assert torch.equal(losses, its_losses)
    for ours, theirs in zip(replayed, launched, strict=True):
        assert all(torch.equal(*pair) for pair in zip(values(ours), values(theirs), strict=True))


def _member(
    model: nn.Module, loss: nn.Module, optimizer: torch.optim.Optimizer | None = None, **options: Any
) -> Member:
    objective = Objective(model, loss, lambda: iter(()), steps_per_epoch=1, **options)
    return Member(objective, optimizer or torch.optim.SGD(model.parameters(), lr=0.1), Mask({}))


def _perceptron(widths: tuple[int, ...] = (9,), norm: str = "none", dropout: float = 0.0) -> Perceptron:
    return Perceptron((INPUTS,), 3, widths, norm, "relu", dropout, False)


@pytest.mark.parametrize(
    ("members", "why"),
    [
        (lambda: [_member(nn.Linear(3, 2), nn.CrossEntropyLoss())], "fully connected networks only"),
        (lambda: [_member(_perceptron(norm="batch"), nn.CrossEntropyLoss())], "without normalization and dropout"),
        (lambda: [_member(_perceptron(dropout=0.5), nn.CrossEntropyLoss())], "without normalization and dropout"),
        (lambda: [_member(_perceptron(norm="weight"), nn.CrossEntropyLoss())], "plain layers"),
        (lambda: [_member(_perceptron(), nn.MSELoss())], "no loss but cross-entropy"),
        (lambda: [_member(_perceptron(), nn.CrossEntropyLoss(), clip=1)], "no train.clip"),
        (
            lambda: [_member(model := _perceptron(), nn.CrossEntropyLoss(), torch.optim.RMSprop(model.parameters()))],
            "knows the optimizers sgd, momentum",
        ),
        (
            lambda: [_member(_perceptron(widths), nn.CrossEntropyLoss()) for widths in ((9,), (8,))],
            "networks and optimizers of one kind",
        ),
    ],
)
def test_what_cannot_be_trained_in_lockstep_is_refused_with_the_reason(members, why: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UsageError, match=why):
        Lockstep(members())


def _convolutional(seed: int) -> tuple[Trained, Mask]:
    """A residual network with batch normalization, under momentum and a mask of its own."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = registry.models["resnet20"].make((1, 8, 8), 7, width=2, norm="batch", activation="relu")
    made = registry.optimizers["momentum"].make(model, lr=2**-5 * (1 + seed))
    objective = Objective(model, nn.CrossEntropyLoss(), lambda: iter(()), steps_per_epoch=1, clip=1.0)
    draws = torch.Generator().manual_seed(seed)
    weights = {name: p for name, p in model.named_parameters() if p.dim() == 4}
    return (model, made, objective), Mask(
        {name: torch.rand(p.shape, generator=draws) < 0.5 for name, p in weights.items()}
    )


def _images(seed: int, step: int) -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(100 * seed + step)
    return torch.randn(6, 1, 8, 8, generator=draws), torch.randint(7, (6,), generator=draws)


def test_other_networks_side_by_side_in_one_recording_have_the_bits_of_a_recording_of_their_own() -> None:
    together = [_convolutional(seed) for seed in (0, 1, 2)]
    recordings, losses, wanted = Recordings(), [], []
    with ExitStack() as held:
        for (model, optimizer, _), mask in together:
            held.enter_context(masked(model, mask, optimizer))
        lockstep = Lockstep([Member(each[2], each[1], mask) for each, mask in together], recordings)
        for step in range(8):
            xs, ys = zip(*(_images(seed, step) for seed in (0, 1, 2)), strict=True)
            losses.append(lockstep.step(torch.stack(xs), torch.stack(ys)).tolist())
    assert (recordings.recorded, recordings.replayed, lockstep.engines[0].name) == (1, 8 - WARM_UP, "lockstep, graph")
    for seed in (0, 1, 2):
        (model, optimizer, objective), mask = _convolutional(seed)
        with masked(model, mask, optimizer):
            engine = GraphEngine(objective, optimizer, Recordings())
            wanted.append([engine.step(*_images(seed, step)).item() for step in range(8)])
        there = together[seed][0][0].state_dict()
        assert all(torch.equal(value, there[name]) for name, value in model.state_dict().items())
    assert losses == [list(each) for each in zip(*wanted, strict=True)]


def test_networks_side_by_side_that_cannot_be_recorded_are_refused_with_the_reason() -> None:
    dropping, plain = _perceptron(norm="batch", dropout=0.5), _perceptron(norm="batch")
    counting = torch.optim.Adagrad(plain.parameters())
    with pytest.raises(UsageError, match="without dropout"):
        Lockstep([_member(dropping, nn.CrossEntropyLoss(), torch.optim.RMSprop(dropping.parameters()))], Recordings())
    with pytest.raises(UsageError, match="can be replayed"):
        Lockstep([_member(plain, nn.CrossEntropyLoss(), counting)], Recordings())
