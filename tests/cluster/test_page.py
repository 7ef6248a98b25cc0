"""The page on workers: its keys are the executors' keys, and its commands do what they say as they stand."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from lottery import registry
from lottery.executors.profiles import FILE, executor_of
from tests.support import ROOT
from tests.support.clocks import until
from tests.support.micro import micro_text
from tests.support.workers import dask_scheduler, dask_worker, ray_head, usable

PAGE = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
(PROFILES,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


def commands(section: str, text: str = PAGE) -> list[str]:
    """Return the commands in a section of the page, or before the first one, that use the recipe of a reader's own."""
    found = text.split("\n## ")
    (part,) = [each for each in found if each.startswith(section + "\n")]
    lines = [line for block in re.findall(r"```sh\n(.*?)```", part, re.DOTALL) for line in block.splitlines()]
    return [line.partition("  #")[0].strip() for line in lines if "my.yaml" in line]


INTRODUCTION = "# Workers on a cluster"


def test_each_executor_that_the_page_asks_for_is_one_with_the_keys_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / FILE).write_text(PROFILES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LOTTERY_EXECUTORS", raising=False)
    words = [shlex.split(line, comments=True) for line in re.findall(r"^lottery run .*$", PAGE, re.MULTILINE)]
    asked = [command[command.index("--on") + 1] for command in words if "--on" in command]
    assert {executor_of(on).name for on in asked} == {entry.name for entry in registry.executors}


def test_the_table_of_slurms_keys_has_each_of_them() -> None:
    table = PAGE.partition("| key | option of sbatch | |\n")[2].partition("\n\n")[0]
    first = [row.split("|")[1] for row in table.splitlines()[1:]]
    named = re.findall(r"`(\w+)`", " ".join(first))
    assert sorted(named) == sorted(registry.executors["slurm"].schema.model_fields)


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the recipe, in which `lottery` can be typed."""
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "lottery"
    script.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m lottery "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "my.yaml").write_text(micro_text())
    return tmp_path


def type_in(folder: Path, command: str) -> str:
    """Run a command as it stands on an empty store; return what it printed."""
    subprocess.run(["rm", "-rf", str(folder / "runs")], check=True)
    done = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("section", [INTRODUCTION, "One worker by hand"])
def test_what_needs_no_cluster_can_be_typed(typed: Path, section: str) -> None:
    for command in commands(section):
        said = type_in(typed, command)
        assert ("run here" if "lottery work" in command else "\n4 done") in said, command


def run_all(folder: Path, section: str) -> None:
    for command in commands(section):
        if command.startswith("lottery run"):
            assert "\n4 done" in type_in(folder, command), command


@pytest.mark.slow
def test_what_the_page_says_of_dask_can_be_typed(typed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usable("dask", typed, monkeypatch)
    with dask_scheduler(8786), dask_worker(8786):
        run_all(typed, "Dask")


@pytest.mark.slow
def test_what_the_page_says_of_ray_can_be_typed(typed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usable("ray", typed, monkeypatch)
    with ray_head(6379):
        run_all(typed, "Ray")


@pytest.mark.cluster
def test_what_the_page_says_of_slurm_and_profiles_can_be_typed(typed: Path) -> None:
    (typed / FILE).write_text(PROFILES)
    run_all(typed, "Slurm")
    run_all(typed, "A profile for a site")
    (alone,) = [line for line in commands("Slurm") if line.startswith("sbatch")]
    type_in(typed, alone)
    shown = ["lottery", "run", "my.yaml", "--store", "runs"]
    until(lambda: len(list((typed / "runs" / "jobs").rglob("manifest.json"))) == 4)
    assert "4 done before" in subprocess.run(shown, cwd=typed, capture_output=True, text=True, check=True).stderr
