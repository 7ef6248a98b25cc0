"""The process that makes answers: it dies without the board, and the board without it not at all."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from lottery.board.maker import Maker, MakerLost
from tests.support.boards import remembered_study
from tests.support.clocks import until


def test_a_process_that_is_killed_is_told_and_another_one_answers(tmp_path: Path) -> None:
    maker = Maker(str(tmp_path), ())
    study = remembered_study("small", [], recipe="name: small\nno: recipe\n")
    try:
        said = maker.ask("begin", study)
        assert "no" in said and maker.ask("go_on") is None
        first = maker._process.pid
        os.kill(first, signal.SIGKILL)
        with pytest.raises(MakerLost, match="died"):
            maker.ask("begin", study)
        assert maker.ask("begin", study) == said
        assert maker._process.pid != first
        with pytest.raises(MakerLost, match="no_such_method"):
            maker.ask("no_such_method")
    finally:
        maker.close()


def test_closing_ends_a_question_that_another_thread_asks(tmp_path: Path) -> None:
    maker, lost = Maker(str(tmp_path), ()), []

    def ask() -> None:
        try:
            while True:
                maker.ask("go_on")
        except MakerLost as error:
            lost.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    until(lambda: maker._process is not None and maker._process.is_alive())
    maker.close()
    asking.join(timeout=60)
    assert not asking.is_alive() and lost
