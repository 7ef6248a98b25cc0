"""What `--on` can be: an executor, with keys, or a profile of a site's file; and what is said of others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lottery.errors import UsageError
from lottery.executors.profiles import executor_of
from lottery.values import Component

FILE = """\
here: {name: local, workers: 3}
local:
  name: local
  gpus: 0
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LOTTERY_EXECUTORS", raising=False)
    return tmp_path


def test_an_executor_is_named_with_or_without_keys(folder: Path) -> None:
    assert executor_of("local") == Component("local")
    assert executor_of("{name: local, workers: 4}") == Component("local", {"workers": 4})
    assert executor_of({"name": "local", "workers": 4}) == Component("local", {"workers": 4})


def test_a_profile_gives_defaults_that_the_command_line_may_change(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "lottery-executors.yaml").write_text(FILE)
    assert executor_of("here") == Component("local", {"workers": 3})
    assert executor_of("{name: here, workers: 5, gpus: 0}") == Component("local", {"workers": 5, "gpus": 0})
    assert executor_of("local") == Component("local", {"gpus": 0})
    other = folder / "other.yaml"
    other.write_text("mine: {name: local, workers: 7}\n")
    monkeypatch.setenv("LOTTERY_EXECUTORS", str(other))
    assert executor_of("mine") == Component("local", {"workers": 7})
    assert executor_of("local") == Component("local")  # the other file counts no more


WRONG: dict[str, tuple[str, Any, str]] = {
    "no such executor": ("", "loca", "--on: no executor 'loca'; did you mean 'local'? (lottery list executors)"),
    "no such profile": (
        FILE,
        "her",
        "--on: no executor or profile 'her'; did you mean 'here'? (lottery list executors)",
    ),
    "no such key": ("", "{name: local, worker: 2}", "--on: worker: local has no key 'worker'; did you mean 'workers'?"),
    "a wrong value": (
        FILE,
        "{name: here, workers: 0}",
        "--on: workers: input should be greater than or equal to 1, not 0",
    ),
    "a list": ("", "[local]", "--on: a list is not taken here; write one entry"),
    "a number": ("", "4", "--on: write a name, or {name: ..., key: value}"),
    "a wrong value in the file": (
        "here: {name: local,\n  workers: many}\n",
        "here",
        "lottery-executors.yaml:2:3: here: workers: input should be a valid integer, not 'many'",
    ),
    "a wrong key in the file": (
        "here:\n  name: local\n  partition: gpu\n",
        "here",
        "lottery-executors.yaml:3:3: here: partition: local has no key 'partition'; there are gpus, workers",
    ),
    "no executor in the file": (
        "here: {name: lokal}\n",
        "here",
        "lottery-executors.yaml:1:1: here: no executor 'lokal'; did you mean 'local'? (lottery list executors)",
    ),
    "no name in the file": (
        "here: {workers: 2}\n",
        "local",
        "lottery-executors.yaml:1:1: here: write {name: EXECUTOR, key: value}",
    ),
    "a list in the file": (
        "- local\n",
        "local",
        "lottery-executors.yaml:1:1: write profiles by their names, such as `cluster: {name: slurm}`",
    ),
    "a name twice in the file": (
        "a: {name: local}\na: {name: local}\n",
        "a",
        "lottery-executors.yaml:2:1: profiles: the key 'a' is given twice, first in line 1; keep one",
    ),
    "an object in the file": (
        "a: !!python/object/apply:os.system [ls]\n",
        "a",
        "lottery-executors.yaml:1:4: a: the tag 'tag:yaml.org,2002:python/object/apply:os' is not read; remove it",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_said_with_its_place(folder: Path, what: str) -> None:
    text, on, message = WRONG[what]
    if text:
        (folder / "lottery-executors.yaml").write_text(text)
    with pytest.raises(UsageError) as caught:
        executor_of(on)
    assert str(caught.value) == message


def test_a_file_that_the_variable_names_and_that_is_not_there_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOTTERY_EXECUTORS", "none.yaml")
    with pytest.raises(UsageError, match=r"none\.yaml \(\$LOTTERY_EXECUTORS\): cannot be read: No such file"):
        executor_of("local")
    (folder / "lottery-executors.yaml").write_text("\n")
    monkeypatch.delenv("LOTTERY_EXECUTORS")
    assert executor_of("local") == Component("local")
