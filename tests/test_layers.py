"""Importing goes one way, and the command line starts without torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import lottery

PACKAGE = Path(lottery.__file__).parent

LAYERS = [  # a module imports from its own layer or those above it in this list
    {"errors", "environment", "outside", "plugins", "signature"},
    {"words", "spec", "registry", "seed", "signals", "places", "passes", "readings"},
    {
        "io",
        "reading",
        "yaml",
        "tensors",
        "mask",
        "selection",
        "device",
        "data",
        "split",
        "crops",
        "streaming",
        "build",
        "weights",
        "tracing",
        "layout",
        "check",
    },
    {
        "objective",
        "recalibration",
        "evaluation",
        "allocation",
        "step",
        "path_sums",
        "criterion_rules",
        "entry_rules",
        "pruned_once",
        "contradictions",
        "claim_rules",
        "fields",
        "origins",
        "tuning",
    },
    {
        "activations",
        "branches",
        "criteria",
        "datasets",
        "finetuning",
        "inits",
        "models",
        "normalizations",
        "optimizers",
        "schedules",
    },
    {"sections"},
    {"amounts", "schema", "identity"},
    {
        "manifest",
        "train",
        "trunk",
        "chain_counts",
        "recipe",
        "order",
        "plan",
        "lease",
        "checkpoints",
        "census",
        "store",
        "notes",
        "identities",
        "duplicates",
    },
    {"sequential", "families", "frontier"},
    {"resolution", "record", "edits", "mixed_environments"},
    {
        "events",
        "vectors",
        "kept",
        "kernels",
        "compiled",
        "sparse",
        "background_kernels",
        "background",
        "graphs",
        "engines",
        "bench",
        "batches",
        "levels",
        "starts",
        "job",
        "estimate",
        "capacity",
        "criterion_check",
        "suitability",
        "work",
    },
    {
        "executors",
        "forks",
        "worker",
        "study",
        "views",
        "coverage",
        "tables",
        "render",
        "terminal",
        "readable_columns",
        "text_table",
        "provenance",
        "report",
        "reports",
        "frontier_view",
        "replication",
        "judgement",
        "other_readings",
        "pairs",
        "pair_statistics",
        "figures",
        "flow",
        "connectivity",
        "genealogy",
        "facts",
        "proofs",
        "decisions",
        "mask_proofs",
        "mask_evidence",
        "accuracy_proofs",
        "verification",
        "reevaluation",
        "reverification",
        "last_rates",
        "left_out",
        "repeated",
        "disclosures",
        "verdicts",
        "sentences",
        "audit",
        "claims",
        "stats",
        "stepdown",
        "superiority",
        "comparisons",
        "crossed",
        "recognized",
        "transfer_tests",
        "costs",
        "multiply_adds",
        "plot",
        "view",
        "ticketfile",
        "ticket_recipe",
        "ticket_export",
        "ticket_checks",
        "ticket_measures",
        "initial_weights",
        "retraining",
        "compact",
        "joints",
        "exports",
        "listing",
        "bare",
        "benchmark",
        "api",
        "options",
    },
    {"cli", "cli_bench", "cli_plan", "cli_plot", "cli_replicate", "cli_report", "cli_ticket", "cli_verify", "__main__"},
]
LIGHT = [
    "cli",
    "cli_bench",
    "cli_plan",
    "cli_replicate",
    "cli_report",
    "cli_ticket",
    "cli_verify",
    "places",
    "listing",
    "api",
    "events",
    "worker",
    "recipe",
    "order",
    "plan",
    "schema",
    "identity",
    "tuning",
    "contradictions",
    "check",
    "yaml",
    "registry",
    "spec",
    "environment",
    "outside",
    "plugins",
    "signature",
    "edits",
    "errors",
    "mixed_environments",
    "seed",
    "signals",
    "views",
    "study",
    "terminal",
]
HEAVY = {"torch", "torchvision", "pandas", "numpy", "scipy", "sklearn", "matplotlib"}


def layer(module: str) -> int:
    home = module.split(".")[0]
    return next(number for number, names in enumerate(LAYERS) if home in names)


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


@pytest.mark.parametrize("file", FILES, ids=str)
def test_a_module_imports_only_from_its_layer_and_those_below(file: Path) -> None:
    own = layer(".".join(file.with_suffix("").parts))
    for name in imports(PACKAGE / file):
        if name.startswith("lottery."):
            assert layer(name.removeprefix("lottery.")) <= own, f"{file} imports {name}"


@pytest.mark.parametrize("module", LIGHT)
def test_what_answers_at_once_imports_nothing_heavy(module: str) -> None:
    assert not {name.split(".")[0] for name in imports(PACKAGE / f"{module}.py")} & HEAVY


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
