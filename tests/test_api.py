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
from lottery import registry
from lottery.errors import RecipeError
from lottery.recipe.sweep import parse_sweep
from lottery.results.study import study
from lottery.signals import Stop, handle_signals
from lottery.store.open import open_store
from lottery.tickets.export import open_ticket
from tests.support import ROOT
from tests.support.micro import MICRO, micro_text
from tests.support.plugs import HEAD, Plugs, plugs
from tests.support.restarts import full_recipe

__all__ = ["plugs"]

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


def test_dir_shows_the_public_names() -> None:
    assert dir(lottery) == sorted(lottery.__all__)
    assert {"Mask", "masked", "prune", "save_ticket", "load_ticket", "run", "table"} <= set(dir(lottery))


def test_what_is_printed_says_what_a_thing_is(tmp_path: Path) -> None:
    recipe = full_recipe(16, "seeds=1", "prune.levels=1", "branches=[]", "train.optimizer=[adam]", "tune=null")
    optimizer = torch.optim.SGD((layer := nn.Linear(4, 5)).parameters(), lr=0.1)
    mask = lottery.prune(layer, 0.95)
    assert repr(mask) == "Mask: 5.0 % of 20 weights"
    with lottery.masked(layer, mask, optimizer) as held:
        assert repr(held) == "HeldMask: 5.0 % of 20 weights of Linear"
    assert repr(recipe) == f"Recipe {recipe.name}: lenet on digits, adam, levels 1, 1 seed"
    before = study(recipe, store=tmp_path)
    assert repr(before) == f"Study {recipe.name}: 0 of 2 trainings in {tmp_path}"
    assert repr(before.plan) == f"Plan of {recipe.name}: {len(before.plan)} jobs"
    outcome = lottery.run(recipe, store=tmp_path, device="cpu")
    assert repr(outcome) == f"Outcome of {recipe.name}: {len(before.plan)} done of {len(before.plan)} jobs"
    assert repr(study(recipe, store=tmp_path)).startswith(f"Study {recipe.name}: 2 of 2 trainings in")
    key = next(job.key for job in before.plan if job.kind == "ticket")
    ticket = open_ticket(open_store(tmp_path), key, tmp_path)
    alive, total = sum(ticket.mask.alive().values()), sum(ticket.mask.sizes().values())
    share = f"{100 * alive / total:.1f} % of {total:,} weights"
    assert repr(ticket) == f"Ticket {key[:12]}: lenet on digits, adam, seed 0, level 1, {share}"
    sweep = parse_sweep(micro_text() + "sweep: {train.batch_size: [20, 50]}\n", "r.yaml")
    assert repr(sweep) == "Sweep micro: 2 points of train.batch_size"


def test_plugins_are_imported_wherever_a_recipe_or_a_file_is_read(plugs: Plugs, tmp_path: Path) -> None:
    code = '@criteria.register("mine", source="Me 2026")\ndef mine(weights, context):\n'
    plugs.write("mynet.py", f"{HEAD}\n\n{code}    return {{name: -weight for name, weight in weights.items()}}\n")
    path = plugs.write("study.yaml", MICRO.replace("levels: 2", "levels: 2, criterion: mine"))
    with pytest.raises(RecipeError, match="no criterion 'mine'"):
        lottery.load_recipe(path)
    assert lottery.load_recipe(path, plugins=["mynet"]).prune.criterion.name == "mine"
    plugs.forget()
    assert lottery.load_sweep(path, plugins=["mynet"]).only.prune.criterion.name == "mine"
    plugs.forget()
    table = lottery.table(path, store=tmp_path / "runs", plugins=["mynet"])
    assert len(table) == 0 and table["density"].dtype == "float64"
    layer = nn.Linear(4, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, -2.0, 3.0, -4.0]]))
    mask = lottery.prune(layer, 0.5, criterion="mine")
    assert mask["weight"].tolist() == [[False, True, False, True]]
    lottery.save_ticket(tmp_path / "a.ticket", mask, layer)
    plugs.forget()
    lottery.load_ticket(tmp_path / "a.ticket", layer, plugins=["mynet"])
    assert "mine" in registry.criteria


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
