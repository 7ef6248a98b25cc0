"""The command line in the process of the tests, which has torch imported already."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from lottery.cli.main import main


@dataclass
class Result:
    code: int
    out: str
    err: str


Call = Callable[..., Result]


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
