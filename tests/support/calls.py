"""The command line in the process of the tests, which has torch imported already."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass

import pytest

from lottery.cli.main import main


@dataclass
class Result:
    code: int
    out: str
    err: str


Call = Callable[..., Result]


def call_here(*words: object) -> Result:
    """The command with these words, for what several tests share; within one test it is the fixture `call`."""
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["lottery", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            main()
    out.seek(0)
    return Result(int(left.value.code or 0), out.read(), err.getvalue())


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """The command with these words: its exit code, and what it printed where."""

    def called(*words: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["lottery", *map(str, words)])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as left:
            code = int(left.code or 0)
        out, err = capsys.readouterr()
        assert "Traceback" not in err and "bug of ours" not in err, err
        return Result(code, out, err)

    return called
