"""`lottery replicate` of swept recipes and of the survey: runs, goes on, judges and writes the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lottery.cli.main import main
from lottery.recipe import load
from tests.support.micro import MICRO

CLAIM = {
    "text": "The larger rate is more accurate",
    "source": "section 5",
    "left": {"train.optimizer.lr": 0.01},
    "right": {"train.optimizer.lr": 1e-5},
    "densities": [1.0],
    "least": 5.0,
}
WRONG = CLAIM | {"text": "The larger rate is less accurate", "most": -5.0}
del WRONG["least"]


def recipe(name: str, *claims: dict[str, Any]) -> str:
    given = json.dumps({"source": "Sun 2019", "statement": f"About {name}", "claims": claims})
    text = MICRO.replace("name: micro", f"name: {name}\nquestion: Which?").replace("levels: 2", "levels: 0")
    return text.replace("seeds: 1", f"seeds: 3\nsweep: {{train.optimizer.lr: [1.0e-5, 0.01]}}\nreplicates: {given}")


def called(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["lottery", *words])
    with pytest.raises(SystemExit) as left:
        main()
    return int(left.value.code or 0)


@pytest.fixture
def survey(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A survey of three recipes of two statements, the store of which is a folder beside them."""
    folder = tmp_path / "survey"
    folder.mkdir()
    recipes = {"10-ten": (WRONG,), "07-floor": (CLAIM,), "07-more": (WRONG,)}
    for name, claims in recipes.items():
        (folder / f"{name}.yaml").write_text(recipe(name, *claims))
    found = {name: folder / f"{name}.yaml" for name in recipes}
    monkeypatch.setattr(load, "shipped", lambda: found)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_survey_is_run_in_order_judged_and_written(
    survey: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["replicate", "survey", "--store", "store", "--device", "cpu"]
    assert called(monkeypatch, *words, "--only", "7") == 0
    told = capsys.readouterr()
    heads = [line.split()[0] for line in told.out.splitlines() if not line.startswith("  ")]
    assert heads == ["7.", "HOLDS", "FAILS"]
    assert told.err.index("[1/2] 07-floor: Which?") < told.err.index("[2/2] 07-more: Which?")
    assert told.err.count("dense done") == 6, "trainings that recipes share are done once"
    assert told.err.endswith("2 claims about 1 statement: 1 holds, 1 fails.\n")
    assert called(monkeypatch, *words, "--output", "page") == 0
    told = capsys.readouterr()
    assert "dense done" not in told.err, "what is finished is found"
    page = (survey / "page" / "survey.html").read_text(encoding="utf-8")
    assert page.index("7. About 07-floor") < page.index("10. About 10-ten")
    assert called(monkeypatch, *words, "--judge-only", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["statement"], row["recipe"], row["verdict"]) for row in rows] == [
        (7, "07-floor", "holds"),
        (7, "07-more", "fails"),
        (10, "10-ten", "fails"),
    ]


def test_what_is_not_finished_is_undecided_on_the_page(
    survey: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["replicate", "survey", "--store", "store", "--judge-only", "-o", "page"]
    assert called(monkeypatch, *words, "--only", "10") == 0
    told = capsys.readouterr()
    assert "10-ten: 6 trainings missing" in told.err and "UNDECIDED" in told.out
    assert "1 is undecided" in (survey / "page" / "survey.md").read_text(encoding="utf-8")


def test_statements_that_are_not_there_and_folders_that_are_files_are_refused(
    survey: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(monkeypatch, "replicate", "survey", "--only", "7,8") == 2
    assert "--only 8: is no statement; there are 7, 10" in capsys.readouterr().err
    assert called(monkeypatch, "replicate", "survey", "-o", str(survey / "survey" / "10-ten.yaml")) == 2
    assert "is a file; the page of the survey is a folder" in capsys.readouterr().err
    assert called(monkeypatch, "replicate", "10-ten", "--only", "7") == 2
    assert "--only: chooses among the statements" in capsys.readouterr().err
    assert called(monkeypatch, "replicate") == 0
    told = capsys.readouterr().out
    assert "07-floor: Sun 2019, 1 claim\n" in told and "survey: all 3 recipes of recipes/survey\n" in told
