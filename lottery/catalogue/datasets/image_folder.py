"""Images in folders: `train/<class>/*` and `test/<class>/*`, in any of the usual file formats."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo

from lottery.registry import datasets

if TYPE_CHECKING:
    from lottery.data.splits import Splits


def _inside(folder: str) -> str:
    path = PurePosixPath(folder)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\\" in folder or "\0" in folder:
        raise ValueError(f"{folder!r} must be a folder inside the folder of data sets")
    return folder


def _covers(resize: int | None, others: ValidationInfo) -> int | None:
    if resize is not None and resize < others.data.get("size", 0):
        raise ValueError(f"images of {resize} pixels have no centre of {others.data['size']}; write size or more")
    return resize


Share = Annotated[float, Field(ge=0, le=1)]
Spread = Annotated[float, Field(gt=0, le=1)]


def _state(root: Path, arguments: Mapping[str, Any]) -> str:
    from lottery.catalogue.datasets._folders import state

    return state(root / arguments["folder"])


@datasets.register(
    "image_folder",
    source="the layout of torchvision's ImageFolder",
    how=("stream",),
    crops=("stream", "resize"),
    state=_state,
)
def image_folder(
    root: Path,
    *,
    folder: Annotated[str, AfterValidator(_inside)],
    size: Annotated[int, Field(strict=True, ge=1, le=1024)] = 32,
    mean: tuple[Share, Share, Share] | None = None,
    std: tuple[Spread, Spread, Spread] | None = None,
    stream: bool = False,
    resize: Annotated[int | None, Field(strict=True, le=4096), AfterValidator(_covers)] = None,
    transparent: Literal["black", "white"] | None = None,
    bits: Annotated[int | None, Field(strict=True, ge=8, le=16)] = None,
) -> Splits:
    """Colour images in folder/train and folder/test, a folder for each class, brought to size x size pixels.

    Classes are those of train/, numbered by sorted name; folders inside that of a class belong to it. Images are turned
    upright as their EXIF data say; grey ones have three equal channels. Transparent pixels are refused unless
    `transparent` says what is behind them, 16-bit grey unless `bits` says how many are used (2^bits - 1 is white); real
    numbers and files of several pictures are refused. An image of another size is scaled to cover the square and cut at
    its centre; with `resize` its short side is scaled to so many pixels first, and the square cut at the centre of
    that. Mean and std are those of the training images where they are not given. Decoded images are cached in
    root/.cache.

    With `stream` they are decoded by worker processes as training goes, to the same batches, for more images than
    memory holds. The first time all are gone through for mean, std and fingerprint; these are kept in root/.cache
    until a name, size or modification time in the folder changes.
    """
    from lottery.catalogue.datasets._images import normalized, read
    from lottery.catalogue.datasets._pixels import ColourRule
    from lottery.catalogue.datasets._streamed import read_stream

    images, rule = root / folder, ColourRule(transparent, bits)
    if stream:
        return read_stream(root, images, size, resize, rule, mean, std)
    return normalized(read(root, images, size, resize, rule), images, mean, std)
