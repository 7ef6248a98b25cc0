"""Names of layers."""

from __future__ import annotations


def layer_name(name: str) -> str:
    """Return the layer of a weight: `fc1` for `fc1.weight` and for `fc1.parametrizations.weight.original1`.

    Where a module has several weights each is a layer of its own, `rnn.weight_hh_l0`.
    """
    layer, parametrized, _ = name.partition(".parametrizations.weight.original")
    return layer if parametrized else name.removesuffix(".weight")
