"""The loss of one step as a function of the weights: the same dropout and running statistics at each call."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Closure = Callable[[], Tensor]


def replayed(closure: Closure, model: nn.Module) -> Closure:
    """Return the closure for a step that calls it several times, at several weights.

    Each call draws the dropout of the first one, and starts from the buffers that the first one found (spectral
    norms iterate on theirs). Buffers end as the first call leaves them: running statistics see the weights before the
    step, once, as with any other optimizer.
    """
    buffers = list(model.buffers())
    before = [value.clone() for value in buffers]
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    draws = _draws(device)
    after: list[Tensor] | None = None

    def call() -> Tensor:
        nonlocal after
        with torch.enable_grad():
            if after is None:
                loss = closure()
                after = [value.clone() for value in buffers]
                return loss
            _copy(buffers, before)
            _draw_again(draws, device)
            loss = closure()
        _copy(buffers, after)
        return loss

    return call


def _copy(targets: list[Tensor], values: list[Tensor]) -> None:
    with torch.no_grad():
        for target, value in zip(targets, values, strict=True):
            target.copy_(value)


def _draws(device: torch.device) -> list[Tensor]:
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


def _draw_again(states: list[Tensor], device: torch.device) -> None:
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)
