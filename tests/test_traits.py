"""Traits of catalogue entries: a wrong one is refused in a line, and the documentation has each as it is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields

import pytest

from lottery import registry
from lottery.errors import UsageError
from lottery.recipe.audit_fields import FIELDS
from lottery.traits import ModelTraits, OptimizerTraits, Traits
from tests.support import ROOT
from tests.support.plugs import Plugs, plugs
from tests.support.tree import PACKAGE

__all__ = ["plugs"]

WRONG = {  # the traits that a plugin gives, and what it is told of them
    "models, prunabel=('output',)": "models have no trait 'prunabel'; did you mean 'prunable'?",
    "models, wholly=True": "models have no trait 'wholly'; there are chain, gates, how, prunable, scaled, version_of",
    "schedules, rates=(0.1, 1.0)": "schedules have no trait 'rates'; there are how, version_of",
    "models, prunable='output'": "the trait 'prunable': input should be a valid tuple, not 'output'",
    "models, prunable=('output', 3)": "the trait 'prunable' at 1: input should be a valid string, not 3",
    "models, gates=1": "the trait 'gates': input should be a valid boolean, not 1",
    "models, scaled=2.0": "the trait 'scaled': input should be callable, not 2.0",
    "criteria, scope='globl'": "the trait 'scope': input should be 'layer', 'global' or 'erk', not 'globl'",
    "criteria, rounds=0": "the trait 'rounds': input should be greater than or equal to 1, not 0",
    "optimizers, rates=(1.0, 0.1)": "the trait 'rates': [1.0, 0.1] is no range; write the lower rate first",
    "optimizers, refuses={'clipping': 'why'}": (
        "the trait 'refuses' at clipping.[key]: input should be 'accumulate', 'clip', 'bf16' or 'batch_size', not "
        "'clipping'"
    ),
    "branches, clam='mask', once='yes'": (
        "the trait 'once': input should be a valid boolean, not 'yes'; branches have no trait 'clam'; did you mean "
        "'claim'?"
    ),
}


@pytest.mark.parametrize("given", WRONG)
def test_a_trait_that_is_unknown_or_of_another_type_is_told_to_the_plugin_that_registers(
    plugs: Plugs, given: str
) -> None:
    catalogue, _, traits = given.partition(", ")
    singular = registry.catalogues[catalogue].singular
    register = f'@{catalogue}.register("mine", source="me", {traits})'
    with pytest.raises(UsageError) as caught:
        plugs.load(text=f"from lottery.registry import {catalogue}\n\n\n{register}\ndef f():\n    pass\n")
    assert str(caught.value) == f"plugin mine: {singular} 'mine': {WRONG[given]}"
    assert "mine" not in registry.catalogues[catalogue]


def test_a_trait_of_a_plugin_that_names_no_key_of_its_entry_is_told_of_that_entry(plugs: Plugs) -> None:
    text = 'datasets.register("mine", source="me", how=("strem",), crops=("stream", "size"))(f)\n'
    plugs.load(
        text=f"from lottery.registry import datasets\n\n\ndef f(root, *, stream: bool = False):\n    pass\n\n\n{text}"
    )
    assert registry.datasets.faults("mine") == [
        "plugin mine: dataset 'mine': the trait 'how' names no key of it: 'strem'; did you mean 'stream'?",
        "plugin mine: dataset 'mine': the trait 'crops' names no key of it: 'size'; there are stream",
    ]


def test_an_entry_has_the_traits_it_gives_and_defaults_for_the_others(plugs: Plugs) -> None:
    text = 'optimizers.register("mine", source="me", rates=(1, 10), nests=False)(lambda model, *, lr=1.0: None)\n'
    plugs.load(text=f"from lottery.registry import optimizers\n\n{text}")
    assert registry.optimizers["mine"].traits == OptimizerTraits(rates=(1.0, 10.0), nests=False)
    assert registry.optimizers["mine"].traits != OptimizerTraits(rates=(1.0, 10.0))


def described() -> Iterator[tuple[str, str, str, str]]:
    """Catalogue, trait, default and meaning of each trait, those of all catalogues first."""
    shared = {field.name for field in fields(Traits)}
    for plural, kind in [("all", Traits), *((name, each.traits) for name, each in registry.catalogues.items())]:
        known = kind.__pydantic_fields__  # type: ignore[attr-defined]
        for name, field in known.items():
            if name not in shared or plural == "all":
                yield plural, name, repr(field.default), str(field.description)


def test_the_table_of_traits_in_the_documentation_is_made_of_the_dataclasses() -> None:
    rows = [f"| {plural} | `{name}` | `{default}` | {meaning} |" for plural, name, default, meaning in described()]
    table = "\n".join(["| catalogue | trait | default | meaning |", "|---|---|---|---|", *rows])
    assert table in (ROOT / "docs" / "contributing.md").read_text("utf-8"), f"put this into the page:\n\n{table}\n"


def test_each_trait_is_read_in_the_rooms_that_its_description_names_and_in_no_others() -> None:
    """But for `lottery/testing`, which holds entries to all that they say of themselves."""
    texts: dict[str, str] = {}
    for path in sorted(path for folder in (PACKAGE, ROOT / "tests") for path in folder.rglob("*.py")):
        if path.name not in ("traits.py", "test_traits.py"):
            room = "/".join(path.relative_to(PACKAGE.parent if PACKAGE in path.parents else ROOT).parts[:2])
            texts[room] = texts.get(room, "") + path.read_text("utf-8")
    told: dict[str, set[str]] = {}  # of a trait that two catalogues have, the rooms that read either
    for _, name, _, meaning in described():
        rooms = set(re.findall(r"`([\w/.]+)`", meaning.partition(" Read by ")[2]))
        assert rooms, name
        told[name] = told.get(name, set()) | rooms
    for name, named in told.items():
        reading = {room for room, text in texts.items() if re.search(rf"traits(\([a-z]+\))?\.{name}\b", text)}
        reading -= {"lottery/testing"}
        assert named == ({room for room in reading if room.startswith("lottery")} or reading), name


def test_traits_that_name_keys_or_fields_name_ones_that_there_are() -> None:
    for catalogue in registry.catalogues.values():
        for entry in catalogue:
            for trait, named in entry.traits.named_keys().items():
                assert set(named) <= entry.schema.model_fields.keys(), (entry.name, trait)
    for branch in registry.branches:
        assert set(branch.traits.changes) <= FIELDS.keys(), branch.name


def test_every_model_whose_widths_are_keys_can_be_scaled() -> None:
    assert {entry.name for entry in registry.models if entry.traits.scaled is None} == {"timm", "torchvision"}
    assert ModelTraits().scaled is None


def test_a_list_is_as_good_as_a_tuple() -> None:
    def mine(model: object, *, lr: float = 0.1) -> None:
        """Nothing."""

    catalogue = registry.Registry("optimizer", "optimizers", OptimizerTraits, "model")
    catalogue.register("mine", source="Me 2026", rates=[1e-3, 1e-1])(mine)
    assert catalogue._entries["mine"].traits.rates == (1e-3, 1e-1)
