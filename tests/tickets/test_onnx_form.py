"""Networks as ONNX compute what torch computes, for batches of any size, or nothing is written."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lottery.errors import UsageError
from lottery.network.build import build_model, prunable
from lottery.pruning.mask import Mask
from lottery.structure.compact import pruned
from lottery.tickets import onnx_form
from lottery.tickets.onnx_form import onnx_bytes
from lottery.values import Component


def random_mask(model: nn.Module, density: float = 0.3) -> Mask:
    draws = torch.Generator().manual_seed(0)
    return Mask({name: torch.rand(w.shape, generator=draws) < density for name, w in prunable(model).items()})


def test_packages_that_are_not_there_are_named_with_the_command_that_installs_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    find = importlib.util.find_spec  # as where onnxscript is installed, and the two others are not
    there = {"onnx": None, "onnxruntime": None, "onnxscript": find("json")}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: there[name] if name in there else find(name))
    with pytest.raises(UsageError, match=r"onnx, onnxruntime, not installed here: pip install 'lottery\[onnx\]'"):
        onnx_bytes(nn.Linear(3, 2), Mask({}), (3,))


def needs_onnx() -> None:
    for package in onnx_form.PACKAGES:
        pytest.importorskip(package, reason="needs the extra `onnx`")


MODELS = {
    "lenet, no norm": (Component("lenet", {"widths": [8, 6]}), (1, 6, 6)),
    "conv2, batch": (Component("conv2", {"width": 4, "hidden": 6, "norm": "batch"}), (1, 6, 6)),
    "conv2, spectral": (Component("conv2", {"width": 4, "hidden": 6, "norm": "spectral"}), (1, 6, 6)),
    "conv2, weight": (Component("conv2", {"width": 4, "hidden": 6, "norm": "weight"}), (1, 6, 6)),
    "resnet20": (Component("resnet20", {}), (3, 8, 8)),
}


@pytest.mark.slow  # torch imports and traces for seconds
@pytest.mark.parametrize(("component", "shape"), MODELS.values(), ids=MODELS)
def test_a_network_computes_the_same_in_onnxruntime_for_batches_of_any_size(
    component: Component, shape: tuple[int, ...]
) -> None:
    needs_onnx()
    import onnx
    import onnxruntime

    model = build_model(component, shape, 3, init=Component("torch"), seed=0)
    for module in model.modules():  # statistics of a network that was trained
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(generator=torch.Generator().manual_seed(1))  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2, generator=torch.Generator().manual_seed(2))  # type: ignore[union-attr]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    mask = random_mask(model)
    content, told = onnx_bytes(model, mask, shape, {"data": "drawn"})
    onnx.checker.check_model(onnx.load_from_string(content))
    assert {each.key: each.value for each in onnx.load_from_string(content).metadata_props}["data"] == "drawn"
    assert told.startswith("onnxruntime computes what torch does, within ")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    masked = pruned(model, mask).eval()
    for size in (1, 2, 17):
        x = torch.randn(size, *shape, generator=torch.Generator().manual_seed(3))
        (found,) = session.run(["output"], {"input": x.numpy()})
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(found), masked(x), rtol=1e-5, atol=1e-5)


class Branching(nn.Module):
    """Takes a way through its code that depends on values."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(x)
        return out if out.sum() > 0 else -out


@pytest.mark.slow
def test_a_network_that_torch_cannot_export_is_refused_in_one_line() -> None:
    needs_onnx()
    model = Branching()
    with pytest.raises(
        UsageError, match=r"Branching: torch cannot export it to ONNX .*; export the form dense"
    ) as caught:
        onnx_bytes(model, random_mask(model), (4,))
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_file_that_computes_something_else_is_not_handed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    needs_onnx()
    model = nn.Sequential(nn.Linear(4, 2))
    exported = onnx_form._exported

    def a_little_off(network: nn.Module, *given: Any) -> bytes:
        with torch.no_grad():
            network[0].bias += 1e-4  # type: ignore[index]
        content = exported(network, *given)
        with torch.no_grad():
            network[0].bias -= 1e-4  # type: ignore[index]
        return content

    monkeypatch.setattr(onnx_form, "_exported", a_little_off)
    with pytest.raises(UsageError, match=r"as ONNX its outputs differ from torch's by 0.0001, more than 1e-05"):
        onnx_bytes(model, random_mask(model), (4,))
