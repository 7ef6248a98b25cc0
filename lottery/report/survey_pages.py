"""The page of a survey in HTML, Markdown and LaTeX, its table and its environment: the files of a folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lottery.analysis.labels import finite
from lottery.files.write import make_folder, write_atomic
from lottery.formats import latex, markdown
from lottery.formats.numbers import moment
from lottery.formats.render import render
from lottery.report.svg import inline_svg, pixels
from lottery.verdicts.claims_in_words import claimed

if TYPE_CHECKING:
    from lottery.report.survey import Survey

TITLE = "The survey, statement by statement"
SHAPES = {"holds": "●", "fails": "▼", "undecided": "○"}  # as in the figures: no one has to tell colours apart


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
    for statement in survey.statements:
        yield f"{statement.name}.svg", statement.picture.svg
        yield f"{statement.name}.pdf", statement.picture.pdf
    yield "survey.tex", in_latex(survey)
    yield "survey.md", in_markdown(survey)
    yield "survey.html", in_html(survey)


def in_html(survey: Survey) -> bytes:
    """Return the page as one HTML file: no network, no script; style and figures are inside it."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lottery.report", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    page = environment.get_template("survey.html.jinja")
    told = page.render(survey=survey, shapes=SHAPES, drawing=inline_svg, pixels=pixels, moment=moment, limits=claimed)
    return told.encode()


def in_markdown(survey: Survey) -> bytes:
    """Return the page in Markdown; figures are SVG files beside it."""
    return ("\n\n".join(_in_markdown(survey)) + "\n").encode()


def _in_markdown(survey: Survey) -> Iterator[str]:
    line = markdown.line
    yield f"# {TITLE}"
    yield f"{line(survey.summary)} {line(survey.multiplicity)}"
    for statement in survey.statements:
        yield f"## {_title(statement.number, line(statement.title))}"
        yield f"![{line(statement.picture.caption)}]({statement.name}.svg)"
        yield markdown.pipe_table(statement.rows)
        for recipe in statement.recipes:
            yield f"`lottery replicate {recipe.name}`: {line(recipe.question)} ({line(recipe.cost)})"
            if recipe.finding:
                yield f"> **What was looked at:** {line(recipe.finding)}"
    yield line(_colophon(survey))


def in_latex(survey: Survey) -> bytes:
    r"""Return the page in LaTeX, to \input in a paper: tables need the package booktabs, figures graphicx."""
    return ("\n\n".join(_in_latex(survey)) + "\n").encode()


def _in_latex(survey: Survey) -> Iterator[str]:
    line = latex.line
    yield "% \\usepackage{booktabs}\n% \\usepackage{graphicx} for the figures"
    yield rf"\section*{{{TITLE}}}"
    yield f"{line(survey.summary)} {line(survey.multiplicity)}"
    for statement in survey.statements:
        title = _title(statement.number, statement.title)
        yield rf"\subsection*{{{line(title)}}}"
        for recipe in statement.recipes:
            yield rf"\texttt{{lottery replicate {line(recipe.name)}}}: {line(recipe.question)} ({line(recipe.cost)})"
            if recipe.finding:
                yield rf"\textbf{{What was looked at:}} {line(recipe.finding)}"
        image = rf"\includegraphics[width=.8\linewidth]{{{statement.name}.pdf}}"
        yield f"\\ifdefined\\includegraphics\n\\begin{{center}}\n{image}\n\\end{{center}}\n\\fi"
        yield from latex.floats(statement.rows, title, f"tab:survey-{statement.number:02}")
        yield r"\clearpage"  # floats of many statements are more than LaTeX can hold
    yield line(_colophon(survey))


def _title(number: int, title: str) -> str:
    return f"{number}. {title}" if number else title


def _colophon(survey: Survey) -> str:
    newest = f"{moment(survey.date)} UTC" if survey.date else "none"
    return f"Newest training: {newest}. Written by {survey.software}."
