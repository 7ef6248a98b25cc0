"""What a stranger reads first says what is there: trees, tables, links, figures and examples of README and docs."""

from __future__ import annotations

import csv
import importlib
import re
import sys
import tomllib
from importlib import resources
from pathlib import Path
from types import ModuleType

import pytest
import torch
import yaml
from torch import nn

import lottery
from lottery import registry
from lottery.analysis import views
from lottery.analysis.rows import Row
from lottery.recipe.audit_fields import FIELDS, FIXED
from lottery.results.study import Study
from lottery.verdicts.sentences import _parts
from tests.support import ROOT
from tests.support.plugs import Plugs, plugs
from tests.support.studies import Recorded, everything, hand
from tests.support.tree import PACKAGE, packages, tree

__all__ = ["plugs"]

PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("results/*.md"), *ROOT.glob("examples/*.md")]


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def section(page: str, heading: str) -> str:
    """Return the text of a page below `## heading`, up to the next one."""
    _, _, rest = read(page).partition(f"\n## {heading}\n")
    assert rest, f"{page} has no section {heading}"
    return rest.partition("\n## ")[0]


def block(text: str, language: str = "") -> str:
    """Return the first fenced block of a language."""
    found = re.search(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


def rows(text: str) -> list[list[str]]:
    """Return the cells of a Markdown table, the row below its head left out."""
    lines = [line for line in text.splitlines() if line.startswith("|") and not re.fullmatch(r"[|: -]+", line)]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_contributors_tree_is_that_of_the_folders() -> None:
    assert block(section("docs/contributing.md", "The tree")) == tree(), "python -m tests.support.tree writes it anew"


def test_each_package_has_one_row_in_the_contributors_table() -> None:
    listed = [cells[0].strip("`") for cells in rows(section("docs/contributing.md", "The tree"))[1:]]
    there = [f"{package.relative_to(PACKAGE).as_posix()}/" for package in packages()]
    assert sorted(listed) == sorted(["lottery/", *there[1:]])


def test_the_readmes_tree_has_each_folder_of_the_repository_and_each_room_once() -> None:
    lines = block(section("README.md", "The tree")).splitlines()
    listed = [f"lottery/{line.split()[0]}" if line.startswith("  ") else line.split()[0] for line in lines]
    ignored = {line.strip("/") for line in read(".gitignore").splitlines()}
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith((".", "_"))} - ignored
    rooms = [f"lottery/{package.name}" for package in packages() if package.parent == PACKAGE]
    assert sorted(listed) == sorted(f"{name}/" for name in {"lottery", *folders, *rooms})


def test_the_readmes_table_is_that_of_the_quickstarts_results() -> None:
    shown = rows(read("README.md"))
    head, *body = rows(read("results/quickstart/table.md"))
    columns = [head.index(name) for name in shown[0]]
    assert shown[1 : len(body) + 1] == [[row[column] for column in columns] for row in body]


def _verdicts(optimizer: str) -> list[Row]:
    """Return the quickstart's rows of verdicts of an optimizer, numbers as numbers."""
    with open(ROOT / "results" / "quickstart" / "verdicts.csv", encoding="utf-8") as file:
        found = [row for row in csv.DictReader(file) if row["optimizer"] == optimizer]
    return [Row({**row, "density": float(row["density"]), "n": int(row["n"])}, []) for row in found]


def test_the_readmes_verdicts_are_those_of_the_quickstarts_results() -> None:
    said = " ".join(block(section("README.md", "Verdicts that an audit stands behind")).split())
    how = "within 1 point, one-sided 95 %"
    sparsest: dict[str, float | None] = {"adam(lr=0.02)": 1 / 32, "adam(lr=0.005)": None}
    expected = [f"{name}: {'; '.join(_parts(_verdicts(name), at, how))}." for name, at in sparsest.items()]
    assert said == " ".join(expected)


def test_the_readmes_gains_are_those_of_the_quickstarts_results() -> None:
    with open(ROOT / "results" / "quickstart" / "table.csv", encoding="utf-8") as file:
        cells = {(row["optimizer"], float(row["density"])): row for row in csv.DictReader(file)}
    ticket = [float(row["ticket_diff"]) for (name, _), row in cells.items() if name == "adam(lr=0.02)"]
    random = float(cells["adam(lr=0.02)", 0.125]["random_diff"])
    across = float(cells["adam(lr=0.02)", 0.125]["ticket"]) - float(cells["adam(lr=0.005)", 0.5]["dense"])
    text = " ".join(read("README.md").split())
    assert f"tickets gain up to {100 * max(ticket):.1f} points" in text
    assert f"random masks gain {100 * random:.1f}" in text
    assert f"trained at 0.02 are {100 * across:.1f} points above that dense network" in text
    with open(ROOT / "results" / "quickstart" / "claims.csv", encoding="utf-8") as file:
        claims = [row for row in csv.DictReader(file) if row["optimizer"] == "adam(lr=0.02)"]
    assert [(row["density"][:6], row["verdict"]) for row in claims] == [
        ("0.125", "inconclusive"),
        ("0.0625", "superior"),
    ]
    assert f"at 6.25 % it is, by {100 * float(claims[1]['difference']):.1f} points" in text
    assert not {row["also"] for row in _verdicts("adam(lr=0.005)")} - {""}  # "not shown to gain anything"


def test_the_readmes_table_of_statements_is_that_of_the_surveys_results() -> None:
    assert read("results/survey/summary.md").strip() in read("README.md")


def test_the_readmes_count_of_what_the_audit_compares_is_the_quickstarts() -> None:
    trainings = sum(1 for _ in csv.DictReader(read("results/quickstart/long.csv").splitlines()))
    assert f"{trainings} trainings in {len({*FIELDS, *FIXED})} fields" in " ".join(read("README.md").split())


def test_the_readme_counts_the_entries_of_the_catalogues() -> None:
    words = {
        "optimizers": "optimizers",
        "branches": "controls",
        "models": "models",
        "datasets": "data sets",
        "criteria": "pruning criteria",
    }
    text = " ".join(read("README.md").split())
    assert [
        f"{len(list(registry.catalogues[name]))} {word}"
        for name, word in words.items()
        if f" {len(list(registry.catalogues[name]))} {word}" not in text
    ] == []


def test_the_readmes_lines_of_a_recipe_are_the_quickstarts() -> None:
    whole = iter(read("recipes/quickstart.yaml").splitlines())
    assert [line for line in block(read("README.md"), "yaml").splitlines() if line not in whole] == []  # in order


def test_the_readme_names_this_version() -> None:
    assert f"Version {lottery.__version__} is not on PyPI" in read("README.md")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_each_link_of_a_page_leads_to_a_file_and_a_heading(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        if path.startswith("lottery/"):  # of the package, wherever it is installed
            file = PACKAGE.parent / path
        else:
            file = page.parent / path if path else page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in slugs, target


def test_the_citation_is_of_this_version() -> None:
    assert yaml.safe_load(read("CITATION.cff"))["version"] == lottery.__version__


def test_the_package_says_that_it_is_typed() -> None:
    assert resources.files(lottery).joinpath("py.typed").is_file()


def test_the_contributors_example_of_an_optimizer_runs_as_it_stands(plugs: Plugs) -> None:
    plugs.write("lion.py", block(section("docs/contributing.md", "Adding an entry"), "python"))
    plugs.load("lion")
    entry = registry.optimizers["lion"]
    assert entry.traits.rates == (1e-5, 1e-2) and re.search(r"\b\d{4}\b", entry.source)
    model = nn.Linear(3, 2, bias=False)
    start, alive = model.weight.detach().clone(), torch.tensor([[True, False, True], [False, True, True]])
    optimizer = entry.make(model, lr=0.01)
    with lottery.masked(model, lottery.Mask({"weight": alive}), optimizer):
        model(torch.ones(1, 3)).square().sum().backward()
        assert model.weight.grad is not None
        expected = (start - 0.01 * model.weight.grad.sign()) * alive  # both averages have the sign of the gradient
        optimizer.step()
    torch.testing.assert_close(model.weight.detach(), expected)


def test_the_contributors_example_of_an_analysis_is_a_view(monkeypatch: pytest.MonkeyPatch) -> None:
    code = block(section("docs/contributing.md", "Adding an analysis"), "python")
    module = ModuleType("lottery.analysis.lengths")
    exec(code, module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(views.VIEWS, "lengths", views.View("lottery.analysis.lengths:rows", "Steps of each training"))
    planned = hand("seeds=1")
    rows = views.rows_of(Study(planned, everything(planned), Recorded(planned)), "lengths")
    assert rows == [
        {"seed": 0, "level": 0, "kind": "dense", "steps": 100},
        {"seed": 0, "level": 1, "kind": "ticket", "steps": 100},
    ]
    assert [planned.jobs[key].kind for row in rows for key in row.made_from] == ["dense", "ticket"]


def test_retraining_with_adam_and_no_mask_revives_nearly_all_pruned_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    unmasked = importlib.import_module("unmasked")
    _, model, init, lr, batch_size, density = unmasked.CASES["lenet-mnist"]
    shares = unmasked.measure("digits", model, init, lr, batch_size, density, steps=(1, 20))
    assert 0.8 < shares[1] <= shares[20]
    assert shares[20] > 0.9


def test_the_extras_that_can_be_installed_are_named_where_installing_is_told() -> None:
    extras = set(tomllib.loads(read("pyproject.toml"))["project"]["optional-dependencies"]) - {"docs", "examples"}
    assert set(re.findall(r"'\.\[(\w+)\]'", section("docs/use.md", "Installing"))) == extras
