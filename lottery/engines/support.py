"""Which networks and optimizers the engines beside the dense one can train."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from lottery.catalogue.models._perceptron import Perceptron
from lottery.training.engine import onednn_is_exact
from lottery.training.objective import Objective

Rule = Literal["sgd", "momentum", "nesterov", "adam"]


def no_other_library(objective: Objective, optimizer: torch.optim.Optimizer) -> str | None:
    """Return why another library for matrix products is not tried, in words; None where it can be.

    Convolutions are oneDNN's anyway.
    """
    if not isinstance(objective.model, Perceptron) or objective.precision != "fp32":
        return "is for fully connected networks in fp32 only"
    if any(p.device.type != "cpu" for p in objective.model.parameters()):
        return "works on a CPU only"
    if rule(optimizer) is None:
        return "knows the optimizers sgd, momentum, nesterov, adam and adamw only"
    return None if onednn_is_exact() else "rounds to bfloat16 on this processor"


def no_background(objective: Objective, background: Tensor | None) -> str | None:
    """Return why the background engine cannot train this network, in words; None where it can."""
    if background is None:
        return "trains on images only"
    assert isinstance(objective.model, Perceptron)
    if objective.model.depth == 0:
        return "trains networks with a hidden layer only"
    return "trains no residual connections" if objective.model.residual else None


def unsupported(objective: Objective, optimizer: torch.optim.Optimizer) -> str | None:
    """Return why no compiled engine can train this network with this optimizer; None where the sparse one can."""
    model, loss = objective.model, objective.loss
    if not isinstance(model, Perceptron):
        return "trains fully connected networks only"
    if any(type(after) is not nn.ReLU for name, after in model.named_children() if name.startswith("after")):
        return "trains networks of rectifiers without normalization and dropout only"
    if any(type(layer) is not nn.Linear for layer in layers(model).values()):
        return "trains plain layers only"
    if len({id(layer.weight) for layer in layers(model).values()}) < len(layers(model)):
        return "trains layers with a weight of their own only"
    if not all(p.device.type == "cpu" and p.dtype == torch.float32 and p.requires_grad for p in model.parameters()):
        return "trains float32 weights on a CPU only"
    if type(loss) is not nn.CrossEntropyLoss or loss.weight is not None or loss.reduction != "mean":
        return "knows no loss but cross-entropy"
    if objective.clip is not None or objective.accumulate > 1 or objective.precision != "fp32":
        return "knows no train.clip, no train.accumulate and no precision but fp32"
    if rule(optimizer) is None:
        return "knows the optimizers sgd, momentum, nesterov, adam and adamw only"
    return None


def layers(model: Perceptron) -> dict[str, nn.Linear]:
    """Return the linear layers by name, in the order that an example passes them."""
    names = [*(f"fc{i}" for i in range(1, model.depth + 1)), "output"]
    return {name: getattr(model, name) for name in names}


def rule(optimizer: torch.optim.Optimizer) -> Rule | None:
    """Return the name of an optimizer in the compiled kernels; None for one that they do not have."""
    kind, groups = type(optimizer), optimizer.param_groups
    if len(groups) != 1 or groups[0].get("maximize") or groups[0].get("dampening") or groups[0].get("amsgrad"):
        return None
    if kind is torch.optim.SGD:
        return "nesterov" if groups[0]["nesterov"] else "momentum" if groups[0]["momentum"] else "sgd"
    return "adam" if kind in (torch.optim.Adam, torch.optim.AdamW) else None
