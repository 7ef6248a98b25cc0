"""Files of tensors in safetensors, read as numpy arrays without torch; the checks of their headers."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from lottery.errors import DamagedFile
from lottery.files.read import parse_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_HEADER_BYTES = 1 << 24
MOST_DIMENSIONS = 64
MOST_IN_DIMENSION = 1 << 40
METADATA = "__metadata__"  # the format's own key

_ITEM_BYTES = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 8),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
    **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 1),
}


def decode_arrays(data: bytes) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Return the tensors of a file of types that numpy has, as arrays that cannot be written to, and its metadata.

    Raises:
        DamagedFile: The bytes are no valid file.
    """
    from safetensors.numpy import load

    metadata = check(data)
    try:
        return load(data), metadata
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise damaged(str(error)) from error


def check(data: bytes) -> dict[str, str]:
    """Return the metadata of a file of tensors whose header is right.

    Raises:
        DamagedFile: The header or the layout of the tensors is invalid.
    """
    header = header_of(data)
    metadata = _metadata(header.pop(METADATA, {}))
    _check_layout(header, len(data) - 8 - struct.unpack_from("<Q", data)[0])
    return metadata


def header_bytes(start: bytes) -> int:
    """Return the length of the header of a file of tensors and of the number before it, from its first eight bytes.

    Raises:
        DamagedFile: The number is impossible.
    """
    if len(start) < 8 or (length := struct.unpack_from("<Q", start)[0]) > MOST_HEADER_BYTES:
        raise damaged("its header is cut off or too long")
    return 8 + int(length)


def shapes(start: bytes) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor, from the header at the start of a file.

    Raises:
        DamagedFile: The header is invalid.
    """
    header = header_of(start)
    header.pop(METADATA, None)
    for name, entry in header.items():
        _span(name, entry)
    return {name: tuple(entry["shape"]) for name, entry in header.items()}


def header_of(data: bytes) -> dict[str, Any]:
    """Return the header of a file of tensors: type, shape and place of each, and its metadata.

    Raises:
        DamagedFile: There is none, or it is too long.
    """
    if len(data) < 8:
        raise damaged(f"{len(data)} bytes are too few")
    length = struct.unpack_from("<Q", data)[0]
    if length > min(len(data) - 8, MOST_HEADER_BYTES):
        raise damaged(f"a header of {length:,} bytes in a file of {len(data):,}")
    header = parse_json(data[8 : 8 + length], "a file of tensors")
    if not isinstance(header, dict):
        raise damaged("the header is no mapping")
    return header


def _metadata(found: Any) -> dict[str, str]:
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise damaged("metadata that is not text by name")
    return found


def _check_layout(header: Mapping[str, Any], size: int) -> None:
    """Check that tensors lie side by side, fill the `size` bytes of data, and are as long as their shapes say."""
    spans = [(0, 0), *sorted(_span(name, entry) for name, entry in header.items()), (size, size)]
    for (_, end), (start, _) in pairwise(spans):
        if start != end:
            raise damaged(f"tensors do not lie side by side: one ends at byte {end}, the next starts at {start}")


def _span(name: str, entry: Any) -> tuple[int, int]:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise damaged(f"{name}: type, shape and offsets are missing")
    item = _ITEM_BYTES.get(entry["dtype"]) if isinstance(entry["dtype"], str) else None
    shape, offsets = entry["shape"], entry["data_offsets"]
    if item is None or not _whole_numbers(shape, MOST_IN_DIMENSION) or len(shape) > MOST_DIMENSIONS:
        raise damaged(f"{name}: type {entry['dtype']!r}, shape {shape!r}"[:200])
    if not _whole_numbers(offsets, 1 << 62) or len(offsets) != 2:
        raise damaged(f"{name}: offsets {offsets!r}"[:200])
    if offsets[1] - offsets[0] != item * math.prod(shape):
        raise damaged(f"{name}: shape {shape} does not fill {offsets[1] - offsets[0]} bytes"[:200])
    return offsets[0], offsets[1]


def _whole_numbers(values: Any, most: int) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value <= most for value in values)


def damaged(why: str) -> DamagedFile:
    """Return the error of a file of tensors that cannot be read."""
    return DamagedFile(f"a file of tensors cannot be read: {why}")
