"""Normalizations: of activations, `f(channels, spatial) -> nn.Module` for feature maps (spatial) or feature vectors,
and with the trait `weight` of weights, `f(layer) -> None` for each linear and convolutional layer of a model.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

from lottery.registry import normalizations

NormName = Annotated[str, AfterValidator(normalizations.known)]
