"""Optimizers that evaluate the batch's loss along a direction until the strong Wolfe conditions hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

# torch has its strong Wolfe search as a private function only; scipy's public one works on numpy arrays, which would
# take each evaluation of a network on a GPU through the host.
from torch.optim.lbfgs import _strong_wolfe

from lottery.catalogue.optimizers._closures import replayed
from lottery.catalogue.optimizers._mask import pruned

if TYPE_CHECKING:
    from lottery.training.objective import Objective

DESCENT = 0.01  # a direction d is one of sufficient descent where -g'd >= 0.01 |g|^2 (Gilbert & Nocedal 1992)
SHORTEST = 1e-10  # where a schedule says 0: a search divides by the first length that it tries
MOST_EVALUATIONS = 25  # of one line search, as in torch


class LBFGS(torch.optim.LBFGS):
    """L-BFGS of torch.optim with strong Wolfe line search, whose evaluations of a step all see the same dropout."""

    def __init__(self, model: nn.Module, **options: Any):
        super().__init__(model.parameters(), line_search_fn="strong_wolfe", **options)
        self.param_groups[0]["pruned"] = self._pruned = 0
        self._model = model
        self.register_step_pre_hook(LBFGS._prepare)  # not `step`: a hooked one inside another runs all hooks twice

    def restrict(self, factors: Mapping[nn.Parameter, Tensor]) -> None:
        """Forget the history if weights have been pruned in the course of training."""
        self._pruned = pruned(factors)

    def _prepare(self, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        group = self.param_groups[0]
        if group["pruned"] != self._pruned:
            self.state.clear()
            group["pruned"] = self._pruned
        group["lr"] = max(group["lr"], SHORTEST)
        evaluate = replayed(args[1], self._model)

        def closure() -> Tensor:
            loss = evaluate()
            for weight in group["params"]:
                if weight.grad is not None:
                    weight.grad = weight.grad.contiguous()  # torch's class takes no other layout, as channels last
            return loss

        return (self, closure), kwargs


class CG(torch.optim.Optimizer):
    """Nonlinear conjugate gradients: d = -g + beta d, beta = max(0, g'(g - g_last) / |g_last|^2) (PR+)."""

    def __init__(self, model: nn.Module, *, lr: float, max_iter: int, curvature: float):
        super().__init__(model.parameters(), {"lr": lr, "pruned": 0})
        self.objective: Objective | None = None
        self._model, self._max_iter, self._curvature, self._pruned = model, max_iter, curvature, 0
        self._weights = [p for p in self.param_groups[0]["params"] if p.requires_grad]

    def restrict(self, factors: Mapping[nn.Parameter, Tensor]) -> None:
        """Forget the last direction if weights have been pruned in the course of training."""
        self._pruned = pruned(factors)

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
        """Take a step of `max_iter` line searches on the batch and return the loss before it."""
        evaluate = replayed(closure, self._model)
        loss = evaluate()
        value, gradient = float(loss), self._gradient()
        state, group = self.state[self._weights[0]], self.param_groups[0]
        another_batch = self.objective is None or self.objective.steps_per_epoch > 1
        if another_batch or group["pruned"] != self._pruned:
            state.clear()  # of another function: its directions are conjugate to none of this one
            group["pruned"] = self._pruned
        for _ in range(self._max_iter):
            if float(gradient.dot(gradient)) == 0:
                break
            direction, slope, trial = self._direction(gradient, state)
            value, after, length, _ = _strong_wolfe(  # type: ignore[no-untyped-call]
                self._along(evaluate),
                [p.clone() for p in self._weights],
                trial,
                direction,
                value,
                gradient,
                slope,
                c2=self._curvature,
                max_ls=MOST_EVALUATIONS,
            )
            length = float(length)
            self._move(direction, length)
            state |= {"direction": direction, "gradient": gradient, "gain": length * float(slope)}
            gradient = after
            if length == 0:  # no lower loss to be found along here: in rounding, this is the minimum
                state.clear()
                break
        return loss

    def _direction(self, gradient: Tensor, state: dict[str, Any]) -> tuple[Tensor, Tensor, float]:
        """Return the direction, the loss's slope along it, and the first length to try."""
        rate = self.param_groups[0]["lr"]
        if state:
            last = state["gradient"]
            beta = (gradient.dot(gradient - last) / last.dot(last)).clamp(min=0)
            direction = beta * state["direction"] - gradient
            slope = gradient.dot(direction)
            if slope <= -DESCENT * gradient.dot(gradient):
                first = rate * state["gain"] / float(slope)  # Nocedal & Wright 2006, (3.60)
                return direction, slope, max(first, SHORTEST)
        first = rate * min(1.0, 1 / float(gradient.abs().sum()))
        return -gradient, -gradient.dot(gradient), max(first, SHORTEST)

    def _along(self, evaluate: Callable[[], Tensor]) -> Callable[[list[Tensor], Any, Tensor], tuple[float, Tensor]]:
        def value(start: list[Tensor], length: Any, direction: Tensor) -> tuple[float, Tensor]:
            self._move(direction, float(length))
            loss = float(evaluate())
            gradient = self._gradient()
            torch._foreach_copy_(self._weights, start)
            return loss, gradient

        return value

    def _gradient(self) -> Tensor:
        return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in self._weights])

    def _move(self, direction: Tensor, length: float) -> None:
        parts = torch.split(direction, [p.numel() for p in self._weights])
        for weight, part in zip(self._weights, parts, strict=True):
            weight.add_(part.view(weight.shape), alpha=length)
