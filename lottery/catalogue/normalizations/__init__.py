"""Normalizations of activations and of weights.

To add one of activations, write `f(channels, spatial) -> nn.Module` in `activations`, decorated with
`@normalizations.register(name, source=..., running=...)`: it is for feature maps (`spatial`) or feature vectors. To add
one of weights, write `f(layer) -> None` in `weights` with the trait `weight=True`: it is called on each linear and
convolutional layer of a model.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

from lottery.registry import normalizations

NormName = Annotated[str, AfterValidator(normalizations.known)]
