"""One image file as pixels: which kinds of images there are, and how each becomes 8 bits of red, green and blue."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from lottery.catalogue.datasets._folders import PIXELS
from lottery.data.random_crop import Window
from lottery.errors import DataError

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # none that starts another program, as EPS does
DECODER = f"{PIXELS} pillow {PIL.__version__}"  # caches are named after it
BILINEAR = Image.Resampling.BILINEAR
ORIENTATION = 0x0112  # the tag of EXIF

_TURNED = {  # what brings an image of this orientation upright (EXIF 2.3, section 4.6.4)
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class ColourRule:
    """Keys of a recipe on images that do not say themselves how they are to be seen.

    Such images are refused where the key is None.

    Attributes:
        transparent: Colour behind transparent pixels.
        bits: Number of bits of deeper grey images that are used, so that 2^bits - 1 is white.
    """

    transparent: Literal["black", "white"] | None = None
    bits: int | None = None


AS_THEY_ARE = ColourRule()


def pixels(
    file: Path, size: int, resize: int | None = None, window: Window | None = None, *, rule: ColourRule = AS_THEY_ARE
) -> NDArray[np.uint8]:
    """Return the image as (size, size, 3), scaled to cover the square if it has another size, and cut at its centre.

    With `window` that part of it is scaled to the square instead; with `resize` its short side is scaled to so many
    pixels, and the square cut at the centre: both to the pixels of torchvision's resized_crop, Resize and CenterCrop.

    Raises:
        DataError: It cannot be read, or how it is to be seen is not known.
    """
    image = _opened(file, rule)
    if window is not None:
        top, left, height, width = window(image.height, image.width)
        image = image.crop((left, top, left + width, top + height)).resize((size, size), BILINEAR)
    elif resize is not None:
        image = _centre(image, size, resize)
    elif image.size != (size, size):
        image = ImageOps.fit(image, (size, size), BILINEAR)
    return np.asarray(image)


def orientation(file: Path | BinaryIO) -> int:
    """Return the orientation in a file's EXIF data, from 1 (upright) to 8; 1 if there is none that can be read."""
    try:
        with Image.open(file, formats=FORMATS) as opened:
            return _orientation(opened)
    except Exception:  # decoding will say what is wrong with it
        return 1


def _orientation(image: Image.Image) -> int:
    try:
        found = image.getexif().get(ORIENTATION, 1)
    except Exception:  # damaged metadata, of which readers raise whatever they stumble over, say nothing of the pixels
        return 1
    return found if found in _TURNED else 1


def _opened(file: Path, rule: ColourRule) -> Image.Image:
    """Return the image in RGB, upright."""
    try:
        with Image.open(file, formats=FORMATS) as opened:
            # a camera's second picture (MPO) is a preview, or the other eye's; the first is the photograph
            frames = 1 if opened.format == "MPO" else getattr(opened, "n_frames", 1)
            if frames > 1:
                raise DataError(f"{file}: holds {frames} pictures, and an example is one; give each a file of its own")
            deep = any(";16" in str(tile[3]) for tile in opened.tile)  # loading keeps the upper 8 bits of colours
            opened.load()
            turned = _TURNED.get(_orientation(opened))
            image = _grey(opened, file, rule) if opened.mode.startswith("I") else opened
            if deep and image is opened and rule.bits not in (None, 16):
                raise DataError(f"{file}: 16 bits a colour, of which the upper 8 are read; it needs `bits: 16`")
            image = _colours(image, file, rule)
    except DataError:
        raise
    except Exception as error:  # decoders of damaged files raise whatever they stumble over
        raise DataError(_unreadable(file, error)) from error
    return image.transpose(turned) if turned is not None else image


def _grey(image: Image.Image, file: Path, rule: ColourRule) -> Image.Image:
    """Return a grey image of more than 8 bits with its values spread over 0 to 255 and rounded; none lies halfway."""
    values = np.asarray(image).astype(np.int64)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= 2**16:
        raise DataError(f"{file}: values from {low} to {high}, which are no 16 bits; write it with 8 or 16")
    if rule.bits is None:
        raise DataError(
            f"{file}: 16-bit grey, its values go from {low} to {high}; add to data how many bits are used: `bits: 16` "
            "where 65535 is white, `bits: 12` where 4095 is"
        )
    white = 2**rule.bits - 1
    if high > white:
        raise DataError(f"{file}: values to {high}, and with `bits: {rule.bits}` white is {white}; write more bits")
    if "transparency" in image.info:
        raise DataError(f"{file}: 16-bit grey with a transparent value; write it without")
    return Image.fromarray(((values * 510 + white) // (2 * white)).astype(np.uint8))


def _colours(image: Image.Image, file: Path, rule: ColourRule) -> Image.Image:
    """Return the image in RGB: a grey value three times, CMYK by Pillow's formula, without transparency."""
    if image.mode == "F":
        raise DataError(f"{file}: pixels are real numbers, and which of them is white is not known; write 8 or 16 bits")
    if image.has_transparency_data:
        layered = image.convert("RGBA")
        if layered.getchannel("A").getextrema()[0] != 255:
            if rule.transparent is None:
                raise DataError(
                    f"{file}: has transparent pixels; add to data what is seen behind them: `transparent: white`, or "
                    "black"
                )
            behind = Image.new("RGBA", layered.size, rule.transparent)
            return Image.alpha_composite(behind, layered).convert("RGB")
    return image.convert("RGB")


def _unreadable(file: Path, error: Exception) -> str:
    if isinstance(error, OSError) and error.errno is not None and not isinstance(error, UnidentifiedImageError):
        return f"{file}: cannot be read: {error.strerror}"
    reason = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, UnidentifiedImageError):
        reason = f"no {', '.join(FORMATS)}" if file.stat().st_size else "the file is empty"
    return f"{file}: no image that can be read ({reason}); replace it or take it away"


def _centre(image: Image.Image, size: int, resize: int) -> Image.Image:
    short = min(image.size)
    width, height = (resize if side == short else int(resize * side / short) for side in image.size)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return image.resize((width, height), BILINEAR).crop((left, top, left + size, top + size))
