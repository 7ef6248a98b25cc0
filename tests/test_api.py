"""The Python interface, as the README shows it."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import lottery
from lottery.signals import Stop, handle_signals
from tests.support import ROOT
from tests.support.restarts import full_recipe

README = ROOT / "README.md"


def test_the_readmes_training_loop_runs_as_it_stands() -> None:
    (code,) = [block.partition("```")[0] for block in README.read_text().split("```python\n")[1:]]
    torch.manual_seed(0)
    model: Any = nn.Sequential()
    model.add_module("fc1", nn.Linear(6, 4))
    optimizer = torch.optim.Adam(model.parameters(), weight_decay=0.1)
    before = model.fc1.weight.detach().clone()

    def train(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        for _ in range(5):
            optimizer.zero_grad()
            model(torch.randn(8, 6)).square().sum().backward()
            optimizer.step()

    exec(code, {"model": model, "optimizer": optimizer, "train": train})
    pruned = before.abs() <= 0.02
    assert pruned.any()
    assert not model.fc1.weight[pruned].any()
    assert model.fc1.weight[~pruned].ne(before[~pruned]).all()


def test_a_notebook_runs_a_recipe_and_gets_a_data_frame(tmp_path: Path) -> None:
    recipe = full_recipe(16, "seeds=1", "prune.levels=1")
    seen = []
    outcome = lottery.run(recipe, store=tmp_path, device="cpu", on_event=lambda event: seen.append(event.kind))
    assert (outcome.exit_code, outcome.count("done"), seen.count("done")) == (0, 10, 10)
    frame = lottery.table(recipe, store=tmp_path)
    assert list(frame["optimizer"]) == ["adam", "momentum"]
    assert lottery.table(recipe, store=tmp_path, view="long")["kind"].value_counts()["ticket"] == 2
    assert lottery.run(recipe, store=tmp_path, device="cpu").count("found") == 10


def test_the_package_offers_what_it_says_and_nothing_else() -> None:
    assert all(getattr(lottery, name) for name in lottery.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        lottery.nothing  # noqa: B018


def test_importing_the_package_imports_neither_torch_nor_pandas() -> None:
    code = "import lottery, sys; print('torch' in sys.modules or 'pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


def test_in_another_thread_a_run_leaves_signals_alone() -> None:
    seen: list[object] = []

    def body() -> None:
        with handle_signals(Stop()):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]
