"""The background engine: the dense one's steps within rounding, at a cost that follows what is not background."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lottery.catalogue.models._perceptron import Perceptron
from lottery.data.loader import Data
from lottery.data.splits import Splits
from lottery.device import Machine
from lottery.engines.choices import COMPILED_FOR
from lottery.engines.choose import LEAST_STEPS, engine_for
from lottery.engines.compiled.background import BackgroundEngine
from lottery.errors import UsageError
from lottery.pruning.mask import Mask
from lottery.pruning.masking import masked
from lottery.recipe.schema import Recipe
from lottery.results.study import study
from lottery.runner.events import Request
from lottery.runner.prepare import prepare
from lottery.runner.run import work
from lottery.training.engine import DenseEngine
from lottery.training.objective import Objective
from tests.support.micro import micro
from tests.support.perceptrons import (
    CLASSES,
    INPUTS,
    OPTIMIZERS,
    STUDY,
    assert_as_close_as_dense_steps,
    mask_of,
    network,
    values,
)
from tests.support.restarts import contents, run_until_stopped

CPU = torch.device("cpu")
LEVELS = torch.linspace(-0.4, 0.3, INPUTS)  # a background that is another at each input


def batch(step: int, dtype: torch.dtype = torch.float32, share: float = 0.3) -> tuple[Tensor, Tensor]:
    """Examples of which a share differs from the background; one is nothing but background, one has none."""
    draws = torch.Generator().manual_seed(step)
    size = 33 if step % 5 else 11
    x = torch.randn(size, INPUTS, generator=draws)
    black = torch.rand(size, INPUTS, generator=draws) >= share
    black[0], black[1] = True, False
    return torch.where(black, LEVELS, x).to(dtype), torch.randint(CLASSES, (size,), generator=draws)


def dense_mask(model: nn.Module) -> Mask:
    return Mask.dense({name: p for name, p in model.named_parameters() if name.endswith("weight")})


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("density", [1, 0.3])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_steps_are_as_close_to_double_precision_as_dense_ones(optimizer: str, density: float, threads: int) -> None:
    dense, ours, exact = network(optimizer, False), network(optimizer, False), network(optimizer, False, torch.float64)
    mask = mask_of(dense[0], density) if density < 1 else dense_mask(dense[0])
    engine = BackgroundEngine(ours[2], ours[1], mask, threads, LEVELS)  # made before the model is masked
    with masked(dense[0], mask, dense[1]), masked(ours[0], mask, ours[1]), masked(exact[0], mask, exact[1]):
        assert_as_close_as_dense_steps(engine, ours, dense, exact, batch)


@pytest.mark.parametrize("widths", [(40,), (33, 20, 64), (70, 5)])
def test_networks_of_any_depth_and_width_are_trained(widths: tuple[int, ...]) -> None:
    trained = []
    for kind in (DenseEngine, BackgroundEngine):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = Perceptron((2, 5, 5), CLASSES, widths, "none", "relu", 0.0, False)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        objective = Objective(model, nn.CrossEntropyLoss(), lambda: iter(()), steps_per_epoch=1)
        more = (dense_mask(model), 1, LEVELS) if kind is BackgroundEngine else ()
        engine = kind(objective, optimizer, *more)
        for step in range(10):
            x, y = batch(step)
            engine.step(x.view(-1, 2, 5, 5).contiguous(memory_format=torch.channels_last), y)
        engine.flush()
        trained.append([p.detach() for p in model.parameters()])
    for one, other in zip(*trained, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_flushed_and_loaded_again_an_engine_goes_on_to_the_same_bits(optimizer: str) -> None:
    ends = []
    for breaks in ((), (0, 6)):
        trained = network(optimizer, False)
        mask = mask_of(trained[0])
        with masked(trained[0], mask, trained[1]):
            engine = BackgroundEngine(trained[2], trained[1], mask, 1, LEVELS)
            for step in range(12):
                engine.step(*batch(step))
                if step in breaks:
                    engine.flush()
                    engine = BackgroundEngine(trained[2], trained[1], mask, 1, LEVELS)
            engine.flush()
        ends.append(values(trained))
    assert all(torch.equal(one, other) for one, other in zip(*ends, strict=True))


def test_a_training_that_diverges_shows_it() -> None:
    trained = network("sgd", False)
    trained[1].param_groups[0]["lr"] = 1e20
    engine = BackgroundEngine(trained[2], trained[1], dense_mask(trained[0]), 1, LEVELS)
    losses = [engine.step(*batch(step)).item() for step in range(8)]
    assert not torch.isfinite(torch.tensor(losses[-1]))


@pytest.mark.parametrize("channels_last", [False, True])
def test_the_background_is_what_a_black_image_is_in_a_batch(channels_last: bool) -> None:
    images = torch.zeros(6, 2, 3, 4, dtype=torch.uint8)
    labels = torch.zeros(6, dtype=torch.int64)
    splits = Splits(images, labels, images, labels, 2, (0.2, 0.7), (0.3, 0.6))
    data = Data(splits, seed=0, device=CPU, channels_last=channels_last)
    (x, _), *_ = data.epoch(0, 6)
    assert data.background is not None and torch.equal(x.flatten(1), data.background.expand(6, -1))
    assert data.background[[0, 11]].tolist() == pytest.approx([-0.2 / 0.3] * 2)
    assert data.background[[12, 23]].tolist() == pytest.approx([-0.7 / 0.6] * 2)
    features = Splits(torch.zeros(6, 4), labels, torch.zeros(6, 4), labels, 2)
    assert Data(features, seed=0, device=CPU).background is None


def taken(share: float, *, deterministic: bool = False, wanted: Any = "auto", steps: int = COMPILED_FOR) -> str:
    """The engine taken for a dense network on examples of which this share is not black."""
    model = Perceptron((1600,), 10, (600,), "none", "relu", 0.0, False)
    objective = Objective(model, nn.CrossEntropyLoss(), lambda: iter(()), steps_per_epoch=1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=True)
    batches = [
        (torch.randn(128, 1600).where(torch.rand(128, 1600) < share, 0.0), torch.randint(10, (128,))) for _ in range(8)
    ]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    machine = Machine(CPU, 1, deterministic)
    engine = engine_for(
        objective,
        optimizer,
        dense_mask(model),
        wanted,
        machine,
        lambda: batches,
        steps=steps,
        background=torch.zeros(1600),
    )
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    return engine.name


def test_auto_takes_it_where_a_measurement_shows_that_it_is_faster(
    step_seconds: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    step_seconds |= {"dense": 1.0, "onednn": 1.0, "background": 0.9}
    assert taken(0.02) == "background"
    assert taken(0.02, steps=LEAST_STEPS - 1) == "dense"
    step_seconds["background"] = 1.1
    assert taken(0.02) == "dense"
    monkeypatch.setattr(time, "perf_counter", None)  # where bytes must come out equal no clock is read
    assert taken(0.02, deterministic=True) == "dense"
    assert taken(0.02, deterministic=True, wanted="background", steps=1) == "background"


@pytest.mark.slow
def test_background_steps_are_faster_where_nearly_all_is_background_and_slower_where_nothing_is() -> None:
    assert taken(0.02) == "background"
    assert taken(1) in ("dense", "onednn")


def recipe(*overrides: str) -> Recipe:
    return micro(*STUDY, "train.engine=background", *overrides)


def run(store: Path, *overrides: str, **request: Any) -> None:
    wanted = Request(recipe(*overrides), Path("nowhere"), store, device="cpu", deterministic=True, **request)
    list(work(prepare(wanted)))


def test_a_study_stopped_anywhere_continues_to_the_same_bytes_and_names_the_engine(tmp_path: Path) -> None:
    run(tmp_path / "whole")
    broken = Request(recipe(), Path("nowhere"), tmp_path / "broken", device="cpu", deterministic=True)
    for steps in (1, 37, 18, 44, 61, 90):
        run_until_stopped(broken, steps)
    run(tmp_path / "broken")
    assert contents(tmp_path / "broken") == contents(tmp_path / "whole")
    found = study(recipe(), store=tmp_path / "whole")
    assert {engine for record in found.found.values() for engine in record.manifest.engines} == {"background"}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("model.norm=batch", "rectifiers"),
        ("model={name: mlp, widths: [24, 24], residual: true}", "residual"),
        ("train.optimizer={name: rmsprop, lr: 0.01}", "optimizers"),
    ],
)
def test_what_it_cannot_train_is_refused_by_name(tmp_path: Path, change: str, why: str) -> None:
    with pytest.raises(UsageError, match=rf"train.engine: background .*{why}.*write auto"):
        run(tmp_path, change)
