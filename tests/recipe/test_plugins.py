"""Plugins that a recipe names: found beside it, imported only where they are trusted, and no part of any key."""

from __future__ import annotations

import importlib.util
import json
import marshal
import sys
from pathlib import Path

import pytest

import lottery
from lottery import registry
from lottery.errors import RecipeError, UsageError
from lottery.executors.drive import RECIPE_FILE, _launch
from lottery.plan.expand import plan
from lottery.recipe.load import restore_recipe
from lottery.results.named_recipe import load_named
from lottery.results.studies import remember
from lottery.runner.events import Request
from lottery.store.store import Store
from tests.support.calls import Call, call
from tests.support.micro import micro, micro_text
from tests.support.plugs import Plugs, plugs

__all__ = ["call", "plugs"]

NET = """import helper
import pathlib
from lottery.registry import models

pathlib.Path(__file__).with_name("ran").touch()


@models.register("mynet", source="me")
def mynet(input_shape, classes, *, width: int = 8):
    return helper.net(classes, width)
"""
HELPER = """def net(classes, width):
    from torch import nn

    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, classes))
"""
STUDY = ("model=mynet", "prune.levels=1", "train.length=2it", "train.evaluate_every=2it")


@pytest.fixture
def study(plugs: Plugs) -> Path:
    """A recipe in a folder, with a plugin and its helper beside it; the working folder is another one."""
    plugs.write("study/mynet.py", NET)
    plugs.write("study/helper.py", HELPER)
    return plugs.write("study/r.yaml", f"plugins: [mynet]\n{micro_text(*STUDY)}")


def ran(study: Path) -> bool:
    return study.with_name("ran").exists()


def problems(study: Path, *changes: str, trust: bool = False) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        lottery.load_recipe(study, changes, trust=trust)
    return list(caught.value.problems)


@pytest.mark.parametrize("command", ["check", "plan", "run", "work", "table"])
def test_no_command_imports_a_plugin_that_nobody_has_trusted(study: Path, call: Call, command: str) -> None:
    told = call(command, study)
    assert (told.code, ran(study), registry.plugins()) == (2, False, {})
    first, second = told.err.splitlines()
    folder = study.parent
    assert first == (
        f"{study}:1:11: plugins.0: mynet is code, and not trusted yet, so it was not imported: {folder}/mynet.py, "
        f"{folder}/helper.py; read it, then `lottery check RECIPE --trust` (in Python trust=True); "
        f"LOTTERY_TRUST={folder} trusts all in that folder"
    )
    assert second == f"{study}:4:1: model: no model 'mynet'; it may be of the plugin mynet, which was not imported"


def test_what_else_is_wrong_is_told_beside_a_plugin_that_is_not_trusted(study: Path) -> None:
    found = problems(study, "seeds=0", "init=he")
    assert ["not trusted yet" in line for line in found] == [True, False, False, False]
    assert [line.split(": ")[1] for line in found[1:]] == ["model", "seeds", "init"]


def test_trust_is_remembered_until_a_file_of_the_plugin_is_edited(study: Path, plugs: Plugs, call: Call) -> None:
    assert call("check", study, "--trust").out.startswith(f"{study}: fine\n")
    assert ran(study)
    plugs.forget()
    assert call("check", study).code == 0  # by its hash
    plugs.write("copy/mynet.py", NET)
    plugs.write("copy/helper.py", HELPER)
    plugs.write("copy/r.yaml", study.read_text())
    plugs.forget()
    assert call("check", plugs.folder / "copy" / "r.yaml").code == 0  # the same code elsewhere
    plugs.write("study/helper.py", f"{HELPER}# edited\n")
    study.with_name("ran").unlink()
    plugs.forget()
    told = call("check", study)
    assert told.code == 2 and "mynet was edited since it was trusted, so it was not imported" in told.err
    assert not ran(study)


def test_trust_lies_in_the_users_settings_and_not_beside_the_recipe(study: Path, plugs: Plugs) -> None:
    before = set(study.parent.rglob("*"))
    lottery.load_recipe(study, trust=True)
    assert {path.name for path in set(study.parent.rglob("*")) - before} == {"ran"}
    (note,) = (plugs.folder / "config" / "trusted").iterdir()
    assert json.loads(note.read_text())["file"] == str(study.with_name("mynet.py"))


@pytest.mark.parametrize(
    ("folder", "trusted"), [("study", True), (".", True), ("stud", False), ("study/r.yaml", False)]
)
def test_a_setting_trusts_all_code_in_a_folder(
    study: Path, plugs: Plugs, monkeypatch: pytest.MonkeyPatch, folder: str, trusted: bool
) -> None:
    monkeypatch.setenv("LOTTERY_TRUST", f"/nowhere:{plugs.folder / folder}")
    if trusted:
        assert lottery.load_recipe(study).model.name == "mynet"
    else:
        assert "not trusted yet" in problems(study)[0]


def test_a_helper_outside_the_trusted_folder_is_not_trusted_with_it(
    study: Path, plugs: Plugs, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugs.write("helper.py", study.with_name("helper.py").read_text())
    study.with_name("helper.py").unlink()
    monkeypatch.setenv("LOTTERY_TRUST", str(study.parent))
    assert "not trusted yet" in problems(study)[0]


def test_a_plugin_named_on_the_command_line_is_trusted_in_the_recipe_too(study: Path, call: Call) -> None:
    assert call("check", study, "--plugin", study.with_name("mynet.py")).code == 0


def test_a_file_beside_the_recipe_comes_before_the_path_and_the_path_after_it(study: Path, plugs: Plugs) -> None:
    plugs.write("mynet.py", NET.replace("width: int = 8", "width: int = 99"))
    recipe = lottery.load_recipe(study, trust=True)
    assert registry.models["mynet"].defaults == {"width": 8} and recipe.plugins == ("mynet",)
    plugs.forget()
    study.with_name("mynet.py").unlink()
    plugs.write("helper.py", HELPER)
    lottery.load_recipe(study, trust=True)
    assert registry.models["mynet"].defaults == {"width": 99}


@pytest.mark.parametrize("written", ["mynet.py", "lab/net.py", "lab.net", "lab"])
def test_plugins_are_named_by_file_by_module_or_by_package(plugs: Plugs, written: str) -> None:
    plugs.write("study/mynet.py", NET)
    plugs.write("study/helper.py", HELPER)
    plugs.write("study/lab/__init__.py", "from lab import net\n")
    plugs.write("study/lab/net.py", NET.replace("import helper", "from . import helper"))
    plugs.write("study/lab/helper.py", HELPER)
    study = plugs.write("study/r.yaml", f"plugins: {written}\n{micro_text(*STUDY)}")
    assert lottery.load_recipe(study, trust=True).plugins == (written,)
    assert registry.models["mynet"].module == ("mynet" if written == "mynet.py" else "lab.net")


def test_the_command_line_takes_a_file_as_it_takes_a_module(plugs: Plugs, call: Call) -> None:
    plugs.write("mynet.py", NET)
    plugs.write("helper.py", HELPER)
    plugs.write("r.yaml", micro_text(*STUDY))
    keys = []
    for plugin in ("mynet", "mynet.py", "./mynet.py"):
        plugs.forget()
        assert call("check", "r.yaml", "--plugin", plugin).out.startswith("r.yaml: fine\n")
        keys.append(plan(lottery.load_recipe("r.yaml"), "f" * 64).jobs.keys())
    assert keys[0] == keys[1] == keys[2]


def test_only_files_that_were_looked_at_are_imported_from_beside_a_recipe(study: Path, plugs: Plugs) -> None:
    plugs.write("study/onnx_of_a_stranger.py", "raise SystemExit\n")
    lottery.load_recipe(study, trust=True)
    assert importlib.util.find_spec("helper") is not None
    assert importlib.util.find_spec("onnx_of_a_stranger") is None
    assert str(study.parent) not in sys.path


def test_compiled_code_beside_a_recipe_is_never_run(study: Path, plugs: Plugs) -> None:
    code = compile("raise SystemExit('not what the source says')", "mynet.py", "exec")
    unchecked = importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little") + bytes(8) + marshal.dumps(code)
    cached = Path(importlib.util.cache_from_source(str(study.with_name("mynet.py"))))
    cached.parent.mkdir()
    cached.write_bytes(unchecked)
    lottery.load_recipe(study, trust=True)
    plugs.write("study/other.py", "import hidden\n")
    plugs.write("study/hidden.pyc", "").write_bytes(unchecked)
    said = problems(study, "plugins=[other]", trust=True)[-1]
    assert said.endswith("hidden.pyc: is compiled code without its source, which nobody can read")


def test_a_plugin_beside_another_recipe_is_not_taken_for_one_of_the_same_name(study: Path, plugs: Plugs) -> None:
    lottery.load_recipe(study, trust=True)
    plugs.write("other/mynet.py", NET.replace("= 8", "= 9"))
    other = plugs.write("other/r.yaml", study.read_text())
    (said, *_) = problems(other, trust=True)
    assert said.endswith(
        f"plugins.0: a module mynet was imported before, from {study.with_name('mynet.py')}, and this one is "
        f"{other.with_name('mynet.py')}; give one of them another name, or use them in different processes"
    )


WRONG = {
    "nowhere": "there is no module nowhere beside the recipe, in {here} or among what is installed",
    "nowhere.py": "there is no file {here}/study/nowhere.py",
    "my-net": "is no module's name; write `mynet`, `package.module` or the path of a file such as mynet.py",
    "json": "json is a module of Python; give yours another name",
    "broken": "cannot be imported: {here}/study/broken.py:1: ZeroDivisionError: division by zero",
}


@pytest.mark.parametrize("name", WRONG)
def test_a_plugin_that_cannot_be_had_is_told_at_its_line(study: Path, plugs: Plugs, name: str) -> None:
    plugs.write("study/broken.py", "1 / 0\n")
    plugs.write("study/json.py", "")
    said = problems(study, f"plugins=[{name}]", trust=True)[-1]
    assert said == f"--set plugins=[{name}]: plugins.0: {WRONG[name].format(here=plugs.folder)}"


@pytest.mark.parametrize("written", ["3", "[3]", "{a: b}", "[[mynet]]"])
def test_what_is_no_list_of_names_is_refused(study: Path, written: str) -> None:
    assert any(": plugins" in line for line in problems(study, f"plugins={written}"))


def test_the_list_of_plugins_is_part_of_no_key_and_of_no_recipe_without_any(study: Path) -> None:
    without = plan(micro("prune.levels=1"), "f" * 64)
    recipe = lottery.load_recipe(study, ["model={name: lenet, widths: [12, 8]}", *STUDY[1:2]], trust=True)
    spelled = micro("prune.levels=1", "train.length=2it", "train.evaluate_every=2it")
    assert plan(recipe, "f" * 64).jobs.keys() == plan(spelled, "f" * 64).jobs.keys() != without.jobs.keys()
    assert "plugins" not in spelled.canonical()
    assert recipe.canonical()["plugins"] == ["mynet"]
    assert restore_recipe(recipe.canonical()) == recipe


def test_a_sweep_has_one_list_of_plugins_for_all_points(study: Path) -> None:
    sweep = lottery.load_sweep(study, ["sweep={model.width: [4, 6]}", "model={name: mynet}"], trust=True)
    assert (len(sweep.points), sweep.plugins) == (2, ("mynet",))
    with pytest.raises(RecipeError, match="plugins cannot be swept: they are imported once, for all points"):
        lottery.load_sweep(study, ["sweep={plugins: [[mynet], [other]]}"])


def test_workers_of_an_executor_are_told_where_the_plugin_lies(study: Path, tmp_path: Path) -> None:
    recipe = lottery.load_recipe(study, trust=True)
    from lottery.recipe.plugins import references

    request = Request(recipe, Path("data"), tmp_path / "runs")
    launch = _launch(request, None, references(recipe.plugins), {}, Store(tmp_path / "runs"))
    assert launch.command[launch.command.index("--plugin") + 1] == str(study.with_name("mynet.py"))
    assert "plugins" not in json.loads((launch.logs / RECIPE_FILE).read_text())


@pytest.mark.slow
def test_the_plan_names_the_plugins_with_their_files(study: Path, call: Call) -> None:
    told = call("plan", study, "--trust", "--device", "cpu")
    assert f"plugin: mynet ({study.with_name('mynet.py')})" in told.out.splitlines()


def test_an_unknown_entry_is_told_with_how_plugins_come_in() -> None:
    with pytest.raises(UsageError) as caught:
        registry.models["mycnn"]
    assert str(caught.value) == (
        "no model 'mycnn' (lottery list models); one of your own comes in by `plugins: [FILE]` in the recipe, or "
        "--plugin FILE (docs/own.md)"
    )


def test_a_study_that_a_store_remembers_finds_the_plugins_beside_its_file_from_any_folder(
    study: Path, plugs: Plugs, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(study.parent)
    remember(Store(plugs.folder / "runs"), load_named(Path("r.yaml"), None, trust=True), [])
    plugs.forget()
    monkeypatch.chdir("/")
    assert call("check", "micro", "--store", plugs.folder / "runs").out.startswith("micro: fine\n")


def test_a_plugin_that_a_store_names_is_trusted_no_more_than_one_of_a_recipe(
    study: Path, plugs: Plugs, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = study.with_name("mynet.py")
    sweep = load_named(plugs.write("plain.yaml", micro_text(*STUDY)), None, plugins=[str(file)])
    remember(Store("runs"), sweep, [])
    assert call("check", "micro").out.startswith("micro: fine\n")  # what the user has named is trusted
    monkeypatch.setenv("LOTTERY_CONFIG", str(plugs.folder / "of another user"))
    plugs.forget()
    file.with_name("ran").unlink()
    told = call("check", "micro")
    assert told.code == 2 and f"{file} is code, and not trusted yet" in told.err and not ran(study)
    assert call("check", "micro", "--trust").code == 0
