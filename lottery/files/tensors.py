"""Tensors as bytes and back, in safetensors: no pickle, the same bytes for the same values."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from io import BytesIO
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from lottery.files.arrays import METADATA, check, damaged, header_of


def encode(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """Return the bytes of a safetensors file; -0.0 becomes +0.0, so that equal values are equal bytes.

    Tensors may be on any device and in any memory layout.

    Raises:
        ValueError: A tensor has the one name that the format keeps to itself.
    """
    if METADATA in tensors:
        raise ValueError(f"no tensor can be named {METADATA!r} in safetensors")
    # the library, which copies all tensors three times and metadata in random order, says how they lie in the file
    laid_out = header_of(save({name: torch.empty(0, dtype=value.dtype) for name, value in tensors.items()}))
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
    metadata = check(data)
    try:
        return load(data), metadata
    except (SafetensorError, ValueError, RuntimeError, KeyError, AssertionError) as error:
        raise damaged(str(error)) from error


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
