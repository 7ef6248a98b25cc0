"""Sharpness-aware minimization: any optimizer, with the gradient of the worst weights near by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lottery.catalogue.optimizers._closures import Closure, replayed

TINY = 1e-12  # keeps a gradient of zero from dividing by its norm


class SAM(torch.optim.Optimizer):
    """The optimizer `base`, stepping from w by the gradient at w + rho g/|g|; groups and state are the base's own.

    pytorch_optimizer.SAM makes its base itself from a class, wants a first gradient before `step`, and returns no
    loss.
    """

    def __init__(self, model: nn.Module, base: torch.optim.Optimizer, *, rho: float, adaptive: bool):
        super().__init__(base.param_groups, {})
        self._model, self.base, self._rho, self._adaptive = model, base, rho, adaptive
        self._share()

    def _share(self) -> None:
        self.param_groups, self.state = self.base.param_groups, self.base.state

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the base."""
        return self.base.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state of the base."""
        self.base.load_state_dict(state_dict)
        self._share()

    def restrict(self, factors: Mapping[nn.Parameter, Tensor]) -> None:
        """Tell a base that has to know the mask."""
        if hasattr(self.base, "restrict"):
            self.base.restrict(factors)

    def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
        """Take a step and return the loss before it, at w itself."""
        loss = self.base.step(self._sharp(replayed(closure, self._model)))  # type: ignore[arg-type]
        assert isinstance(loss, Tensor)
        return loss

    def _sharp(self, evaluate: Closure) -> Closure:
        """Return the closure that gives the loss at w and leaves the gradient at w + e(w), at w again."""

        @torch.no_grad()
        def sharp() -> Tensor:
            loss = evaluate()
            weights = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
            here = [p.clone() for p in weights]
            torch._foreach_add_(weights, self._perturbation(weights))
            evaluate()
            torch._foreach_copy_(weights, here)
            return loss

        return sharp

    def _perturbation(self, weights: list[Tensor]) -> list[Tensor]:
        gradients = [p.grad for p in weights if p.grad is not None]
        scales = [p.abs() if self._adaptive else torch.ones_like(p) for p in weights]
        scaled = torch._foreach_mul(gradients, scales)
        norm = torch.stack(torch._foreach_norm(scaled)).norm()
        perturbation = torch._foreach_mul(torch._foreach_mul(scaled, scales), self._rho / (norm + TINY))
        return list(perturbation)
