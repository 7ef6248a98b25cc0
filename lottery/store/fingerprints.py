"""Fingerprints of the data that a recipe's data section gave, as `data/<hash of the section>/<fingerprint>`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lottery.errors import UsageError
from lottery.store.place import Place

_HASH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class Fingerprints:
    """The fingerprints that a store was told."""

    def __init__(self, place: Place):
        self._place = place

    def add(self, spec_hash: str, fingerprint: str) -> None:
        """Note that a data section gave data of this fingerprint."""
        path = f"data/{_checked(spec_hash)}/{_checked(fingerprint)}"
        if not self._place.exists(path):
            self._place.write(path, b"")

    def of(self, spec_hash: str) -> list[str]:
        """Return those of a data section, sorted."""
        return self._place.names(f"data/{_checked(spec_hash)}")

    def all(self) -> Iterator[tuple[str, str]]:
        """Yield the hashes of data sections, each with a fingerprint."""
        for spec in self._place.names("data"):
            if _HASH.fullmatch(spec):
                yield from ((spec, fingerprint) for fingerprint in self.of(spec))


def _checked(text: str) -> str:
    if not _HASH.fullmatch(text):
        raise UsageError(f"{text!r}: is no hash; use up to 128 letters, digits, '.', '_' and '-'")
    return text
