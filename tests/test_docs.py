"""The pages of the documentation: each has a place, and what the tutorial shows is what the program does."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml as pyyaml

from lottery import registry
from lottery.cli.main import app
from lottery.data.load import load
from lottery.data.splits import fingerprint
from lottery.errors import RecipeError
from lottery.plan.expand import plan
from lottery.plan.jobs import Plan
from lottery.recipe.load import parse_recipe, shipped
from lottery.recipe.sweep import load_sweep
from lottery.verdicts.prospects_in_words import sentences
from tests.support.micro import micro

DOCS = Path(__file__).parents[1] / "docs"
TUTORIAL = (DOCS / "tutorial.md").read_text(encoding="utf-8")
BLOCKS = dict.fromkeys(re.findall(r"```sh\n(.*?)```", TUTORIAL, re.DOTALL))
COMMANDS = [line.removeprefix("lottery ") for block in BLOCKS for line in block.splitlines()]
RECIPE = re.findall(r"```yaml\n(.*?)```", TUTORIAL, re.DOTALL)[0]


def test_each_page_has_one_place_in_the_contents() -> None:
    trees = re.findall(r"```\{toctree\}\n(.*?)```", (DOCS / "index.md").read_text(encoding="utf-8"), re.DOTALL)
    listed = [line for tree in trees for line in tree.splitlines() if line and not line.startswith(":")]
    assert sorted(listed) == sorted(page.stem for page in DOCS.glob("*.md") if page.stem != "index")


@pytest.fixture
def parts() -> dict[str, Any]:
    """The functions that make parts of pages from the program."""
    return runpy.run_path(str(DOCS / "_extensions" / "from_the_program.py"))


def test_the_page_of_the_catalogues_has_every_entry_with_its_source(parts: dict[str, Any]) -> None:
    text = "\n".join(parts["catalogues"]())
    for catalogue in registry.catalogues.values():
        _, _, rest = text.partition(f"## {catalogue.plural}\n")
        section = rest.partition("\n## ")[0]
        assert re.findall(r"^`(\w+)`$", section, re.MULTILINE) == [entry.name for entry in catalogue]
        assert all(f"Source: {entry.source}" in section for entry in catalogue)


def test_the_page_of_commands_has_every_command(parts: dict[str, Any]) -> None:
    text = "\n".join(parts["commands"]())
    commands: Any = typer.main.get_command(app)
    assert set(re.findall(r"^## `lottery (\w+)`$", text, re.MULTILINE)) == set(commands.commands)


def test_what_the_page_for_users_of_other_tools_names_of_a_recipe_is_taken() -> None:
    """Its second columns hold entries with their keys, `{name: ...}`, and sections, `prune: {...}`."""
    page = (DOCS / "coming_from.md").read_text(encoding="utf-8")
    cells = [line.split(" | ", 1)[1] for line in page.splitlines() if line.startswith("| ")]
    codes = [code for cell in cells for code in re.findall(r"`((?:\{name|[a-z]+): [^`]*\})`", cell)]
    named = [pyyaml.safe_load(code) for code in codes]
    assert len(named) > 12
    for value in named:
        if "name" in value:
            entry = {key: item for key, item in value.items() if key != "name"}
            (catalogue,) = (each for each in registry.catalogues.values() if value["name"] in each)
            if catalogue is not registry.branches:
                assert catalogue[value["name"]].check({**entry, **({"lr": 1} if "momentum" in entry else {})})[1] == []
            continue
        for section, inside in value.items():
            whole = f"{'train.' if section in ('schedule', 'optimizer') else ''}{section}"
            if section == "schedule" and inside["name"] == "...":
                inside["name"] = "cosine"
            usual = ("data=cifar10", "model=resnet20", "train.length=200ep", "train.evaluate_every=1ep")
            keys = [f"{whole}.{key}={json.dumps(item)}" for key, item in inside.items()]
            micro(*usual, *([f"{whole}={json.dumps(inside)}"] if "name" in inside else keys))


def planned(root: Path, *overrides: str) -> Plan:
    recipe = parse_recipe(RECIPE, "digits.yaml", overrides)
    return plan(recipe, fingerprint(load(recipe.data.component, root)))


def test_the_tutorial_counts_its_jobs_and_names_the_key_of_its_ticket(tmp_path: Path) -> None:
    jobs = planned(tmp_path).jobs
    (count, more) = re.findall(r"The plan has (\d+) jobs|has (\d+) jobs left to run", TUTORIAL)
    assert len(jobs) == int(count[0])
    assert len(planned(tmp_path, "prune.levels=6").jobs.keys() - jobs.keys()) == int(more[1])
    (named,) = set(re.findall(r"ticket export (\w+)", TUTORIAL))
    ((kind, seed, level),) = [(job.kind, job.seed, job.level) for job in jobs.values() if job.key.startswith(named)]
    assert (kind, seed, level) == ("ticket", 0, 3)


def test_recipes_state_no_time_which_is_for_plan_to_say() -> None:
    stated = re.compile(r"\b(seconds|minutes?|hours?|days?|weeks?)\b|\d (s|min|h)\b")
    for name, path in shipped().items():
        lines = path.read_text(encoding="utf-8").splitlines()
        assert [line for line in lines if stated.search(" ".join(line.split("#")[1:]))] == [], name


def test_the_page_on_statistics_shows_what_check_says_of_a_recipe() -> None:
    text = (DOCS / "statistics.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```\nlenet-mnist-openlth: fine\n(.*?)```", text, re.DOTALL)
    said = " ".join(sentences(load_sweep("lenet-mnist-openlth")))
    assert " ".join(block.split()) == said


def test_the_tutorial_shows_what_check_says() -> None:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(RECIPE, "digits.yaml", ["train.optimizer.name=adma"])
    assert f"```\n{caught.value}\n```" in TUTORIAL


@pytest.mark.slow
def test_the_tutorial_can_be_typed_as_it_stands(tmp_path: Path) -> None:
    (tmp_path / "digits.yaml").write_text(RECIPE)
    told = []
    for command in COMMANDS:
        done = subprocess.run(
            [sys.executable, "-m", "lottery", *command.split()],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == (2 if "adma" in command else 0), done.stderr
        told.append(done.stdout)
    (sentence,) = re.findall(r"^adam: tickets down to 12.5 %.*$", "".join(told), re.MULTILINE)
    quoted = " ".join(line.removeprefix("> ") for line in TUTORIAL.splitlines() if line.startswith("> "))
    assert sentence == quoted
    assert (tmp_path / "small.safetensors").is_file()
