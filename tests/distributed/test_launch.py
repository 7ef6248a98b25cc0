"""Processes that are started as ranks, and what their environment tells them."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lottery.distributed import launch as launching
from lottery.distributed.launch import launch
from lottery.distributed.place import MEETING, Place, place_of_environment
from lottery.errors import UsageError

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "a"}


def test_torchruns_environment_is_a_place_and_none_or_one_process_is_none() -> None:
    assert place_of_environment(TORCHRUN) == Place(3, 4, 1, 2, "env://", False)
    assert place_of_environment({**TORCHRUN, MEETING: "file:///x"}) == Place(3, 4, 1, 2, "file:///x", True)
    assert place_of_environment({}) is None
    assert place_of_environment({**TORCHRUN, "WORLD_SIZE": "1"}) is None
    assert place_of_environment({"RANK": "3", "WORLD_SIZE": "4"}) is None  # of another library


def test_half_an_environment_is_refused_with_what_is_missing() -> None:
    with pytest.raises(UsageError, match=r"RANK=3 WORLD_SIZE=4 LOCAL_RANK= .*start with torchrun"):
        place_of_environment({**TORCHRUN, "LOCAL_RANK": ""})


def test_ranks_know_their_place_and_the_code_is_that_of_rank_0(tmp_path: Path) -> None:
    code = "import os, sys; from pathlib import Path; r = os.environ['RANK']; "
    code += f"Path({str(tmp_path)!r}, r).write_text(os.environ['WORLD_SIZE']); sys.exit(5 if r == '0' else 7)"
    assert launch(2, [sys.executable, "-c", code]) == 5
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"0": "2", "1": "2"}


def test_where_one_is_killed_the_others_are_ended_and_the_user_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(launching, "GRACE_SECONDS", 0.2)
    code = "import os, signal, time; os.environ['RANK'] == '1' and os.kill(os.getpid(), signal.SIGKILL); time.sleep(60)"
    began = time.monotonic()
    assert launch(2, [sys.executable, "-c", code]) == 3
    assert time.monotonic() - began < 30
    assert "rank 1 was killed (signal 9)" in capsys.readouterr().err


def test_a_signal_reaches_each_rank_once(tmp_path: Path) -> None:
    rank = (
        "import os, signal, sys, time; from pathlib import Path; "
        f"signal.signal(signal.SIGTERM, lambda *_: (Path({str(tmp_path)!r}, 'got' + os.environ['RANK']).touch(), "
        f"sys.exit(143))); Path({str(tmp_path)!r}, 'up' + os.environ['RANK']).touch(); time.sleep(60)"
    )
    code = "import sys; from lottery.distributed.launch import launch; "
    code += f"sys.exit(launch(2, [sys.executable, '-c', {rank!r}]))"
    process = subprocess.Popen([sys.executable, "-c", code])
    while not all((tmp_path / f"up{number}").exists() for number in range(2)):
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    assert all((tmp_path / f"got{number}").exists() for number in range(2))
