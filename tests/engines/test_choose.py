"""Which engine is taken, and the one with another matrix library; the others have tests of their own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from lottery.catalogue.models._perceptron import Perceptron
from lottery.device import Machine
from lottery.engines.choose import LEAST_STEPS, engine_for
from lottery.errors import UsageError
from lottery.pruning.mask import Mask
from lottery.pruning.masking import masked
from lottery.results.study import study
from lottery.runner.events import Request
from lottery.runner.prepare import prepare
from lottery.runner.run import work
from lottery.training.engine import DenseEngine, OneDnnEngine, onednn_is_exact
from lottery.training.objective import Objective
from tests.support.micro import micro
from tests.support.perceptrons import OPTIMIZERS, STUDY, batch, mask_of, network, values
from tests.support.restarts import contents, run_until_stopped

exact = pytest.mark.skipif(not onednn_is_exact(), reason="oneDNN rounds to bfloat16 on this processor")


@exact
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_steps_with_onednn_are_the_dense_ones_within_rounding(optimizer: str) -> None:
    trained = []
    for kind in (DenseEngine, OneDnnEngine):
        made = network(optimizer, False)
        with masked(made[0], mask_of(made[0]), made[1]):
            engine = kind(made[2], made[1])
            for number in range(20):
                engine.step(*batch(number))
        trained.append([*values(made), engine.outputs(batch(99)[0])])
    for one, other in zip(*trained, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_torch_has_its_precision_back_whatever_happens() -> None:
    before = torch.get_float32_matmul_precision()
    model, optimizer, objective = network("sgd", False)
    seen = []
    model.register_forward_pre_hook(lambda *_: seen.append(torch.get_float32_matmul_precision()))
    engine = OneDnnEngine(objective, optimizer)
    engine.step(*batch(1))
    engine.outputs(batch(1)[0])
    with pytest.raises(RuntimeError):
        engine.outputs(torch.zeros(1, 3))
    assert seen == ["medium"] * 3 and torch.get_float32_matmul_precision() == before


def test_products_that_are_rounded_to_bfloat16_are_not_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    product = Tensor.__matmul__

    def rounded(a: Tensor, b: Tensor) -> Tensor:
        if a.dtype == torch.float32 and torch.get_float32_matmul_precision() == "medium":
            a, b = a.bfloat16().float(), b.bfloat16().float()
        return product(a, b)

    monkeypatch.setattr(Tensor, "__matmul__", rounded)
    assert not onednn_is_exact.__wrapped__()


@exact
@pytest.mark.parametrize(("dense", "taken"), [(1.2, "onednn"), (1.05, "dense")])
def test_auto_takes_the_other_library_where_it_is_faster_by_a_tenth(
    step_seconds: dict[str, float], dense: float, taken: str
) -> None:
    step_seconds |= {"dense": dense, "onednn": 1.0}
    model = Perceptron((20,), 5, (16,), "batch", "tanh", 0.0, False)  # one that no kernel of ours trains
    objective = Objective(model, nn.CrossEntropyLoss(), lambda: iter(()), steps_per_epoch=1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    mask = Mask.dense({name: p for name, p in model.named_parameters() if p.dim() == 2})
    batches = [(torch.randn(16, 20), torch.randint(5, (16,))) for _ in range(8)]

    def name(deterministic: bool) -> str:
        machine = Machine(torch.device("cpu"), 1, deterministic)
        found = engine_for(objective, optimizer, mask, "auto", machine, lambda: batches, steps=LEAST_STEPS)
        return found.name

    assert name(False) == taken
    assert name(True) == "dense"  # where bytes must come out equal no clock decides


@exact
def test_a_study_with_onednn_stopped_anywhere_continues_to_the_same_bytes_and_names_the_engine(tmp_path: Path) -> None:
    recipe = micro(*STUDY, "train.engine=onednn", "model.norm=batch")

    def request(store: str) -> Request:
        return Request(recipe, Path("nowhere"), tmp_path / store, device="cpu", deterministic=True)

    list(work(prepare(request("whole"))))
    for steps in (1, 18, 44, 61):
        run_until_stopped(request("broken"), steps)
    list(work(prepare(request("broken"))))
    assert contents(tmp_path / "broken") == contents(tmp_path / "whole")
    found = study(recipe, store=tmp_path / "whole").found
    assert {engine for record in found.values() for engine in record.manifest.engines} == {"onednn"}


def test_another_library_is_refused_where_it_is_of_no_use() -> None:
    def refused(objective: Objective, optimizer: torch.optim.Optimizer) -> str:
        machine = Machine(torch.device("cpu"), 1, True)
        with pytest.raises(UsageError) as told:
            engine_for(objective, optimizer, None, "onednn", machine, list, steps=1)
        return str(told.value)

    convolution = nn.Conv2d(1, 1, 3)
    objective = Objective(convolution, nn.CrossEntropyLoss(), lambda: iter(()), steps_per_epoch=1)
    assert "train.engine: onednn is for fully connected networks" in refused(
        objective, torch.optim.SGD(convolution.parameters())
    )
    model, _, objective = network("sgd", False)
    assert "knows the optimizers" in refused(objective, torch.optim.RMSprop(model.parameters()))
