"""`make gpu`: stages in processes with limits, what they leave, and each of them dry on a CPU."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks.gpu import __main__ as command
from benchmarks.gpu import correct, drive
from benchmarks.gpu.child import HARMLESS
from benchmarks.gpu.drive import Ended
from benchmarks.gpu.networks import errors_for_warnings
from benchmarks.gpu.stage import Measurement, NotHere, Setting, Stage
from benchmarks.gpu.stages import STAGES
from benchmarks.gpu.table import Log, markdown
from lottery import registry
from tests.support import ROOT
from tests.support.gpu_stages import read

DATE = datetime(2026, 11, 29, 20, 15, tzinfo=UTC)


@pytest.fixture(autouse=True)
def own_entries() -> Iterator[None]:
    """What the stages register is forgotten after a test, for those that look at all entries."""
    yield
    registry.datasets._entries.pop("random_images", None)
    for name in ("images", "steps"):  # which have registered it, and do again
        sys.modules.pop(f"benchmarks.gpu.{name}", None)


def stage(name: str, limit: float = 30.0) -> Stage:
    return Stage(name, name.upper(), limit, f"tests.support.gpu_stages:{name}")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_stages_that_hang_raise_or_die_are_told_of_and_stop_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drive, "GRACE_SECONDS", 0.3)
    names = ["good", "hangs", "raises", "dies", "fails_a_check", "cannot", "good"]
    stages = [stage(name, 1.5 if name == "hangs" else 30.0) for name in names]
    told: list[str] = []
    ended = drive.drive(stages, dry=False, log=tmp_path, told=told.append)
    assert [each.how for each in ended] == ["done", "cut", "failed", "killed", "failed", "not here", "done"]
    assert [each.good for each in ended] == [True, False, False, False, False, True, True]
    first, hung, raised, _, checked, cannot, _ = ended
    assert first.environment == {"device": "made up"}
    assert first.measurements == [Measurement("one", 2.0, "ms a step", ratio=3.0, against="another")]
    assert 1.5 <= hung.seconds < 10
    (process,) = hung.measurements  # written down before it was cut
    assert process.value is not None and not alive(int(process.value))
    assert raised.output[-1] == "RuntimeError: no such kernel" and raised.measurements == [Measurement("before", 1.0)]
    assert [(each.what, each.holds) for each in checked.measurements] == [
        ("two is two", True),
        ("a part", False),
        ("all the same", None),
    ]
    assert cannot.measurements[0].note == "not measured: no such machine"
    assert "[2/7] hangs: HANGS (at most 2 s)" in told and "    | RuntimeError: no such kernel" in told


def test_a_stage_whose_limit_no_longer_fits_is_left_out_and_a_shorter_one_after_it_is_not(tmp_path: Path) -> None:
    stages = [stage("good", 20.0), stage("cannot", 100.0), stage("raises", 20.0)]
    told: list[str] = []
    ended = drive.drive(stages, dry=False, log=tmp_path, told=told.append, total=60.0)
    assert [each.how for each in ended] == ["done", "left out", "failed"]
    assert any(line.startswith("[2/3] cannot: CANNOT: left out, ") for line in told)


def test_the_facts_come_first_and_the_rest_in_the_order_of_worth() -> None:
    names = [stage.name for stage in STAGES]
    assert names[:6] == ["facts", "poisoned", "recording", "steps", "lockstep", "tests"]
    assert [stage.name for stage in command.chosen([])] == names
    assert [stage.name for stage in command.chosen(["steps", "poisoned"])] == ["facts", "poisoned", "steps"]
    assert all(stage.limit < drive.TOTAL_SECONDS for stage in STAGES)
    with pytest.raises(SystemExit, match="2"):
        command.main(["nothing"])


ENDED = [
    Ended(STAGES[0], "done", 3.0, [Measurement("launch", 2.5, "µs", 2.0, 3.0, 5)], {"device": "H", "driver": "9"}),
    Ended(STAGES[1], "failed", 4.0, [Measurement("a|b", holds=False, note="why")], output=("last line",)),
    Ended(STAGES[2], "left out"),
    Ended(STAGES[3], "done", 1.0, [Measurement("step", 1.23456789, ratio=4.0, against="the bare loop")]),
]


def test_each_measurement_is_a_line_of_the_log_with_the_machine_and_the_table_has_all(tmp_path: Path) -> None:
    (tmp_path / "gpu.jsonl").write_text('{"before": 1}\n')
    log = Log(tmp_path, DATE)
    for each in ENDED:
        for found in each.measurements:
            log.add(each.stage.name, found, ENDED[0].environment)
    log.write_table(ENDED[:1])
    log.write_table(ENDED)
    earlier, *lines = [json.loads(line) for line in (tmp_path / "gpu.jsonl").read_text().splitlines()]
    assert earlier == {"before": 1}
    assert [line["environment"] for line in lines] == [{"device": "H", "driver": "9"}] * 3
    assert {line["date"] for line in lines} == {"2026-11-29T20:15:00+00:00"}
    assert [line["results"] for line in lines] == [
        [{"case": "facts", "what": "launch", "value": 2.5, "unit": "µs", "low": 2.0, "high": 3.0, "repeats": 5}],
        [{"case": "poisoned", "what": "a|b", "repeats": 1, "holds": False, "note": "why"}],
        [{"case": "steps", "what": "step", "value": 1.2346, "repeats": 1, "ratio": 4.0, "against": "the bare loop"}],
    ]
    table = log.table.read_text()
    assert log.table.name == "gpu-2026-11-29-201500.md" and "dry" not in table
    assert "| facts | launch | 2.5 µs | 2 to 3 |  |  |" in table
    assert "| poisoned | a\\|b |  |  |  | **does not hold**, why |" in table
    assert "| steps | step | 1.235 |  | 4.00x as fast as the bare loop |  |" in table
    assert "| recording | steps are recorded, errors raised | left out |  |" in table
    assert table.endswith("```\nlast line\n```\n")


def test_a_measurement_is_kept_as_soon_as_it_is_made_with_the_machine_that_an_earlier_stage_told_of(
    tmp_path: Path,
) -> None:
    kept: list[tuple[str, str, object]] = []
    done: list[list[str]] = []
    drive.drive(
        [stage("good"), stage("raises"), stage("cannot", 100.0)],
        dry=False,
        log=tmp_path,
        told=lambda line: None,
        kept=lambda name, found, machine: kept.append((name, found.what, machine)),
        done=lambda ended: done.append([each.how for each in ended]),
        total=90.0,
    )
    machine = {"device": "made up"}
    assert kept == [("good", "one", machine), ("raises", "before", machine)]
    assert done == [["done"], ["done", "failed"], ["done", "failed", "left out"]]


def test_a_run_that_is_told_to_end_keeps_what_it_has_and_leaves_no_process_behind(tmp_path: Path) -> None:
    code = (
        "from benchmarks.gpu import __main__ as command, drive\n"
        "from benchmarks.gpu.stage import Stage\n"
        "drive.GRACE_SECONDS, command._has_gpu = 0.3, lambda: True\n"
        "names = ('good', 'hangs')\n"
        "command.STAGES = [Stage(name, name.upper(), 30, f'tests.support.gpu_stages:{name}') for name in names]\n"
        f"command.main(['--log', {str(tmp_path)!r}])\n"
    )
    run = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    log, end = tmp_path / "gpu.jsonl", time.monotonic() + 60
    while not (log.exists() and log.read_text().count("\n") == 2):
        assert run.poll() is None and time.monotonic() < end
        time.sleep(0.05)
    run.terminate()
    run.communicate(timeout=60)
    assert run.returncode == 128 + signal.SIGTERM
    _, process = (json.loads(line)["results"][0] for line in log.read_text().splitlines())
    assert process["what"] == "process" and not alive(int(process["value"]))
    (table,) = tmp_path.glob("gpu-*.md")
    assert "| good | GOOD | done |" in table.read_text()


def test_a_dry_run_is_marked_and_nothing_of_it_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[bool] = []

    def driven(stages: list[Stage], *, dry: bool, **about: Any) -> list[Ended]:
        asked.append(dry)
        if "kept" in about:
            about["kept"]("facts", ENDED[0].measurements[0], {})
        return ENDED

    monkeypatch.setattr(command, "drive", driven)
    for there in (True, False):
        monkeypatch.setattr(command, "_has_gpu", lambda there=there: there)
        assert command.main(["--log", str(tmp_path / str(there)), *(["--dry"] if there else [])]) == 1  # one failed
    assert asked == [True, True] and not any(tmp_path.iterdir())
    said = capsys.readouterr().out
    assert "torch sees no CUDA device here: this is a dry run" in said and said.count("measured, dry") == 2
    assert "these numbers say nothing of a GPU" in markdown(ENDED, dry=True, date=DATE)
    monkeypatch.setattr(command, "_has_gpu", lambda: True)
    assert command.main(["--log", str(tmp_path)]) == 1 and asked[-1] is False
    assert [path.name for path in tmp_path.iterdir()] == ["gpu.jsonl"]


PROCESSES = ("tests", "bytes", "processes", "stopped")  # dry they start processes that import torch


def dry(name: str, folder: Path) -> list[Measurement]:
    (found,) = (stage for stage in STAGES if stage.name == name)
    module, _, function = found.call.partition(":")
    setting = Setting(folder / "measurements.jsonl", True, found.limit * drive.DRY_SHARE, folder)
    setting.file.touch()
    try:
        getattr(importlib.import_module(module), function)(setting)
    except NotHere as reason:
        return [Measurement("the stage", note=f"not measured: {reason}")]
    return read(setting.file)


@pytest.mark.parametrize("name", [stage.name for stage in STAGES if stage.name not in PROCESSES])
def test_each_stage_runs_dry_on_a_cpu_or_says_why_it_cannot(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", lambda model, **how: model)  # it takes seconds to be imported
    found = dry(name, tmp_path)
    assert found and not [each for each in found if each.holds is False]
    for each in found:
        assert each.value is not None or each.holds or each.note.startswith("not measured: "), each
    if name in ("poisoned", "recording", "steps"):
        assert any(each.holds for each in found)
    if name in ("facts", "steps", "ablations"):
        assert all(each.value > 0 for each in found if each.value is not None and each.holds is None)


@pytest.mark.slow
@pytest.mark.parametrize("name", PROCESSES)
def test_stages_that_start_processes_run_dry_too(name: str, tmp_path: Path) -> None:
    found = dry(name, tmp_path)
    assert found and not [each for each in found if each.holds is False]


def test_every_test_of_a_gpu_is_in_a_file_that_a_stage_runs() -> None:
    others = (path for path in (ROOT / "tests").rglob("test_*.py") if path != Path(__file__))
    marked = {path for path in others if "pytest.mark.gpu" in path.read_text()}
    assert marked == {ROOT / name for name in (*correct.TESTS, correct.STOPPED)}


def test_each_test_is_told_as_soon_as_it_ends_and_how_many_passed_at_the_end(tmp_path: Path) -> None:
    """The stage may be cut before the last one ends."""
    setting = Setting(tmp_path / "found", False, 10.0, tmp_path)
    teller = correct.Teller(setting)

    def ends(name: str, outcome: str, when: str = "call", longrepr: object = None) -> None:
        report = SimpleNamespace(outcome=outcome, when=when, longrepr=longrepr, duration=0.5, nodeid=f"a.py::{name}")
        teller.pytest_runtest_logreport(report)

    ends("one", "passed", "setup")
    ends("one", "passed")
    ends("two[x]", "failed", longrepr=SimpleNamespace(reprcrash=SimpleNamespace(message="no\nway")))
    ends("three", "skipped", "setup", longrepr=("a.py", 3, "no CUDA device"))
    one, two, three = read(setting.file)
    assert one == Measurement("test one", 0.5, "s", holds=True)
    assert two == Measurement("test two[x]", 0.5, "s", holds=False, note="no")
    assert (three.holds, three.note) == (None, "not measured: no CUDA device")
    teller.tell_counts(1)
    counts = read(setting.file)[-1]
    assert (counts.value, counts.holds, counts.note) == (1.0, False, "1 passed, 1 failed, 1 skipped")


def test_tests_that_are_skipped_one_and_all_have_not_passed(tmp_path: Path) -> None:
    setting = Setting(tmp_path / "found", False, 10.0, tmp_path)
    teller = correct.Teller(setting)
    about = {"duration": 0.0, "nodeid": "a.py::one", "longrepr": ("a.py", 3, "no CUDA device")}
    teller.pytest_runtest_logreport(SimpleNamespace(outcome="skipped", when="setup", **about))
    teller.tell_counts(0)
    assert read(setting.file)[-1].holds is False


def test_the_tests_are_run_without_what_else_is_installed_for_pytest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where warnings are errors, one of such a plugin would end the stage."""
    asked: list[tuple[str | None, list[str]]] = []

    def run(options: list[str], plugins: list[Any]) -> int:
        asked.append((os.environ.get(correct.NO_PLUGINS), options))
        plugins[0].pytest_runtest_logreport(
            SimpleNamespace(outcome="passed", when="call", longrepr=None, duration=0.5, nodeid="a.py::one")
        )
        return 0

    monkeypatch.setenv(correct.NO_PLUGINS, "")
    monkeypatch.setattr(pytest, "main", run)
    correct.same_bytes(Setting(tmp_path / "found", False, 10.0, tmp_path))
    ((off, options),) = asked
    assert off == "1" and options[options.index("-k") + 1] == "same_bytes"


def test_a_stage_in_which_no_test_was_run_has_failed(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="pytest left with exit code 4 and ran no test"):
        correct.Teller(Setting(tmp_path / "found", False, 10.0, tmp_path)).tell_counts(4)


def test_a_warning_that_torch_acts_on_by_itself_is_no_error_of_a_recording() -> None:
    with warnings.catch_warnings():
        errors_for_warnings()
        warnings.warn(f"{HARMLESS}! Attempting to set the primary context...", stacklevel=1)
        with pytest.raises(UserWarning):
            warnings.warn("train.engine: this training's steps cannot be recorded", stacklevel=1)
