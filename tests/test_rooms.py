"""Rules of the rooms that import-linter does not hold: what stays light, how long a module is, what is never read."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import lottery
from tests.support import ROOT

PACKAGE = Path(lottery.__file__).parent

LIGHT = {  # room -> its modules that import nothing heavy when they are loaded; "" is the root
    "": "api environment errors paths registry seed signals traits values",
    "analysis": "views",
    "cli": "bench listing main plan replicate report terminal ticket verify",
    "executors": "worker",
    "plan": "agenda jobs keys",
    "plugins": "load signature source",
    "recipe": "components conflicts consistency entry_rules load schema tuning yaml",
    "results": "mixed_environments plugin_edits study",
    "runner": "events",
}
HEAVY = {"torch", "torchvision", "pandas", "numpy", "scipy", "sklearn", "matplotlib"}


def imports(path: Path, at_run_time: bool = False) -> set[str]:
    """Modules imported when the file is loaded; with `at_run_time`, those inside functions too."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    inner = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        for child in ast.walk(node)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in typing_only or (id(node) in inner and not at_run_time):
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "lottery":
            found |= {f"lottery.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


FILES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")


@pytest.mark.parametrize("room", LIGHT)
def test_what_answers_at_once_imports_nothing_heavy(room: str) -> None:
    for module in LIGHT[room].split():
        found = {name.split(".")[0] for name in imports(PACKAGE / room / f"{module}.py")}
        assert found & HEAVY == set(), module


def test_catalogue_entries_import_nothing_heavy_until_they_are_called() -> None:
    code = (
        "import sys; from lottery.registry import catalogues\n"
        "for catalogue in catalogues.values(): [entry.schema for entry in catalogue]\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_module_is_longer_than_350_lines() -> None:
    assert {str(f): n for f in FILES if (n := len((PACKAGE / f).read_text().splitlines())) > 350} == {}


def test_nothing_in_the_package_knows_pickle() -> None:
    for file in FILES:
        assert "pickle" not in {name.split(".")[0] for name in imports(PACKAGE / file, at_run_time=True)}
        assert "torch.load" not in (PACKAGE / file).read_text()


def test_what_several_tests_share_lies_in_support() -> None:
    for file in (ROOT / "tests").rglob("*.py"):
        shared = {name for name in imports(file, at_run_time=True) if name.startswith("tests.")}
        assert {name for name in shared if name.split(".")[1] not in ("support", "simulations")} == set(), file
