"""Images in folders: `train/<class>/*` and `test/<class>/*`, in any of the usual file formats."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, Field

from lottery.registry import datasets

if TYPE_CHECKING:
    from lottery.data import Splits


def _inside(folder: str) -> str:
    path = PurePosixPath(folder)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\\" in folder or "\0" in folder:
        raise ValueError(f"{folder!r} must be a folder inside the folder of data sets")
    return folder


Share = Annotated[float, Field(ge=0, le=1)]
Spread = Annotated[float, Field(gt=0, le=1)]


@datasets.register("image_folder", source="the layout of torchvision's ImageFolder")
def image_folder(
    root: Path,
    *,
    folder: Annotated[str, AfterValidator(_inside)],
    size: Annotated[int, Field(strict=True, ge=1, le=1024)] = 32,
    mean: tuple[Share, Share, Share] | None = None,
    std: tuple[Spread, Spread, Spread] | None = None,
) -> Splits:
    """Colour images in folder/train and folder/test, a folder for each class, brought to size x size pixels.

    Classes are numbered by sorted name. An image of another size is scaled to cover the square and cut at its centre.
    Mean and std are those of the training images where they are not given. Decoded images are cached in root/.cache."""
    from lottery.datasets._images import read, statistics
    from lottery.errors import DataError

    images = read(root, folder, size)
    own_mean, own_std = statistics(images.train_x) if mean is None or std is None else ((), ())
    if std is None and not all(own_std):
        raise DataError(f"{root / folder}: the training images have std {own_std}; give another under data.std")
    return images.splits(mean or own_mean, std or own_std)
