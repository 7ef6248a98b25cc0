"""The page of the survey: statements in order, verdicts with what would change them, in every format."""

from __future__ import annotations

import csv
import html.parser
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lottery.plan.expand import plan
from lottery.plan.jobs import Job
from lottery.plan.kinds import Kind
from lottery.recipe.sweep import parse_sweep
from lottery.report.survey import Survey, collect, number_of
from lottery.report.survey_claims import in_short
from lottery.report.survey_pages import in_html, in_latex, in_markdown, summary_in_markdown, write
from lottery.results.study import Study
from lottery.results.sweep import SweptStudy
from lottery.verdicts.swept_claims import rows
from tests.support.studies import TEXT, Recorded, record

POINTS = "sweep: {train.optimizer.lr: [0.001, 0.01, 0.1]}\n"
LEFT, RIGHT = {"train.optimizer.lr": 0.01}, {"train.optimizer.lr": 0.001}
HOLDS = {
    "text": "A <b>holds</b>",
    "source": "section 1",
    "left": LEFT,
    "right": RIGHT,
    "densities": [1.0],
    "least": 1.0,
}
FAILS = HOLDS | {"text": "B fails & more", "most": 1.0, "least": None}
OPEN = HOLDS | {"text": "C is open", "least": 3.0}
GAINS = (0.02, 0.035, 0.03, 0.04, 0.03)


def swept(name: str, *claims: dict[str, Any], **about: Any) -> SweptStudy:
    """A recipe whose middle learning rate is some points more accurate than the others."""
    given = [{key: value for key, value in claim.items() if value is not None} for claim in claims]
    replicates = {"source": "Sun 2019", "claims": given, **about}
    text = TEXT + POINTS + f"replicates: {json.dumps(replicates)}\n"
    sweep = parse_sweep(text, "hand.yaml", [f"name={name}", "seeds=5", "question=A question"])
    studies = []
    for point in sweep.points:
        planned = plan(point.recipe, "f" * 64)
        better = point.values == LEFT
        made = {
            job.key: record(job, 0.5 + 0.01 * job.seed + better * GAINS[job.seed])
            for job in planned
            if job.kind.measured
        }
        studies.append(Study(planned, made, Recorded(planned)))
    return SweptStudy(sweep, tuple(studies))


def survey(*found: SweptStudy) -> Survey:
    made = collect([(each, rows(each)) for each in found])
    return replace(made, software="lottery 0")


@pytest.fixture(scope="module")
def three() -> Survey:
    other = swept("07-more", HOLDS, statement="Of the second recipe")
    return survey(
        swept("10-ten", OPEN), swept("07-floor", HOLDS, FAILS, statement="Seven", finding="We looked."), other
    )


def test_statements_stand_in_the_order_of_their_numbers_with_the_claims_of_all_their_recipes(three: Survey) -> None:
    assert [(each.number, each.title, len(each.recipes)) for each in three.statements] == [
        (7, "Seven", 2),
        (10, "A question", 1),
    ]
    seven = three.statements[0]
    assert [(claim.letter, claim.recipe, claim.verdict) for claim in seven.claims] == [
        ("a", "07-floor", "holds"),
        ("b", "07-floor", "fails"),
        ("c", "07-more", "holds"),
    ]
    assert three.summary == "4 claims about 2 statements: 2 hold, 1 fails, 1 is undecided."
    assert "95 %" in three.multiplicity and "nothing is corrected" in three.multiplicity


def test_the_limits_that_would_change_a_verdict_are_the_bounds(three: Survey) -> None:
    holds, fails, _ = three.statements[0].claims
    low, high = (f"{holds.rows[0][name]:.3g}" for name in ("low", "high"))
    assert holds.change.startswith(f"a limit of {low} or less would hold, one above {high} would fail")
    assert fails.change.startswith(f"a limit of {high} or more would hold, one below {low} would fail")
    (undecided,) = three.statements[1].claims
    wanted = undecided.rows[0]["claim_seeds_needed"]
    assert wanted > 5 and undecided.change.startswith(f"{wanted} seeds would decide it")


def test_the_page_says_each_claim_verdict_and_finding_and_is_well_formed(three: Survey) -> None:
    page = in_html(three).decode()
    opened: list[str] = []

    class Tags(html.parser.HTMLParser):
        def handle_starttag(self, tag: str, attributes: Any) -> None:
            if tag not in ("meta", "br", "path", "use", "rect"):
                opened.append(tag)

        def handle_endtag(self, tag: str) -> None:
            if tag not in ("path", "use", "rect"):
                assert opened.pop() == tag

    Tags().feed(page)
    assert not opened
    assert "A &lt;b&gt;holds&lt;/b&gt;" in page and "B fails &amp; more" in page and "We looked." in page
    assert page.count("<svg") == 2 and page.count('class="claim"') == 4
    assert "http-equiv" in page and "<script" not in page
    named = re.findall(r' id="([^"]+)"', page)
    assert len(named) == len({*named})
    assert {*re.findall(r'(?:href="|url\()#([^")]+)', page)} <= {
        *named
    }  # marks lead to claims, drawings to their parts


def test_markdown_and_latex_have_a_row_for_each_claim(three: Survey) -> None:
    text = in_markdown(three).decode()
    assert text.count("\n| a |") == 2 and "## 7. Seven" in text and "![" in text
    assert "> **What was looked at** (`07-floor`)**:** We looked." in text
    tex = in_latex(three).decode()
    assert tex.count(r"\begin{table}") == 3 and r"B fails \& more" in tex and r"\includegraphics" in tex


def test_the_summary_has_a_row_for_each_statement_with_the_effect_of_its_first_claim(three: Survey) -> None:
    lines = summary_in_markdown(three).decode().splitlines()
    assert lines[0].startswith("4 claims about 2 statements: 2 hold, 1 fails, 1 is undecided. The leading effect is")
    header, _, seven, ten = (line.strip("| ").split(" | ") for line in lines[2:])
    assert header == ["Statement", "Claims", "Leading effect", "Seeds", "Cost"]
    row = three.statements[0].claims[0].rows[0]
    estimate, low, high = (f"{row[name]:.4g}" for name in ("estimate", "low", "high"))
    leading = rf"A \<b\>holds\</b\>: ● {estimate} \[{low}, {high}\] points"
    assert seven[:4] == [r"7\. Seven", "2 of 3 hold, 1 fails", leading, "5"]
    assert ten[:2] == [r"10\. A question", "undecided"]
    assert "2 of 3 hold, 1 fails" in in_latex(three).decode()
    assert "2 of 3 hold, 1 fails" in in_html(three).decode()


def test_work_that_recipes_of_a_statement_share_counts_once_in_its_cost(three: Survey) -> None:
    seven = three.statements[0]
    both = zip(seven.recipes, ({"mine": 60.0, "shared": 5.0}, {"shared": 5.0, "its": 3.0}), strict=True)
    assert replace(seven, recipes=[replace(recipe, took=took) for recipe, took in both]).cost == "1 min 08 s"


@pytest.mark.parametrize(
    ("verdicts", "told"),
    [
        (["holds"], "holds"),
        (["holds"] * 3, "all 3 hold"),
        (["undecided"] * 2, "all 2 undecided"),
        (["holds"] * 5 + ["undecided"], "5 of 6 hold, 1 undecided"),
        (["holds", "fails", "fails"], "1 of 3 holds, 2 fail"),
        (["fails", "undecided", "fails"], "2 of 3 fail, 1 undecided"),
    ],
)
def test_verdicts_are_counted_in_a_few_words(verdicts: list[str], told: str) -> None:
    assert in_short(verdicts) == told


OPTIMIZERS = ("adam", "sgd", "rmsprop")
FINDS = {"text": "Each finds one", "source": "6", "densities": [0.5], "least": -1.0}
TRAINS = [
    {**FINDS, "text": f"{name} trains the others'", "retrained_with": place, "against": against}
    for place, name in enumerate(OPTIMIZERS)
    for against in ("ticket", "dense")
]
# accuracy of the ticket that one finds and another trains, less that of dense networks, in points; by finder
MATRIX = {"adam": (0.2, 0.5, 0.3), "sgd": (-3.0, 0.1, 0.4), "rmsprop": (0.1, 0.6, -0.3)}


@pytest.fixture(scope="module")
def exchanged() -> Survey:
    """Three optimizers whose tickets each of them trains; adam fails with those of sgd alone, reinit is not trained."""
    untrained = {**FINDS, "text": "Not yet", "against": "reinit"}
    replicates = {"source": "Sun 2019", "claims": [FINDS, *TRAINS, untrained]}
    listed = ", ".join(f"{{name: {name}, lr: 1e-3}}" for name in OPTIMIZERS)
    changes = ["name=20-exchange", f"train.optimizer=[{listed}]", "transfer=all", "seeds=4", "question=A question"]
    changes += ["branches=[{name: reinit, levels: [1]}]"]
    sweep = parse_sweep(TEXT + f"replicates: {json.dumps(replicates)}\n", "hand.yaml", changes)
    planned = plan(sweep.points[0].recipe, "f" * 64)

    def accuracy(job: Job) -> float:
        trainer = job.optimizer_index if job.transfer is None else job.transfer
        gain = 0.0 if job.kind is Kind.DENSE else MATRIX[OPTIMIZERS[job.optimizer_index]][trainer]
        varied = 0 if job.kind is Kind.DENSE else job.seed % 2 if job.transfer is None else job.seed // 2
        return 0.6 + 0.1 * trainer + 0.01 * gain + 0.0001 * varied

    reinit = {job.key for job in planned if job.branch is not None and job.transfer is None}
    made = {job.key: record(job, accuracy(job)) for job in planned if job.kind.measured and job.key not in reinit}
    return survey(SweptStudy(sweep, (Study(planned, made, Recorded(planned)),)))


def test_a_claim_about_several_optimizers_is_one_row_that_fails_where_it_fails_for_one(exchanged: Survey) -> None:
    (statement,) = exchanged.statements
    assert [claim.letter for claim in statement.claims] == [*"abcdefgh"]
    finds, adam, *_ = statement.claims
    assert (finds.verdict, finds.cases_in_words) == ("holds", "all 3 hold")
    assert finds.effect.startswith("-0.295 [") and "(rmsprop) to 0.205 [" in finds.effect
    assert finds.effect.endswith("(adam) points")
    assert (adam.verdict, adam.cases_in_words) == ("fails", "1 of 2 holds, 1 fails")
    assert statement.tally == "5 of 8 hold, 2 fail, 1 undecided (not trained)"
    told = [[row["optimizer"], row["verdict"], row["claim_verdict"]] for row in exchanged.rows if row["letter"] == "b"]
    assert told == [["sgd", "fails", "fails"], ["rmsprop", "holds", "fails"]]
    assert "Of 18 that are all exactly at their limits" in exchanged.multiplicity
    assert "counts once" in exchanged.counting


def test_tickets_that_optimizers_exchange_stand_in_a_matrix_of_finders_and_trainers(exchanged: Survey) -> None:
    own, dense = exchanged.statements[0].recipes[0].matrices
    assert (own.against, dense.against) == ("ticket", "dense")
    assert dense.headers == ["found with", "adam", "sgd", "rmsprop"]
    for cells in dense.cells:
        wanted = [gain + 0.005 for gain in MATRIX[cells[0]]]
        assert [float(cell.split()[0].replace("−", "-")) for cell in cells[1:]] == pytest.approx(wanted, abs=0.0051)
    assert [cell.split()[-1] for cell in dense.cells[1][1:]] == ["▼", "●", "●"]
    assert [cells[1 + place] for place, cells in enumerate(own.cells)] == ["own"] * 3
    for page in (in_markdown(exchanged).decode(), in_html(exchanged).decode(), in_latex(exchanged).decode()):
        assert "own ticket" in page and "−3.00 ▼" in page.replace("$-$", "−").replace(r"$\bigtriangledown$", "▼")


def test_claims_of_which_nothing_is_trained_are_one_line_and_no_rows(exchanged: Survey) -> None:
    (statement,) = exchanged.statements
    assert [row[0] for row in statement.rows] == [*"abcdefg"] and statement.claims[-1].untrained
    for page in (in_markdown(exchanged), in_html(exchanged), in_latex(exchanged)):
        assert b"Not trained, and so undecided: h of 20-exchange." in page


def test_a_folder_has_the_page_its_figures_the_table_and_the_environment(three: Survey, tmp_path: Path) -> None:
    names = [path.name for path in write(three, tmp_path / "page")]
    assert names[-1] == "survey.html" and {"survey.md", "survey.tex", "statement-07.svg", "statement-10.pdf"} < {*names}
    with (tmp_path / "page" / "table.csv").open(encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [(row["statement"], row["letter"], row["verdict"]) for row in table] == [
        ("7", "a", "holds"),
        ("7", "b", "fails"),
        ("7", "c", "holds"),
        ("10", "a", "undecided"),
    ]
    assert float(table[0]["estimate"]) == pytest.approx(100 * sum(GAINS) / 5)
    assert table[0]["left"] == "train.optimizer.lr=0.01" and table[0]["recipe"] == "07-floor"
    assert [each["torch"] for each in json.loads((tmp_path / "page" / "environment.json").read_bytes())] == ["2.11.0"]
    first = {path.name: path.read_bytes() for path in (tmp_path / "page").iterdir()}
    write(three, tmp_path / "page")
    assert {path.name: path.read_bytes() for path in (tmp_path / "page").iterdir()} == first


def test_claims_of_a_sweep_are_about_the_points_that_they_select() -> None:
    study = swept("07-floor", HOLDS, HOLDS | {"text": "D", "right": {"train.optimizer.lr": 0.1}})
    first, second = rows(study)
    assert (first["left"], first["right"]) == ("train.optimizer.lr=0.01", "train.optimizer.lr=0.001")
    dense = [{job.key for job in each.plan if job.kind is Kind.DENSE} for each in study.studies]
    assert set(first.made_from) == dense[0] | dense[1] and set(second.made_from) == dense[1] | dense[2]
    assert first["estimate_end"] == pytest.approx(0)  # at the end all are alike


def test_recipes_of_one_statement_may_have_a_letter_after_its_number() -> None:
    assert [number_of(name) for name in ("07-floor", "13b-deep", "resnet20-short", "1-a")] == [7, 13, 0, 1]
