"""The micro study as tests of its settings run it: a larger network, batches of 64, thirty steps."""

from __future__ import annotations

from pathlib import Path

import pytest

from lottery.errors import RecipeError
from lottery.plan.jobs import Job
from lottery.recipe.load import parse_recipe
from lottery.recipe.schema import Recipe
from lottery.runner.context import RunContext
from lottery.runner.events import Request
from lottery.runner.prepare import prepare
from tests.support.micro import micro_text

TEXT = micro_text(
    "model.widths=[24, 12]",
    "train={optimizer: {name: adam, lr: 3e-3}, batch_size: 64, length: 30it, evaluate_every: 10it}",
)
LAYERS = {"fc1": 24 * 64, "fc2": 12 * 24, "output": 10 * 12}


def study(*overrides: str) -> Recipe:
    return parse_recipe(TEXT, "settings.yaml", overrides)


def problems(*overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        study(*overrides)
    return caught.value.problems


def context_of(folder: Path, *overrides: str) -> RunContext:
    return prepare(Request(study(*overrides), folder, folder, device="cpu", deterministic=True, checkpoint_seconds=0))


def tickets(context: RunContext) -> list[Job]:
    return [job for job in context.plan if job.kind == "ticket"]
