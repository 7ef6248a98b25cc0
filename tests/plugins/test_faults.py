"""A fault in a user's code is the user's: one line with the file and line of theirs, and a traceback that is kept."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures.process import _RemoteTraceback
from pathlib import Path
from typing import Any

import pytest

import lottery
from lottery import registry
from lottery.errors import UsageError
from lottery.plugins.faults import plugin_failure
from tests.support.calls import Call, call
from tests.support.micro import micro, micro_text
from tests.support.plugs import HEAD, Plugs, plugs

__all__ = ["call", "plugs"]

QUICK = (
    "data={name: digits, limit: 64, validation: 64}",
    "train={optimizer: {name: sgd, lr: 0.1}, batch_size: 32, length: 4it, evaluate_every: 2it}",
    "prune.levels=1",
    "prune.fraction=0.5",
)
MODEL = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.layer = nn.Linear(64, classes)

    def forward(self, x):
        return self.layer(x.flatten(1))  # the forward pass


@models.register("mine", source="me")
def mine(input_shape, classes):
    return Net(classes)
"""
DATA = """
from lottery.data.splits import Splits
from lottery.registry import datasets as known


@datasets.register("mine", source="me")
def mine(root):
    return known["digits"].make(root)
"""
OPTIMIZER = """
import torch


class Steps(torch.optim.SGD):
    def step(self, closure=None):
        return super().step(closure)


@optimizers.register("mine", source="me", rates=(1e-3, 1.0))
def mine(model, *, lr: float = 0.1):
    return Steps(model.parameters(), lr)
"""
CRITERION = """
@criteria.register("mine", source="me")
def mine(weights, context):
    return {name: w.abs() for name, w in weights.items()}
"""
INIT = """
@inits.register("mine", source="me")
def mine(model, generator):
    return None
"""
NAMED = {
    MODEL: "model=mine",
    DATA: "data={name: mine, validation: 64}",
    OPTIMIZER: "train.optimizer=mine",
    CRITERION: "prune.criterion=mine",
    INIT: "init=mine",
}
RAISED = {  # plugin, a part of one of its lines, what stands there instead, and what is told of it
    "a model that cannot be built": (
        MODEL,
        "return Net(classes)",
        "raise ValueError('no luck')",
        "ValueError: no luck",
    ),
    "a forward pass that cannot be": (
        MODEL,
        "return self.layer(x.flatten(1))",
        "return self.layer(x)",
        "RuntimeError: mat1 and mat2 shapes cannot be multiplied",
    ),
    "data that cannot be read": (DATA, "return known", "raise OSError('no disk'); return known", "OSError: no disk"),
}
FAILING = {
    "an init that fails": (INIT, "return None", "raise KeyError('fc1')", "KeyError: 'fc1'"),
    "a criterion that fails": (CRITERION, "return {", "1 / 0; return {", "ZeroDivisionError: division by zero"),
    "an optimizer that fails": (OPTIMIZER, "return super()", "self.gone; return super()", "AttributeError: "),
    "a forward pass that fails in training": (
        MODEL,
        "return self.layer(x.flatten(1))",
        "assert not self.training or len(x) < 32, 'too many'; return self.layer(x.flatten(1))",
        "AssertionError: too many",
    ),
}
RETURNED = {
    "no network": (MODEL, "return Net(classes)", "return [Net(classes)]", "returns list; it has to return a Module"),
    "a network of other outputs": (
        MODEL,
        "return Net(classes)",
        "return Net(7)",
        "its network gives torch.float32 (2, 7) for 2 examples of these data; it has to give numbers of shape (2, 10), "
        "one for each class or target",
    ),
    "a network of two outputs": (
        MODEL,
        "return self.layer(x.flatten(1))",
        "return x, self.layer(x.flatten(1))",
        "its network gives tuple; it has to give a tensor of shape (2, 10)",
    ),
    "no splits": (DATA, "return known", "return None, known", "returns tuple; it has to return a Splits"),
    "no optimizer": (OPTIMIZER, "return Steps", "return torch.optim.SGD, Steps", "returns tuple; it has to return "),
    "scores of some layers": (
        CRITERION,
        "in weights.items()}",
        "in weights.items() if w.dim() > 2}",
        "returns NoneType as the scores of fc1.weight; they have to be a tensor (12, 64)",
    ),
    "scores of another shape": (
        CRITERION,
        "w.abs()",
        "w.abs().sum(1)",
        "returns a tensor (12,) as the scores of fc1.weight; they have to be a tensor (12, 64)",
    ),
}


def line_of(text: str, line: str) -> int:
    """Number of a line in the plugin's file."""
    return next(number for number, each in enumerate((HEAD + text).splitlines(), 1) if line in each)


@pytest.mark.parametrize("what", RAISED)
def test_an_error_in_a_users_code_before_any_training_is_told_with_its_line(plugs: Plugs, what: str) -> None:
    text, line, instead, said = RAISED[what]
    plugs.load(text=text.replace(line, instead))
    with pytest.raises(Exception) as caught:
        lottery.run(micro(*QUICK, NAMED[text]), store="runs", device="cpu")
    told = plugin_failure(caught.value, registry.plugins())
    assert told is not None
    assert told.startswith(f"the plugin mine failed: {plugs.folder / 'mine.py'}:{line_of(text, line)}: {said}")


@pytest.mark.parametrize("what", FAILING)
def test_a_job_that_fails_in_a_users_code_says_where_and_keeps_the_traceback(
    plugs: Plugs, call: Call, what: str
) -> None:
    text, line, instead, said = FAILING[what]
    plugs.write("mine.py", HEAD + text.replace(line, instead))
    plugs.write("r.yaml", micro_text(*QUICK, NAMED[text], "plugins=mine"))
    told = call("run", "r.yaml", "--device", "cpu", "--trust")
    assert told.code == 1
    where = f"the plugin mine failed: {plugs.folder / 'mine.py'}:{line_of(text, line)}: {said}"
    assert where in told.err
    keys = [path.stem for path in Path("runs/failures").iterdir()]
    (key,) = [key for key in keys if f"lottery show {key[:12]} has the traceback" in told.err]
    status = call("status").out
    assert f"{key[:12]}  " in status and where in status
    shown = call("show", key[:8]).out.splitlines()
    assert "status       failed" in shown
    assert shown[-1].startswith(said.partition(": ")[0]) and any("Traceback" in each for each in shown)


@pytest.mark.parametrize("what", RETURNED)
def test_what_an_entry_returns_is_held_against_what_it_has_to_return(plugs: Plugs, what: str) -> None:
    text, line, instead, said = RETURNED[what]
    plugs.load(text=text.replace(line, instead))
    try:
        told = lottery.run(micro(*QUICK, NAMED[text]), store="runs", device="cpu").messages
    except UsageError as error:
        told = [str(error)]
    where = f"{plugs.folder / 'mine.py'}:{line_of(text, '@')}"  # where the function begins, its decorator included
    assert told and all(f": {where}: {said}" in each and each.count("plugin mine: ") == 1 for each in told)


def test_a_fault_that_another_process_has_met_is_told_with_its_line_too(plugs: Plugs) -> None:
    plugs.load(text=MODEL)
    error = ValueError("no luck")
    where = f"{plugs.folder / 'mine.py'}"
    remote: Any = _RemoteTraceback
    error.__cause__ = remote(f'Traceback:\n  File "{where}", line 14, in forward\nValueError: no luck\n')
    told = plugin_failure(error, registry.plugins())
    assert told == f"the plugin mine failed: {where}:14: ValueError: no luck"
    assert plugin_failure(ValueError("ours"), registry.plugins()) is None


def command(plugs: Plugs, *words: str) -> subprocess.CompletedProcess[str]:
    path = str(Path(lottery.__file__).parent.parent)
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "TMPDIR": str(plugs.folder)}
    line = [sys.executable, "-m", "lottery", *words]
    return subprocess.run(line, cwd=plugs.folder, capture_output=True, text=True, env=environment)


@pytest.mark.slow
@pytest.mark.parametrize("words", [("run", "--jobs", "1"), ("run", "--jobs", "2"), ("work",)])
def test_every_process_tells_a_users_faults_from_ours(plugs: Plugs, words: tuple[str, ...]) -> None:
    plugs.write("study/r.yaml", micro_text(*QUICK, "model=mine", "plugins=mine", "seeds=2"))
    file = plugs.write("study/mine.py", HEAD + MODEL.replace("return Net(classes)", "raise ValueError('no luck')"))
    rest = ("study/r.yaml", *words[1:], "--device", "cpu", "--trust")
    begun = command(plugs, words[0], *rest)
    where = f"{file}:{line_of(MODEL, 'return Net')}"
    said = f"lottery: the plugin mine failed: {where}: ValueError: no luck; its traceback is in "
    assert (begun.returncode, begun.stderr.startswith(said)) == (2, True), begun.stderr
    assert "ValueError: no luck" in Path(begun.stderr.partition("its traceback is in ")[2].strip()).read_text()
    _, line, instead, why = FAILING["a forward pass that fails in training"]
    plugs.write("study/mine.py", HEAD + MODEL.replace(line, instead))
    failed = command(plugs, words[0], *rest)
    assert failed.returncode == (words[0] == "run"), failed.stderr
    told = f"seed 1 dense FAILED (the plugin mine failed: {file}:{line_of(MODEL, line)}: {why})"
    assert told in failed.stderr and "bug" not in failed.stderr
