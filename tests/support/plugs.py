"""Plugins that a test writes, loads, edits and forgets."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lottery import registry
from lottery.plugins import load
from lottery.plugins.find import BESIDE
from lottery.plugins.load import GROUP

HEAD = "from lottery.registry import (activations, analyses, branches, criteria, datasets, inits, models,\n"
HEAD += "                              normalizations, optimizers, schedules)\n"


class Plugs:
    """A folder on the path of imports; loading a module anew forgets all that earlier ones registered."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch):
        self.folder = folder
        for catalogue in registry.catalogues.values():
            catalogue._load_own()
        self._shipped = {name: dict(r._entries) for name, r in registry.catalogues.items()}
        for name, catalogue in registry.catalogues.items():
            monkeypatch.setattr(catalogue, "_entries", dict(self._shipped[name]))
        monkeypatch.setattr(load, "LEFT_OUT", {})
        monkeypatch.setattr(BESIDE, "folders", {})
        monkeypatch.setattr(BESIDE, "imported", {})
        monkeypatch.setenv("LOTTERY_CONFIG", str(folder / "config"))
        monkeypatch.setattr(registry, "_seen", {GROUP})
        monkeypatch.setattr(sys, "dont_write_bytecode", True)  # two edits within a second are one to Python's cache
        monkeypatch.syspath_prepend(str(folder))
        monkeypatch.chdir(folder)

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
        return path

    def forget(self) -> None:
        """As if nothing had been loaded from the folder."""
        for name, catalogue in registry.catalogues.items():
            catalogue._entries.clear()
            catalogue._entries.update(self._shipped[name])
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", None) or "").startswith(str(self.folder)):
                del sys.modules[name]
        importlib.invalidate_caches()

    def load(self, module: str = "mine", text: str | None = None) -> None:
        """The module, from this text where one is given."""
        self.forget()
        if text is not None:
            self.write(f"{module.replace('.', '/')}.py", HEAD + text)
        registry.plug_in(module)


@pytest.fixture
def plugs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plugs]:
    made = Plugs(tmp_path, monkeypatch)
    yield made
    made.forget()
