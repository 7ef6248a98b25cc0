"""Several optimizers over disjoint weights as one, and Muon for weights of more than two dimensions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class Joined(torch.optim.Optimizer):
    """One optimizer made of parts: one evaluation, one step of each part, one state dict of the usual form."""

    def __init__(self, *parts: torch.optim.Optimizer):
        super().__init__([group for part in parts for group in part.param_groups], {})
        self.parts = parts
        self._share()

    def _share(self) -> None:
        """Make groups and state the parts' own, so that whoever changes them here changes them there."""
        shared: defaultdict[Tensor, Any] = defaultdict(dict)
        for part in self.parts:
            shared.update(part.state)
            part.state = shared
        self.state = shared
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a joint state: each part is given its groups and the state of their weights."""
        groups = iter(state_dict["param_groups"])
        for part in self.parts:
            own = [next(groups) for _ in part.param_groups]
            names = {name for group in own for name in group["params"]}
            state = {name: value for name, value in state_dict["state"].items() if name in names}
            part.load_state_dict({"state": state, "param_groups": own})
        self._share()

    def restrict(self, factors: Mapping[nn.Parameter, Tensor]) -> None:
        """Tell the parts that have to know the mask."""
        for part in self.parts:
            if hasattr(part, "restrict"):
                part.restrict(factors)

    def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
        """Take a step of each part and return the loss before it."""
        with torch.enable_grad():
            loss = closure()
        for part in self.parts:
            part.step()
        return loss


class Muon(torch.optim.Muon):
    """Muon of torch.optim, which takes matrices only, for weights (out, in, ...): they step as (out, in * ...)."""

    def __init__(self, weights: list[nn.Parameter], **options: Any):
        with _as_matrices(weights, {}):
            super().__init__(weights, **options)

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take a step by the gradients found."""
        with _as_matrices(self.param_groups[0]["params"], self.state):
            super().step()  # type: ignore[no-untyped-call]


@contextmanager
def _as_matrices(weights: list[nn.Parameter], state: Mapping[Any, dict[str, Any]]) -> Iterator[None]:
    """Flatten weights, gradients and momenta of more than two dimensions behind the first one, inside only."""
    tensors = [(weight, weight.data, weight.grad) for weight in weights if weight.dim() > 2]
    for weight, data, grad in tensors:
        weight.grad = None  # a gradient must not differ in shape from its weight
        weight.data = data.flatten(1)  # a copy where the weight is laid out channels last
        weight.grad = None if grad is None else grad.flatten(1)
        _reshape(state.get(weight, {}), weight.shape)
    try:
        yield
    finally:
        for weight, data, grad in tensors:
            flat = weight.data.view(data.shape)
            weight.grad = None
            weight.data = data if data.data_ptr() == flat.data_ptr() else data.copy_(flat)
            weight.grad = grad
            _reshape(state.get(weight, {}), data.shape)


def _reshape(values: dict[str, Any], shape: torch.Size) -> None:
    for name, value in values.items():
        values[name] = value.reshape(shape)
