"""Rules of the rooms that import-linter does not hold: what stays light, how long a module is, what is never read."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from pydoc import locate

import pytest

import lottery
from tests.support import ROOT

PACKAGE = Path(lottery.__file__).parent

LIGHT = {  # room -> its modules that import nothing heavy when they are loaded; "" is the root
    "": "api environment errors command_traits data_traits paths registry seed signals traits values",
    "analysis": "column_types views",
    "board": "app board curves guard live maker overview pages parts reading results serve",
    "cli": "bench board listing main plan replicate report show tables terminal theory ticket ticket_export verify "
    "work",
    "display": "choose notebook tally terminal",
    "executors": "crew news profiles worker",
    "plan": "agenda jobs keys",
    "plugins": "faults find load signature source",
    "recipe": "components conflicts consistency entry_rules load plugins schema trust tuning yaml",
    "results": "mixed_environments plugin_edits study",
    "runner": "events",
    "trackers": "choose describe feed measures sink teller",
    "verdicts": "claim_prospects fewest_seeds prospects prospects_in_words",
}
HEAVY = {"torch", "torchvision", "pandas", "numpy", "scipy", "sklearn", "matplotlib"}


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imports(path: Path, at_run_time: bool = False) -> set[str]:
    """Modules imported when the file is loaded; with `at_run_time`, those inside functions too."""
    return {name for name, inner in _imports(parsed(path)) if at_run_time or not inner}


def _imports(node: ast.AST, inner: bool = False) -> Iterator[tuple[str, bool]]:
    """Yield the modules imported below a node, but for types, and whether that is inside a function."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from ((alias.name, inner) for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.module == "lottery":
            yield from ((f"lottery.{alias.name}", inner) for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.module:
            yield child.module, inner
        elif isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            continue
        elif isinstance(child, (ast.stmt, ast.ExceptHandler, ast.match_case)):
            yield from _imports(child, inner or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)))


FILES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")


@pytest.mark.parametrize("room", LIGHT)
def test_what_answers_at_once_imports_nothing_heavy(room: str) -> None:
    for module in LIGHT[room].split():
        found = {name.split(".")[0] for name in imports(PACKAGE / room / f"{module}.py")}
        assert found & HEAVY == set(), module


def test_nothing_waits_for_the_distributions_of_scipy() -> None:
    """They take most of a second of each process; `scipy.special` has what tests and intervals need of them."""
    asked = re.compile(r"^ *(import scipy\.stats|from scipy\.stats|from scipy import [^#\n]*\bstats\b)", re.MULTILINE)
    assert [str(path) for path in FILES if asked.search((PACKAGE / path).read_text())] == []


def test_tables_that_read_no_tensor_are_shown_without_torch() -> None:
    modules = "lottery.cli.main, lottery.analysis.accuracy, lottery.analysis.environments, lottery.analysis.profiles"
    modules += ", lottery.verdicts.prospects_in_words"
    code = f"import sys, {modules}, lottery.formats.render; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


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


MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip("."): path
    for path in PACKAGE.rglob("*.py")
}


@cache
def definitions(module: str) -> set[str]:
    """Return the names that a module defines or imports at its top, and the modules in it if it is a package."""
    found = {name.rpartition(".")[2] for name in MODULES if name.rpartition(".")[0] == module}
    for node in ast.walk(parsed(MODULES[module])):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            found |= {alias.asname or alias.name for alias in node.names}
    return found | (set(lottery.__all__) if not module else set())


def resolves(name: str) -> bool:
    """Return True if a dotted name is one of the package: from its top, or from that of any module by its last name."""
    first, *rest = name.split(".")
    starts = [module for module in MODULES if module.rpartition(".")[2] == first] if first != "lottery" else [""]
    for module in starts:
        parts = rest
        while parts and f"{module}.{parts[0]}".lstrip(".") in MODULES:
            module, parts = f"{module}.{parts[0]}".lstrip("."), parts[1:]
        if not parts or parts[0] in definitions(module):
            return True
    return False


# layers, a file, a module of nobody's, sections of recipes, what a control is given
OTHERS = {"attention", "fc1", "rnn", "manifest", "package", "compare", "prune", "train", "level"}


def test_each_dotted_name_in_backticks_is_there() -> None:
    stale = []
    for module, path in MODULES.items():
        text = path.read_text()
        nodes = list(ast.walk(parsed(path)))
        variables = {node.id for node in nodes if isinstance(node, ast.Name)}
        variables |= {node.arg for node in nodes if isinstance(node, ast.arg)}
        for name in re.findall(r"`([a-z_]\w*(?:\.\w+)+)`", text):
            if name.partition(".")[0] not in OTHERS | variables and not resolves(name) and locate(name) is None:
                stale.append(f"{module}: {name}")
    assert stale == []
