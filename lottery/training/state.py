"""The state of a training as tensors and plain values: of its optimizer, and of the generators of randomness."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    pass

HOST_COUNTERS = {"mu_product"}  # of NAdam
OWN_OPTIONS = ("lr", "fused", "foreach", "capturable")


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return the torch state dict without learning rates, which a schedule sets, and the options of the machine."""
    state = optimizer.state_dict()
    groups = [{k: v for k, v in group.items() if k not in OWN_OPTIONS} for group in state["param_groups"]]
    return {**state, "param_groups": groups}


def load_optimizer(optimizer: torch.optim.Optimizer, state: Any) -> None:
    """Load an `optimizer_state`, its tensors laid out in memory as their weights are: fused kernels count on that.

    The learning rates stay those the optimizer was made with, and so do the options that belong to the machine.
    """
    groups = [
        {**given, **{name: group[name] for name in OWN_OPTIONS if name in group}}
        for given, group in zip(state["param_groups"], optimizer.param_groups, strict=True)
    ]
    optimizer.load_state_dict({**state, "param_groups": groups})
    _put_back_counters(optimizer, state)
    for weight, values in optimizer.state.items():
        _lay_out(values, weight)


def _put_back_counters(optimizer: torch.optim.Optimizer, state: Any) -> None:
    """Put those counters back on the host that torch moves to the device, as it does not with `step`.

    A step that is not captured reads them there, and would wait for the device once for each parameter.
    """
    numbers = [number for group in state["param_groups"] for number in group["params"]]
    parameters = [(group, p) for group in optimizer.param_groups for p in group["params"]]
    for number, (group, parameter) in zip(numbers, parameters, strict=True):
        for name in HOST_COUNTERS & state["state"].get(number, {}).keys():
            if not group.get("capturable"):
                optimizer.state[parameter][name] = state["state"][number][name].clone().cpu()


def _lay_out(values: dict[Any, Any], weight: Tensor) -> None:
    for name, value in values.items():
        if isinstance(value, dict):
            _lay_out(value, weight)
        elif isinstance(value, Tensor) and value.shape == weight.shape:
            values[name] = torch.empty_like(weight, dtype=value.dtype).copy_(value)


def flatten(value: Any, place: str, tensors: dict[str, Tensor]) -> Any:
    """Return a nested value as JSON has it, its tensors moved into `tensors` under names that start with `place`.

    Raises:
        TypeError: For a value that cannot be stored.
    """
    if isinstance(value, Tensor):
        tensors[place] = value
        return {"tensor": place}
    if isinstance(value, dict):
        return {"dict": [[key, flatten(item, f"{place}/{key}", tensors)] for key, item in value.items()]}
    if isinstance(value, (list, tuple)):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [flatten(item, f"{place}/{i}", tensors) for i, item in enumerate(value)]}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{place}: a {type(value).__name__} cannot be stored")


def unflatten(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Return the nested value that `flatten` made this of; its tensors are copies."""
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content].clone()
    if kind == "dict":
        return {key: unflatten(item, tensors) for key, item in content}
    items = [unflatten(item, tensors) for item in content]
    return items if kind == "list" else tuple(items)


def rng_state(device: torch.device) -> dict[str, Tensor]:
    """Return the states of torch's process-wide generators by device, the CPU's and this one's."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_rng_state(states: Mapping[str, Tensor], device: torch.device) -> None:
    """Put torch's process-wide generators into the states that `rng_state` returned."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
