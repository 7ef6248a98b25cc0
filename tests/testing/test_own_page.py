"""The page about models, data and optimizers of one's own: its code runs as it stands, and does what it says."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

import lottery
from lottery import registry
from tests.support.plugs import Plugs, plugs

__all__ = ["plugs"]

PAGE = (Path(__file__).parents[2] / "docs" / "own.md").read_text(encoding="utf-8")
BLOCKS: list[tuple[str, str]] = re.findall(r"```(python|yaml)\n(.*?)```", PAGE, re.DOTALL)


def code(of_tests: bool) -> str:
    """The blocks of Python without a file's name: entries, or tests of them."""
    return "\n\n".join(text for kind, text in BLOCKS if kind == "python" and ("def test" in text) is of_tests)


def test_the_code_of_the_page_runs_as_it_stands_and_passes_its_own_test(
    plugs: Plugs, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = {re.findall(r"^# (\S+)\n", text)[0]: text for _, text in BLOCKS if text.startswith("# ")}
    assert study.keys() == {"mynet.py", "study.yaml"}
    for name, text in study.items():
        plugs.write(f"study/{name}", text)
    quick = ["seeds=1", "prune.levels=1", "train.length=40it"]
    recipe = lottery.load_recipe(plugs.folder / "study" / "study.yaml", quick, trust=True)
    assert set(lottery.run(recipe, store="runs", device="cpu").ended.values()) == {"done"}
    plugs.forget()
    plugs.write("mine.py", code(of_tests=False))
    known: dict[str, Any] = {}
    exec(code(of_tests=True), known)
    monkeypatch.setattr(sys, "path", [str(plugs.folder), *sys.path])
    known["test_my_entries"]()
    assert {name for name, catalogue in registry.catalogues.items() for entry in catalogue if entry.code} == {
        *("models", "datasets", "optimizers", "criteria")
    }
