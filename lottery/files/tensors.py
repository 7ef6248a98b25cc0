"""Tensors as bytes and back, in safetensors: no pickle, the same bytes for the same values."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from io import BytesIO
from itertools import pairwise
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from lottery.errors import DamagedFile
from lottery.files.read import parse_json

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


def encode(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """Return the bytes of a safetensors file; -0.0 becomes +0.0, so that equal values are equal bytes.

    Tensors may be on any device and in any memory layout.

    Raises:
        ValueError: A tensor has the one name that the format keeps to itself.
    """
    if METADATA in tensors:
        raise ValueError(f"no tensor can be named {METADATA!r} in safetensors")
    # the library, which copies all tensors three times and metadata in random order, says how they lie in the file
    laid_out = _header(save({name: torch.empty(0, dtype=value.dtype) for name, value in tensors.items()}))
    header: dict[str, Any] = {METADATA: dict(sorted(metadata.items()))} if metadata else {}
    end = 0
    for name, entry in laid_out.items():
        begin, end = end, end + tensors[name].nbytes
        header[name] = {"dtype": entry["dtype"], "shape": list(tensors[name].shape), "data_offsets": [begin, end]}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file = BytesIO()  # hands its bytes out without a copy
    file.write(struct.pack("<Q", len(text)) + text)
    for name in laid_out:
        file.write(_canonical(tensors[name]).reshape(-1).view(torch.uint8).numpy().data)
    return file.getvalue()


def decode(data: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a file, on the CPU with memory of their own, and its metadata.

    Raises:
        DamagedFile: The bytes are no valid file.
    """
    header = _header(data)
    metadata = _metadata(header.pop(METADATA, {}))
    _check_layout(header, len(data) - 8 - struct.unpack_from("<Q", data)[0])
    try:
        return load(data), metadata
    except (SafetensorError, ValueError, RuntimeError, KeyError, AssertionError) as error:
        raise _damaged(str(error)) from error


def header_bytes(start: bytes) -> int:
    """Return the length of the header of a file of tensors and of the number before it, from its first eight bytes.

    Raises:
        DamagedFile: The number is impossible.
    """
    if len(start) < 8 or (length := struct.unpack_from("<Q", start)[0]) > MOST_HEADER_BYTES:
        raise _damaged("its header is cut off or too long")
    return 8 + int(length)


def shapes(start: bytes) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor, from the header at the start of a file.

    Raises:
        DamagedFile: The header is invalid.
    """
    header = _header(start)
    header.pop(METADATA, None)
    for name, entry in header.items():
        _span(name, entry)
    return {name: tuple(entry["shape"]) for name, entry in header.items()}


def part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with the prefix, by their names without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _canonical(value: Tensor) -> Tensor:
    value = value.detach().cpu()
    if value.is_floating_point() and value.element_size() == 1:  # there is no adding in eight bits
        value = value.to(torch.float32).add(0.0).to(value.dtype)
    elif value.is_floating_point() or value.is_complex():
        value = value + 0.0
    else:
        value = value.clone()
    return value.contiguous()


def _header(data: bytes) -> dict[str, Any]:
    if len(data) < 8:
        raise _damaged(f"{len(data)} bytes are too few")
    length = struct.unpack_from("<Q", data)[0]
    if length > min(len(data) - 8, MOST_HEADER_BYTES):
        raise _damaged(f"a header of {length:,} bytes in a file of {len(data):,}")
    header = parse_json(data[8 : 8 + length], "a file of tensors")
    if not isinstance(header, dict):
        raise _damaged("the header is no mapping")
    return header


def _metadata(found: Any) -> dict[str, str]:
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise _damaged("metadata that is not text by name")
    return found


def _check_layout(header: Mapping[str, Any], size: int) -> None:
    """Check that tensors lie side by side, fill the `size` bytes of data, and are as long as their shapes say."""
    spans = [(0, 0), *sorted(_span(name, entry) for name, entry in header.items()), (size, size)]
    for (_, end), (start, _) in pairwise(spans):
        if start != end:
            raise _damaged(f"tensors do not lie side by side: one ends at byte {end}, the next starts at {start}")


def _span(name: str, entry: Any) -> tuple[int, int]:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise _damaged(f"{name}: type, shape and offsets are missing")
    item = _ITEM_BYTES.get(entry["dtype"]) if isinstance(entry["dtype"], str) else None
    shape, offsets = entry["shape"], entry["data_offsets"]
    if item is None or not _whole_numbers(shape, MOST_IN_DIMENSION) or len(shape) > MOST_DIMENSIONS:
        raise _damaged(f"{name}: type {entry['dtype']!r}, shape {shape!r}"[:200])
    if not _whole_numbers(offsets, 1 << 62) or len(offsets) != 2:
        raise _damaged(f"{name}: offsets {offsets!r}"[:200])
    if offsets[1] - offsets[0] != item * math.prod(shape):
        raise _damaged(f"{name}: shape {shape} does not fill {offsets[1] - offsets[0]} bytes"[:200])
    return offsets[0], offsets[1]


def _whole_numbers(values: Any, most: int) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value <= most for value in values)


def _damaged(why: str) -> DamagedFile:
    return DamagedFile(f"a file of tensors cannot be read: {why}")
