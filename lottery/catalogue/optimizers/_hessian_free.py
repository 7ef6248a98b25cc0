"""Hessian-free optimization: truncated conjugate gradients on the damped Gauss-Newton matrix of a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.autograd import grad
from torch.func import functional_call

from lottery.catalogue.optimizers._closures import Closure, replayed

if TYPE_CHECKING:
    from lottery.training.objective import Objective

GROW, SHRINK = 3 / 2, 2 / 3  # of the damping
LEAST_DAMPING = 1e-10  # keeps curvature along each direction above 0 where the matrix is singular
SHORTEN, DECREASE, MOST_TRIALS = 0.8, 1e-2, 60  # of the line search


class HessianFree(torch.optim.Optimizer):
    """The optimizer w += t p, with p from `minimize_quadratic` and t from a backtracking line search."""

    def __init__(
        self,
        model: nn.Module,
        *,
        lr: float,
        max_iter: int,
        damping: float,
        decay: float,
        tolerance: float,
        weight_decay: float,
    ):
        super().__init__(model.parameters(), {"lr": lr, "damping": damping, "weight_decay": weight_decay})
        self.objective: Objective | None = None
        self._model, self._max_iter, self._decay, self._tolerance = model, max_iter, decay, tolerance
        self._weights = [p for p in self.param_groups[0]["params"] if p.requires_grad]
        self._factors: dict[nn.Parameter, Tensor] = {}

    def restrict(self, factors: Mapping[nn.Parameter, Tensor]) -> None:
        """Work on the problem in the surviving weights alone."""
        self._factors = dict(factors)

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
        """Take a step and return the loss before it."""
        assert self.objective is not None
        task: Closure = closure
        evaluate = replayed(lambda: task(), self._model)
        loss = evaluate()
        gradient = self._flat([p if p.grad is None else p.grad for p in self._weights])  # none: no part in the loss
        gradient += self.param_groups[0]["weight_decay"] * self._flat(self._weights)
        if not bool(torch.isfinite(gradient).all()):
            torch._foreach_mul_(self._weights, torch.nan)  # what the trainer sees as diverged
            return loss
        if not gradient.any():
            return loss
        matrix = GaussNewton(self.objective, self._weights)
        task = matrix.linearize
        evaluate()
        direction, predicted = self._direction(matrix, gradient)
        del matrix  # its graph must not see the weights move

        def value() -> Tensor:
            assert self.objective is not None
            return self.objective.value(self.objective.x, self.objective.y).detach()

        task = value
        self._search(lambda: float(evaluate()) + self._penalty(), float(loss), gradient, direction, predicted)
        return loss

    def _direction(self, matrix: GaussNewton, gradient: Tensor) -> tuple[Tensor, float]:
        """Return the direction p of conjugate gradients, kept for the next step's start, and q(p)."""
        group = self.param_groups[0]
        alive = self._flat([self._factors.get(p, torch.ones_like(p)) for p in self._weights])
        diagonal = group["damping"] + group["weight_decay"]
        last = [self.state[p].get("direction", torch.zeros_like(p)) for p in self._weights]
        direction, predicted = minimize_quadratic(
            lambda vector: alive * self._flat(matrix.product(self._parts(vector))) + diagonal * vector,
            gradient,
            self._decay * alive * self._flat(last),
            max_iter=self._max_iter,
            tolerance=self._tolerance,
        )
        for weight, part in zip(self._weights, self._parts(direction), strict=True):
            self.state[weight]["direction"] = torch.empty_like(weight).copy_(part)
        return direction, predicted

    def _search(
        self, evaluate: Callable[[], float], loss: float, gradient: Tensor, direction: Tensor, predicted: float
    ) -> None:
        """Adapt the damping by what the loss does at w + p, and go along p as far as it falls enough."""
        group = self.param_groups[0]
        before, start = loss + self._penalty(), [p.clone() for p in self._weights]
        slope = float(gradient.dot(direction))

        def at(length: float) -> float:
            self._move(start, direction, length)
            return evaluate()

        there = at(1.0)
        ratio = (there - before) / predicted if predicted < 0 else float("nan")
        if ratio > 3 / 4:
            group["damping"] = max(group["damping"] * SHRINK, LEAST_DAMPING)
        elif not ratio >= 1 / 4:  # NaN too
            group["damping"] *= GROW
        length = group["lr"]
        for _ in range(MOST_TRIALS):
            if (there if length == 1.0 else at(length)) <= before + DECREASE * length * slope:
                return self._move(start, direction, length)
            length *= SHORTEN
        return self._move(start, direction, 0.0)

    def _move(self, start: list[Tensor], direction: Tensor, length: float) -> None:
        for weight, origin, part in zip(self._weights, start, self._parts(direction), strict=True):
            weight.copy_(torch.add(origin, part, alpha=length))

    def _penalty(self) -> float:
        decay = self.param_groups[0]["weight_decay"]
        return decay / 2 * float(sum(p.square().sum() for p in self._weights)) if decay else 0.0

    def _flat(self, tensors: list[Tensor]) -> Tensor:
        return torch.cat([value.flatten() for value in tensors])

    def _parts(self, vector: Tensor) -> list[Tensor]:
        parts = torch.split(vector, [p.numel() for p in self._weights])
        return [part.view(p.shape) for p, part in zip(self._weights, parts, strict=True)]


class GaussNewton:
    """Products with J' H J of the objective's batch, the Gauss-Newton matrix.

    J is the Jacobian of the outputs in the weights, H the Hessian of the loss in the outputs.

    curvlinops' operator runs the network anew for each product inside torch.func, where batch normalization in
    training mode cannot keep its running statistics; this is one run of it, differentiated twice (Pearlmutter 1994).
    """

    def __init__(self, objective: Objective, weights: list[Tensor]):
        self._objective, self._weights = objective, weights

    @torch.enable_grad()
    def linearize(self) -> Tensor:
        """Run the network at the weights of now and return the loss there."""
        # the graph keeps running statistics, and those of the network itself are written to before it is used up
        buffers = {name: value.clone() for name, value in self._objective.model.named_buffers()}
        self._outputs = functional_call(self._objective.model, buffers, (self._objective.x,))
        loss: Tensor = self._objective.loss(self._outputs, self._objective.y)
        (self._slope,) = grad(loss, self._outputs, create_graph=True)
        self._dual = torch.zeros_like(self._outputs, requires_grad=True)
        self._transposed = grad(self._outputs, self._weights, self._dual, create_graph=True, materialize_grads=True)
        return loss.detach()

    def product(self, vector: list[Tensor]) -> list[Tensor]:
        """Return J' H J v, in the shapes of the weights."""
        # J'u is linear in u: its derivative along v is Jv
        used = [(t, v) for t, v in zip(self._transposed, vector, strict=True) if t.requires_grad]
        (forward,) = grad([t for t, _ in used], self._dual, [v for _, v in used], retain_graph=True)
        (curved,) = grad(self._slope, self._outputs, forward, retain_graph=True)
        return list(grad(self._outputs, self._weights, curved, retain_graph=True, materialize_grads=True))


def minimize_quadratic(
    product: Callable[[Tensor], Tensor], gradient: Tensor, start: Tensor, *, max_iter: int, tolerance: float
) -> tuple[Tensor, float]:
    """Minimize q(p) = g'p + p'Bp/2 by conjugate gradients and return p and q(p).

    It begins at `start`, or at 0 if q(start) is no less, and ends where the relative progress of Martens (2010) ends,
    at rounding, and after `max_iter` products.

    Args:
        product: Returns B p.
        gradient: G, one dimension.
        start: First p, of the same shape.
        max_iter: Most products with B.
        tolerance: Least relative progress for each iteration.
    """
    p, residual = start, -gradient - product(start)  # q(p) = -p'(residual - g)/2
    values = [-0.5 * float(p.dot(residual - gradient))]
    if values[0] >= 0:
        p, residual, values = torch.zeros_like(start), -gradient, [0.0]
    direction, square = residual, float(residual.dot(residual))
    rounding = (torch.finfo(gradient.dtype).eps ** 2) * float(gradient.dot(gradient))
    for i in range(1, max_iter + 1):
        if square <= rounding:
            break
        image = product(direction)
        curvature = float(direction.dot(image))
        if not curvature > 0:
            break
        p = p + square / curvature * direction
        residual = residual - square / curvature * image
        values.append(-0.5 * float(p.dot(residual - gradient)))
        k = max(10, i // 10)
        if i > k and values[i] < 0 and (values[i] - values[i - k]) / values[i] < k * tolerance:
            break
        last, square = square, float(residual.dot(residual))
        direction = residual + square / last * direction
    return p, values[-1]
