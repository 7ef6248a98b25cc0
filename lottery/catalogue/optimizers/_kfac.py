"""Natural gradient with the Kronecker factors of curvlinops, averaged over steps."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from lottery.catalogue.optimizers._closures import Closure, replayed
from lottery.errors import UsageError

if TYPE_CHECKING:
    from lottery.training.objective import Objective

FIRST_REFRESHES = 3  # factors of one batch alone are poor: the first few refresh the inverses at once


class KFAC(torch.optim.Optimizer):
    """Natural gradient: w -= lr v, v = momentum v + nu G^-1 [dW db] A^-1 for layers covered, momentum for all else."""

    def __init__(
        self,
        model: nn.Module,
        *,
        lr: float,
        momentum: float,
        damping: float,
        decay: float,
        every: int,
        refresh: int,
        fisher: str,
        norm_constraint: float | None,
        weight_decay: float,
    ):
        super().__init__(
            model.parameters(), {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "steps": 0, "factors": 0}
        )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # that torch.jit is deprecated, which it still loads
                import curvlinops  # noqa: F401
        except ImportError:
            raise UsageError("optimizer kfac needs curvlinops: pip install 'lottery[curvature]'") from None
        self.objective: Objective | None = None
        self._model, self._layers = model, covered(model)
        if not self._layers:
            raise UsageError(
                "train.optimizer: kfac covers linear and 2-D convolutional layers without a weight normalization, "
                "and the model has none; choose another optimizer or norm"
            )
        self._damping, self._decay, self._every, self._refresh = damping, decay, every, refresh
        self._fisher, self._norm_constraint = fisher, norm_constraint

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
        """Take a step and return the loss before it."""
        group = self.param_groups[0]
        task: Closure = closure
        evaluate = replayed(lambda: task(), self._model)
        loss = evaluate()
        # no labels can be drawn from outputs that are not finite: the gradient takes that on to the weights
        if group["steps"] % self._every == 0 and bool(torch.isfinite(loss)):
            task = self._take_factors
            evaluate()
        group["steps"] += 1
        weights = [p for p in group["params"] if p.grad is not None]
        gradients = torch._foreach_add([p.grad for p in weights], weights, alpha=group["weight_decay"])
        directions = self._directions(dict(zip(weights, gradients, strict=True)))
        for weight in weights:
            velocity = self.state[weight].setdefault("velocity", torch.zeros_like(weight))
            velocity.mul_(group["momentum"]).add_(directions[weight])
            weight.add_(velocity, alpha=-group["lr"])
        return loss

    def _take_factors(self) -> Tensor:
        """Add the factors of the batch to their averages, and invert the averages where that is due."""
        from curvlinops import KFACInverseLinearOperator, KFACLinearOperator

        assert self.objective is not None
        group, x, y = self.param_groups[0], self.objective.x, self.objective.y
        parameters = [p for layer in self._layers.values() for p in layer.parameters()]
        # labels drawn from the network's distribution are not smoothed
        loss = self.objective.loss if self._fisher == "empirical" else type(self.objective.loss)()
        operator = KFACLinearOperator(
            self._model,
            loss,
            parameters,
            [(x, y)],
            check_deterministic=False,
            seed=group["steps"],
            fisher_type=self._fisher,
            num_per_example_loss_terms=1,
            separate_weight_and_bias=False,
            num_data=len(x),
        )
        with torch.enable_grad():
            operator.compute_kronecker_factors()
        group["factors"] += 1
        self._average(operator)
        if group["steps"] % self._refresh == 0 or group["factors"] <= FIRST_REFRESHES:
            inverse = KFACInverseLinearOperator(operator, damping=self._damping, use_heuristic_damping=True)
            try:
                inverse @ [p.detach() for p in parameters]  # any product makes it compute the inverses
                inverses = _factors(inverse, "inverse_")
            except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
                # rounding outweighs the damping: NaN ends the training as a diverged one
                inverses = {n: (a * torch.nan, g * torch.nan) for n, (a, g) in _factors(operator).items()}
            for name, layer in self._layers.items():
                # rows first, as a checkpoint brings them back: matrices that lie otherwise round otherwise
                self._kept(layer)["inverses"] = [each.contiguous() for each in inverses[name]]
        return torch.empty(0)

    def _average(self, operator: Any) -> None:
        """Turn the operator's factors into the running averages, in place, and keep these."""
        old = min(1 - 1 / self.param_groups[0]["factors"], self._decay)
        for name, (inputs, gradients) in _factors(operator).items():
            kept = self._kept(self._layers[name])
            for fresh, average in zip((inputs, gradients), kept.get("factors", ()), strict=False):
                fresh.lerp_(average, old)
            kept["factors"] = [inputs, gradients]

    def _kept(self, layer: nn.Module) -> dict[str, Any]:
        """Return the state of the layer's weight.

        Its matrices lie in lists: masks and memory layouts are for what is of the weight's shape, which a matrix may be
        by chance, and look for it outside of lists.
        """
        kept: dict[str, Any] = self.state[layer.weight]  # type: ignore[index]
        return kept

    def _directions(self, gradients: dict[Tensor, Tensor]) -> dict[Tensor, Tensor]:
        """Return the natural gradients of the layers covered, scaled by the norm constraint; else the gradients."""
        natural: dict[Tensor, Tensor] = {}
        for layer in self._layers.values():
            kept, parameters = self._kept(layer), list(layer.parameters())
            if "inverses" not in kept or any(p not in gradients for p in parameters):
                continue
            of_inputs, of_gradients = kept["inverses"]
            columns = [gradients[p].reshape(len(p), -1) for p in parameters]
            joint = of_gradients @ torch.cat(columns, dim=1) @ of_inputs
            parts = torch.split(joint, [part.shape[1] for part in columns], dim=1)
            natural |= {p: part.reshape(p.shape) for p, part in zip(parameters, parts, strict=True)}
        if self._norm_constraint is not None and natural:
            product = torch.stack([(d * gradients[p]).sum() for p, d in natural.items()]).sum()
            allowed = self._norm_constraint / (self.param_groups[0]["lr"] ** 2 * product)
            scale = allowed.sqrt().clamp(max=1)
            natural = {p: d * scale for p, d in natural.items()}
        return {**gradients, **natural}


def covered(model: nn.Module) -> dict[str, nn.Module]:
    """Return the layers with Kronecker factors, by name: their weight is theirs alone, trained, and used as it is."""
    modules = dict(model.named_modules())
    uses = Counter(id(p) for module in modules.values() for p in module._parameters.values() if p is not None)
    return {
        name: module
        for name, module in modules.items()
        if isinstance(module, (nn.Linear, nn.Conv2d))
        and not is_parametrized(module)
        and all(p.requires_grad and uses[id(p)] == 1 for p in module.parameters())
    }


def _factors(operator: Any, kind: str = "") -> dict[str, tuple[Tensor, Tensor]]:
    """Return the operator's input and gradient covariances by layer; with `kind` `inverse_` their inverses."""
    state = operator.state_dict()
    inputs, gradients = state[f"{kind}input_covariances"], state[f"{kind}gradient_covariances"]
    return {name: (inputs[name], gradients[name]) for name in gradients}
