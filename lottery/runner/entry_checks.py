"""Checks of what entries of plugins return, where this package could not say what is wrong with it later."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lottery import registry

if TYPE_CHECKING:
    from lottery.pruning.mask import Mask
    from lottery.registry import Entry
    from lottery.runner.context import RunContext

EXAMPLES = 2


def check_outputs(context: RunContext, seed: int) -> None:
    """Check that the network of a plugin gives a number for each class and example, before anything is trained.

    Raises:
        UsageError: It gives something else.
        Exception: What its code raises for training examples.
    """
    entry = registry.models[context.plan.recipe.model.name]
    if not entry.code:
        return
    try:
        outputs = _outputs(context.networks.blank(), torch.zeros(EXAMPLES, *context.splits.input_shape))
    except Exception:  # zeros, and weights that mean nothing, may not be what its code is made for
        x, _ = next(context.data(seed).evaluation("train", EXAMPLES))
        outputs = _outputs(context.networks.drawn().to(x.device), x)
    wanted = (EXAMPLES, context.splits.classes)
    if not isinstance(outputs, Tensor):
        raise entry.fault(f"its network gives {type(outputs).__name__}; it has to give a tensor {_form(wanted)}")
    if tuple(outputs.shape) != wanted or not outputs.is_floating_point():
        raise entry.fault(
            f"its network gives {outputs.dtype} {tuple(outputs.shape)} for {EXAMPLES} examples of these data; it has "
            f"to give numbers {_form(wanted)}, one for each class or target"
        )


def check_scores(entry: Entry[Any], scores: Any, mask: Mask) -> None:
    """Check that the criterion of a plugin gives a score for each weight.

    Raises:
        UsageError: It does not.
    """
    if not isinstance(scores, Mapping):
        raise entry.fault(f"returns {type(scores).__name__}; it has to return a score for each weight, by layer")
    for name, shape in mask.shapes().items():
        score = scores.get(name)
        if not isinstance(score, Tensor) or tuple(score.shape) != shape:
            given = f"a tensor {tuple(score.shape)}" if isinstance(score, Tensor) else type(score).__name__
            raise entry.fault(f"returns {given} as the scores of {name}; they have to be a tensor {shape}")
    if other := sorted(map(str, scores.keys() - mask.shapes().keys())):
        raise entry.fault(f"returns scores of {', '.join(other)}, which it was not given")


def _outputs(network: nn.Module, x: Tensor) -> Any:
    devices = [x.device] if x.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.no_grad():
        return network.eval()(x)


def _form(shape: tuple[int, ...]) -> str:
    return "of shape " + str(shape)
