"""Faults and crashes injected into the primitive operations of `lottery.files.write`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lottery.files import write


class Crash(BaseException):
    """The process is killed here: nothing after it reaches the disk."""


class Disk:
    """Records every primitive operation; `arm` makes one of them fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.seen: list[tuple[str, Path]] = []
        self._at: int | None = None
        self._fault: Callable[[str, Path, Callable[[], Any]], Any] = _fine
        self._dead = False
        monkeypatch.setattr(write, "perform", self._perform)

    def arm(self, at: int | None, fault: Callable[[str, Path, Callable[[], Any]], Any]) -> None:
        """Apply `fault` to the operation number `at` from now, or to every one for None."""
        self.seen, self._at, self._fault, self._dead = [], at, fault, False

    def heal(self) -> None:
        self.arm(-1, _fine)

    def _perform(self, operation: str, path: Path, action: Callable[[], Any]) -> Any:
        if self._dead:
            raise Crash
        number = len(self.seen)
        self.seen.append((operation, path))
        if self._at not in (None, number):
            return action()
        try:
            return self._fault(operation, path, action)
        except Crash:
            self._dead = True
            raise


def _fine(operation: str, path: Path, action: Callable[[], Any]) -> Any:
    return action()


def crash_before(operation: str, path: Path, action: Callable[[], Any]) -> Any:
    raise Crash


def crash_after(operation: str, path: Path, action: Callable[[], Any]) -> Any:
    action()
    raise Crash


def crash_within(operation: str, path: Path, action: Callable[[], Any]) -> Any:
    """Half of a write reaches the disk, any other operation is whole."""
    action()
    if operation == "write":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    raise Crash


def refuses(error: int) -> Callable[[str, Path, Callable[[], Any]], Any]:
    """The operation fails with this errno."""

    def fault(operation: str, path: Path, action: Callable[[], Any]) -> Any:
        raise OSError(error, "injected")

    return fault


def contents(folder: Path) -> dict[str, bytes]:
    """Every file under a folder by its relative name."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
