"""The bytes of ticket files: safetensors with a format, its version and a hash of all that is in them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from lottery.errors import DamagedFile, UsageError
from lottery.files.read import read_bytes
from lottery.files.tensors import decode, encode

FORMAT, VERSION = "lottery ticket", 2  # of a study
OWN_FORMAT, OWN_VERSION = "lottery ticket of no study", 1
MOST_BYTES = 1 << 34

_VERSIONS = {FORMAT: VERSION, OWN_FORMAT: OWN_VERSION}


def sealed(tensors: Mapping[str, Tensor], head: Mapping[str, str]) -> bytes:
    """Return the bytes of a file with the hash of its content, the same bytes for the same content."""
    return encode(tensors, {**head, "sha256": content_hash(tensors, head)})


def content_hash(tensors: Mapping[str, Tensor], head: Mapping[str, str]) -> str:
    """Return the sha256 of what a file holds beside this hash."""
    return hashlib.sha256(encode(tensors, head)).hexdigest()


def unsealed(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a ticket file and its metadata, their hash checked.

    Raises:
        UsageError: The file is not there, is no ticket file, or has another version.
        DamagedFile: The file is not whole.
    """
    if not Path(path).is_file():
        raise UsageError(f"{path}: there is no such file")
    content = read_bytes(path, most=MOST_BYTES)
    try:
        tensors, head = decode(content)
    except DamagedFile as error:
        raise DamagedFile(f"{path}: no whole ticket file: {error}; copy it again") from error
    if (known := _VERSIONS.get(head.get("format", ""))) is None:
        raise UsageError(f"{path}: is no ticket file; lottery ticket export and lottery.save_ticket make them")
    if (version := head.get("version")) != str(known):
        older = version is not None and version.isdecimal() and int(version) < known
        way = "export the ticket again, from results of this version" if older else "update lottery"
        raise UsageError(f"{path}: has format version {version}, this lottery reads {known}; {way}")
    said = head.pop("sha256", "")
    if content_hash(tensors, head) != said:
        raise DamagedFile(f"{path}: its bytes are not those that were written; copy it again")
    return tensors, head


def printable(text: str) -> str:
    """Return text of a file that anybody may have written as one line without control characters."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
