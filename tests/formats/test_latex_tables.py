"""Tables in LaTeX: what fits a column stands in one, what does not goes across the page, and nothing is too wide."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

import pytest

from lottery.analysis.columns import DENSITY, Column, mean
from lottery.analysis.profiles import profile_rows
from lottery.analysis.rows import Row, Values
from lottery.analysis.several import rows_of_several
from lottery.analysis.views import VIEWS, rows_of
from lottery.errors import UsageError
from lottery.formats.latex_tables import PACKAGES, Paper, Width, floats
from lottery.formats.latex_widths import width
from lottery.results.study import Study, study
from lottery.runner.run import work
from tests.support import latex
from tests.support.micro import micro, prepared

CLAIM = (
    '{text: "Tickets of half the weights are, whatever the optimizer, within 50 points of the dense network", '
    "source: Who 2020, densities: [0.5], least: -50.0}"
)
RICH = (
    *("data.validation=200", "seeds=2", "prune.levels=2", "transfer=all", "compare={margin: 1}"),
    "train.optimizer=[{name: momentum, momentum: 0.8}, {name: sgd, rates: [1e20, 1e30]}, {name: adam}]",
    "tune={trials: 2, seeds: [77]}",
    "branches=[{name: reinit, samples: 2}, shuffle, {name: same_sign, as: same_sign_as_before_training}, random]",
    "analyses=[{name: barrier, points: 3}, {name: errors, as: three-errors}]",
    f"replicates={{source: Who 2020, claims: [{CLAIM}]}}",
    "metrics=[balanced_accuracy, top5]",
    "name=a-study-with-a-long-name_and-an.underscore",
)
SHORT = ("name=late", "rewind=[init, {to: 4it, mode: weights}]", "compare={margin: 1}", "seeds=2", "prune.levels=3")
ADAPTIVE = ("prune.levels=auto", "prune.frontier={first_seeds: 3, most_levels: 2}", "compare={margin: 30}", "seeds=4")
SEARCH = ("rewind={auto: {density: 1, pairs: 1, latest: 4it, tolerance: 0.9, halvings: 1}}",)


def ran(folder: Path, *changes: str) -> Study:
    recipe = micro(*changes)
    list(work(prepared(recipe, folder)))
    return study(recipe, store=folder, data=folder)


def row(optimizer: str, accuracy: float, n: int = 5, note: str = "") -> Row:
    cells: Values = dict(zip(mean("ticket"), (accuracy, 0.0123, n, None), strict=True))
    return Row({"optimizer": optimizer, DENSITY: 0.2097, **cells, Column("p", "p"): 0.0004, "note": note}, ["a" * 64])


def compiled(text: str, folder: Path, options: str) -> str:
    """The log of LaTeX on an article that takes the tables in, which must compile without an error."""
    source = "\n".join([rf"\documentclass[{options}]{{article}}", PACKAGES[2:], r"\begin{document}", text])
    return latex.compiled(source + "\n" + r"\end{document}", folder)


def test_numbers_are_set_by_siunitx_with_their_deviation_and_the_seeds_that_are_others_have_a_note() -> None:
    (made,) = floats([row("adam", 0.97123), row("sgd", 0.9), row("momentum", 0.4, n=3)], Paper("Tickets", "tickets"))
    assert r"\begin{tabular}{@{}lS[table-format=2.2]S[table-format=2.2(3)]S[table-format=<1.3]@{}}" in made
    assert r"adam & 20.97 & 97.12 \pm 1.23 & <0.001 \\ % aaaaaaaaaaaa" in made
    assert r"momentum & 20.97 & 40.00 \pm 1.23\tnote{a} & <0.001" in made
    notes = made.partition(r"\begin{tablenotes}")[2]
    assert r"\item[a] 3 seeds" in notes and r"deviation over 5 seeds unless noted." in notes
    assert r"\caption{Tickets}" in made and r"\label{tab:tickets}" in made


def test_a_diverged_network_stands_in_words_among_numbers() -> None:
    lost = row("sgd", 0.9)
    lost |= {"ticket": None, "ticket_std": None, "ticket_n": 0, "ticket_diverged": 7}
    (made,) = floats([row("adam", 0.97), Row(lost, ())], Paper())
    assert "& {diverged (step 7)} &" in made and "caption" not in made


def test_the_sentences_of_rows_are_table_notes_that_the_same_words_share() -> None:
    long = "early-stop step censored: ticket 1 of 5, and more of that"
    (made,) = floats([row("adam", 0.97, note=long), row("sgd", 0.9), row("x", 0.9, note=long)], Paper())
    assert made.count(rf"\item[a] {long}") == 1
    assert r"adam\tnote{a} &" in made and r"x\tnote{a} &" in made and "sgd &" in made


def table(columns: int, rows: int = 3) -> list[Row]:
    return [
        Row({"optimizer": "adam", **{f"value {n}": 0.125 * at + n for n in range(columns)}}, []) for at in range(rows)
    ]


@pytest.mark.parametrize(
    ("columns", "asked", "environments", "parts"),
    [
        (4, "column", ["table"], 1),
        (4, "page", ["table*"], 1),
        (8, "column", ["table*"], 1),
        (20, "column", ["table*"], 2),
    ],
)
def test_a_table_is_as_wide_as_it_must_be(columns: int, asked: Width, environments: list[str], parts: int) -> None:
    made = floats(table(columns), Paper("Values", "v", asked))
    assert [re.search(r"\\begin\{(table\*?)\}", each)[1] for each in made] == environments  # type: ignore[index]
    assert sum(each.count(r"\begin{tabular}") for each in made) == parts
    assert "\n".join(made).count(r"\toprule") == parts and all("{value}" in each for each in made)


def test_each_part_and_float_of_a_table_says_what_its_rows_are() -> None:
    made = floats(table(20, rows=90), Paper("Values", "v"))
    bodies = re.findall(r"\\midrule\n(.*?)\\bottomrule", "\n".join(made), re.DOTALL)
    assert all(line.startswith("adam &") for body in bodies for line in body.strip().splitlines())
    assert len(re.findall(r"\\label\{tab:v(-\d+)?\}", "\n".join(made))) == len(made) > 3
    assert "(continued)" in made[1]


def test_a_few_rows_stand_together_in_every_float_and_what_they_share_in_the_first_part() -> None:
    rows = [
        Row({"study": f"rewound to {at}", "optimizer": "momentum", **each}, []) for at, each in enumerate(table(60))
    ]
    made = floats([Row(each | {"optimizer": "momentum"}, []) for each in rows], Paper("Values", "v"))
    bodies = re.findall(r"\\midrule\n(.*?)\\bottomrule", "\n".join(made), re.DOTALL)
    assert len(bodies) > len(made) > 1
    assert all(re.findall(r"rewound to \d", body) == [f"rewound to {at}" for at in range(3)] for body in bodies)
    assert ["momentum" in body for body in bodies] == [True] + [False] * (len(bodies) - 1)


@pytest.mark.slow
def test_a_text_is_no_wider_than_its_width_says(tmp_path: Path) -> None:
    """Each character of ASCII, ten times, in a box that LaTeX measures in the font of tables."""
    from lottery.formats.latex import escaped

    characters = [chr(code) for code in range(33, 127)] + list("−±×≤≥")
    lines = [rf"\setbox0\hbox{{{escaped(each * 10)}}}\typeout{{WIDTH \the\wd0}}" for each in characters]
    log = compiled("\\footnotesize\n" + "\n".join(lines), tmp_path, "twocolumn")
    found = [float(points) for points in re.findall(r"WIDTH ([\d.]+)pt", log)]
    assert len(found) == len(characters)
    too_narrow = {each: points - width(each * 10) for each, points in zip(characters, found, strict=True)}
    assert {each: gap for each, gap in too_narrow.items() if gap > 0.5} == {}


@pytest.mark.slow
@pytest.mark.parametrize("options", ["twocolumn", "onecolumn"])
@pytest.mark.parametrize("asked", ["column", "page"])
def test_every_view_compiles_without_an_overfull_box(
    tables: dict[str, list[Row]], tmp_path: Path, options: str, asked: Width
) -> None:
    assert {*VIEWS, "barrier", "three-errors"} <= set(tables) and all(tables.values())
    text = "\n\n\\clearpage\n".join(
        part for view, rows in tables.items() for part in floats(rows, Paper(f"View {view}", view, asked))
    )
    log = compiled(text, tmp_path, options)
    assert re.findall(r"Overfull \\hbox.*", log) == [] and "too large" not in log


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Row]]:
    """Every view: of a study of three optimizers with all that there is, of three small ones, and of several."""
    changes = {"rich": RICH, "late": SHORT, "adaptive": ADAPTIVE, "search": SEARCH}
    studies = {name: ran(tmp_path_factory.mktemp(name), *each) for name, each in changes.items()}
    found: dict[str, list[Row]] = {"profile": profile_rows(studies["rich"], "barrier")}
    for each in studies.values():
        for view in (*VIEWS, *(analysis.label for analysis in each.recipe.analyses)):
            if view not in found:
                with suppress(UsageError):  # of a recipe that does not ask for it
                    found[view] = rows_of(each, view)
    late = studies["late"]
    later = study(late.recipe.model_copy(update={"name": "later"}), store=late.store)
    views = ("means", "matrix", "verdicts", "long")
    return found | {f"several-{view}": rows_of_several([late, later], view) for view in views}
