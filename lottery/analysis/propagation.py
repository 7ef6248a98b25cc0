"""Table of signal propagation at initialization: init x activation x normalization x depth."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

from lottery import registry
from lottery.errors import UsageError
from lottery.values import Component

if TYPE_CHECKING:
    from torch import Tensor

    from lottery.landscape.signals import Signals
    from lottery.values import Part

KEYS = ("forward_rate", "backward_rate", "dead", "saturated", "jacobian_largest", "jacobian_smallest")


def propagation_table(
    *,
    inits: Sequence[Component],
    activations: Sequence[str] = ("relu", "tanh"),
    norms: Sequence[str] = ("none", "batch"),
    depths: Sequence[int] = (5, 20, 50),
    model: Component = Component("mlp"),  # noqa: B008  # frozen
    width: int = 100,
    input_shape: tuple[int, ...] = (100,),
    classes: int = 10,
    batch: tuple[Tensor, Tensor] | None = None,
    seed: int = 0,
    after: Callable[[], None] = lambda: None,
) -> list[dict[str, Any]]:
    """Return for each combination what signals do in a network at initialization: it explodes, vanishes or holds.

    Normalizations with running statistics divide by those of the batch, measured once for the whole of it. Nothing is
    trained; a row takes the time of a few passes of the batch.

    Args:
        inits: Initializations of the catalogue with their arguments; one with a key `activation` that is not given gets
            that of the row.
        activations: Activations by name.
        norms: Normalizations by name.
        depths: Numbers of hidden layers; for models with a key `depth`, its values.
        model: Model of the catalogue with its other arguments; it has a key `depth` or `widths`.
        width: Width of the hidden layers, where the model has such a key that `model` does not give.
        input_shape: Shape of an example.
        classes: Number of outputs.
        batch: Inputs and targets; None for 256 standard normal inputs and random classes.
        seed: Seed of the networks, and of the inputs where none are given.
        after: Called after each row; it tells progress, and raises to stop.

    Returns:
        Rows with `init`, `activation`, `norm`, `depth`, `verdict`, `note` (why there is no such network, else empty),
        growth a layer of forward signals and of gradients, shares of dead and saturated units, singular values of the
        Jacobian (`lottery.landscape.signals.Signals`), and both depth scales, measured and expected by the mean-field
        recursion (NaN with a normalization of activations, which it does not describe).

    Raises:
        UsageError: The model has no key for its depth, or none of a name or value that is asked for.
    """
    data = batch or _normal(input_shape, classes, seed)
    rows: list[dict[str, Any]] = []
    for given, activation, norm, depth in product(inits, activations, norms, depths):
        init = _for(given, activation)
        row: dict[str, Any] = {"init": _words(init), "activation": activation, "norm": norm, "depth": depth}
        component = _of_depth(model, activation, norm, depth, width)
        try:
            rows.append({**row, **_numbers(_signals(component, init, input_shape, classes, data, seed)), "note": ""})
        except UsageError as error:  # such as an init that is nowhere critical for this activation
            empty = dict.fromkeys((*KEYS, "depth_scale_measured", "depth_scale_expected"), math.nan)
            rows.append({**row, "verdict": "refused", **empty, "note": str(error)})
        after()
    return rows


def _for(init: Component, activation: str) -> Component:
    if "activation" not in registry.inits[init.name].schema.model_fields:
        return init
    return Component(init.name, {"activation": activation, **init.args})


def _words(init: Component) -> str:
    said = ", ".join(f"{key}={value}" for key, value in init.args.items() if key != "activation")
    return f"{init.name}({said})" if said else init.name


def _numbers(found: Signals) -> dict[str, Any]:
    return {
        "verdict": found.verdict,
        **{key: found.totals[key] for key in KEYS},
        "depth_scale_measured": found.depth_scale_measured,
        "depth_scale_expected": found.depth_scale_expected,
    }


def _signals(
    model: Component,
    init: Component,
    input_shape: tuple[int, ...],
    classes: int,
    data: tuple[Tensor, Tensor],
    seed: int,
) -> Signals:
    from lottery.landscape.signals import measure
    from lottery.landscape.surface import Surface
    from lottery.network.build import build_model
    from lottery.training.objective import loss_of

    def batches(part: Part) -> Iterator[tuple[Tensor, Tensor]]:
        yield data

    network = build_model(model, input_shape, classes, init=init, seed=seed, batch=data)
    surface = Surface(network, batches, loss=loss_of(regression=data[1].is_floating_point()))
    surface.reset_statistics()
    return measure(surface)


def _of_depth(model: Component, activation: str, norm: str, depth: int, width: int) -> Component:
    """Return the model with its depth, and with width, activation and normalization where it has such keys.

    Raises:
        UsageError: It has no key for its depth, or a value is wrong.
    """
    entry = registry.models[model.name]
    keys = entry.schema.model_fields
    if "depth" not in keys and "widths" not in keys:
        raise UsageError(
            f"model {model.name}: it has neither a key `depth` nor `widths`; name one such as mlp or plain"
        )
    wanted: Mapping[str, Any] = {
        "width": width,
        "widths": (width,) * depth,
        "depth": depth,
        **model.args,
        "activation": activation,
        "norm": norm,
    }
    args, problems = entry.check({key: value for key, value in wanted.items() if key in keys})
    if problems:
        raise UsageError("; ".join(f"model.{'.'.join(map(str, where))}: {why}" for where, why in problems))
    return Component(model.name, args)


def _normal(shape: tuple[int, ...], classes: int, seed: int, count: int = 256) -> tuple[Tensor, Tensor]:
    import torch

    from lottery.seed import generator

    draws = generator(seed, "analysis propagation")
    return torch.randn(count, *shape, generator=draws), torch.randint(classes, (count,), generator=draws)
