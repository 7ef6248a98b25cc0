"""The command on a real terminal: a bar while it runs, and nothing of it left when it is stopped."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from tests.support.micro import micro_text

pytestmark = pytest.mark.slow

COLUMNS = 50


def test_a_run_that_is_stopped_leaves_a_terminal_with_a_cursor_and_no_bar(tmp_path: Path) -> None:
    (tmp_path / "micro.yaml").write_text(micro_text("train.length=1000000it", "train.evaluate_every=1000it"))
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "lottery", "run", "micro.yaml", "--store", "store", "--device", "cpu"],
        stdout=slave,
        stderr=slave,
        cwd=tmp_path,
        env={**os.environ, "TERM": "xterm-256color"},
    )
    os.close(slave)
    shown, told = "", False
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        while piece := os.read(master, 4096):
            shown += decoder.decode(piece)
            if not told and re.search(r"dense +\d+/1000000", plain(shown)):
                told = True
                process.send_signal(signal.SIGINT)
    except OSError:  # how Linux says that the other side is closed
        pass
    os.close(master)
    assert process.wait(timeout=60) == 130
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")  # the cursor is shown again
    erased = shown.rindex("\x1b[2K")  # the last line of the bar; what follows stands alone
    left = plain(shown[erased:])
    assert "━" not in left and re.match(r"lottery: stopped by signal 2; the state is saved\s+continue with: ", left)
    drawn = [line for line in re.split(r"[\r\n]+", plain(shown[:erased])) if line.strip()]
    assert [line for line in drawn if len(line) > COLUMNS and not line.startswith("[")] == []  # those stay, as in a log
    assert any(" of 4 jobs" in line for line in drawn)


def plain(shown: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
