"""Parts that models share: types of keys, which images they take, how their widths are scaled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field

from lottery.errors import UsageError

Width = Annotated[int, Field(ge=1)]
Widths = Annotated[tuple[Width, ...], Field(min_length=1)]
Dropout = Annotated[float, Field(ge=0, lt=1)]

NO_TIMM = 'needs timm, not installed here: pip install "lottery[timm]"'


def scaling(*keys: str) -> Callable[[Mapping[str, Any], float], dict[str, Any]]:
    """Return the trait `scaled` of a model whose widths are set by these keys.

    It is a function of the arguments and a factor that returns the arguments of the same model with each width times
    the factor, rounded and at least 1.
    """

    def scaled(args: Mapping[str, Any], factor: float) -> dict[str, Any]:
        return {**args, **{key: _times(args[key], factor) for key in keys}}

    return scaled


def _times(widths: int | Sequence[int], factor: float) -> int | tuple[int, ...]:
    if isinstance(widths, int):
        return max(1, round(factor * widths))
    return tuple(max(1, round(factor * width)) for width in widths)


def image_shape(shape: tuple[int, ...], least: int, norm: str = "none") -> tuple[int, int, int]:
    """Return the shape of the data, (channels, height, width).

    Raises:
        UsageError: It is no shape of images, or they shrink to nothing on their way.
    """
    if norm == "instance":
        least *= 2  # it normalizes over positions and needs more than one in the last layer
    if len(shape) != 3 or min(shape[1:]) < least:
        raise UsageError(f"model: takes images of at least {least}x{least}, the data has shape {shape}")
    return shape[0], shape[1], shape[2]
