"""Every shipped recipe trains: real MNIST where it is, made-up images in the layout of CIFAR-10."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

import lottery
from lottery.recipe.load import shipped
from lottery.recipe.sweep import load_sweep
from lottery.values import in_flow

SHORT = ["train.length=3it", "train.evaluate_every=2it"]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with 10 classes of 32x32 images in `cifar10-images`."""
    root = tmp_path_factory.mktemp("data")
    draws = np.random.default_rng(0)
    for part, count in (("train", 30), ("test", 3)):
        for label in range(10):
            folder = root / "cifar10-images" / part / f"class{label}"
            folder.mkdir(parents=True)
            for i in range(count):
                Image.fromarray(draws.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return root


def _cases() -> list[Any]:
    """The recipes; those on the same data and models as another one, as of papers, are left to the slow tests.

    Those of the survey are not among them: each is small enough to be run whole, by `lottery replicate survey`.
    """
    papers = {name for name, path in shipped().items() if path.parent.name == "papers"}
    papers |= {"resnet20-large-batch", "resnet20-cifar10-fast", "resnet20-cifar10"}
    mnist = {name for name, path in shipped().items() if re.search(r"^data: .*name: mnist\b", path.read_text(), re.M)}
    names = sorted(name for name, path in shipped().items() if path.parent.name != "survey")
    marks = [(pytest.mark.slow, papers), (pytest.mark.data, mnist)]
    return [pytest.param(n, marks=[mark for mark, marked in marks if n in marked]) for n in names]


def _section(branch: Any) -> dict[str, Any]:
    """Return a branch as a section, also where the recipe has its name only."""
    return branch if isinstance(branch, dict) else {"name": branch}


@pytest.mark.parametrize("name", _cases())
def test_a_shipped_recipe_trains(
    name: str, tmp_path: Path, images: Path, real_data: Path, request: pytest.FixtureRequest
) -> None:
    first = load_sweep(name).points[0]  # of a sweep one point is trained
    recipe = first.recipe
    written, overrides, data = yaml.safe_load(shipped()[name].read_text()), list(SHORT), tmp_path
    overrides += ["sweep=", *(f"{key}={in_flow(value)}" for key, value in first.values.items())]
    if recipe.data.name in ("cifar10", "image_folder"):
        data = images
        overrides += ["data.name=image_folder", "data.folder=cifar10-images", "data.limit=40"]
        overrides += ["data.validation=20"] if recipe.data.validation else []
    elif recipe.data.name == "mnist":
        assert request.node.get_closest_marker("data")
        data = real_data
        overrides += ["data.validation=200", "data.limit=300"]
    if any(rewind.to.value for rewind in recipe.rewind):
        overrides += ["rewind=[init, 1it]", "train.schedule=constant"]
    if recipe.tune is not None:  # each optimizer trains in tests of its own
        few = "[{name: gd, batch_size: all}, adam, {name: sam, optimizer: momentum}]"
        overrides += ["tune.trials=2", f"train.optimizer={few}", "train.schedule=constant"]
    if recipe.transfer is not None:
        overrides += ["transfer=all"]
    elif recipe.name.startswith("survey-parts"):  # its warm-up and its branch reach beyond three steps and one level
        overrides += ["train.schedule=constant", "branches=[reinit]"]
    if "replicates" in written:  # claims are of densities and rewind points that the short run has not
        overrides += ["replicates=null"]
    if any(each.levels for each in recipe.branches):  # of which the short run has not all
        own = [{k: v for k, v in each.items() if k != "levels"} for each in map(_section, written["branches"])]
        overrides += [f"branches={json.dumps(own)}"]
    if recipe.prune.during is not None:
        overrides += ["prune.during={start: 1it, end: 3it, every: 1it}"]
    if any(each.levels or each.at for each in recipe.analyses):
        own = [{k: v for k, v in each.items() if k != "levels"} for each in map(_section, written["analyses"])]
        own = [each | {"at": ["init", "1it"]} if isinstance(each.get("at"), list) else each for each in own]
        overrides += [f"analyses={json.dumps(own)}"]
    between = {pair for each in recipe.analyses for pair in each.between or ()}
    others = "seed-seed" in between or any(each.name in ("transplant", "aligned") for each in recipe.branches)
    overrides += [f"seeds={2 if others else 1}"]
    compared = any(each.name == "one_shot" for each in recipe.branches)  # which is the ticket itself at level 1
    compared |= "level-level" in between
    overrides += ["prune.one_shot=[0.5]" if recipe.prune.one_shot else f"prune.levels={2 if compared else 1}"]
    outcome = lottery.run(lottery.load_recipe(name, overrides), data=data, store=tmp_path / "store", device="cpu")
    assert outcome.exit_code == 0, outcome.messages
    frame = lottery.table(lottery.load_recipe(name, overrides), data=data, store=tmp_path / "store")
    expected = ["dense", "ticket", *(branch.label for branch in recipe.branches)]
    least = -math.inf if recipe.data.name == "planted" else 0  # r2, which may be anything below 1
    assert all(least <= frame[column].dropna().iloc[0] <= 1 for column in expected)  # a control may begin at level 2
    assert json.loads(frame.to_json(orient="records"))
