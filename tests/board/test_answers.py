"""The answer of a study on its board: the report's sections as pieces of a page, and why there is none."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pytest

from lottery.board.results import Answers, Piece
from lottery.report import content
from lottery.report.content import collect
from lottery.report.parts import parts
from lottery.results.studies import RememberedStudy
from lottery.results.study import study as found
from lottery.runner.context import RunContext
from lottery.store.read_only import read_only_store
from lottery.store.store import Store
from tests.support.boards import contents, remembered_study
from tests.support.micro import finished, micro, micro_text, prepared

CHANGES = (
    "name=small",
    "train.engine=dense",
    "train.length=4it",
    "train.evaluate_every=2it",
    "question='Is <b>this</b> a question?'",
    "seeds=2",
    "prune.levels=1",
)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> RunContext:
    return finished(prepared(micro(*CHANGES), tmp_path_factory.mktemp("runs")))


@pytest.fixture(scope="module")
def study(ran: RunContext) -> RememberedStudy:
    return remembered_study("small", list(ran.plan.jobs), recipe=micro_text(*CHANGES))


def made(answers: Answers) -> dict[str, Piece]:
    pieces = {}
    while (piece := answers.go_on()) is not None:
        pieces[piece.name] = piece
    return pieces


@pytest.mark.slow
def test_all_sections_are_those_of_the_report(ran: RunContext, study: RememberedStudy) -> None:
    expected = collect(found(ran.plan.recipe, store=ran.store))
    answers = Answers(read_only_store(ran.store.root), ())
    answers.begin(study)
    assert [name for name in made(answers) if name != "mind"] == [section.name for section in expected.sections]


def test_a_section_is_that_of_the_report_and_nothing_is_written(
    ran: RunContext, study: RememberedStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = [part for part in parts(ran.plan.recipe) if part.name == "accuracy"]
    monkeypatch.setattr(content, "parts", lambda recipe: [replace(part, figures=("accuracy",)) for part in few])
    expected = collect(found(ran.plan.recipe, store=ran.store))
    before = contents(ran.store.root)
    answers = Answers(read_only_store(ran.store.root), ())
    assert answers.begin(study) == ""
    pieces = made(answers)
    assert contents(ran.store.root) == before
    (accuracy,) = expected.sections
    figures = pieces["accuracy"].figures
    assert [figure.caption for figure in figures] == [picture.caption for picture in accuracy.pictures]
    assert ElementTree.fromstring(figures[0].svg).tag.endswith("svg")
    assert f'src="/figure/{figures[0].name}.svg"' in pieces["accuracy"].html
    assert 'id="table-means"' in pieces["accuracy"].html
    assert " style=" not in "".join(piece.html for piece in pieces.values())  # the page's policy would refuse it


def test_a_study_of_unknown_plugins_says_how_to_trust_them(ran: RunContext, study: RememberedStudy) -> None:
    answers = Answers(read_only_store(ran.store.root), ())
    theirs = replace(study, plugins=("mynet",), recipe=study.recipe.replace("lenet", "mynet"))
    problem = answers.begin(theirs)
    assert "start the board with --plugin mynet" in problem
    assert answers.go_on() is None


def test_a_study_that_has_only_begun_reads_no_data(study: RememberedStudy, tmp_path: Path) -> None:
    problem = Answers(read_only_store(tmp_path / "none"), ()).begin(study)
    assert problem.startswith("nothing is there yet")


def test_data_of_two_versions_are_not_guessed(
    ran: RunContext, study: RememberedStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "remembered_data", lambda self, name: ["a" * 64, "b" * 64])
    problem = Answers(read_only_store(ran.store.root), ()).begin(study)
    assert "2 versions of the data" in problem
    assert "lottery table small --data" in problem


def test_an_error_in_a_view_is_shown_with_its_traceback(
    ran: RunContext, study: RememberedStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("<i>broken</i>")

    monkeypatch.setattr("lottery.report.content._section", broken)
    answers = Answers(read_only_store(ran.store.root), ())
    answers.begin(study)
    fault = made(answers)["fault"].html
    assert "RuntimeError: &lt;i&gt;broken&lt;/i&gt;" in fault
    assert "Traceback" in fault
