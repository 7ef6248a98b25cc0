"""Sweeps in recipes: which points they make, that each is the recipe that `--set` makes, and what is refused where."""

from __future__ import annotations

from pathlib import Path

import pytest

from lottery.errors import RecipeError, UsageError
from lottery.plan.expand import plan
from lottery.recipe.load import json_schema, load_recipe, parse_recipe
from lottery.recipe.sweep import Sweep, load_sweep, parse_sweep
from tests.support.micro import MICRO, micro

SWEPT = MICRO + "sweep:\n  model.norm: [none, batch]\n  train.optimizer.lr: [0.01, 0.1, 1]\n"


def swept(*overrides: str, text: str = SWEPT) -> Sweep:
    return parse_sweep(text, "micro.yaml", overrides)


def wrong(section: str, *overrides: str) -> list[str]:
    """Return what is wrong with the micro recipe with this section `sweep`, which begins in line 9."""
    with pytest.raises(RecipeError) as caught:
        parse_sweep(f"{MICRO}sweep:\n{section}", "m.yaml", overrides)
    return list(caught.value.problems)


def test_the_points_are_the_product_of_all_values_with_the_last_key_fastest() -> None:
    found = swept()
    assert found.keys == ("model.norm", "train.optimizer.lr")
    assert [tuple(point.values.values()) for point in found.points] == [
        ("none", 0.01), ("none", 0.1), ("none", 1), ("batch", 0.01), ("batch", 0.1), ("batch", 1),
    ]  # fmt: skip
    assert found.points[3].label == "model.norm=batch, train.optimizer.lr=0.01"


def test_each_point_is_the_recipe_that_set_makes_with_the_same_jobs() -> None:
    for point in swept("seeds=2").points:
        alone = micro("seeds=2", *(f"{key}={value}" for key, value in point.values.items()))
        assert point.recipe == alone
        assert plan(point.recipe, "f" * 64).jobs.keys() == plan(alone, "f" * 64).jobs.keys()


def test_keys_of_zip_go_together_value_by_value_beside_the_product() -> None:
    section = "sweep:\n  zip: {model: [lenet, {name: highway}], init: [torch, orthogonal]}\n  prune.levels: [1, 2]\n"
    points = swept(text=MICRO + section).points
    made = [(p.recipe.model.name, p.recipe.init.name, p.recipe.prune.levels) for p in points]
    assert made == [
        ("lenet", "torch", 1),
        ("lenet", "torch", 2),
        ("highway", "orthogonal", 1),
        ("highway", "orthogonal", 2),
    ]


def test_a_key_inside_another_is_set_after_it_whichever_is_written_first() -> None:
    points = swept(text=MICRO + "sweep: {model.norm: [batch, layer], model: [lenet, highway]}\n").points
    assert [(p.recipe.model.name, p.recipe.model.args["norm"]) for p in points] == [
        ("lenet", "batch"), ("highway", "batch"), ("lenet", "layer"), ("highway", "layer"),
    ]  # fmt: skip


def test_what_the_sweep_says_may_be_left_out_of_the_rest() -> None:
    text = MICRO.replace("init: glorot_normal\n", "") + "sweep: {init: [torch, orthogonal]}\n"
    assert [point.recipe.init.name for point in swept(text=text).points] == ["torch", "orthogonal"]
    schema = json_schema()
    assert schema["anyOf"][1] == {"required": ["sweep"]}
    assert "init" in schema["anyOf"][0]["required"]


def test_a_recipe_without_a_sweep_is_one_point_without_values() -> None:
    found = parse_sweep(MICRO, "micro.yaml")
    assert (found.keys, found.points[0].values, found.only) == ((), {}, micro())
    assert swept("sweep=").only == micro()


def test_an_override_changes_the_rest_or_the_list_of_a_swept_key() -> None:
    found = swept("sweep.train.optimizer.lr=[0.5]", "train.batch_size=20", "model={name: lenet, widths: [7]}")
    assert [(p.recipe.train.batch_size, p.recipe.model.args["widths"]) for p in found.points] == [(20, (7,))] * 2
    assert [point.values["train.optimizer.lr"] for point in found.points] == [0.5, 0.5]


@pytest.mark.parametrize(
    ("section", "line"),
    [
        ("  model.nrom: [none, batch]\n", "m.yaml:10:16: model.nrom: lenet has no key 'nrom'; did you mean 'norm'?"),
        ("  modle.norm: [none]\n", "m.yaml:10:16: modle: there is no key 'modle' here; did you mean 'model'?"),
        ("  init: []\n", "m.yaml:10:3: sweep.init: the list is empty; write at least one value"),
        ("  init: torch\n", "m.yaml:10:3: sweep.init: write a list of values; "
         "a value that is a list itself stands in a second pair of brackets"),
        ("  prune.levels: [1, 2, 1]\n", "m.yaml:10:24: sweep.prune.levels.2: the same as value 0; "
         "every one may be given once"),
        ("  init: [torch, {name: torch}]\n", "m.yaml:10:17: sweep.init.1: the point init={name: torch} is the same "
         "recipe as init=torch; keep one"),
        ("  seeds: [1, 2]\n", "m.yaml:10:3: sweep.seeds: seeds cannot be swept: they pair the points, each of which "
         "has them all"),
        ("  replicates.claims: [1]\n", "m.yaml:10:3: sweep.replicates.claims: replicates cannot be swept: its claims "
         "are about the points"),
        ("  model..norm: [none]\n", "m.yaml:10:3: sweep.model..norm: 'model..norm' is no key; write it as "
         "`--set` takes it, such as train.optimizer.lr"),
        ("  zip: {init: [torch, lsuv], model: [lenet]}\n", "m.yaml:10:30: sweep.zip.model: 1 values, and 2 of init; "
         "those of zip go together, one by one"),
        ("  zip: {init: [torch]}\n  init: [lsuv]\n", "m.yaml:10:9: sweep.zip.init: init is swept by itself too; "
         "keep one of the two"),
        ("  zip: 3\n", "m.yaml:10:3: sweep.zip: write keys and lists of one length, whose values go together"),
        ("  seeds.1.lr: [1]\n", "m.yaml:10:3: sweep.seeds.1.lr: seeds cannot be swept: they pair the points, each of "
         "which has them all"),
        ("  train.batch_size.lr: [1]\n", "m.yaml:10:25: train.batch_size is '50', which has no key 'lr'"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_sweep_is_one_line_at_its_place(section: str, line: str) -> None:
    assert wrong(section) == [line]


def test_more_points_than_the_most_are_refused() -> None:
    values = ", ".join(map(str, range(1, 41)))
    (line,) = wrong(f"  train.batch_size: [{values}]\n  prune.levels: [{values}]\n")
    assert line.startswith("m.yaml:9:1: sweep: makes 1,600 points, 1,000 is the most")


def test_one_value_that_is_wrong_is_told_once_at_its_place_and_not_at_each_point() -> None:
    lines = wrong("  model.norm: [none, batsh]\n  prune.levels: [1, 2]\n")
    assert lines == [
        "m.yaml:10:22: model.norm: no normalization 'batsh'; did you mean 'batch'? (lottery list normalizations)"
    ]


def test_values_that_contradict_the_rest_are_named_with_it() -> None:
    (line,) = wrong("  train.length: [3it, 40it]\n  prune.levels: [1, 2]\n", "rewind=5it")
    assert line.startswith("--set rewind=5it: rewind: 5it leaves nothing of the training")
    assert line.endswith("(at train.length=3it)")


def test_a_swept_key_cannot_be_set_as_well() -> None:
    for override in ("model.norm=layer", "train.optimizer.lr=1"):
        key = override.partition("=")[0]
        with pytest.raises(RecipeError) as caught:
            swept(override)
        (line,) = caught.value.problems
        assert line.startswith(f"--set {override}: {key}: is swept (micro.yaml:")
        assert f"--set 'sweep.{key}=[...]'" in line


def test_a_sweep_is_no_recipe_and_says_what_to_do(tmp_path: Path) -> None:
    (path := tmp_path / "swept.yaml").write_text(SWEPT)
    with pytest.raises(RecipeError, match="sweep: makes several recipes, and one is asked for"):
        load_recipe(path)
    assert len(load_sweep(path).points) == 6
    with pytest.raises(UsageError, match=r"6 points, and this is done of one; .* --point 'model.norm=none'"):
        load_sweep(path).only  # noqa: B018


def test_points_are_chosen_by_their_values() -> None:
    found = swept()
    assert [p.label for p in found.at(["model.norm=batch", "train.optimizer.lr=1.0"]).points] == [
        "model.norm=batch, train.optimizer.lr=1"
    ]
    assert len(found.at(["model.norm=batch"]).points) == 3
    assert found.where({"train.optimizer.lr": 0.1, "model.norm": "none"}) == found.points[1:2]
    by_name = parse_sweep(MICRO + "sweep: {model: [{name: lenet, widths: [3]}, highway]}\n", "micro.yaml")
    assert by_name.at(["model=lenet"]).only.model.args["widths"] == (3,)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["model.nrom=batch"], "--point model.nrom=batch: model.nrom: is not swept; did you mean 'model.norm'?"),
        (["model.norm=layer"], "--point model.norm=layer: model.norm: is never layer; its values are none, batch"),
        (["model.norm"], "--point model.norm: write it as key=value, such as model.norm=batch"),
        (["model.norm=[none"], "--point model.norm=[none: "),
    ],
)
def test_a_point_that_there_is_not_is_refused(settings: list[str], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        swept().at(settings)
    assert str(caught.value).startswith(words)


def test_claims_of_a_sweep_are_about_its_points_and_no_point_has_them() -> None:
    left, right = (f"{{model.norm: {norm}, train.optimizer.lr: 0.1}}" for norm in ("batch", "none"))
    claim = f"{{text: t, source: s, left: {left}, right: {right}, densities: [0.5], least: 0}}"
    found = swept(f"replicates={{source: here, claims: [{claim}]}}")
    assert found.replicates is not None
    assert found.replicates.source == "here"
    assert all(point.recipe.replicates is None for point in found.points)
    with pytest.raises(RecipeError, match="replicates: the key 'source' is missing"):
        swept(f"replicates={{claims: [{claim}]}}")


def test_set_of_a_text_that_is_no_sweep_still_reads_a_recipe() -> None:
    assert parse_recipe(MICRO, "micro.yaml", ["sweep=null"]) == micro()
