"""The page of a survey in HTML, Markdown and LaTeX, its tables and its environment: the files of a folder."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lottery.analysis.labels import finite
from lottery.files.write import make_folder, write_atomic
from lottery.formats import latex, markdown
from lottery.formats.latex_paragraphs import paragraph_table
from lottery.formats.numbers import moment
from lottery.formats.render import render
from lottery.report.html import template
from lottery.report.survey_claims import NOT_TRAINED, SHAPES
from lottery.report.svg import inline_svg, pixels
from lottery.verdicts.claims_in_words import claimed
from lottery.words import counted

if TYPE_CHECKING:
    from lottery.report.survey import RecipeResult, Statement, Survey

TITLE = "The survey, statement by statement"
SUMMARY = ("Statement", "Claims", "Leading effect", "Seeds", "Cost")
CLAIMS = ("claim", "verdict", "effect", "claimed", "seeds", "text")
SUMMARY_WIDTHS = (0.27, 0.15, 0.34, 0.06, 0.08)  # of the text of a paper
CLAIMS_WIDTHS = (0.0, 0.12, 0.22, 0.11, 0.05, 0.3)
ELSEWHERE = (
    "What each claim compares, where it stands in the literature and what would change its verdict is in table.csv and "
    "in the details of survey.html."
)


def write(survey: Survey, folder: Path) -> list[Path]:
    """Write the pages and tables into a folder, made where there is none, and return its files; the page comes last."""
    files = dict(_files(survey))
    make_folder(folder)
    for name, content in files.items():
        write_atomic(folder / name, content)
    return [folder / name for name in files]


def _files(survey: Survey) -> Iterator[tuple[str, bytes]]:
    yield "table.csv", render(survey.rows, "csv")
    yield "environment.json", (json.dumps([finite(row) for row in survey.environments], indent=1) + "\n").encode()
    for picture in (statement.picture for statement in survey.statements):
        if picture is not None:
            yield f"{picture.name}.svg", picture.svg
            yield f"{picture.name}.pdf", picture.pdf
    yield "summary.md", summary_in_markdown(survey)
    yield "survey.tex", in_latex(survey)
    yield "survey.md", in_markdown(survey)
    yield "survey.html", in_html(survey)


def in_html(survey: Survey) -> bytes:
    """Return the page as one HTML file: no network, no script; style and figures are inside it."""
    told = template("survey.html.jinja").render(
        survey=survey,
        shapes=SHAPES,
        drawing=inline_svg,
        pixels=pixels,
        moment=moment,
        limits=claimed,
        counted=counted,
        not_trained=_untrained,
    )
    return told.encode()


def summary_in_markdown(survey: Survey) -> bytes:
    """Return the table with a row for each statement in Markdown, for a page of its own."""
    rows = [_summary_row(statement) for statement in survey.statements]
    told = markdown.line(f"{survey.summary} {_legend(survey)}")
    return f"{told}\n\n{markdown.plain_table(SUMMARY, rows)}\n".encode()


def _summary_row(statement: Statement) -> list[str]:
    claim = statement.leading
    leading = f"{claim.text}: {NOT_TRAINED if claim.untrained else f'{SHAPES[claim.verdict]} {claim.effect}'}"
    return [_title(statement), statement.tally, leading, statement.seeds, statement.cost]


def in_markdown(survey: Survey) -> bytes:
    """Return the page in Markdown; figures are SVG files beside it."""
    return ("\n\n".join(filter(None, _in_markdown(survey))) + "\n").encode()


def _in_markdown(survey: Survey) -> Iterator[str]:
    line = markdown.line
    yield f"# {TITLE}"
    yield line(_preface(survey))
    rows = [
        [*_summary_row(statement), ", ".join(recipe.name for recipe in statement.recipes)]
        for statement in survey.statements
    ]
    yield markdown.plain_table([*SUMMARY, "Recipes"], rows)
    yield line(f"{_legend(survey)} {ELSEWHERE}")
    for statement in survey.statements:
        yield f"## {statement.number}. {line(statement.title)}" if statement.number else f"## {line(statement.title)}"
        yield f"{line(statement.tally)}, {line(statement.cost)} of work."
        for recipe in statement.recipes:
            if recipe.finding:
                yield f"> **What was looked at** (`{recipe.name}`)**:** {line(recipe.finding)}"
        if statement.picture is not None:
            yield f"![{line(statement.picture.caption)}]({statement.name}.svg)"
        if statement.rows:
            yield markdown.plain_table(CLAIMS, statement.rows)
        for matrix in (matrix for recipe in statement.recipes for matrix in recipe.matrices):
            yield line(matrix.caption)
            yield markdown.plain_table(matrix.headers, matrix.cells)
        yield "\n".join(f"- {line(each)}" for each in _remarks(statement))
        yield "\n".join(
            f"- `lottery replicate {recipe.name}`: {line(recipe.question)} ({line(recipe.cost)})"
            for recipe in statement.recipes
        )
    yield line(_colophon(survey))


def in_latex(survey: Survey) -> bytes:
    r"""Return the page in LaTeX, to \input in a paper: tables need the package booktabs, figures graphicx."""
    return ("\n\n".join(_in_latex(survey)) + "\n").encode()


def _in_latex(survey: Survey) -> Iterator[str]:
    line = latex.line
    yield "% \\usepackage{booktabs}\n% \\usepackage{graphicx} for the figures"
    yield rf"\section*{{{TITLE}}}"
    yield line(_preface(survey))
    rows = [_summary_row(statement) for statement in survey.statements]
    yield from paragraph_table(SUMMARY, rows, SUMMARY_WIDTHS, f"{TITLE}. {_legend(survey)}", "tab:survey")
    yield line(ELSEWHERE)
    yield r"\clearpage"
    for statement in survey.statements:
        yield rf"\subsection*{{{line(_title(statement))}}}"
        yield line(f"{statement.tally}, {statement.cost} of work.")
        for recipe in statement.recipes:
            yield rf"\texttt{{lottery replicate {line(recipe.name)}}}: {line(recipe.question)} ({line(recipe.cost)})"
            if recipe.finding:
                yield rf"\textbf{{What was looked at:}} {line(recipe.finding)}"
        yield from map(line, _remarks(statement))
        if statement.picture is not None:
            size = r"width=.8\linewidth,height=.9\textheight,keepaspectratio"
            image = rf"\includegraphics[{size}]{{{statement.name}.pdf}}"
            yield f"\\ifdefined\\includegraphics\n\\begin{{center}}\n{image}\n\\end{{center}}\n\\fi"
        label = f"tab:survey-{statement.number:02}"
        if statement.rows:
            yield from paragraph_table(CLAIMS, statement.rows, CLAIMS_WIDTHS, _title(statement), label)
        for number, matrix in enumerate((each for recipe in statement.recipes for each in recipe.matrices), start=1):
            widths = [0.0] * len(matrix.headers)
            yield from paragraph_table(matrix.headers, matrix.cells, widths, matrix.caption, f"{label}-matrix-{number}")
        yield r"\clearpage"  # floats of many statements are more than LaTeX can hold
    yield line(_colophon(survey))


def _title(statement: Statement) -> str:
    return f"{statement.number}. {statement.title}" if statement.number else statement.title


def _untrained(recipe: RecipeResult) -> str:
    """Return in a sentence of which claims of a recipe nothing was trained; empty for none."""
    letters = [claim.letter for claim in recipe.claims if claim.untrained]
    if not letters:
        return ""
    adjacent = len(letters) > 2 and letters == [claim.letter for claim in recipe.claims][-len(letters) :]
    if adjacent or len(letters) == len(recipe.claims) > 2:
        letters = [f"{letters[0]} to {letters[-1]}"]
    return f"Not trained, and so undecided: {', '.join(letters)} of {recipe.name}."


def _remarks(statement: Statement) -> Sequence[str]:
    """Return sentences that belong beside the table: what was counted, what stands in the way, what is not trained."""
    told = [f"{claim.letter}: {claim.notes}" for claim in statement.claims if claim.notes and not claim.untrained]
    return [*told, *filter(None, map(_untrained, statement.recipes))]


def _preface(survey: Survey) -> str:
    return f"{survey.summary} {survey.counting} {survey.multiplicity}"


def _legend(survey: Survey) -> str:
    """Return in a sentence what marks stand for and what is in brackets."""
    sure = " or ".join(f"{100 * confidence:g} %" for confidence in survey.confidences)
    return (
        "The leading effect is that of the first claim, which ● holds, ▼ fails or ○ is undecided; in brackets the "
        f"one-sided bounds that decide ({sure}), ? where one is open."
    )


def _colophon(survey: Survey) -> str:
    newest = f"{moment(survey.date)} UTC" if survey.date else "none"
    return f"Newest training: {newest}. {survey.cost} of work in all. Written by {survey.software}."
