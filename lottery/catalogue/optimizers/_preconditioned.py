"""Shampoo and SOAP of pytorch_optimizer, as a training needs them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytorch_optimizer
import torch
from torch import Tensor, nn

from lottery.catalogue.optimizers._mask import pruned


class _Preconditioned:
    """Parts that both classes lack: a new mask makes a new start, and diverging is no error of linear algebra."""

    _pruned = 0

    def restrict(self, factors: Mapping[nn.Parameter, Tensor]) -> None:
        """Make the next step a first one if other weights are pruned."""
        self._pruned = pruned(factors)

    # a hook and not `step`: a hooked step inside another runs all hooks twice
    def _prepare(self, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        group, state = self.param_groups[0], self.state  # type: ignore[attr-defined]
        if group["pruned"] != self._pruned:
            state.clear()
            group |= {"pruned": self._pruned, "step": 0}
        if len(args) == 1:
            self._give_up()
            return args, kwargs

        def closure() -> Tensor:
            loss: Tensor = args[1]()
            self._give_up()
            return loss

        return (self, closure), kwargs

    def _give_up(self) -> None:
        """Set the weights to NaN, which the trainer sees as diverged, if products of their gradients are not finite.

        Such products have no roots.
        """
        weights = [p for p in self.param_groups[0]["params"] if p.grad is not None]  # type: ignore[attr-defined]
        if weights and not bool(torch.stack(torch._foreach_norm([p.grad for p in weights])).square().isfinite().all()):
            with torch.no_grad():
                torch._foreach_mul_(weights, torch.nan)
            for weight in weights:
                weight.grad = None  # leaves the weight out of the step


class Shampoo(_Preconditioned, pytorch_optimizer.Shampoo):
    """Shampoo of pytorch_optimizer without its momentum, with roots at each of the first steps."""

    def __init__(self, parameters: Any, *, lr: float, precondition_frequency: int, eps: float, weight_decay: float):
        super().__init__(parameters, lr=lr, matrix_eps=eps, weight_decay=weight_decay)
        self.param_groups[0]["pruned"] = 0
        self._frequency = precondition_frequency
        self.register_step_pre_hook(Shampoo._prepare)

    def _prepare(self, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        prepared = super()._prepare(args, kwargs)
        done = self.param_groups[0].get("step", 0)
        due = done < self._frequency or done % self._frequency == 0
        # the class takes roots where this divides the number of the step, done + 1
        self.preconditioning_compute_steps = 1 if due else done + 2
        return prepared


class SOAP(_Preconditioned, pytorch_optimizer.SOAP):
    """SOAP of pytorch_optimizer, with its state laid out in memory as a checkpoint brings it back.

    Products of matrices that lie otherwise round otherwise.
    """

    def __init__(self, parameters: Any, **options: Any):
        super().__init__(parameters, **options)
        self.param_groups[0]["pruned"] = 0
        self.register_step_pre_hook(SOAP._prepare)
        self.register_step_post_hook(SOAP._lay_out)

    def _lay_out(self, args: Any, kwargs: dict[str, Any]) -> None:
        for weight, values in self.state.items():
            values["Q"] = [q if isinstance(q, list) else q.contiguous() for q in values["Q"]]  # a list: no matrix
            squares = values["exp_avg_sq"]
            if squares.stride() != weight.stride():
                values["exp_avg_sq"] = torch.empty_like(weight, dtype=squares.dtype).copy_(squares)
