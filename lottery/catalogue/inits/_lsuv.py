"""Layer-sequential unit variance (Mishkin & Matas 2016, "All you need is a good init"), algorithm 1."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from lottery.errors import UsageError
from lottery.network.build import evaluating, set_weight
from lottery.network.weights import PRUNABLE


@torch.no_grad()
def unit_variance(model: nn.Module, x: Tensor, tolerance: float, tries: int) -> None:
    """Scale each weight, in the order in which layers compute, until the layer's outputs on x have variance 1.

    One pass does all: a layer is scaled while its own inputs are at hand. A layer used twice is scaled at its first.
    """
    names: dict[nn.Module, str] = {m: name for name, m in model.named_modules() if isinstance(m, PRUNABLE)}
    done: set[nn.Module] = set()

    def hook(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        if layer in done:
            return output
        done.add(layer)
        for _ in range(tries):
            variance = float(output.var(correction=0))
            if abs(variance - 1) < tolerance:
                break
            if not 0 < variance < math.inf:
                raise UsageError(
                    f"init lsuv: the outputs of {names[layer]} have variance {variance:g} on the batch; "
                    "use another activation or init"
                )
            assert isinstance(layer.weight, Tensor)
            set_weight(layer, layer.weight / math.sqrt(variance))
            output = layer.forward(*inputs)
        return output

    handles = [layer.register_forward_hook(hook) for layer in names]
    try:
        with evaluating(model):
            model(x)
    finally:
        for handle in handles:
            handle.remove()
