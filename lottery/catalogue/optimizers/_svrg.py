"""Optimizers that reduce variance with the whole gradient, or size steps by the curvature that epochs see."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from lottery.catalogue.optimizers._closures import replayed
from lottery.catalogue.optimizers._mask import pruned

if TYPE_CHECKING:
    from lottery.training.objective import Objective


class SVRG(torch.optim.Optimizer):
    """The optimizer w -= lr (g_i(w) - g_i(w~) + g(w~)); every `epochs` passes a snapshot w~ with its gradient g(w~)."""

    def __init__(self, model: nn.Module, *, lr: float, epochs: int, weight_decay: float):
        own = {"steps": 0, "pruned": 0}  # since the snapshot; then
        super().__init__(model.parameters(), {"lr": lr, "weight_decay": weight_decay, **own})
        self.objective: Objective | None = None
        self._model, self._epochs, self._pruned = model, epochs, 0

    def restrict(self, factors: Mapping[nn.Parameter, Tensor]) -> None:
        """Have the next step take a new snapshot if weights were pruned after the last one."""
        self._pruned = pruned(factors)

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
        """Take a step and return the loss before it."""
        assert self.objective is not None
        group = self.param_groups[0]
        old = group["steps"] >= self._epochs * self.objective.steps_per_epoch
        if not self.state or old or group["pruned"] != self._pruned:
            self._snapshot(self.objective)
            group["steps"], group["pruned"] = 0, self._pruned
        group["steps"] += 1
        evaluate = replayed(closure, self._model)
        loss = evaluate()
        weights = [p for p in group["params"] if p.grad is not None]
        here = [p.clone() for p in weights]
        directions = [p.grad.clone() for p in weights]
        torch._foreach_copy_(weights, [self.state[p]["snapshot"] for p in weights])
        evaluate()
        torch._foreach_sub_(directions, [p.grad for p in weights])
        torch._foreach_add_(directions, [self.state[p]["gradient"] for p in weights])
        torch._foreach_add_(directions, here, alpha=group["weight_decay"])
        torch._foreach_copy_(weights, here)
        torch._foreach_add_(weights, directions, alpha=-group["lr"])
        return loss

    def _snapshot(self, objective: Objective) -> None:
        objective.whole()
        for p in self.param_groups[0]["params"]:
            if p.grad is not None:
                self.state[p]["snapshot"], self.state[p]["gradient"] = p.clone(), p.grad.clone()


class BB(torch.optim.Optimizer):
    """SGD whose step is |s|^2 / (m |s'y|) from the third epoch on: algorithm 2 of Tan et al. 2016.

    m steps are an epoch; s is what the weights moved in the last epoch, y what the gradients' moving average did.
    """

    def __init__(
        self,
        parameters: Any,
        *,
        lr: float,
        beta: float | None,
        smoothing: Literal["none", "constant", "harmonic"],
        weight_decay: float,
    ):
        own = {"steps": 0, "size": lr, "log_scale": 0.0}
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay, **own})
        self.objective: Objective | None = None
        self._first, self._beta, self._smoothing = lr, beta, smoothing

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
        """Take a step and return the loss before it."""
        assert self.objective is not None
        group, steps_per_epoch = self.param_groups[0], self.objective.steps_per_epoch
        with torch.enable_grad():
            loss = closure()
        weights = [p for p in group["params"] if p.grad is not None]
        epoch, batch = divmod(group["steps"], steps_per_epoch)
        if batch == 0:
            self._begin(epoch, weights, steps_per_epoch)
        group["steps"] += 1
        gradients = torch._foreach_add([p.grad for p in weights], weights, alpha=group["weight_decay"])
        beta = self._beta or min(1.0, 10 / steps_per_epoch)
        torch._foreach_lerp_([self.state[p]["average"] for p in weights], gradients, beta)
        multiplier = group["lr"] / self._first
        torch._foreach_add_(weights, gradients, alpha=-group["size"] * multiplier)
        return loss

    def _begin(self, epoch: int, weights: list[Tensor], steps_per_epoch: int) -> None:
        """Begin an epoch: its step from the last two, and an empty average of gradients."""
        if epoch > 1:
            self._resize(epoch, weights, steps_per_epoch)
        for p in weights:
            state = self.state[p]
            if epoch > 0:
                state["last_average"] = state["average"]
            state["anchor"], state["average"] = p.clone(), torch.zeros_like(p)

    def _resize(self, epoch: int, weights: list[Tensor], steps_per_epoch: int) -> None:
        square, product = 0.0, 0.0
        for p in weights:
            state = self.state[p]
            moved = p - state["anchor"]
            square += float(moved.square().sum())
            product += float((moved * (state["average"] - state["last_average"])).sum())
        group = self.param_groups[0]
        size = square / abs(product) / steps_per_epoch if product else math.nan
        if not (math.isfinite(size) and size > 0):  # nothing moved, or no curvature along the way: the step stays
            return
        if self._smoothing != "none":
            decay = epoch if self._smoothing == "harmonic" else 1
            share = 1 / (epoch - 1)
            group["log_scale"] = (1 - share) * group["log_scale"] + share * math.log(size * decay)
            size = math.exp(group["log_scale"]) / decay
        group["size"] = size
