"""`check_entry`: entries of the catalogue pass, and each fault of one's own is named."""

from __future__ import annotations

import pytest

from lottery.errors import UsageError
from lottery.testing import check_entry
from tests.support.plugs import Plugs, plugs

__all__ = ["plugs"]

GOOD = [
    ("models", "lenet", {"widths": [12, 8]}),
    ("models", "conv2", {"width": 4, "hidden": 8, "norm": "batch"}),
    ("datasets", "digits", {}),
    ("optimizers", "adam", {"lr": 1e-3}),
    ("optimizers", "sgd", {"lr": 0.1}),
    ("criteria", "magnitude", {}),
    ("criteria", "snip", {}),
    ("inits", "kaiming_normal", {}),
]


@pytest.mark.parametrize(("catalogue", "name", "arguments"), GOOD, ids=[name for _, name, _ in GOOD])
def test_entries_of_the_catalogue_pass(catalogue: str, name: str, arguments: dict[str, object]) -> None:
    check_entry(catalogue, name, **arguments)  # type: ignore[arg-type]


NET = """
import time

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, inputs, classes):
        super().__init__()
        self.fc, self.norm, self.output = nn.Linear(inputs, 8), nn.BatchNorm1d(8), nn.Linear(8, classes)

    def forward(self, x):
        x = x.flatten(1)
        return self.output(self.norm(self.fc(x)).relu())


@models.register("mine", source="me")
def mine(input_shape, classes):
    \"\"\"One hidden layer.\"\"\"
    return Net(64, classes)
"""
DATA = """
import torch

from lottery.data.splits import Splits


@datasets.register("mine", source="me")
def mine(root):
    \"\"\"Random numbers.\"\"\"
    draws = torch.Generator().manual_seed(0)
    x, y = torch.randn(40, 5, generator=draws), torch.arange(40) % 4
    return Splits(train_x=x[:30], train_y=y[:30], test_x=x[30:], test_y=y[30:], classes=4)
"""
OPTIMIZER = """
import torch


class Steps(torch.optim.Optimizer):
    def __init__(self, parameters, lr):
        super().__init__(parameters, {"lr": lr})

    def step(self, closure):
        loss = closure()
        with torch.no_grad():
            for group in self.param_groups:
                for p in group["params"]:
                    state = self.state[p]
                    state["m"] = 0.9 * state.get("m", torch.zeros_like(p)) + p.grad
                    p -= group["lr"] * state["m"]
        return loss


@optimizers.register("mine", source="Me 2026", rates=(1e-3, 1.0))
def mine(model, *, lr: float = 0.01):
    \"\"\"Momentum.\"\"\"
    return Steps(model.parameters(), lr)
"""
CRITERION = """
import torch


@criteria.register("mine", source="me", draws=False)
def mine(weights, context):
    \"\"\"Magnitude.\"\"\"
    return {name: w.abs() for name, w in weights.items()}
"""
INIT = """
import torch


@inits.register("mine", source="me")
def mine(model, generator):
    \"\"\"Small numbers.\"\"\"
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) / 10)
"""
WHERE = {NET: "models", DATA: "datasets", OPTIMIZER: "optimizers", CRITERION: "criteria", INIT: "inits"}
FAULTS = {  # plugin, what of it is replaced, by what, and what is told
    "another network each time": (
        NET,
        "8, classes)",
        "8, classes); self.register_buffer('at', torch.tensor(time.perf_counter(), dtype=torch.float64))",
        "two networks of one seed differ",
    ),
    "dropout that is always on": (NET, "x.flatten(1)", "nn.functional.dropout(x.flatten(1))", "evaluation mode differ"),
    "examples that see each other": (
        NET,
        "x.flatten(1)",
        "x.flatten(1) - x.flatten(1).mean(0)",
        "depend on the others",
    ),
    "a parameter without use": (
        NET,
        "8, classes)",
        "8, classes); self.idle = nn.Parameter(torch.ones(3))",
        "idle gets no",
    ),
    "outputs of another form": (
        NET,
        "return self.output(",
        "return self.fc(x) + 0 * self.norm(",
        "gives shape (16, 8)",
    ),
    "data that change": (DATA, "generator=draws", "dtype=torch.float32", "draws from torch's process-wide generator"),
    "features that are large": (DATA, "x[:30],", "1000 * x[:30],", "standardize them"),
    "a class without examples": (DATA, "classes=4", "classes=5", "no training example is of the classes 4"),
    "labels of another type": (DATA, "% 4", "% 4.0", "targets"),
    "state that is kept elsewhere": (OPTIMIZER, "self.state[p]", "vars(p)", "ends elsewhere"),
    "a rate that is read once": (OPTIMIZER, 'group["lr"] *', 'self.defaults["lr"] *', "a schedule changes nothing"),
    "no range of rates": (OPTIMIZER, ", rates=(1e-3, 1.0)", "", "has no range of learning rates"),
    "a step without a loss": (OPTIMIZER, "return loss", "return None", "its step(closure) returns NoneType"),
    "a score too few": (CRITERION, "in weights.items()}", "in weights.items() if '1' in name}", "missing ['4.weight']"),
    "scores that draw": (CRITERION, "w.abs()", "torch.rand(w.shape)", "draws from torch's process-wide generator"),
    "scores that draw in spite of a trait": (
        CRITERION,
        "w.abs()",
        "torch.rand(w.shape, generator=context.generator)",
        "which its trait `draws=False` denies",
    ),
    "weights that are changed": (CRITERION, "w.abs()", "w.abs_()", "changes the weights that it is given"),
    "an init of another generator": (INIT, ", generator=generator", "", "draws from torch's process-wide generator"),
    "no docstring": (INIT, '"""Small numbers."""', "", "its docstring has no first line"),
}


@pytest.mark.parametrize("what", FAULTS)
def test_each_fault_of_an_entry_is_named(plugs: Plugs, what: str) -> None:
    text, line, instead, said = FAULTS[what]
    assert line in text
    plugs.load(text=text.replace(line, instead))
    with pytest.raises(UsageError) as caught:
        check_entry(WHERE[text], "mine")
    assert said in str(caught.value)
    plugs.load(text=text)
    check_entry(WHERE[text], "mine")


def test_what_cannot_be_checked_is_said() -> None:
    with pytest.raises(UsageError, match=r"check_entry: 'model' cannot be checked; did you mean 'models'\?"):
        check_entry("model", "lenet")
    with pytest.raises(UsageError, match="no model 'lennet'"):
        check_entry("models", "lennet")
    with pytest.raises(UsageError, match=r"lenet\.width: lenet has no key 'width'"):
        check_entry("models", "lenet", width=3)
