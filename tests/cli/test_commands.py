"""The command line as a user meets it: what is printed where, and the exit code."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import pickle
import pty
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from lottery.cli.plan import grouped
from lottery.formats.text import text
from lottery.plan.expand import plan as make_plan
from lottery.recipe.load import parse_recipe, shipped
from lottery.registry import catalogues
from tests.support.calls import Call, Result, call, call_here
from tests.support.clocks import until
from tests.support.faults import Disk, refuses
from tests.support.micro import micro_text

__all__ = ["call"]
TEXT = micro_text(
    "name=small",
    "model.widths=[16, 8]",
    "train.batch_size=32",
    "train.length=40it",
    "train.evaluate_every=20it",
    "prune.fraction=0.4",
    "seeds=2",
    "branches=[reinit]",
)
JOBS = 2 * (1 + 1 + 2 * 2)  # for each seed: rewind point, dense network, two levels of ticket and reinit
TRAININGS = JOBS - 2
WILD = "branches=[{name: retrain, as: wild, levels: 1, optimizer: {name: sgd, lr: 1e30}}]"
ESCAPE = "\x1b"


def words(*command: object) -> list[str]:
    return [sys.executable, "-m", "lottery", *map(str, command)]


def quiet(**more: str) -> dict[str, str]:
    """The environment, without what asks for colours or a width, or names folders."""
    names = ("FORCE_COLOR", "NO_COLOR", "CLICOLOR_FORCE", "LOTTERY_STORE", "LOTTERY_DATA", "GITHUB_ACTIONS", "COLUMNS")
    return {**{k: v for k, v in os.environ.items() if k not in names}, "OMP_NUM_THREADS": "1", **more}


def outside(*command: object, **options: Any) -> Result:
    """The command in a process of its own, its output in pipes."""
    options = {"env": quiet(), **options}
    done = subprocess.run(words(*command), capture_output=True, text=True, timeout=60, **options)
    assert "Traceback" not in done.stderr, done.stderr
    return Result(done.returncode, done.stdout, done.stderr)


def trained(result: Result) -> int:
    """Jobs that the run computed, by its last line."""
    match = re.search(r"^(\d+) done(?! before)", result.err.splitlines()[-1])
    return int(match[1]) if match else 0


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read or written in the folder of whoever runs the tests."""
    monkeypatch.chdir(tmp_path)
    for name in ("LOTTERY_STORE", "LOTTERY_DATA", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Result]:
    """Recipe, store and what the run said, for tests that only look; executors/test_kill.py has a process say it."""
    folder = tmp_path_factory.mktemp("study")
    recipe, store = folder / "small.yaml", folder / "store"
    recipe.write_text(TEXT)
    return recipe, store, call_here("run", recipe, "--store", store, "--device", "cpu", "--deterministic")


@pytest.fixture
def mine(study: tuple[Path, Path, Result], tmp_path: Path) -> tuple[Path, Path]:
    """A copy of the study, to change."""
    shutil.copy(study[0], tmp_path / "small.yaml")
    shutil.copytree(study[1], tmp_path / "store")
    return tmp_path / "small.yaml", tmp_path / "store"


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(TEXT)
    return path


# help, list, copy, check


def test_help_names_every_command() -> None:
    result = outside("--help")
    assert result.code == 0 and result.err == ""
    commands = ("list", "copy", "check", "plan", "run", "status", "show", "table", "verify", "gc")
    assert all(re.search(rf"^\W*{name}\b", result.out, re.M) for name in commands)
    assert ESCAPE not in result.out


def test_a_wrong_command_or_option_is_wrong_usage(call: Call) -> None:
    for command in (["runn"], ["list", "--nope"], ["check"], ["run", "quickstart", "--jobs", "0"]):
        result = call(*command)
        assert (result.code, result.out) == (2, ""), command
        assert result.err


def test_a_listed_recipe_is_summed_up_in_a_whole_sentence(call: Call) -> None:
    listed = json.loads(call("list", "recipes", "--json").out)
    assert {entry["name"] for entry in listed} == set(shipped())
    assert [entry["name"] for entry in listed if not entry["summary"].endswith(".")] == []


def test_list_shows_every_catalogue(call: Call) -> None:
    result = call("list")
    assert result.code == 0 and result.err == ""
    assert {line for line in result.out.splitlines() if not line.startswith(" ")} == {"recipes", *catalogues}
    assert ESCAPE not in result.out


@pytest.mark.parametrize(
    "what", ["recipes", "datasets", "models", "inits", "optimizers", "schedules", "criteria", "branches"]
)
def test_list_shows_one_catalogue_in_words_and_as_json(call: Call, what: str) -> None:
    names = list(shipped()) if what == "recipes" else [entry.name for entry in catalogues[what]]
    text, listing = call("list", what), json.loads(call("list", what, "--json").out)
    assert sorted(entry["name"] for entry in listing) == sorted(names) and names
    heads = [line for line in text.out.splitlines()[1:] if not line.startswith("   ")]
    assert sorted(line.split()[0] for line in heads) == sorted(names)
    assert all(entry["summary"] for entry in listing)


@pytest.mark.parametrize("columns", [30, 80])
def test_a_listing_fits_the_terminal_it_is_printed_on(tmp_path: Path, columns: int) -> None:
    shown = on_terminal("list", columns=columns, env=quiet(TERM="dumb"), cwd=tmp_path).splitlines()
    assert max(map(len, shown)) <= columns
    assert {"recipes", *catalogues} <= set(shown)
    words = {word for line in shown for word in line.split()}
    assert {"magnitude_increase", "adam", "quickstart"} <= words


def test_a_listing_in_a_pipe_has_lines_of_80_characters_and_a_line_for_each_name(call: Call) -> None:
    lines = call("list").out.splitlines()
    assert max(map(len, lines)) <= 80
    assert sum(line.startswith("  reinit") for line in lines) == 1


def test_list_of_all_as_json_is_keyed_by_catalogue(call: Call) -> None:
    listing = json.loads(call("list", "--json").out)
    assert set(listing) == {"recipes", *catalogues}
    assert any(entry["name"] == "digits" for entry in listing["datasets"])


def test_list_of_an_unknown_catalogue_suggests_one(call: Call) -> None:
    result = call("list", "optimisers")
    assert (result.code, result.out) == (2, "")
    assert "'optimizers'" in result.err and len(result.err.splitlines()) == 1


def test_copy_writes_the_shipped_bytes_and_says_where(call: Call, tmp_path: Path) -> None:
    result = call("copy", "quickstart", tmp_path / "my.yaml")
    assert (result.code, result.out, result.err) == (0, f"{tmp_path / 'my.yaml'}\n", "")
    assert (tmp_path / "my.yaml").read_bytes() == shipped()["quickstart"].read_bytes()
    (tmp_path / "folder").mkdir()
    assert call("copy", "quickstart", tmp_path / "folder").out == f"{tmp_path / 'folder' / 'quickstart.yaml'}\n"
    assert (tmp_path / "folder" / "quickstart.yaml").is_file()


def test_copy_does_not_overwrite(call: Call, tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("mine")
    result = call("copy", "quickstart", tmp_path / "my.yaml")
    assert (result.code, result.out) == (2, "") and str(tmp_path / "my.yaml") in result.err
    assert (tmp_path / "my.yaml").read_text() == "mine"


def test_copy_into_a_missing_folder_names_it(call: Call, tmp_path: Path) -> None:
    result = call("copy", "quickstart", tmp_path / "nowhere" / "my.yaml")
    assert result.code == 2 and str(tmp_path / "nowhere") in result.err
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("command", [("copy", "quickstrat", "x.yaml"), ("check", "quickstrat"), ("run", "quickstrat")])
def test_an_unknown_recipe_is_answered_with_the_nearest(call: Call, command: tuple[str, ...]) -> None:
    result = call(*command)
    assert (result.code, result.out) == (2, "")
    assert "quickstrat" in result.err and "'quickstart'" in result.err


def test_check_says_that_a_recipe_is_fine_or_prints_all_of_it(call: Call, recipe: Path) -> None:
    result = call("check", recipe)
    assert (result.code, result.out.splitlines()[0], result.err) == (0, f"{recipe}: fine", "")
    assert "no margin is declared; add `compare: {margin: 0.5}`" in result.out
    canonical = json.loads(call("check", recipe, "--json", "--set", "seeds=3").out)
    assert canonical["name"] == "small" and canonical["seeds"] == [0, 1, 2]
    assert canonical["train"]["length"] == "40it"


def test_check_names_all_errors_each_with_its_place(call: Call, tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    text = TEXT.replace("name: adam", "name: adamm").replace("length: 40it", "length: forty")
    bad.write_text(text.replace("fraction: 0.4", "fraktion: 0.4").replace("widths: [16, 8]", "widths: [16, x]"))
    result = call("check", bad)
    assert (result.code, result.out) == (2, "")
    lines = result.err.splitlines()
    places = [re.fullmatch(rf"{re.escape(str(bad))}:(\d+):(\d+): ([^:]+): (.+)", line) for line in lines]
    assert all(places), lines
    found = {match[3]: int(match[1]) for match in places if match}
    assert sorted(found.values()) == [5, 8, 10, 12]
    assert {key.split(".")[0] for key in found} == {"model", "train", "prune"}
    assert "'adam'" in result.err and "'fraction'" in result.err and "'forty'" in result.err


def test_an_override_of_an_unknown_key_is_refused(call: Call, recipe: Path) -> None:
    result = call("check", recipe, "--set", "train.optimizr.lr=1")
    assert (result.code, result.out) == (2, "")
    assert "optimizr" in result.err and "'optimizer'" in result.err


@pytest.mark.slow  # seconds of the processor; tests/test_rooms.py holds the imports that they are spent on
@pytest.mark.parametrize("command", [("--help",), ("list",), ("check", "small.yaml")], ids=lambda c: c[0])
def test_what_needs_no_data_answers_at_once(recipe: Path, command: tuple[str, ...]) -> None:
    def seconds(call: Callable[[], object]) -> float:
        """Of the processor: on a busy machine the clock says nothing."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        call()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    def libraries() -> None:  # 0.15 s on a quiet machine, where torch alone takes ten times as long
        subprocess.run([sys.executable, "-c", "import pydantic, typer, rich.table, yaml"], check=True)

    def answer() -> None:
        assert outside(*command, cwd=recipe.parent).code == 0

    turns = [(seconds(answer), seconds(libraries)) for _ in range(5)]
    assert min(taken for taken, _ in turns) < 4 * min(least for _, least in turns)


# plan and run


def test_a_plan_before_the_run_has_everything_missing_and_writes_nothing(call: Call, recipe: Path) -> None:
    result = call("plan", recipe, "--store", "store", "--device", "cpu", "--list")
    assert result.code == 0 and result.err == ""
    lines = result.out.splitlines()
    jobs = [line for line in lines if re.match(r"[0-9a-f]{12}  missing ", line)]
    assert len(jobs) == JOBS and f"0 jobs done, {JOBS} missing" in lines
    assert any(line.startswith("time: about") for line in lines)
    assert any(line.startswith("disk: about") for line in lines)
    assert not Path("store").exists()


def test_a_plan_starts_with_what_it_comes_to(call: Call, recipe: Path) -> None:
    changes = ("--set", "compare={margin: 1}", "--set", "branches=[reinit]", "--set", "seeds=3")
    lines = call("plan", recipe, "--store", "store", "--device", "cpu", *changes).out.splitlines()
    starts = ("0 jobs done, ", "time: about ", "disk: about ", "a worker needs: ", "3 seeds can show: ", "no claim: ")
    assert [line.startswith(start) for line, start in zip(lines, starts, strict=False)] == [True] * len(starts)
    told = json.loads(call("plan", recipe, "--store", "store", "--device", "cpu", *changes, "--json").out)
    least = {(row["shows"], row["of"]): row["fewest"] for row in told["claims"]}
    assert least["superior", "reinit"] == 5 and least["matching", "dense"] == 2


def test_a_plan_after_the_run_has_everything_done(study: tuple[Path, Path, Result], call: Call) -> None:
    recipe, store, _ = study
    text = call("plan", recipe, "--store", store)
    assert f"{JOBS} jobs done, 0 missing" in text.out and "time:" not in text.out
    told = json.loads(call("plan", recipe, "--store", store, "--json", "--set", "seeds=3").out)
    assert [job["state"] for job in told["jobs"]] == ["done"] * JOBS + ["missing"] * (JOBS // 2)
    assert (told["estimate"]["done"], told["estimate"]["missing"]) == (JOBS, JOBS // 2)
    assert told["estimate"]["measured"] is True and told["estimate"]["seconds"] > 0
    assert all(re.fullmatch("[0-9a-f]{64}", job["key"]) for job in told["jobs"])


def test_a_plan_has_a_line_for_each_seed_or_for_each_level_of_the_only_one(
    study: tuple[Path, Path, Result], call: Call
) -> None:
    recipe, store, _ = study
    summary, _, table = call("plan", recipe, "--store", store, "--set", "seeds=3").out.partition("\n\n")
    assert summary.splitlines()[0] == f"{JOBS} jobs done, 6 missing"
    text = table.splitlines()
    assert text[0].split() == ["part", "jobs", "done", "missing", "time"] and set(text[1]) == {"-", " "}
    assert [line.split()[:5] for line in text[2:5]] == [
        ["seed", "0", "6", "6", "0"],
        ["seed", "1", "6", "6", "0"],
        ["seed", "2", "6", "0", "6"],
    ]
    assert "about" in text[4] and "about" not in text[2] + text[3]
    told = call("plan", recipe, "--store", store, "--set", "seeds=1", "--set", "prune.levels=3").out
    summary, _, table = told.partition("\n\n")
    assert summary.splitlines()[0] == "6 jobs done, 2 missing"
    text = table.splitlines()
    assert [line.split()[:5] for line in text[2:6]] == [
        ["dense", "2", "2", "0"],
        ["level", "1", "2", "2", "0"],
        ["level", "2", "2", "2", "0"],
        ["level", "3", "2", "0", "2"],
    ]


def test_the_seconds_of_a_plans_jobs_add_up(study: tuple[Path, Path, Result], call: Call) -> None:
    recipe, store, _ = study
    told = json.loads(call("plan", recipe, "--store", store, "--json", "--set", "seeds=3").out)
    seconds = [job["seconds"] for job in told["jobs"]]
    assert [value is None for value in seconds] == [True] * JOBS + [False] * (JOBS // 2)
    assert sum(filter(None, seconds)) == pytest.approx(told["estimate"]["seconds"])


@pytest.mark.parametrize(("seeds", "first"), [(1, "dense to level 1"), (5, "seed 0"), (40, "seeds 0 to 2")])
def test_a_long_plan_fits_a_screen(seeds: int, first: str) -> None:
    optimizers = ", ".join(f"{{name: sgd, lr: {n}e-3}}" for n in range(1, 11))
    recipe = parse_recipe(TEXT, "x", (f"seeds={seeds}", "prune.levels=20", f"train.optimizer=[{optimizers}]"))
    planned = make_plan(recipe, "f" * 64)
    table = grouped(planned, dict.fromkeys(planned.jobs, "missing"), dict.fromkeys(planned.jobs, 3600.0))
    lines = text(table).splitlines()
    assert len(lines) <= 18 and max(map(len, lines)) <= 80 and table[0]["part"] == first
    assert sum(row["jobs"] for row in table) == sum(row["missing"] for row in table) == len(planned)


def test_a_run_prints_its_table_on_stdout_and_all_else_on_stderr(study: tuple[Path, Path, Result], call: Call) -> None:
    recipe, store, result = study
    assert result.code == 0
    assert result.out.splitlines()[0].split()[:3] == ["optimizer", "density", "dense"]
    assert result.out == call("table", recipe, "--store", store).out
    lines = result.err.splitlines()
    assert len(lines) == JOBS + 2 and lines[-2:] == ["Engine: dense.", f"{JOBS} done"]
    assert all(line.startswith(f"[{number}/{JOBS}] ") for number, line in enumerate(lines[:-2], 1))
    assert ESCAPE not in result.out + result.err


def test_a_finished_run_trains_nothing_again(study: tuple[Path, Path, Result], call: Call) -> None:
    recipe, store, before = study
    files = {path: path.stat().st_mtime_ns for path in (store / "jobs").rglob("*")}
    result = call("run", recipe, "--store", store, "--device", "cpu")
    assert (result.code, result.out) == (0, before.out)
    assert trained(result) == 0 and str(JOBS) in result.err
    assert {path: path.stat().st_mtime_ns for path in (store / "jobs").rglob("*")} == files


def test_a_key_set_on_the_command_line_runs_only_what_is_new(mine: tuple[Path, Path], call: Call) -> None:
    recipe, store = mine
    result = call("run", recipe, "--store", store, "--device", "cpu", "--set", "prune.levels=3", "--set", "seeds=[1]")
    assert result.code == 0 and trained(result) == 2  # ticket and reinit of the third level
    assert sum(line.startswith("adam ") for line in result.out.splitlines()) == 3


def test_a_diverging_branch_is_exit_code_1_and_the_rest_is_done(mine: tuple[Path, Path], call: Call) -> None:
    recipe, store = mine
    command = ["run", recipe, "--store", store, "--device", "cpu", "--set", WILD]
    result = call(*command)
    assert result.code == 1
    assert "wild: 2 of 2 diverged" in result.out
    assert "2 diverged" in result.err.splitlines()[-1] and "wild 0 from init: diverged" in result.err
    assert call(*command).code == 1  # it is not trained again, and not forgotten either


@pytest.mark.parametrize("command", ["run", "plan"])
def test_an_unknown_device_is_refused_with_those_there_are(call: Call, recipe: Path, command: str) -> None:
    result = call(command, recipe, "--device", "abacus", "--store", "store")
    assert (result.code, result.out) == (2, "")
    assert "abacus" in result.err and "cpu" in result.err and "cuda" in result.err
    assert not Path("store").exists()


def test_missing_data_names_the_folder_and_the_way_out(
    call: Call, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise socket.gaierror("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    (tmp_path / "data").mkdir()
    result = call("run", recipe, "--set", "data.name=mnist", "--data", tmp_path / "data", "--store", "store")
    assert (result.code, result.out) == (2, "")
    last = result.err.splitlines()[-1]
    assert str(tmp_path / "data" / "MNIST" / "raw") in last
    assert "--data" in last and "LOTTERY_DATA" in last
    assert not Path("store").exists() and list((tmp_path / "data").iterdir()) == []


@pytest.mark.parametrize("error", [errno.EACCES, errno.EROFS], ids=errno.errorcode.get)
def test_a_store_that_cannot_be_written_is_exit_code_3(
    call: Call, recipe: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    Disk(monkeypatch).arm(None, refuses(error))
    result = call("run", recipe, "--store", "store", "--device", "cpu")
    assert (result.code, result.out) == (3, "")
    assert "store" in result.err and len(result.err.splitlines()) == 1


def test_a_store_below_a_file_is_refused_by_its_name(call: Call, recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    result = call("run", recipe, "--store", tmp_path / "file" / "store", "--device", "cpu")
    assert result.code in (2, 3) and result.out == ""
    assert str(tmp_path / "file") in result.err and len(result.err.splitlines()) == 1
    assert (tmp_path / "file").read_text() == "no folder"


def test_a_full_disk_is_exit_code_3_and_the_run_continues_when_there_is_room(
    call: Call, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["run", recipe, "--store", "store", "--device", "cpu", "--set", "seeds=1", "--set", "prune.levels=1"]
    disk = Disk(monkeypatch)
    disk.arm(None, refuses(errno.ENOSPC))
    result = call(*command)
    assert (result.code, result.out) == (3, "")
    assert "store" in result.err.splitlines()[-1]
    disk.heal()
    assert call(*command).code == 0


def test_sigterm_saves_leaves_and_tells_the_command_that_continues(recipe: Path, tmp_path: Path) -> None:
    command = ["run", recipe, "--store", tmp_path / "my store", "--device", "cpu", "--set", "train.length=1000000it"]
    env = {**quiet(), "NUMBA_CACHE_DIR": str(tmp_path / "cache")}  # the signal comes while something is compiled
    process = subprocess.Popen(words(*command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    try:
        until(lambda: any((tmp_path / "my store").glob("jobs/*/*/manifest.json")), process)  # the rewind point
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate()
    finally:
        process.kill()
    assert (process.returncode, out) == (143, "")
    assert "Traceback" not in err and ESCAPE not in err
    told = f"continue with: lottery run {recipe} --store '{tmp_path / 'my store'}' --device cpu"
    assert err.splitlines()[-1] == f"{told} --set train.length=1000000it"


# tables


def saved(call: Call, study: tuple[Path, Path, Result], form: str, *options: object) -> str:
    result = call("table", study[0], "--store", study[1], "--format", form, *options)
    assert (result.code, result.err) == (0, "Engine: dense.\n")
    return result.out


def test_csv_and_json_hold_the_same_numbers(study: tuple[Path, Path, Result], call: Call, tmp_path: Path) -> None:
    table = json.loads(saved(call, study, "json"))
    (tmp_path / "table.csv").write_text(saved(call, study, "csv"))
    frame = pd.read_csv(tmp_path / "table.csv", dtype=str, keep_default_na=False)
    assert list(frame.columns) == list(table[0])
    for row, read in zip(table, frame.to_dict("records"), strict=True):
        assert all((read[n] == "") if v is None else (type(v)(read[n]) == v) for n, v in row.items())
    assert [row["density"] for row in table] == sorted((row["density"] for row in table), reverse=True)
    assert len(table) == 2 and all(row["dense_n"] == row["ticket_n"] == row["reinit_n"] == 2 for row in table)
    assert all(0 <= row[name] <= 1 for row in table for name in ("dense", "ticket", "reinit"))
    assert all(row["ticket_diff"] == pytest.approx(row["ticket"] - row["dense"], abs=1e-12) for row in table)


def test_markdown_and_latex_are_what_their_readers_take(study: tuple[Path, Path, Result], call: Call) -> None:
    said, _, *markdown = saved(call, study, "markdown").splitlines()  # what all rows say stands above them, once
    assert said.startswith("In every row note: ")
    assert len(markdown) == 4 and len({line.count("|") for line in markdown}) == 1
    assert set(markdown[1]) <= set("|-: ")
    latex = saved(call, study, "latex")
    assert latex.count("\\begin{tabular}") == latex.count("\\end{tabular}") > 0
    assert all(rule in latex for rule in ("\\toprule", "\\midrule", "\\bottomrule"))


def test_parquet_goes_to_a_file_and_comes_back(study: tuple[Path, Path, Result], call: Call, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    assert saved(call, study, "parquet", "-o", tmp_path / "table.parquet") == ""
    frame = pd.read_parquet(tmp_path / "table.parquet")
    assert frame["ticket"].tolist() == [row["ticket"] for row in json.loads(saved(call, study, "json"))]
    result = call("table", study[0], "--store", study[1], "--format", "parquet")
    assert (result.code, result.out) == (2, "") and "-o" in result.err


def test_the_long_table_has_a_row_a_training(study: tuple[Path, Path, Result], call: Call) -> None:
    table = json.loads(saved(call, study, "json", "--view", "long"))
    assert len(table) == TRAININGS == len({row["key"] for row in table})
    assert {row["kind"] for row in table} == {"dense", "ticket", "reinit"}
    assert len(saved(call, study, "csv", "--view", "long").splitlines()) == 1 + TRAININGS


def test_an_unknown_format_is_refused(study: tuple[Path, Path, Result], call: Call) -> None:
    result = call("table", study[0], "--store", study[1], "--format", "xlsx")
    assert (result.code, result.out) == (2, "") and "markdown" in result.err


def test_a_table_file_is_replaced_whole_or_not_at_all(
    study: tuple[Path, Path, Result], call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out" / "table.csv"
    target.parent.mkdir()
    target.write_text("old")
    command = ["table", study[0], "--store", study[1], "--format", "csv", "-o", target]
    disk = Disk(monkeypatch)
    for at in (0, 1):
        disk.arm(at, refuses(errno.ENOSPC))
        assert call(*command).code == 3
        assert target.read_text() == "old"
    disk.heal()
    assert call(*command).code == 0
    assert target.read_text() == saved(call, study, "csv")
    assert [path.name for path in target.parent.iterdir() if ".tmp" not in path.name] == ["table.csv"]


def test_a_table_into_a_missing_folder_is_the_users_to_mend(
    study: tuple[Path, Path, Result], call: Call, tmp_path: Path
) -> None:
    result = call("table", study[0], "--store", study[1], "-o", tmp_path / "nowhere" / "table.txt")
    assert result.code in (2, 3) and str(tmp_path / "nowhere") in result.err
    assert not (tmp_path / "nowhere").exists()


def test_a_table_of_what_is_not_done_says_how_much_is_missing(study: tuple[Path, Path, Result], call: Call) -> None:
    result = call("table", study[0], "--store", study[1], "--set", "seeds=3", "--format", "json")
    assert result.code == 0 and f"{TRAININGS // 2} trainings are missing" in result.err
    assert all("ticket: 1 of 3 runs missing" in row["note"] for row in json.loads(result.out))


def test_a_table_before_any_run_is_empty_and_says_so(call: Call, recipe: Path) -> None:
    result = call("table", recipe, "--store", "store", "--format", "json")
    assert (result.code, json.loads(result.out)) == (0, [])
    assert f"{TRAININGS} trainings are missing" in result.err
    assert call("table", recipe, "--store", "store").code == 0
    assert not Path("store").exists()


# show, status, verify, gc


def test_show_finds_a_job_by_the_start_of_its_key(study: tuple[Path, Path, Result], call: Call) -> None:
    store = study[1]
    row = json.loads(saved(call, study, "json", "--view", "long"))[0]
    text = call("show", row["key"][:12], "--store", store)
    assert text.code == 0 and row["key"] in text.out and "environment" in text.out
    told, _, identity = text.out.partition("identity\n")
    assert "None" not in told and "{" not in told and json.loads(identity)["kind"] == "dense"
    assert f"test_accuracy {100 * row['early_stop_test_accuracy']:.2f} %" in told
    about = json.loads(call("show", row["key"][:12], "--store", store, "--json").out)
    assert (about["key"], about["kind"], about["status"]) == (row["key"], "dense", "done")
    assert about["metrics"]["early_stop"]["test_accuracy"] == row["early_stop_test_accuracy"]
    assert "metrics.json" in about["files"] and about["environment"]["torch"] == row["torch"]


def test_show_of_a_rewind_point_which_has_no_metrics(study: tuple[Path, Path, Result], call: Call) -> None:
    recipe, store, _ = study
    jobs = json.loads(call("plan", recipe, "--store", store, "--json").out)["jobs"]
    point = next(job["key"] for job in jobs if job["kind"] == "rewind")
    assert call("show", point, "--store", store).code == 0


@pytest.mark.parametrize("key", ["0" * 64, "0000", "zzzz", "ab", ""])
def test_show_of_an_unknown_key_is_wrong_usage(study: tuple[Path, Path, Result], call: Call, key: str) -> None:
    result = call("show", key, "--store", study[1])
    assert (result.code, result.out) == (2, "") and len(result.err.splitlines()) == 1


def test_status_counts_jobs_by_kind_and_state(study: tuple[Path, Path, Result], call: Call, tmp_path: Path) -> None:
    told = json.loads(call("status", "--store", study[1], "--json").out)
    assert told["jobs"] == {"branch": {"done": 4}, "dense": {"done": 2}, "rewind": {"done": 2}, "ticket": {"done": 4}}
    assert (told["finished"], told["running"], told["interrupted"], told["failed"]) == (JOBS, {}, [], {})
    assert f"{JOBS} jobs finished" in call("status", "--store", study[1]).out
    assert json.loads(call("status", "--store", tmp_path / "empty", "--json").out)["finished"] == 0
    assert not (tmp_path / "empty").exists()


def test_the_store_of_the_environment_is_used(
    study: tuple[Path, Path, Result], call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOTTERY_STORE", str(study[1]))
    assert json.loads(call("status", "--json").out)["finished"] == JOBS


def test_verify_finds_a_flipped_bit_and_run_computes_that_job_again(mine: tuple[Path, Path], call: Call) -> None:
    recipe, store = mine
    assert json.loads(call("verify", "--store", store, "--json").out) == {"checked": JOBS, "damaged": []}
    whole = call("table", recipe, "--store", store).out
    victim = sorted(store.glob("jobs/*/*/mask.safetensors"))[0]
    data = bytearray(victim.read_bytes())
    data[-1] ^= 1
    victim.write_bytes(data)
    found = call("verify", "--store", store)
    assert found.code == 1 and victim.parent.name in found.out and f"{JOBS} jobs checked, 1 damaged" in found.out
    assert "lottery run" in found.err
    again = call("run", recipe, "--store", store, "--device", "cpu", "--deterministic")
    assert again.code == 0 and trained(again) == 1 and again.out == whole
    assert call("verify", "--store", store).code == 0


def test_verify_of_a_recipe_says_check_by_check_what_holds(study: tuple[Path, Path, Result], call: Call) -> None:
    recipe, store, _ = study
    told = call("verify", recipe, "--store", store)
    lines = told.out.splitlines()
    assert told.code == 0 and {line.split()[0] for line in lines} == {"ok", "said"}
    assert f"ok       files ({JOBS}): each file has the bytes that were committed" in lines
    assert any(line.startswith("ok       mask (10): ") for line in lines)
    assert any("stored weights have the measures of their records" in line for line in lines)


class Pool:
    """A pool of processes whose work is done here: what would go to one and come back is made into bytes and back."""

    def __init__(self, processes: int, context: object, prepare: Callable[..., None], settings: Any):
        prepare(*pickle.loads(pickle.dumps(settings)))

    def submit(self, work: Callable[..., Any], *given: Any) -> Future[Any]:
        done = Future[Any]()
        done.set_result(pickle.loads(pickle.dumps(work(*given))))
        return done

    def shutdown(self, **_: object) -> None:
        pass


@pytest.mark.parametrize(
    ("jobs", "pool"), [(1, None), (2, Pool), pytest.param(2, None, marks=pytest.mark.slow)], ids=str
)
def test_verify_again_evaluates_the_stored_weights(
    study: tuple[Path, Path, Result],
    call: Call,
    jobs: int,
    pool: type[Pool] | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if pool is not None:
        monkeypatch.setattr("lottery.verification.run.ProcessPoolExecutor", pool)
        monkeypatch.setattr(signal, "signal", lambda *given: None)
        monkeypatch.setattr("lottery.verification.run._context", None)
    recipe, store, _ = study
    told = call("verify", recipe, "--store", store, "--data", tmp_path, "--again", "--jobs", jobs, "--json")
    assert told.code == 0 and "8 jobs to evaluate again" in told.err
    found = {check["name"]: (check["count"], check["ok"]) for check in json.loads(told.out)["checks"]}
    assert found["initial state again"] == (2, True)
    assert found["mask again"] == (4, True) and found["weights again"] == (6, True)


def test_verify_again_finds_weights_that_are_not_those_of_the_record(mine: tuple[Path, Path], call: Call) -> None:
    from lottery.files.tensors import decode, encode
    from lottery.store.manifest import MANIFEST, FileRecord, Manifest

    recipe, store = mine
    folder = next(p.parent for p in sorted(store.glob("jobs/*/*/mask.safetensors")))
    tensors, _ = decode((folder / "weights.safetensors").read_bytes())
    changed = encode({name: -value for name, value in tensors.items()})
    manifest = Manifest.read(str(folder), folder.name)
    (folder / "weights.safetensors").write_bytes(changed)
    files = {**manifest.files, "weights.safetensors": FileRecord.of(changed)}
    (folder / MANIFEST).write_bytes(replace(manifest, files=files).encode())
    assert call("verify", recipe, "--store", store).code == 0
    found = call("verify", recipe, "--store", store, "--again")
    assert found.code == 1 and "checks failed: " in found.err and "weights again" in found.err
    assert re.search(rf"WRONG    weights again .*\n +{folder.name[:12]} ", found.out)


def test_verify_again_needs_a_recipe(study: tuple[Path, Path, Result], call: Call) -> None:
    found = call("verify", "--again", "--store", study[1])
    assert found.code == 2 and "name the recipe" in found.err


def test_gc_lists_first_removes_when_told_and_never_touches_results(mine: tuple[Path, Path], call: Call) -> None:
    _, store = mine
    (store / "quarantine" / ("f" * 64 + "-1-2")).mkdir(parents=True)
    (store / "quarantine" / ("f" * 64 + "-1-2") / "metrics.json").write_bytes(b"x" * 100)
    results = {path: path.read_bytes() for path in (store / "jobs").rglob("*") if path.is_file()}
    (item,) = json.loads(call("gc", "--store", store, "--json").out)
    assert item["bytes"] == 100 and Path(item["path"]).exists()
    dry = call("gc", "--store", store)
    assert dry.code == 0 and item["path"] in dry.out and "--delete" in dry.out
    assert Path(item["path"]).exists()
    removed = call("gc", "--store", store, "--delete")
    assert removed.code == 0 and "removed" in removed.out and not Path(item["path"]).exists()
    assert json.loads(call("gc", "--store", store, "--json").out) == []
    assert call("gc", "--store", store).out == "nothing can go\n"
    assert {path: path.read_bytes() for path in (store / "jobs").rglob("*") if path.is_file()} == results


# pipes and terminals


@pytest.mark.parametrize("command", [("list",), ("list", "--json"), ("--help",), ("status",)], ids=" ".join)
@pytest.mark.parametrize("reads", [False, True])
def test_a_reader_that_leaves_early_causes_no_complaint(tmp_path: Path, command: tuple[str, ...], reads: bool) -> None:
    process = subprocess.Popen(
        words(*command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=quiet(), cwd=tmp_path
    )
    assert process.stdout is not None and process.stderr is not None
    if reads:
        process.stdout.readline()
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    process.wait(timeout=30)
    assert err == b""


def test_no_escape_codes_where_there_is_no_terminal(tmp_path: Path) -> None:
    for command in (["list"], ["nonsense"], ["check", "nowhere"]):
        result = outside(*command, cwd=tmp_path, env=quiet(TERM="xterm-256color"))
        assert ESCAPE not in result.out + result.err


def on_terminal(*command: object, columns: int = 80, **options: Any) -> str:
    """What the command shows on a terminal of so many columns."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(words(*command), stdout=slave, stderr=slave, **{"env": quiet(), **options})
    os.close(slave)
    shown = b""
    try:
        while piece := os.read(master, 4096):
            shown += piece
    except OSError:  # how Linux says that the other side is closed
        pass
    os.close(master)
    process.wait(timeout=60)
    return shown.decode()


@pytest.mark.parametrize("command", ["list", "--help", "nonsense"])
def test_no_color_is_heeded_on_a_terminal(tmp_path: Path, command: str) -> None:
    shown = on_terminal(command, env=quiet(NO_COLOR="1", TERM="xterm-256color"), cwd=tmp_path)
    assert shown
    assert not re.search(r"\x1b\[[0-9;]*\b(3[0-9]|4[0-9]|9[0-7]|10[0-7])[;m]", shown)


@pytest.mark.parametrize("columns", [40, 80])
def test_a_table_fits_the_terminal_it_is_printed_on(study: tuple[Path, Path, Result], columns: int) -> None:
    recipe, store, result = study
    shown = on_terminal("table", recipe, "--store", store, columns=columns, env=quiet(TERM="dumb")).splitlines()
    assert max(map(len, shown)) <= columns < max(map(len, result.out.splitlines()))
    assert shown[0].split()[:2] == ["optimizer", "density"] == shown[shown.index("") + 1].split()[:2]
    assert ESCAPE not in "".join(shown)
    means = re.findall(r"\d+\.\d{2} ± \d+\.\d{2} \(2\)", result.out)
    assert means and all(mean in "\n".join(shown) for mean in means)


def test_a_terminal_without_the_letters_gets_others(study: tuple[Path, Path, Result]) -> None:
    shown = on_terminal("table", study[0], "--store", study[1], env=quiet(PYTHONIOENCODING="ascii", LC_ALL="C"))
    assert " +- " in shown and "±" not in shown and "?" not in shown
