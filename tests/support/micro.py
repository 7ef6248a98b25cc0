"""The one small recipe of the tests: real images (scikit-learn's digits), a network of 24 units, a second of training.

A test that needs another study names what is different, as `--set` does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml as pyyaml

from lottery.errors import RecipeError
from lottery.recipe import yaml
from lottery.recipe.draft import Draft
from lottery.recipe.load import parse_recipe
from lottery.recipe.schema import Recipe
from lottery.runner.context import RunContext
from lottery.runner.events import Request
from lottery.runner.prepare import prepare
from lottery.runner.run import work
from lottery.signals import Stop

MICRO = """name: micro
data: {name: digits, validation: 200}
model: {name: lenet, widths: [12, 8]}
init: glorot_normal
train: {optimizer: {name: adam, lr: 3e-3}, batch_size: 50, length: 12it, evaluate_every: 4it}
prune: {fraction: 0.5, levels: 2}
rewind: init
seeds: 1
"""


def micro(*changes: str) -> Recipe:
    """Return the recipe with these `a.b=value` changed."""
    return parse_recipe(MICRO, "micro.yaml", changes)


def micro_text(*changes: str) -> str:
    """Return the recipe as YAML text with these `a.b=value` changed, for tests of files and commands."""
    draft = Draft(yaml.parse(MICRO, "micro.yaml"), "micro.yaml", {("init",): "name", ("model",): "name"})
    for change in changes:
        draft.set(change)
    assert not draft.problems()
    return pyyaml.safe_dump(draft.data, sort_keys=False, default_flow_style=None, width=1000)


def problems(*changes: str) -> list[str]:
    """Return all that is wrong with the recipe under these changes."""
    with pytest.raises(RecipeError) as caught:
        micro(*changes)
    return list(caught.value.problems)


def prepared(recipe: Recipe, folder: Path, stop: Stop | None = None, **options: Any) -> RunContext:
    """Return the run of a recipe on the CPU, deterministic, before its first job; data and store lie in the folder."""
    wanted = {"device": "cpu", "deterministic": True, **options}
    return prepare(Request(recipe, folder, folder, **wanted), stop)


def finished(context: RunContext) -> RunContext:
    """Do all of its jobs, each of which must end well; return it."""
    ends = {event.kind for event in work(context)}
    assert ends <= {"start", "progress", "done", "found"}, ends
    return context
