"""Recipes: the whole schema, every problem at its place, `--set`, malformed recipes and random mutations."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml as pyyaml

from lottery.errors import RecipeError
from lottery.recipe.load import find_recipe, json_schema, load_recipe, parse_recipe, restore_recipe, shipped
from lottery.recipe.schema import Recipe
from lottery.recipe.sweep import load_sweep
from lottery.values import Component, Duration
from tests.support import ROOT

LENET = (ROOT / "recipes" / "lenet-mnist.yaml").read_text("utf-8")
TEXT = LENET[LENET.index("name:") :]  # without the comment at its head: `name` is in line 1
PLACE = r"(r\.yaml:\d+:\d+|--set [^\n]+?)"
KEY = r"""([^\s:'"]|'([^'\n\\]|\\.)*'|"[^"\n]*")+"""  # keys that are no words stand in quotes
LINE = re.compile(f"{PLACE}: {KEY}: [^\\n]+")


def read(*overrides: str, text: str = TEXT) -> Recipe:
    return parse_recipe(text, "r.yaml", overrides)


def problems(text: str | bytes, *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(text, "r.yaml", overrides)
    assert caught.value.exit_code == 2
    return caught.value.problems


def changed(old: str, new: str) -> str:
    assert TEXT.count(old) == 1
    return TEXT.replace(old, new)


def test_the_recipe_of_frankle_and_carbin_is_read_as_it_is_written() -> None:
    recipe = load_recipe("lenet-mnist")
    assert recipe.name == "lenet-mnist"
    assert recipe.question == "Does a pruned LeNet need its original initialization?"
    assert recipe.data.component == Component("mnist")
    assert (recipe.data.validation, recipe.data.augment, recipe.data.limit) == (5000, None, None)
    assert recipe.model.name == "lenet"
    assert list(recipe.model.args["widths"]) == [300, 100]
    assert recipe.init == Component("glorot_normal")
    assert recipe.train.optimizer == (Component("adam", {"lr": 0.0012}),)
    assert recipe.train.schedule.component == Component("constant")
    assert recipe.train.batch_size == 60
    assert recipe.train.length == Duration(50_000, "it")
    assert recipe.train.evaluate_every == Duration(100, "it")
    assert (recipe.train.precision, recipe.train.clip, recipe.train.label_smoothing) == ("fp32", None, 0.0)
    assert recipe.prune.criterion == Component("magnitude")
    assert (recipe.prune.scope, recipe.prune.fraction, recipe.prune.levels) == ("layer", 0.2, 20)
    assert recipe.prune.rates == {"output": 0.5}
    assert [(rewind.to, rewind.mode) for rewind in recipe.rewind] == [(Duration(0, "it"), "weights")]
    assert recipe.seeds == (0, 1, 2, 3, 4)
    assert [(branch.label, branch.samples, branch.levels) for branch in recipe.branches] == [
        ("reinit", 3, None),
        ("shuffle", 1, None),
    ]
    assert recipe.report == "best_accuracy"


def test_a_recipe_is_reported_at_the_test_accuracy_of_the_end_without_a_validation_split() -> None:
    assert read("data.validation=0").report == "end"
    assert read("data=mnist").report == "end"
    assert read("report=end").report == "end"


def test_all_problems_of_a_recipe_are_reported_at_once_each_at_its_place() -> None:
    text = TEXT
    for old, new in [
        ("validation: 5000", "validaton: 5000"),
        ("name: adam,", "name: adamm,"),
        ("  length:", "  lenght:"),
        ("scope: layer", "scope: gobal"),
        ("samples: 3", "sample: 3"),
        ("seeds: 5", "seeds: [1, 2, 1]"),
    ]:
        text = text.replace(old, new)
    assert problems(text) == [
        "r.yaml:3:21: data.validaton: mnist has no key 'validaton'; did you mean 'validation'?",
        "r.yaml:6:1: train: the key 'length' is missing",
        "r.yaml:7:3: train.optimizer: no optimizer 'adamm'; did you mean 'adam'? (lottery list optimizers)",
        "r.yaml:10:3: train.lenght: there is no key 'lenght' here; did you mean 'length'?",
        "r.yaml:14:3: prune.scope: input should be 'layer', 'global' or 'erk', not 'gobal'",
        "r.yaml:19:15: seeds.2: the same as item 0; every one may be given once",
        "r.yaml:21:20: branches.0.sample: reinit has no key 'sample'; did you mean 'samples'?",
    ]


# Malformed recipes: what is written instead, and the key that the first problem names.
CHANGES = [
    # names and text
    ("name: lenet-mnist", "name: ../escape", "name"),
    ("name: lenet-mnist", "name: a/b", "name"),
    ("name: lenet-mnist", "name: .hidden", "name"),
    ("name: lenet-mnist", "name: ''", "name"),
    ("name: lenet-mnist", "name: 2024", "name"),
    ("name: lenet-mnist", "name: true", "name"),
    ("name: lenet-mnist", "name: [a]", "name"),
    ("name: lenet-mnist", "name: {a: b}", "name"),
    ("name: lenet-mnist", "name: " + "x" * 65, "name"),
    ("name: lenet-mnist", "name: 'a b'", "name"),
    ("name: lenet-mnist", 'name: "a\\nb"', "name"),
    ("name: lenet-mnist", "name:", "name"),
    ("name: lenet-mnist", "nam: lenet-mnist", "recipe"),
    ("name: lenet-mnist", "", "recipe"),
    ("question: Does a pruned LeNet need its original initialization?", "question: 5", "question"),
    ("question: Does a pruned LeNet need its original initialization?", "question: [why]", "question"),
    ("question: Does a pruned LeNet need its original initialization?", "question:", "question"),
    ("question: Does a pruned LeNet need its original initialization?", "queston: why?", "queston"),
    # data
    ("{name: mnist, validation: 5000}", "{name: mnisst, validation: 5000}", "data"),
    ("{name: mnist, validation: 5000}", "{name: 5, validation: 5000}", "data.name"),
    ("{name: mnist, validation: 5000}", "{validation: 5000}", "data"),
    ("{name: mnist, validation: 5000}", "{name: '', validation: 1}", "data"),
    ("{name: mnist, validation: 5000}", "7", "data"),
    ("{name: mnist, validation: 5000}", "[mnist]", "data"),
    ("{name: mnist, validation: 5000}", "", "data"),
    ("{name: mnist, validation: 5000}", "{name: mnist, validation: -1}", "data.validation"),
    ("{name: mnist, validation: 5000}", "{name: mnist, validation: 0.1}", "data.validation"),
    ("{name: mnist, validation: 5000}", "{name: mnist, validation: '5000'}", "data.validation"),
    ("{name: mnist, validation: 5000}", "{name: mnist, validation: true}", "data.validation"),
    ("{name: mnist, validation: 5000}", "{name: mnist, validation: 10000000000}", "data.validation"),
    ("{name: mnist, validation: 5000}", "{name: mnist, validation: 5, limit: 0}", "data.limit"),
    ("{name: mnist, validation: 5000}", "{name: mnist, validation: 5, limit: all}", "data.limit"),
    ("{name: mnist, validation: 5000}", "{name: mnist, validation: 5, augment: flip}", "data.augment"),
    ("{name: mnist, validation: 5000}", "{name: mnist, validation: 5, augment: {crop: -1}}", "data.augment.crop"),
    ("{name: mnist, validation: 5000}", "{name: mnist, validation: 5, augment: {crop: 1.5}}", "data.augment.crop"),
    ("{name: mnist, validation: 5000}", "{name: mnist, validation: 5, augment: {flip: yes}}", "data.augment.flip"),
    ("{name: mnist, validation: 5000}", "{name: mnist, validation: 5, augment: {flop: true}}", "data.augment.flop"),
    ("{name: mnist, validation: 5000}", "{name: mnist, validation: 5, root: /data}", "data.root"),
    ("{name: mnist, validation: 5000}", "{name: mnist}\nreport: early_stop", "report"),
    ("{name: mnist, validation: 5000}", "{name: mnist}\nreport: best_accuracy", "report"),
    ("{name: mnist, validation: 5000}", "{name: mnist, validation: 5}\nreport: best", "report"),
    ("{name: mnist, validation: 5000}", "{name: mnist, validation: 5}\nreport:", "report"),
    # model and init
    ("{name: lenet, widths: [300, 100]}", "lennet", "model"),
    ("{name: lenet, widths: [300, 100]}", "{name: lenet, width: [300]}", "model.width"),
    ("{name: lenet, widths: [300, 100]}", "{name: lenet, widths: 300it}", "model.widths"),
    ("{name: lenet, widths: [300, 100]}", "{name: lenet, widths: [a]}", "model.widths.0"),
    ("{name: lenet, widths: [300, 100]}", "{name: lenet, widths: [300, {}]}", "model.widths.1"),
    ("{name: lenet, widths: [300, 100]}", "{lenet: {widths: [300, 100]}}", "model"),
    ("{name: lenet, widths: [300, 100]}", "{name: [lenet]}", "model"),
    ("{name: lenet, widths: [300, 100]}", "3", "model"),
    ("{name: lenet, widths: [300, 100]}", "[lenet]", "model"),
    ("{name: lenet, widths: [300, 100]}", "", "model"),
    ("{name: lenet, widths: [300, 100]}", "x" * 100_000, "model"),
    ("{name: lenet, widths: [300, 100]}", "os.system", "model"),
    ("init: glorot_normal", "init: glorot_norml", "init"),
    ("init: glorot_normal", "init: {name: glorot_normal, gian: 2}", "init.gian"),
    ("init: glorot_normal", "init: null", "init"),
    ("init: glorot_normal", "init: 0.1", "init"),
    ("init: glorot_normal", "int: glorot_normal", "recipe"),
    # train
    ("{name: adam, lr: 1.2e-3}", "adamm", "train.optimizer"),
    ("{name: adam, lr: 1.2e-3}", "[]", "train.optimizer"),
    ("{name: adam, lr: 1.2e-3}", "", "train.optimizer"),
    ("{name: adam, lr: 1.2e-3}", "{lr: 0.1}", "train.optimizer"),
    ("{name: adam, lr: 1.2e-3}", "{name: adam, lr: fast}", "train.optimizer.lr"),
    ("{name: adam, lr: 1.2e-3}", "{name: adam, lr: [0.1]}", "train.optimizer.lr"),
    ("{name: adam, lr: 1.2e-3}", "{name: adam, learning_rate: 0.1}", "train.optimizer.learning_rate"),
    ("{name: adam, lr: 1.2e-3}", "{name: adam, lr: .nan}", "train.optimizer.lr"),
    ("{name: adam, lr: 1.2e-3}", "sgd", "train.optimizer"),
    ("{name: adam, lr: 1.2e-3}", "[adam, adam]", "train.optimizer.1"),
    ("{name: adam, lr: 1.2e-3}", "[adam, {name: adam, lr: 0.001}]", "train.optimizer.1"),
    ("{name: adam, lr: 1.2e-3}", "[adam, 3]", "train.optimizer.1"),
    ("{name: adam, lr: 1.2e-3}", "[adam, [sgd]]", "train.optimizer.1"),
    ("{name: adam, lr: 1.2e-3}", "[adam, {name: sgdd, lr: 1}]", "train.optimizer.1"),
    ("{name: adam, lr: 1.2e-3}", "[adam, {name: sgd, lr: 1, nesterov: true}]", "train.optimizer.1.nesterov"),
    ("schedule: constant", "schedule: constnt", "train.schedule"),
    ("schedule: constant", "schedule: {warmup: 5it}", "train.schedule"),
    ("schedule: constant", "schedule: {name: constant, warmup: 5}", "train.schedule.warmup"),
    ("schedule: constant", "schedule: {name: constant, warmup: 50000it}", "train.schedule.warmup"),
    ("schedule: constant", "schedule: {name: constant, warmpu: 5it}", "train.schedule.warmpu"),
    ("schedule: constant", "schedule: {name: cosine, floor: low}", "train.schedule.floor"),
    ("schedule: constant", "schedule: {name: multi_step, at: [31k]}", "train.schedule.at.0"),
    ("schedule: constant", "schedule: {name: multi_step}", "train.schedule"),
    ("schedule: constant", "schedule: [constant]", "train.schedule"),
    ("schedule: constant", "schedule: 1", "train.schedule"),
    ("batch_size: 60", "batch_size: 0", "train.batch_size"),
    ("batch_size: 60", "batch_size: -60", "train.batch_size"),
    ("batch_size: 60", "batch_size: 60.5", "train.batch_size"),
    ("batch_size: 60", "batch_size: sixty", "train.batch_size"),
    ("batch_size: 60", "batch_size: '60'", "train.batch_size"),
    ("batch_size: 60", "batch_size: true", "train.batch_size"),
    ("batch_size: 60", "batch_size: 1_000", "train.batch_size"),
    ("batch_size: 60", "batch_size: 0x40", "train.batch_size"),
    ("batch_size: 60", "batch_size: 1:30", "train.batch_size"),
    ("batch_size: 60", "batch_size: 99999999999999999999", "train.batch_size"),
    ("batch_size: 60", "batch_size:", "train.batch_size"),
    ("batch_size: 60", "batchsize: 60", "train"),
    ("length: 50000it", "length: 50000", "train.length"),
    ("length: 50000it", "length: 50k", "train.length"),
    ("length: 50000it", "length: 0ep", "train.length"),
    ("length: 50000it", "length: -5it", "train.length"),
    ("length: 50000it", "length: 5 ep", "train.length"),
    ("length: 50000it", "length: 1.5ep", "train.length"),
    ("length: 50000it", "length: forever", "train.length"),
    ("length: 50000it", "length: [5it]", "train.length"),
    ("length: 50000it", "length: 9999999999999it", "train.length"),
    ("length: 50000it", "length: {it: 5}", "train.length"),
    ("evaluate_every: 100it", "evaluate_every: 0it", "train.evaluate_every"),
    ("evaluate_every: 100it", "evaluate_every: never", "train.evaluate_every"),
    ("evaluate_every: 100it", "precision: fp16", "train.precision"),
    ("evaluate_every: 100it", "clip: 0", "train.clip"),
    ("evaluate_every: 100it", "clip: big", "train.clip"),
    ("evaluate_every: 100it", "label_smoothing: 1", "train.label_smoothing"),
    ("evaluate_every: 100it", "label_smoothing: -0.1", "train.label_smoothing"),
    ("evaluate_every: 100it", "shuffle: true", "train.shuffle"),
    # prune
    ("criterion: magnitude", "criterion: magnitud", "prune.criterion"),
    ("criterion: magnitude", "criterion: {name: magnitude, power: 2}", "prune.criterion.power"),
    ("criterion: magnitude", "criterion: [magnitude]", "prune.criterion"),
    ("criterion: magnitude", "criterion:", "prune.criterion"),
    ("scope: layer", "scope: layers", "prune.scope"),
    ("scope: layer", "scope: [layer]", "prune.scope"),
    ("scope: layer", "scope: global", "prune.rates.output"),
    ("fraction: 0.2", "fraction: 0", "prune.fraction"),
    ("fraction: 0.2", "fraction: 1", "prune.fraction"),
    ("fraction: 0.2", "fraction: 20", "prune.fraction"),
    ("fraction: 0.2", "fraction: 20%", "prune.fraction"),
    ("fraction: 0.2", "fraction: -0.2", "prune.fraction"),
    ("fraction: 0.2", "fraction: '0.2'", "prune.fraction"),
    ("fraction: 0.2", "fraction: .inf", "prune.fraction"),
    ("fraction: 0.2", "one_shot: [0.5]", "prune.levels"),
    ("fraction: 0.2", "fraction: 0.2\n  one_shot: [0.5]", "prune.fraction"),
    ("levels: 20", "one_shot: [0.5, 0.2]", "prune.fraction"),
    ("rates: {output: 0.5}", "rates: {output: -1}", "prune.rates.output"),
    ("rates: {output: 0.5}", "rates: {output: half}", "prune.rates.output"),
    ("rates: {output: 0.5}", "rates: {output: 5}", "prune.rates.output"),
    ("rates: {output: 0.5}", "rates: {output: 1.0e+400}", "prune.rates.output"),
    ("rates: {output: 0.5}", "rates: [0.5]", "prune.rates"),
    ("rates: {output: 0.5}", "rates: 0.5", "prune.rates"),
    ("rates: {output: 0.5}", "rates: {1: 0.5}", "prune.rates"),
    ("levels: 20", "levels: -1", "prune.levels"),
    ("levels: 20", "levels: 201", "prune.levels"),
    ("levels: 20", "levels: 20.0", "prune.levels"),
    ("levels: 20", "levels: many", "prune.levels"),
    ("levels: 20", "levels: [1, 2]", "prune.levels"),
    ("levels: 20", "level: 20", "prune"),
    ("levels: 20", "", "prune"),
    # rewind and seeds
    ("rewind: init", "rewind: initial", "rewind"),
    ("rewind: init", "rewind: 500", "rewind"),
    ("rewind: init", "rewind: 50000it", "rewind"),
    ("rewind: init", "rewind: [init, 60000it]", "rewind.1"),
    ("rewind: init", "rewind: [init, 0it]", "rewind.1"),
    ("rewind: init", "rewind: []", "rewind"),
    ("rewind: init", "rewind:", "rewind"),
    ("rewind: init", "rewind: {mode: lr}", "rewind"),
    ("rewind: init", "rewind: {to: 500it, mode: weight}", "rewind.mode"),
    ("rewind: init", "rewind: {to: 500it, mod: lr}", "rewind.mod"),
    ("rewind: init", "rewind: [{to: 500it}, {to: 5}]", "rewind.1.to"),
    ("rewind: init", "rewnd: init", "recipe"),
    ("seeds: 5", "seeds: 0", "seeds"),
    ("seeds: 5", "seeds: -1", "seeds"),
    ("seeds: 5", "seeds: 1000000000", "seeds"),
    ("seeds: 5", "seeds: true", "seeds"),
    ("seeds: 5", "seeds: five", "seeds"),
    ("seeds: 5", "seeds: 2.5", "seeds"),
    ("seeds: 5", "seeds: []", "seeds"),
    ("seeds: 5", "seeds: [1, 1]", "seeds.1"),
    ("seeds: 5", "seeds: [1, -1]", "seeds.1"),
    ("seeds: 5", "seeds: [1, a]", "seeds.1"),
    ("seeds: 5", "seeds: [1, 2.0]", "seeds.1"),
    ("seeds: 5", "seeds: {from: 1}", "seeds"),
    # branches
    ("  - shuffle", "  - shufle", "branches.1"),
    ("  - shuffle", "  - 5", "branches.1"),
    ("  - shuffle", "  - [shuffle]", "branches.1"),
    ("  - shuffle", "  -", "branches.1"),
    ("  - shuffle", "  - {samples: 2}", "branches.1"),
    ("  - shuffle", "  - {name: shuffle, scope: network}", "branches.1.scope"),
    ("  - shuffle", "  - {name: shuffle, samples: 0}", "branches.1.samples"),
    ("  - shuffle", "  - {name: shuffle, samples: 5000}", "branches.1.samples"),
    ("  - shuffle", "  - {name: shuffle, levels: [0]}", "branches.1.levels.0"),
    ("  - shuffle", "  - {name: shuffle, levels: [3, 21]}", "branches.1.levels.1"),
    ("  - shuffle", "  - {name: shuffle, levels: last}", "branches.1.levels"),
    ("  - shuffle", "  - {name: shuffle, as: dense}", "branches.1"),
    ("  - shuffle", "  - {name: shuffle, as: reinit}", "branches.1"),
    ("  - shuffle", "  - {name: shuffle, as: reinit_std}", "branches.1"),
    ("  - shuffle", "  - {name: shuffle, as: 'a|b'}", "branches.1.as"),
    ("  - shuffle", "  - {name: shuffle, as_: a}", "branches.1.as_"),
    ("  - shuffle", "  - reinit", "branches.1"),
    ("  - shuffle", "  - retrain", "branches.1"),
    ("  - shuffle", "  - {name: retrain, optimizer: adamm}", "branches.1.optimizer"),
    ("  - shuffle", "  - {name: retrain, optimizer: {name: adam, lr: x}}", "branches.1.optimizer.lr"),
    ("  - shuffle", "  - {name: retrain, optimizer: adam, schedule: {name: cosine, at: 1}}", "branches.1.schedule.at"),
    ("  - shuffle", "  - {name: retrain, optimizer: 5}", "branches.1.optimizer"),
    # YAML
    ("seeds: 5", "seeds: 5\nseeds: 6", "recipe"),
    ("scope: layer", "scope: &s layer", "prune.scope"),
    ("scope: layer", "scope: *s", "prune.scope"),
    ("scope: layer", "scope: !!str layer", "prune.scope"),
    ("scope: layer", "<<: {a: 1}", "prune"),
    ("scope: layer", "? [scope]\n  : layer", "prune"),
    ("seeds: 5", "seeds: 5\n---\nname: b", "recipe"),
    ("seeds: 5", "seeds: [5", "seeds"),
    ("seeds: 5", "seeds: 5: 6", "recipe"),
    ("seeds: 5", "seeds: '5", "recipe"),
    ("seeds: 5", "\tseeds: 5", "recipe"),
    ("seeds: 5", "  seeds: 5", "recipe"),
    ("seeds: 5", "seeds: \x00", "recipe"),
    ("seeds: 5", "seeds: " + "[" * 5000, "seeds"),
    ("seeds: 5", "seeds: [" + "1, " * 20_000 + "]", "seeds"),
    ("seeds: 5", "seeds: [" + "x, " * 5_000 + "]", "seeds.0"),
    ("seeds: 5", "s: 5\n" * 500, "recipe"),
]
WHOLE = [
    *("", " ", "\n", "#", "null", "~", "5", "text", "[]", "{}", "- a", "---", "...", "\ufeff", "\0", "\x7f"),
    *("&", "*", "!", "%", "@", "'", '"', "{", "[", "}", "]", ":", "?", "-", "|", ">"),
    "a: 1\n...\nb: 2",
    "!!python/object/apply:os.system ['exit 1']",
    "a\n" * 100_000,
    "a: " * 1000,
    "[" * 900_000,
    "{" * 900_000,
    "? " * 100_000,
    "- " * 100_000,
    "x" * 2_000_000,
    "{a: " * 15 + "1" + "}" * 15,
]


@pytest.mark.parametrize(("old", "new", "key"), CHANGES, ids=lambda value: ascii(value)[:40])
def test_a_malformed_recipe_is_refused_with_file_line_column_and_key(old: str, new: str, key: str) -> None:
    lines = problems(changed(old, new))
    assert all(LINE.fullmatch(line) and line.startswith("r.yaml:") and len(line) < 600 for line in lines)
    keys = [line.split(": ", 2)[1] for line in lines]
    assert any(found == key or (key == "seeds" and found.startswith("seeds.")) for found in keys), lines


@pytest.mark.parametrize("text", WHOLE, ids=lambda value: ascii(value)[:30])
def test_what_is_no_recipe_at_all_is_refused_with_file_line_and_column(text: str) -> None:
    lines = problems(text)
    assert all(re.fullmatch(r"r\.yaml:\d+:\d+: [^\n]+", line) for line in lines)


@pytest.mark.slow
def test_each_malformed_recipe_is_refused_within_two_seconds() -> None:
    for text in [*(changed(old, new) for old, new, _ in CHANGES), *WHOLE]:
        started = time.process_time()
        problems(text)
        assert time.process_time() - started < 2


def test_there_are_150_malformed_recipes() -> None:
    assert len(CHANGES) + len(WHOLE) >= 150


def mutated(data: bytes, dice: random.Random) -> bytes:
    """One to eight bytes changed, removed, inserted or moved."""
    result = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 8))):
        at = dice.randrange(len(result))
        byte = dice.choice((dice.randrange(256), *b" \t\n:{}[],&*!|>'\"%@`#-?0"))
        match dice.randrange(5):
            case 0:
                result[at] = byte
            case 1:
                del result[at : at + dice.randrange(1, 20)]
            case 2:
                result.insert(at, byte)
            case 3:
                result[at] ^= 1 << dice.randrange(8)
            case _:
                result[at:at] = result[at : at + dice.randrange(1, 200)] * dice.choice((1, 3))
    return bytes(result)


def mutations_that_behave(count: int, seed: int, seconds: float | None = None) -> tuple[int, int]:
    """How many of the mutations were read, how many refused; anything else, or more seconds for one, is an error."""
    dice, read_ones = random.Random(seed), 0
    for number in range(count):
        data = mutated(LENET.encode(), dice)
        started = time.process_time() if seconds else 0.0
        try:
            parse_recipe(data, "r.yaml")
            read_ones += 1
        except RecipeError as error:
            wrong = [line for line in error.problems if not LINE.fullmatch(line)]
            assert not wrong, (number, wrong)
        assert seconds is None or time.process_time() - started < seconds, number
    return read_ones, count - read_ones


def test_a_thousand_random_mutations_are_read_or_refused_and_nothing_else() -> None:
    well, ill = mutations_that_behave(1_000, seed=1)
    assert well > 100
    assert ill > 100


@pytest.mark.slow
def test_ten_thousand_random_mutations_are_read_or_refused_and_nothing_else() -> None:
    well, ill = mutations_that_behave(10_000, seed=2, seconds=2)
    assert well > 1_000
    assert ill > 1_000


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("name=other", lambda r: r.name == "other"),
        ("question=no", lambda r: r.question == "no"),
        ("data.name=fashion_mnist", lambda r: r.data.component == Component("fashion_mnist")),
        ("data.validation=100", lambda r: r.data.validation == 100),
        ("data.limit=1000", lambda r: r.data.limit == 1000),
        ("data.augment.crop=2", lambda r: (r.data.augment.crop, r.data.augment.flip) == (2, False)),
        ("model.name=lenet", lambda r: r.model.name == "lenet"),
        ("model.widths=[20, 10]", lambda r: list(r.model.args["widths"]) == [20, 10]),
        ("model.widths.1=7", lambda r: list(r.model.args["widths"]) == [300, 7]),
        ("init=kaiming_normal", lambda r: r.init == Component("kaiming_normal")),
        ("init.name=kaiming_normal", lambda r: r.init == Component("kaiming_normal")),
        ("train.optimizer.name=adam", lambda r: r.train.optimizer[0].name == "adam"),
        ("train.optimizer.lr=1e-3", lambda r: r.train.optimizer == (Component("adam", {"lr": 0.001}),)),
        ("train.optimizer={name: sgd, lr: 1}", lambda r: r.train.optimizer == (Component("sgd", {"lr": 1.0}),)),
        (
            "train.optimizer=[adam, {name: sgd, lr: .1}]",
            lambda r: [o.name for o in r.train.optimizer] == ["adam", "sgd"],
        ),
        ("train.schedule=cosine", lambda r: r.train.schedule.component == Component("cosine")),
        ("train.schedule.warmup=5it", lambda r: r.train.schedule.warmup == Duration(5, "it")),
        ("train.batch_size=128", lambda r: r.train.batch_size == 128),
        ("train.length=40ep", lambda r: r.train.length == Duration(40, "ep")),
        ("train.evaluate_every=1ep", lambda r: r.train.evaluate_every == Duration(1, "ep")),
        ("train.clip=1", lambda r: r.train.clip == 1.0),
        ("prune.criterion=random", lambda r: r.prune.criterion == Component("random")),
        ("prune.scope=layer", lambda r: r.prune.scope == "layer"),
        ("prune.fraction=.5", lambda r: r.prune.fraction == 0.5),
        ("prune.rates={}", lambda r: r.prune.rates == {}),
        ("prune.rates.output=0", lambda r: r.prune.rates == {"output": 0.0}),
        ("prune.rates.fc*=1", lambda r: r.prune.rates == {"output": 0.5, "fc*": 1.0}),
        ("prune.levels=3", lambda r: r.prune.levels == 3),
        ("prune={one_shot: [.5, .2]}", lambda r: (r.prune.one_shot, r.prune.levels) == ((0.5, 0.2), 2)),
        ("rewind=500it", lambda r: r.rewind[0].to == Duration(500, "it")),
        ("rewind.mode=lr", lambda r: (r.rewind[0].to, r.rewind[0].mode) == (Duration(0, "it"), "lr")),
        ("rewind=[init, {to: 2ep, mode: finetune}]", lambda r: [x.mode for x in r.rewind] == ["weights", "finetune"]),
        ("seeds=2", lambda r: r.seeds == (0, 1)),
        ("seeds=[7, 3]", lambda r: r.seeds == (7, 3)),
        ("branches=[]", lambda r: r.branches == ()),
        ("branches.0.samples=2", lambda r: r.branches[0].samples == 2),
        ("branches.0=random", lambda r: r.branches[0].label == "random"),
        ("branches.1.scope=global", lambda r: r.branches[1].component == Component("shuffle", {"scope": "global"})),
        ("branches.1.as=moved", lambda r: r.branches[1].label == "moved"),
        ("branches.1.levels=[1, 5]", lambda r: r.branches[1].levels == (1, 5)),
        ("report=end", lambda r: r.report == "end"),
    ],
)
def test_each_key_of_a_recipe_is_set_on_the_command_line(override: str, value: Any) -> None:
    assert value(read(override))
    assert read(override) != read() or value(read())


def test_a_later_override_goes_over_an_earlier_one() -> None:
    assert read("train.optimizer=adam", "train.optimizer.lr=0.1", "train.optimizer.lr=0.2").train.optimizer == (
        Component("adam", {"lr": 0.2}),
    )


def test_an_override_may_give_what_the_file_leaves_out() -> None:
    text = changed("  batch_size: 60\n", "")
    assert read("train.batch_size=60", text=text) == read()


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("train.lr", "--set train.lr: write it as a.b=value"),
        ("=1", "--set =1: write it as a.b=value"),
        ("train..lr=1", "--set train..lr=1: write it as a.b=value"),
        ("a." * 30 + "a=1", "--set " + "a." * 28 + "a...: write it as a.b=value"),
        ("train.batch_size.x=1", "--set train.batch_size.x=1: train.batch_size is '60', which has no key 'x'"),
        ("branches.2=shuffle", "--set branches.2=shuffle: branches is a list of 2; write an index from 0, not '2'"),
        ("branches.-1=x", "--set branches.-1=x: branches is a list of 2; write an index from 0, not '-1'"),
        ("branches.a.b=x", "--set branches.a.b=x: branches is a list of 2; write an index from 0, not 'a'"),
        ("seeds=*x", "--set seeds=*x: seeds: the alias *x is not read; write the value out"),
        ("seeds=[1", "--set seeds=[1: seeds: not YAML: while parsing a flow sequence"),
        ("seeds=1\n---\n2", "--set 'seeds=1\\n---\\n2': seeds: a second document starts here"),
        ("seeds=a: b: c", "--set seeds=a: b: c: seeds: not YAML: mapping values are not allowed in this context"),
        ("train.optimizer=adamm", "--set train.optimizer=adamm: train.optimizer: no optimizer 'adamm'"),
        ("train.optimzer.lr=1", "--set train.optimzer.lr=1: train.optimzer: there is no key 'optimzer' here; did you"),
        ("trian={}", "--set trian={}: trian: there is no key 'trian' here; did you mean 'train'?"),
        ("engine=dense", "--set engine=dense: engine: there is no key 'engine' here; there is train.engine"),
        ("train.lr=1", "--set train.lr=1: train.lr: there is no key 'lr' here; there is train.optimizer.lr"),
        ("train.optimizer.lrr=1", "--set train.optimizer.lrr=1: train.optimizer.lrr: adam has no key 'lrr'; did"),
        ("train={}", "--set train={}: train: the key 'batch_size' is missing"),
        ("data.validation=0.5", "--set data.validation=0.5: data.validation: input should be a valid integer, not 0.5"),
        ("name.x=1", "--set name.x=1: name is 'lenet-mnist', which has no key 'x'"),
        ("seeds=\udcff", "--set 'seeds=\\udcff': seeds: character '\\udcff' is not text; remove it"),
    ],
    ids=lambda value: ascii(value)[:40],
)  # fmt: skip
def test_a_bad_override_is_named_with_what_is_wrong(override: str, line: str) -> None:
    first = problems(TEXT, override)[0]
    assert first.startswith(line)
    assert "\n" not in first


@pytest.mark.parametrize(
    ("override", "given"),
    [
        ("prune.criterion=[magnitude, snip]", "['magnitude', 'snip']"),
        ("model=[{name: lenet, widths: [3]}, mlp]", "[{'name': 'lenet', 'widths': [3]}, 'mlp']"),
        ("data=[mnist, digits]", "[{'name': 'mnist'}, {'name': 'digits'}]"),
        ("train.schedule=[cosine, constant]", "[{'name': 'cosine'}, {'name': 'constant'}]"),
    ],
)
def test_a_list_where_one_entry_is_taken_is_refused_in_the_words_of_recipes(override: str, given: str) -> None:
    key = override.partition("=")[0]
    line = f"--set {override}: {key}: a list is not taken here; write one entry, not {given}"
    assert problems(TEXT, override) == [line]


def test_problems_of_the_file_and_of_overrides_come_together_in_order() -> None:
    assert problems(changed("scope: layer", "scope: both"), "seeds=0", "oops", "train.clip=0") == [
        "r.yaml:14:3: prune.scope: input should be 'layer', 'global' or 'erk', not 'both'",
        "--set seeds=0: seeds: 0 seeds; write a number from 1 to 5,000, or a list of seeds",
        "--set oops: write it as a.b=value",
        "--set train.clip=0: train.clip: input should be greater than 0",
    ]


def test_a_recipe_with_very_many_problems_shows_the_first_hundred() -> None:
    lines = problems(changed("seeds: 5", "seeds: [" + "x, " * 500 + "]"))
    assert len(lines) == 101
    assert lines[-1] == "r.yaml:1:1: recipe: 400 more problems; mend these first"


def test_components_within_components_are_brought_to_their_types() -> None:
    recipe = read("branches.1={name: retrain, optimizer: {name: sgd, lr: 1}, schedule: {name: multi_step, at: [5it]}}")
    args = recipe.branches[1].component.args
    assert args["optimizer"] == Component("sgd", {"lr": 1.0})
    assert isinstance(args["optimizer"].args["lr"], float)
    assert args["schedule"] == Component("multi_step", {"at": (Duration(5, "it"),)})


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("data.augment={crop: 4, flip: true}", "train.schedule={name: multi_step, at: [5it, 9it], warmup: 1ep}"),
        ("prune={one_shot: [0.5, 0.05]}", "rewind=[init, {to: 5it, mode: lr}]", "seeds=[4, 2]", "question='1e-3: no'"),
        ("branches.1={name: retrain, optimizer: {name: sgd, lr: 1e-5}, as: sgd, levels: [2]}", "report=end"),
    ],
)
def test_the_canonical_form_reads_back_to_the_same_recipe(overrides: list[str]) -> None:
    recipe = read(*overrides)
    canonical = recipe.canonical()
    assert restore_recipe(json.loads(json.dumps(canonical))) == recipe
    assert restore_recipe(canonical).canonical() == canonical == recipe.canonical()
    assert parse_recipe(json.dumps(canonical), "canonical") == recipe
    assert parse_recipe(pyyaml.safe_dump(canonical), "canonical") == recipe


def test_a_canonical_form_restores_whatever_text_it_holds() -> None:
    recipe = read("question='🎲   1e-3: \"#'")
    assert restore_recipe(json.loads(json.dumps(recipe.canonical()))) == recipe


def test_a_canonical_form_of_another_version_is_refused() -> None:
    with pytest.raises(RecipeError) as caught:
        restore_recipe({**read().canonical(), "colour": 1})
    assert caught.value.problems == [
        "recipe:1:1: recipe: there is no key 'colour' here; there are analyses, branches, compare, data, "
        "finetune, init, keep, metrics, model, name, plugins, prune, question, replicates, report, rewind, seeds, "
        "sweep, train, transfer, tune"
    ]


def test_the_json_schema_for_editors_knows_the_short_forms() -> None:
    schema = json_schema()
    assert set(schema["properties"]) == {
        "name", "question", "plugins", "data", "model", "init", "train", "prune", "rewind", "seeds", "branches",
            "report",
            "tune", "transfer", "compare", "replicates", "finetune", "metrics", "keep", "analyses", "sweep",
    }  # fmt: skip
    assert schema["additionalProperties"] is False
    assert {"type": "integer"} in schema["properties"]["seeds"]["anyOf"]
    assert {"type": "string"} in schema["properties"]["rewind"]["anyOf"]
    json.dumps(schema)


def test_a_recipe_cannot_be_changed_after_it_was_read() -> None:
    with pytest.raises(ValueError, match="frozen"):
        read().train.batch_size = 1


def test_shipped_recipes_are_found_by_name_and_files_by_path(tmp_path: Path) -> None:
    found = find_recipe("lenet-mnist")  # in the repository, or in the package where it is installed
    assert shipped()["lenet-mnist"] == found
    assert found.read_bytes() == (ROOT / "recipes" / "lenet-mnist.yaml").read_bytes()
    path = tmp_path / "mine.yaml"
    path.write_text(TEXT)
    assert load_recipe(path) == load_recipe(str(path)) == load_recipe("lenet-mnist")
    assert load_recipe(path, ["seeds=1"]).seeds == (0,)


def test_a_recipe_that_cannot_be_read_is_named_with_the_way_out(tmp_path: Path) -> None:
    nowhere = "neither a file nor a shipped recipe"
    cases = {
        "lenet-mnits": f"{nowhere}; did you mean 'lenet-mnist'? (lottery list recipes)",
        str(tmp_path / "no.yaml"): f"{nowhere} (lottery list recipes)",
        str(tmp_path): "cannot be read: Is a directory",
        "a\0b": f"{nowhere} (lottery list recipes)",
    }
    for source, message in cases.items():
        with pytest.raises(RecipeError) as caught:
            load_recipe(source)
        assert caught.value.problems == [f"{source}: {message}"]


@pytest.mark.parametrize("name", sorted(shipped()))
def test_each_shipped_recipe_is_valid_and_says_first_what_it_shows(name: str) -> None:
    assert load_sweep(name).name == name
    text = shipped()[name].read_text("utf-8")
    head = text[: text.index("name:")]
    assert all(line.startswith("# ") for line in head.splitlines())
    command = "replicate" if shipped()[name].parent.name in ("papers", "survey") else "run"
    assert f"lottery {command} {name}" in head


def test_the_recipe_module_needs_neither_torch_nor_numpy_nor_pandas() -> None:
    code = "import lottery.recipe.load, sys; print([m for m in ('torch', 'numpy', 'pandas') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=dict(os.environ), capture_output=True, text=True)
    assert (out.stdout, out.returncode) == ("[]\n", 0)


@pytest.mark.parametrize("change", ["name='my study'", "branches=[{name: reinit, as: new weights}]"])
def test_a_name_with_a_space_is_told_the_rule_in_words(change: str) -> None:
    (problem,) = problems(TEXT, change)
    assert "a name is letters, digits, '.', '_' and '-' without spaces" in problem
    assert "^" not in problem and problem.endswith(("not 'my study'", "not 'new weights'"))


def test_an_empty_override_takes_away_what_may_be_left_out_and_nothing_else() -> None:
    assert read("branches=", "report=", "question=") == read("branches=[]", "report=best_accuracy", "question=''")
    assert any(each.startswith("--set train=") for each in problems(TEXT, "train="))
