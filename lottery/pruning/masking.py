"""Masking while a network trains: gradients as they are accumulated, weights and optimizer state after each step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lottery.errors import BrokenMask, UsageError
from lottery.network.build import settle
from lottery.network.wrappers import unwrapped
from lottery.pruning.mask import Mask, fitted, whole


class HeldMask:
    """A mask that hooks hold on a model while it trains; `tighten` prunes more in the course of the training.

    Args:
        model: The network that trains, or a wrapper around it; its parameters stay the same objects.
        mask: The mask to hold from now on.
        optimizer: The optimizer that steps over the model's parameters, or a wrapper around it.
        restrict: Called with the factors, 0 and 1, of each weight that is pruned from now on; with none at the end.
    """

    def __init__(
        self,
        model: nn.Module,
        mask: Mask,
        optimizer: torch.optim.Optimizer,
        restrict: Callable[[dict[Any, Tensor]], None] = lambda factors: None,
    ):
        self._model, self.mask = fitted(mask, model)
        self._restrict = restrict
        self._parameters = dict(self._model.named_parameters(remove_duplicate=False))
        self._optimizer = _stepping(optimizer)
        self._weights: list[Tensor] = []
        self._factors: list[Tensor] = []
        self._handles: list[Any] = []
        self.tighten(mask)

    def __repr__(self) -> str:
        return f"HeldMask: {self.mask.in_words()} of {type(self._model).__name__}"

    def tighten(self, mask: Mask) -> None:
        """Hold this mask, which lies within the one before: newly pruned weights are 0 from now on.

        Raises:
            UsageError: It revives weights, or is of another network.
        """
        if list(mask) != list(self.mask):
            _, mask = fitted(mask, self._model)
        if not mask <= self.mask:
            raise UsageError("tighten: this mask revives weights that are pruned, or names other layers")
        self.release()
        self.mask = mask
        self._weights, self._factors = [], []
        for name, bits in whole(self._model, mask):
            if not bits.all():
                self._weights.append(self._parameters[name])
                self._factors.append(torch.empty_like(self._parameters[name]).copy_(bits))
        self._mask_weights()
        self._mask_state()
        self._hand_out(dict(zip(self._weights, self._factors, strict=True)))
        self._handles = [
            weight.register_post_accumulate_grad_hook(_gradient_hook(factor))  # type: ignore[no-untyped-call]
            for weight, factor in zip(self._weights, self._factors, strict=True)
            if weight.requires_grad
        ]
        if self._weights:
            self._handles.append(self._optimizer.register_step_post_hook(lambda *_: self._mask_weights()))

    def release(self) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._hand_out({})

    def check(self) -> None:
        """Make each pruned weight +0.0, not -0.0.

        Raises:
            BrokenMask: A pruned weight is not 0.
        """
        for name, bits in whole(self._model, self.mask):
            weight = self._parameters[name]
            if not any(weight is held for held in self._weights):
                continue
            revived = int(torch.count_nonzero(weight.detach()[~bits.to(weight.device)]))
            if revived:
                raise BrokenMask(f"{name}: {revived} pruned weights are not zero after training")
            weight.data.add_(0.0)  # -0.0 + 0.0 is +0.0, and nothing else changes

    def _hand_out(self, factors: dict[Tensor, Tensor]) -> None:
        """Hand the factors to who wants them, such as an optimizer that works on the problem restricted to the mask."""
        self._restrict(factors)
        if hasattr(self._optimizer, "restrict"):
            self._optimizer.restrict(factors)

    def _mask_weights(self) -> None:
        if self._weights:
            with torch.no_grad():
                torch._foreach_mul_(self._weights, self._factors)

    def _mask_state(self) -> None:
        """Set the optimizer's state of pruned weights to 0: a rewound state still has momenta of them."""
        for weight, factor in zip(self._weights, self._factors, strict=True):
            _mask_values(self._optimizer.state.get(weight, {}), factor)


def _mask_values(values: Mapping[Any, Any], factor: Tensor) -> None:
    for value in values.values():
        if isinstance(value, Mapping):
            _mask_values(value, factor)
        elif isinstance(value, Tensor) and value.shape == factor.shape:
            value.mul_(factor)


@contextmanager
def masked(
    model: nn.Module,
    mask: Mask,
    optimizer: torch.optim.Optimizer,
    restrict: Callable[[dict[Any, Tensor]], None] = lambda factors: None,
) -> Iterator[HeldMask]:
    """Hold a mask on a model while the `with` block trains it; names and parameters stay those of the dense network.

    On entering, pruned weights and their entries in the optimizer's state are set to 0. Inside, the gradient is masked
    when it is accumulated (before clipping and the optimizer, in closures too) and the weight after each step. On
    leaving, each pruned weight is exactly +0.0.

    Args:
        model: The network to train, on any device, also inside torch.compile, DataParallel or DistributedDataParallel.
        mask: Bool tensors by name, True where a weight survives.
        optimizer: The optimizer that steps over the model's parameters, also inside the wrappers of Accelerate and
            Lightning.
        restrict: Called with the factors, 0 and 1, of each pruned weight whenever they change.

    Yields:
        The mask as it is held; its `tighten` prunes more.

    Raises:
        UsageError: The mask names a weight that the model lacks or has in another shape, the model's parameters lie in
            shards, or the optimizer has no hooks.
        BrokenMask: A pruned weight is not 0 on leaving.
    """
    held = HeldMask(model, mask, optimizer, restrict)
    if mask.density < 1:
        settle(unwrapped(model))  # a spectral norm is that of the masked weight from the start
    try:
        yield held
    finally:
        held.release()
    held.check()


def _gradient_hook(factor: Tensor) -> Callable[[Tensor], None]:
    def hook(weight: Tensor) -> None:
        if weight.grad is not None:
            weight.grad.mul_(factor)

    return hook


def _stepping(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Return the optimizer inside wrappers, which alone has hooks.

    Raises:
        UsageError: There is none.
    """
    found: Any = optimizer
    while not isinstance(found, torch.optim.Optimizer) or "_optimizer_step_post_hooks" not in vars(found):
        inner = getattr(found, "optimizer", None)  # Accelerate's wrapper, DeepSpeed's
        if inner is None or inner is found:
            raise UsageError(
                f"{type(optimizer).__name__}: is no torch.optim.Optimizer, whose steps could be followed by the mask; "
                "hand over the optimizer that steps over the network's parameters"
            )
        found = inner
    assert isinstance(found, torch.optim.Optimizer)
    return found
