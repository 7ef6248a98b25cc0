"""An initialization that has a ticket in it: the connections of a sparse teacher among random weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lottery.catalogue.datasets.planted import Seed, Size, Sizes
from lottery.registry import inits

if TYPE_CHECKING:
    import torch
    from torch import nn


@inits.register("planted", source="Fischer & Burkholz 2022")
def planted(
    model: nn.Module,
    generator: torch.Generator,
    *,
    inputs: Size = 20,
    widths: Sizes = (8, 8),
    outputs: Size = 4,
    fan_in: Size = 3,
    seed: Seed = 0,
) -> None:
    """Kaiming normal, with the weights of the teacher of the data set `planted` in place of some of them.

    The teacher's units are the first ones of each layer, which is no loss as units are drawn alike; its keys are those
    of the data. In each layer its weights are scaled so that their mean square is that of the weights drawn: they are
    not told by their size, and the network under the mask of these connections computes the targets times one positive
    factor for all.

    Raises:
        UsageError: The model is not fully connected, of another depth than the teacher, or narrower.
    """
    from torch import nn

    from lottery.catalogue.inits._draw import draw
    from lottery.data.teacher import make_teacher
    from lottery.errors import UsageError
    from lottery.network.weights import PRUNABLE

    weights = make_teacher(inputs, widths, outputs, fan_in, seed).weights
    layers = [module for module in model.modules() if isinstance(module, PRUNABLE)]
    wanted, there = [tuple(w.shape) for w in weights], [tuple(layer.weight.shape) for layer in layers]
    ends = there and (there[0][1], there[-1][0]) == (inputs, outputs)
    wide = len(there) == len(wanted) and all(h[0] >= w[0] and h[1] >= w[1] for h, w in zip(there, wanted, strict=True))
    if not (ends and wide and all(isinstance(layer, nn.Linear) for layer in layers)):
        raise UsageError(
            f"init planted: the teacher has {inputs} inputs and layers of {[*widths, outputs]} units, the model's "
            "layers must be fully connected, as many, and as wide at least; its inputs and outputs the same"
        )
    planted_in = dict(zip(layers, weights, strict=True))

    def fill(weight: torch.Tensor, layer: nn.Module) -> None:
        nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=generator)
        assert isinstance(layer, nn.Linear)
        teacher = planted_in[layer]
        connected = teacher != 0
        scale = weight.square().mean().sqrt() / teacher[connected].square().mean().sqrt()
        corner = weight[: len(teacher), : teacher.shape[1]]
        corner[connected] = (scale * teacher[connected]).to(weight.dtype)

    draw(model, fill)
