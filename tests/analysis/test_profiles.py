"""Tables and profiles of analyses in every format, and their sections in the report."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lottery.analysis.profiles import profile_rows
from lottery.analysis.views import VIEWS, rows_of
from lottery.errors import UsageError
from lottery.formats.render import render
from lottery.recipe.analyses import TABLES
from lottery.report.content import Report, collect
from lottery.report.export import export
from lottery.results.study import Study, study_of
from lottery.runner.run import work
from tests.support.analyses import ENTRIES, asking
from tests.support.drawn import jobs_of, stored
from tests.support.micro import micro, prepared, problems
from tests.support.plugs import Plugs

OWN = '''

@analyses.register("path", source="Somebody 2001", looks_at="pair", units={"rise": "points", "share": "fraction"})
def path(subject, memo, *, points: int = 3) -> Measurement:
    """Height of a `rise` on the way.

    Made up.
    """
    rise = 0.1 + 0.02 * subject.seed
    rows = [{"bn": "none", "alpha": 0.5 * i, "test_error": 0.25 * i, "level": i} for i in range(3)]
    return Measurement({"rise": rise, "share": 0.5}, rows)
'''
RECIPE = (
    "data.limit=100",
    "prune.levels=1",
    "seeds=2",
    "train.optimizer=[{name: adam, lr: 3e-3}, {name: sgd, lr: 1e30}]",
    asking("{name: path, of: [dense, ticket], as: way, points: 3}", "{name: broken, of: dense}", "gap"),
)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Study]:
    """A study of two seeds, of which all networks of the second optimizer diverged."""
    with pytest.MonkeyPatch.context() as patch:
        Plugs(tmp_path_factory.mktemp("plugs"), patch).load("profiled", ENTRIES + OWN)
        context = prepared(micro(*RECIPE), tmp_path_factory.mktemp("study"))
        list(work(context))
        yield study_of(context.plan, context.store)


@pytest.fixture(scope="module")
def report(study: Study) -> Report:
    return collect(study)


def test_profiles_are_rows_with_network_seed_and_key_as_they_were_measured(study: Study) -> None:
    rows = profile_rows(study, "way")
    assert len(rows) == 2 * 3
    jobs = [job for job in jobs_of(study, "way") if job.optimizer_index == 0]
    for number, job in enumerate(jobs):
        for row, measured in zip(rows[3 * number : 3 * number + 3], stored(study, job), strict=True):
            assert (row["optimizer"], row["networks"], row["seed"]) == ("adam", "dense - ticket", job.seed)
            assert (row["key"], row.made_from) == (job.key, (job.key, *(look.key for look in job.looks)))
            assert (row["alpha"], row["test_error"]) == (measured["alpha"], measured["test_error"])
            assert (row["level"], row["profile_level"]) == (1, measured["level"])  # its own and the profile's


def test_a_number_of_a_profile_that_is_not_finite_is_null_in_json_and_stays_itself_in_csv(study: Study) -> None:
    rows = profile_rows(study, "broken")
    first = json.loads(render(rows, "json"))[0]
    assert first["a"] is None and first["b"] is None and first["seed"] == 0
    (one, *_) = csv.DictReader(io.StringIO(render(rows, "csv").decode()))
    assert (one["a"], one["b"]) == ("", "-inf")


def test_each_format_of_a_table_has_mean_and_spread_in_its_unit(study: Study) -> None:
    rows = rows_of(study, "way")
    row = json.loads(render(rows, "json"))[0]
    assert row["rise"] == pytest.approx(0.11) and row["rise_std"] == pytest.approx(0.02 / 2**0.5)
    table = list(csv.DictReader(io.StringIO(render(rows, "csv").decode())))
    assert float(table[0]["rise"]) == pytest.approx(0.11) and table[1]["rise"] == ""
    text = render(rows, "text").decode()
    assert "+11.00 ± 1.41" in text
    head, _, first, second = render(rows, "markdown").decode().strip().splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in (head, first, second)]
    about = dict(zip(cells[0], cells[1], strict=True))
    assert about["rise (points)"] == "+11.00 ± 1.41" and about["share (%)"] == "50 ± 0"
    assert (about["networks"], about["measurements"]) == ("dense - ticket", "2")
    diverged = dict(zip(cells[0], cells[2], strict=True))
    assert diverged["rise (points)"] == "" and diverged["note"] == "diverged: 2 of 4 networks"
    latex = render(rows, "latex").decode()
    assert r"+11.00 \pm 1.41" in latex and "dense - ticket" in latex and "diverged: 2 of 4 networks" in latex


def test_a_section_says_what_is_measured_on_which_data_by_which_source_and_what_diverged(report: Report) -> None:
    sections = {section.name: section for section in report.sections}
    way = sections["analysis-way"]
    assert way.explanation == (
        "Height of a “rise” on the way. Made up. Measured on digits, train part, all examples; mode: evaluation (no"
        " dropout, no augmentation). The state is that of the reading end. With points=3. Values are means over seeds"
        " or pairs ± standard deviation. Source: Somebody 2001."
    )
    assert way.sentences == ["sgd, dense - ticket at level 1: diverged: 2 of 4 networks."]
    assert [picture.name for picture in way.pictures] == ["analysis-way"]
    assert way.pictures[0].caption.startswith("way: test error (%) along the straight line")
    gap = sections["analysis-gap"]
    assert gap.tables and not gap.pictures
    assert gap.absent == ["micro: the analysis gap has no profile; lottery table --view gap has its numbers"]
    names = [section.name for section in report.sections]
    assert names.index("curves") < names.index("analysis-way") < names.index("audit")


def test_the_report_has_each_analysis_in_every_format_and_forgets_one_that_is_gone(
    report: Report, study: Study, tmp_path: Path
) -> None:
    for name in ("analysis-old.csv", "analysis-old.svg", "analysis-of-mine.txt"):
        (tmp_path / name).write_text("")
    ours = [section for section in report.sections if section.name.startswith("analysis-")]
    assert [section.name for section in ours] == ["analysis-way", "analysis-broken", "analysis-gap"]
    export(replace(report, sections=ours), tmp_path, ["html", "md", "tex", "json", "csv"])
    there = {path.name for path in tmp_path.iterdir() if path.name.startswith("analysis")}
    tables = {"analysis-way.csv", "analysis-broken.csv", "analysis-gap.csv"}
    assert there == {*tables, "analysis-way.svg", "analysis-way.pdf", "analysis-of-mine.txt"}
    document = json.loads((tmp_path / "report.json").read_text())
    section = next(each for each in document["sections"] if each["name"] == "analysis-way")
    assert section["tables"][0]["rows"] == json.loads(render(rows_of(study, "way"), "json"))
    assert "Batch norm:" in section["figures"][0]["caption"]
    for name in ("report.html", "report.md", "report.tex"):
        text = (tmp_path / name).read_text()
        assert "Somebody 2001" in text and "diverged: 2 of 4 networks" in text
    assert 'id="figure-analysis-way"' in (tmp_path / "report.html").read_text()
    assert "analysis-way.svg" in (tmp_path / "report.md").read_text()
    assert re.search(r"\\includegraphics\[width=[^]]+\]{analysis-way.pdf}", (tmp_path / "report.tex").read_text())


def test_a_view_that_is_no_analysis_has_no_profile(study: Study) -> None:
    with pytest.raises(UsageError, match="has no analysis 'means'; there are way, broken, gap"):
        profile_rows(study, "means")
    with pytest.raises(UsageError, match="the analysis gap has no profile"):
        profile_rows(study, "gap")


def test_no_analysis_is_called_as_another_table_is() -> None:
    assert set(TABLES) == set(VIEWS)
    (said,) = problems("analyses=[{name: barrier, as: layers}]")
    assert said.endswith("'layers' is another table of each study; name this one otherwise with `as: ...`")
