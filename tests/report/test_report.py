"""`lottery report`: every format says what the study says, from which trainings, and no export loses an older one."""

from __future__ import annotations

import csv
import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from itertools import count
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.figure import Figure

from lottery.analysis.columns import DENSITY
from lottery.analysis.rows import Row
from lottery.analysis.views import VIEWS, rows_of
from lottery.cli.main import main
from lottery.errors import MachineError
from lottery.figures import draw
from lottery.formats.latex import escaped
from lottery.formats.numbers import probability
from lottery.formats.pages import columns
from lottery.plan.kinds import Kind
from lottery.recipe.load import parse_recipe
from lottery.recipe.readings import READINGS
from lottery.report import content as report_module
from lottery.report.content import Report, Section, Table, collect, written
from lottery.report.export import FORMATS, export
from lottery.report.html import html
from lottery.report.latex import latex
from lottery.report.markdown import markdown
from lottery.report.parts import parts
from lottery.results.study import Study, study
from lottery.runner.events import Request
from lottery.runner.prepare import prepare
from lottery.runner.run import work
from tests.support.faults import Crash, Disk, contents, crash_after, crash_before, crash_within, refuses
from tests.support.latex import compiled as compiled_document
from tests.support.micro import micro_text
from tests.support.studies import Recorded, dense, everything, hand, made, ticket, view_of

QUESTION = "50 % of R&D_x > <script>alert('1')</script> \\ #1 {a} ~^ $x$ | * `b` [c] --set \"é\" ß 中 ħ −0,5?"
TRAINED = micro_text(
    "name=a_study-1.0",
    f"question={json.dumps(QUESTION)}",
    "data={name: digits, validation: 100, limit: 200}",
    "model.widths=[8]",
    "train.optimizer=[{name: adam, lr: 1e-2}, {name: sgd, lr: 0.1}]",
    "train.length=6it",
    "train.evaluate_every=3it",
    "prune.levels=1",
    "seeds=2",
    "branches=[{name: reinit, as: new_weights}]",
    "transfer=all",
    "compare={margin: 1}",
)
VOID = {"meta", "br"}
FETCHING = {"src", "srcset", "data", "action", "poster", "background", "ping", "cite"}


def picture(*_: object) -> Figure:
    """Stands for the figures, which have tests of their own and take longer than all the rest. It has pixels in it, as
    a heat map does."""
    figure = Figure(figsize=(1, 1))
    axes = figure.add_subplot()
    axes.plot([0, 1])
    axes.imshow([[0, 1], [1, 0]])
    return figure


def run(recipe: str, store: Path) -> Study:
    parsed = parse_recipe(recipe, "recipe.yaml", [])
    list(work(prepare(Request(parsed, Path("nowhere"), store, "cpu", deterministic=True))))
    return study(parsed, store=store)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return run(TRAINED, tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def whole(trained: Study) -> Report:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report_module, "draw", picture)
        return collect(trained)


@pytest.fixture(scope="module")
def folder(whole: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("report")
    export(whole, place)
    return place


@pytest.fixture
def drawn_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_module, "draw", picture)


class Page(HTMLParser):
    """Reads a page and insists that elements nest; `text` is what a person sees, `attributes` what may fetch."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.ids: list[str] = []
        self.text: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text.append(data)
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


# What is in it


def test_the_page_is_well_formed_asks_nothing_of_a_network_and_runs_nothing(folder: Path) -> None:
    text = (folder / "report.html").read_text()
    page = Page(text)
    assert not {"script", "link", "iframe", "object", "embed", "base", "form", "img"} & set(page.tags)
    targets = [value for name, value in page.attributes if name in ("href", "xlink:href")]
    pixels = [target for target in targets if target.startswith("data:image/png;base64,")]
    assert len(pixels) == page.tags.count("image") == page.tags.count("svg")
    anchors = set(targets) - set(pixels)
    assert anchors and all(target.startswith("#") and target[1:] in page.ids for target in anchors)
    assert len(page.ids) == len(set(page.ids))  # drawings share no names
    assert not [name for name, _ in page.attributes if name in FETCHING or name.startswith("on")]
    assert not re.search(r"@import|url\((?!#)", text)
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"  # what a browser may load at all
    assert ("content", policy) in page.attributes


def test_the_page_begins_with_the_question_and_the_verdict_sentences(folder: Path, whole: Report) -> None:
    text = " ".join("".join(Page((folder / "report.html").read_text()).text).split())
    sentences = whole.sections[0].sentences
    assert len(sentences) == 2 and all(sentence.startswith(("adam", "sgd")) for sentence in sentences)
    places = [text.index(part) for part in (QUESTION, *sentences, "Verdicts: tickets against dense networks")]
    assert places == sorted(places)


def test_the_accuracy_figure_stands_beside_the_answer_before_all_sections(folder: Path, whole: Report) -> None:
    text = (folder / "report.html").read_text()
    places = [text.index(part) for part in ('<div class="top"', '<ul class="answers"', 'id="figure-accuracy"', "<nav")]
    assert places == sorted(places)
    assert text.count('id="figure-accuracy"') == text.count('<div class="top"') == 1  # and nowhere else
    provenance = text[text.index('<section id="provenance">') :]
    assert text.count('<ul class="answers"') == 1 + provenance.count('<ul class="answers"')
    assert "<li>Engine: dense.</li>" in provenance
    accuracy = text[text.index('<section id="accuracy">') :].partition("</section>")[0]
    assert '<a href="#figure-accuracy">' in accuracy and "<svg" not in accuracy
    shown = re.findall(r'<figure id="figure-([^"]+)"', text)
    assert sorted(shown) == sorted(picture.name for picture in whole.pictures)


def test_without_verdicts_the_figure_stands_on_top_alone_and_without_either_nothing_does(whole: Report) -> None:
    sections = [section for section in whole.sections if section.name == "accuracy"]
    text = html(replace(whole, sections=sections)).decode()
    assert '<ul class="answers"' not in text
    assert text.index('<div class="top"') < text.index('id="figure-accuracy"') < text.index("<nav")
    assert '<div class="top"' not in html(replace(whole, sections=[])).decode()


def test_what_the_adaptive_walk_found_is_the_answer(whole: Report) -> None:
    """Its sentences go before those of the verdicts, which keep their place."""
    sections = [Section("verdicts", "V", "", ["verdict"]), Section("frontier", "F", "", ["found"])]
    text = html(replace(whole, sections=sections)).decode()
    assert text.index("found") < text.index("<nav") < text.index("verdict</li>")
    assert text.count("found</li>") == text.count("verdict</li>") == 1


def test_rows_of_the_json_are_those_of_the_views(folder: Path, trained: Study) -> None:
    document = json.loads((folder / "report.json").read_text())
    assert document["question"] == QUESTION
    tables = {table["name"]: table for section in document["sections"] for table in section["tables"]}
    views = {"verdicts", "sparsest", "decomposition", "claims", "means", "costs", "layers", "overlaps"}
    views |= {"transfer", "transfer_tests", "examples"}
    assert set(tables) == views | {"audit", "environments", "long"}
    for name in set(tables) - {"environments"}:
        assert tables[name]["rows"] == rows_of(trained, name), name
    assert document["lacking"]["rows"] == []


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_files_of_tables_hold_the_rows_of_the_json(folder: Path, form: str) -> None:
    document = json.loads((folder / "report.json").read_text())
    tables = [table for section in document["sections"] for table in section["tables"]]
    assert {path.stem for path in folder.glob(f"*.{form}")} == {"sources", *(table["name"] for table in tables)}
    for table in tables:
        path = folder / f"{table['name']}.{form}"
        frame = pd.read_csv(path) if form == "csv" else pd.read_parquet(path)
        assert list(frame.columns) == list(dict.fromkeys(name for row in table["rows"] for name in row))
        values = frame.astype(object).where(frame.notna(), None).to_dict("records")
        for row, value in zip(table["rows"], values, strict=True):
            assert {name: cell for name, cell in value.items() if cell is not None} == {
                name: cell for name, cell in row.items() if cell is not None and (cell != "" or form != "csv")
            }


def test_each_row_names_finished_trainings_of_the_study(folder: Path, trained: Study) -> None:
    document = json.loads((folder / "report.json").read_text())
    with (folder / "sources.csv").open() as file:
        sources = [(row["table"], int(row["row"]), row["key"]) for row in csv.DictReader(file)]
    tables = [table for section in document["sections"] for table in section["tables"]]
    assert sources == [
        (table["name"], place, key) for table in tables for place, keys in enumerate(table["keys"]) for key in keys
    ]
    for table in tables:
        assert len(table["keys"]) == len(table["rows"])
        assert all(keys and set(keys) <= set(trained.found) for keys in table["keys"]), table["name"]
    said = (folder / "report.html").read_text()
    assert all(key in said for _, _, key in sources)


def test_the_page_shows_the_numbers_of_the_rows(folder: Path, trained: Study) -> None:
    page = Page((folder / "report.html").read_text())
    for row in rows_of(trained, "means"):
        mean, spread = 100 * row["ticket"], 100 * row["ticket_std"]
        here = [cells for cells in page.rows if f"{mean:.2f} ± {spread:.2f} (2)" in cells]
        assert any(cells[0] == row["optimizer"] for cells in here)


def test_markdown_tables_have_as_many_cells_in_every_row_and_say_the_question(folder: Path) -> None:
    text = (folder / "report.md").read_text()
    blocks = [block for block in text.split("\n\n") if block.startswith("|")]
    assert len(blocks) == 11
    for block in blocks:
        lines = block.splitlines()
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1 and len(lines) > 2
        assert re.fullmatch(r"[|:-]+", lines[1])
    prose = text.split("### Recipe")[0]
    assert "<script>" not in prose and "\\<script\\>" in prose
    for name in re.findall(r"!\[.*\]\((.*)\)", text):
        assert (folder / name).is_file()


@pytest.mark.slow
def test_latex_compiles_without_a_line_that_is_too_long(folder: Path, tmp_path: Path) -> None:
    log = compiled((folder / "report.tex").read_bytes(), tmp_path, folder)
    wide = [float(points) for points in re.findall(r"Overfull \\hbox \(([\d.]+)pt", log)]
    assert max(wide, default=0) <= 5 and "too large" not in log


def compiled(text: bytes, tmp_path: Path, figures: Path) -> str:
    """The log of LaTeX on an article that takes the report in, which must compile without an error."""
    (tmp_path / "report.tex").write_bytes(text)
    packages = r"\usepackage{booktabs,siunitx,threeparttable,graphicx}\graphicspath{{" + f"{figures}/" + "}}"
    source = rf"\documentclass{{article}}{packages}\begin{{document}}\input{{report}}\end{{document}}"
    return compiled_document(source, tmp_path)


@pytest.mark.slow
def test_latex_sets_each_character_of_the_first_planes_or_names_it(tmp_path: Path) -> None:
    lines = [
        "".join(map(chr, range(first, first + 16))) for first in (*range(0x20, 0x500, 16), 0x2010, 0x2200, 0x1F600)
    ]
    compiled(" \n\n".join(map(escaped, lines)).encode(), tmp_path, tmp_path)


def test_characters_that_mean_something_to_latex_are_escaped_and_unknown_ones_numbered() -> None:
    assert escaped(r"50 % of R&D_x # $a$ {b} ~ ^ \c") == (
        r"50 \% of R\&D\_x \# \$a\$ \{b\} \textasciitilde{} \textasciicircum{} \textbackslash{}c"
    )
    assert escaped("--set é 中 −1") == "-{}-set é {[}U+4E2D{]} $-$1"


def test_wide_and_long_tables_are_cut_into_parts_that_say_what_a_row_is() -> None:
    rows = [
        Row({"optimizer": f"o{n % 2}", DENSITY: 1 / (1 + n), **{f"column_{c}": n * c for c in range(30)}}, [])
        for n in range(90)
    ]
    text = latex(tables(Table("wide", "Wide", rows))).decode()
    parts = re.findall(r"\\begin\{tabular\}.*?\\midrule\n(.*?)\\bottomrule", text, re.DOTALL)
    cells = [[line.split(" & ") for line in part.strip().splitlines()] for part in parts]
    assert all(line[0] in ("o0", "o1") and len(line) == len(part[0]) for part in cells for line in part)
    assert all(len(part) <= 40 for part in cells)
    assert sum((len(line) - 2) for part in cells for line in part) == 90 * 30
    assert len(re.findall(r"\\begin\{table\*\}", text)) == len(set(re.findall(r"\\label\{(.*)\}", text)))


def test_columns_that_say_nothing_or_one_thing_are_not_shown_to_people_but_kept_for_programs() -> None:
    rows = [
        {"optimizer": "adam", DENSITY: 0.5, "rest": None, "correction": "holm", "reason": "one"},
        {"optimizer": "adam", DENSITY: 0.25, "rest": None, "correction": "holm", "reason": "a longer sentence " * 4},
    ]
    table = Table("verdicts", "Verdicts", [Row(row, []) for row in rows])
    assert [column.header for column in columns(table.rows)] == ["optimizer", "density (%)", "reason"]
    page = Page(html(tables(table)).decode())
    assert page.rows == [["optimizer", "density (%)", "made from"], *PAGE_ROWS]
    assert "In every row correction: holm." in "".join(page.text)
    assert "In every row correction: holm." in markdown(tables(table)).decode()


PAGE_ROWS = [["adam", "50", ""], ["one"], ["adam", "25", ""], ["a longer sentence " * 4]]


def tables(*each: Table) -> Report:
    """A report of these tables and nothing else."""
    sections = [Section("verdicts", "Verdicts", "", tables=list(each))]
    none = Table("missing", "Missing", [], True)
    return Report("made", "Why?", [], sections, none, "name: made\n", {"digits": "f" * 64}, "lottery", None, 0.95)


# Where the numbers come from


def test_rows_are_made_from_the_trainings_that_they_compare() -> None:
    planned = hand("prune.levels=3", "branches=[reinit, {name: random, samples: 2}]", "compare={margin: 1}")
    found = everything(planned)
    held = Study(planned, found, Recorded(planned))

    def behind(view: str, **place: Any) -> set[tuple[str, int]]:
        rows = rows_of(held, view)
        (row,) = (row for row in rows if place.items() <= row.items())
        jobs = [planned.jobs[key] for key in row.made_from]
        assert sum(job.seed for job in jobs) * 2 == len(jobs)  # each of both seeds
        return {(job.branch.label if job.branch else job.kind, job.level) for job in jobs}

    assert behind("verdicts", level=2) == {("dense", 0), ("ticket", 2)}
    assert behind("sparsest") == {("dense", 0), ("ticket", 1), ("ticket", 2), ("ticket", 3)}
    assert behind("claims", level=3, against="random") == {("ticket", 3), ("random", 3)}
    assert behind("decomposition", level=3) == {("ticket", 3), ("random", 3), ("reinit", 3)}
    assert behind("means", density=0.25) == {("dense", 0), ("ticket", 2), ("random", 2), ("reinit", 2)}


def test_all_trainings_that_the_audit_compared_stand_behind_what_it_found(whole: Report) -> None:
    (audit,) = (table for table in whole.tables if table.name == "audit")
    summaries = [place for place, row in enumerate(audit.rows) if row["field"] == "compared"]
    assert len(summaries) == 2
    for place in summaries:
        assert audit.rows[place]["note"].startswith(f"{len(audit.rows[place].made_from)} trainings")


def test_trainings_of_each_environment_stand_behind_its_row_and_a_banner_says_that_there_are_several(
    drawn_quickly: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = hand("prune.levels=0", "seeds=3")
    other = made(planned, dense(2, 0.5, environment={"torch": "2.12.0", "device": "another"}))
    found = everything(planned) | other
    held = Study(planned, found, Recorded(planned))
    (table,) = (
        table for table in collect(only(held, monkeypatch, "provenance")).tables if table.name == "environments"
    )
    assert [(row["trainings"], row["device"]) for row in table.rows] == [(2, "cpu"), (1, "another")]
    assert table.rows[1].made_from == tuple(other) and set(table.rows[0].made_from) == set(found) - set(other)
    assert collect(held).warnings == [
        "mixed environments (lottery, torch, device): the trainings ran in 2, see Provenance"
    ]


def only(held: Study, monkeypatch: pytest.MonkeyPatch, *names: str) -> Study:
    """The same study, of which the report has these sections alone: others need what records made up lack."""
    monkeypatch.setattr(report_module, "parts", lambda recipe: (p for p in parts(recipe) if p.name in names))
    return held


def test_missing_and_diverged_trainings_are_named_with_their_keys(
    drawn_quickly: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = hand("seeds=3")
    found = made(planned, dense(0, 0.5), dense(1, 0.5), dense(2, 0.5), ticket(0, 0.0, diverged=7), ticket(1, 0.5))
    report = collect(only(Study(planned, found, Recorded(planned)), monkeypatch, "accuracy"))
    assert report.warnings == ["1 of 6 trainings are missing: ticket 1", "1 of 6 trainings diverged: ticket 1"]
    jobs = {(job.kind.value, job.seed): job.key for job in planned}
    assert [(row["state"], row["step"], row["key"]) for row in report.lacking.rows] == [
        ("diverged", 7, jobs[Kind.TICKET, 0]),
        ("missing", None, jobs[Kind.TICKET, 2]),
    ]
    text = " ".join("".join(Page(html(report).decode()).text).split())
    assert "1 of 6 trainings are missing" in text and jobs[Kind.TICKET, 2][:12] in text


def test_the_report_on_a_study_of_which_nothing_is_finished_says_so_in_each_section(
    trained: Study, tmp_path: Path
) -> None:
    report = collect(Study(trained.plan, {}, trained.store))
    total = sum(job.kind in ("dense", "ticket", "branch") for job in trained.plan)
    assert report.warnings[0].startswith(f"{total} of {total} trainings are missing")
    assert all(section.absent or section.name == "audit" for section in report.sections)
    names = {path.name for path in export(report, tmp_path)}
    assert {f"report.{form}" for form in ("html", "md", "tex", "json")} < names and "means.csv" not in names
    Page((tmp_path / "report.html").read_text())


def test_without_compare_the_report_says_how_to_get_verdicts(
    drawn_quickly: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = hand()
    (section,) = collect(only(Study(planned, everything(planned), Recorded(planned)), monkeypatch, "verdicts")).sections
    assert section.tables == [] and any("compare" in reason for reason in section.absent)


def test_a_report_and_its_figures_change_nothing_of_what_the_study_keeps(
    whole: Report, trained: Study, folder: Path
) -> None:
    for name in ("accuracy", "layers", "overlap", "transfer"):
        draw(trained, name)
    fresh = Study(trained.plan, trained.found, trained.store)
    shared = [table for table in whole.tables if table.name in VIEWS]
    assert len(shared) > 8
    for table in shared:
        assert table.rows == rows_of(trained, table.name) == rows_of(fresh, table.name)


def test_the_recipe_in_the_report_is_the_recipe(whole: Report, trained: Study) -> None:
    assert parse_recipe(whole.recipe, "again.yaml", []) == trained.recipe
    assert whole.recipe == written(trained.recipe)


def test_regression_is_read_in_r2() -> None:
    planned = hand("prune.levels=0", "seeds=1")
    found = everything(planned)
    (record,) = found.values()
    for at in READINGS:
        record.metrics[at] = {**record.metrics[at], "test_r2": 0.75}
        del record.metrics[at]["test_accuracy"]
    rows = view_of("means", planned, found)
    table = Table("means", "Means", rows)
    assert [column.text(rows[0]) for column in columns(rows) if column.column == "dense"] == ["75.00 (1)"]
    assert "r2 in place of accuracy" in markdown(tables(table)).decode()


# The same again, and interrupted


def test_one_study_makes_the_same_bytes_twice(
    trained: Study, folder: Path, tmp_path: Path, drawn_quickly: None
) -> None:
    export(collect(trained), tmp_path)
    assert contents(tmp_path) == contents(folder)


def simple(value: float) -> Report:
    return tables(Table("means", "Means", [Row({"optimizer": "adam", "dense": value}, ["a" * 64])]))


FAULTS = [crash_before, crash_after, crash_within, refuses(errno.ENOSPC)]


@pytest.mark.parametrize(
    "formats", [("csv", "json"), pytest.param(FORMATS, marks=pytest.mark.slow)], ids=["two", "every"]
)
@pytest.mark.parametrize("fault", FAULTS, ids=["before", "after", "within", "full disk"])
def test_an_export_interrupted_at_any_file_operation_leaves_each_file_old_or_new_and_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Callable[..., Any], formats: tuple[str, ...]
) -> None:
    export(simple(0.25), tmp_path / "old", formats)
    last = export(simple(0.75), tmp_path / "new", formats)[-1].name
    old, new = contents(tmp_path / "old"), contents(tmp_path / "new")
    assert old.keys() == new.keys() and old[last] != new[last]
    disk = Disk(monkeypatch)
    place = tmp_path / "place"
    for at in count():
        disk.heal()
        for name, data in old.items():
            place.mkdir(exist_ok=True)
            (place / name).write_bytes(data)
        disk.arm(at, fault)
        try:
            export(simple(0.75), place, formats)
        except (Crash, MachineError):
            there = {name: data for name, data in contents(place).items() if ".tmp-" not in name}
            assert there.keys() == old.keys() and all(there[name] in (old[name], new[name]) for name in there)
            if there[last] == new[last]:
                assert there == new
        else:
            break
    assert at == 4 * len(new) and contents(place).items() >= new.items()


def test_an_export_removes_what_the_study_has_no_longer_and_drafts_of_the_dead_but_no_file_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = f"report.html.tmp-99999999-{'0' * 8}-{'1' * 12}"
    monkeypatch.setattr("lottery.report.export.abandoned", lambda path, now: path.name == dead)
    for name in ("missing.csv", "early_stop.svg", "early_stop.pdf", "mine.csv", dead):
        (tmp_path / name).write_text("old")
    export(simple(0.5), tmp_path, ["csv", "md"])
    assert set(contents(tmp_path)) == {"means.csv", "sources.csv", "report.md", "early_stop.pdf", "mine.csv"}


# The command


def command(monkeypatch: pytest.MonkeyPatch, folder: Path, store: Path, *argv: str) -> int:
    monkeypatch.chdir(folder)
    (folder / "recipe.yaml").write_text(TRAINED)
    monkeypatch.setattr(sys, "argv", ["lottery", "report", "recipe.yaml", "--store", str(store), *argv])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def test_the_command_writes_the_formats_asked_for_and_prints_the_last_file(
    trained: Study,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    drawn_quickly: None,
) -> None:
    assert command(monkeypatch, tmp_path, trained.store.root, "--format", "json, html") == 0
    assert capsys.readouterr().out == "a_study-1.0-report/report.html\n"
    made = contents(tmp_path / "a_study-1.0-report")
    assert set(made) == {"report.json", "report.html"} and made.items() <= contents(folder).items()


def test_a_report_says_what_was_changed_of_the_recipe(
    trained: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawn_quickly: None
) -> None:
    sets = ["--set", "question=How?", "--set", "question=Where?"]
    assert command(monkeypatch, tmp_path, trained.store.root, *sets, "--format", "md,html") == 0
    for report in (tmp_path / "a_study-1.0-report").glob("report.*"):
        text = report.read_text().replace("\\", "")
        assert text.count("The recipe was changed by --set question=Where?.") == 1


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (["--format", "html,docx"], 2, "--format docx: there are html, md, tex, json, csv, parquet"),
        (["--format", ""], 2, "there are html, md, tex, json, csv, parquet"),
        (["-o", "recipe.yaml", "--format", "json"], 2, "recipe.yaml: is a file where a folder is needed"),
        (["-o", "/proc/here", "--format", "json"], 3, "/proc/here: cannot mkdir"),
    ],
)
def test_what_cannot_be_written_is_said_in_one_line(
    trained: Study,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    drawn_quickly: None,
    argv: list[str],
    code: int,
    message: str,
) -> None:
    assert command(monkeypatch, tmp_path, trained.store.root, *argv) == code
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


@pytest.mark.parametrize(
    ("p", "alpha", "told"),
    [
        (0.0499, 0.05, "0.0499"),
        (0.0501, 0.05, "0.0501"),
        (0.04996, 0.05, "0.04996"),
        (0.05000049, 0.05, "0.0500005"),
        (0.05, 0.05, "0.05"),
        (0.0496, 0.05, "0.0496"),
        (0.04, 0.05, "0.040"),
        (1.0, 0.05, "1.000"),
        (0.0004, 0.05, "< 0.001"),
        (0.0019, 0.05 / 24, "0.002"),
        (0.0021, 0.05 / 24, "0.0021"),
        (0.0004, 0.0005, "0.0004"),
        (0.0006, 0.0005, "0.001"),
        (0.00004, 0.0005, "< 0.0001"),
    ],
)
def test_a_p_value_is_told_so_that_it_is_on_its_side_of_the_level(p: float, alpha: float, told: str) -> None:
    assert probability(p, alpha) == told
    if told[0] != "<":
        assert (float(told) <= alpha) == (p <= alpha)


def test_the_report_tells_what_else_is_shown_of_tickets_that_match_and_hides_bootstraps_of_few_seeds() -> None:
    planned = hand("seeds=5", "compare={margin: 1}")
    found = made(planned, *(dense(seed, 0.5) for seed in range(5)))
    found |= made(planned, *(ticket(seed, 0.52 + 0.001 * seed, step=20) for seed in range(5)))
    table = Table("verdicts", "", view_of("verdicts", planned, found))
    told = {column.header: column.text(table.rows[0]) for column in columns(table.rows)}
    assert (told["verdict"], told["also"]) == ("winning", "better")
    assert float(told["better by at least (points)"]) == pytest.approx(100 * table.rows[0]["bound"], abs=0.005)
    assert not any("BCa" in header for header in told)


def test_numpy_is_imported_with_one_thread_for_products_and_nothing_later_is_told_so() -> None:
    script = """
import os, sys
from lottery.cli.main import main
class Finder:
    def find_spec(self, name, *_):
        if name == "numpy":
            print(os.environ.get("OPENBLAS_NUM_THREADS"))
sys.meta_path.insert(0, Finder())
sys.argv = ["lottery", "report", "no-such-recipe"]
try:
    main()
finally:
    print(os.environ.get("OPENBLAS_NUM_THREADS"))
"""
    for named, found in ({}, ["1", "None"]), ({"OPENBLAS_NUM_THREADS": "3"}, ["3", "3"]):
        others = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=others | named)
        assert done.stdout.split() == found, done.stderr
