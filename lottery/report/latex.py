r"""A report in LaTeX, to \input in a paper: tables need packages, figures are there where graphicx is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from lottery.formats.latex import escaped, line
from lottery.formats.latex_tables import PACKAGES, Paper, floats
from lottery.words import short

if TYPE_CHECKING:
    from lottery.report.content import Picture, Report, Section

COLUMN = 3.5  # inches of the widest column of a paper with two


def latex(report: Report) -> bytes:
    """Return the whole report but the rows of long tables, which lie in files of their own."""
    return ("\n\n".join(_blocks(report)) + "\n").encode()


def _comment(text: str) -> str:
    return re.sub(r"[^ -~]", "?", " ".join(text.split()))


def _blocks(report: Report) -> Iterator[str]:
    yield "\n".join(
        [
            f"% {_comment(report.name)}: by {_comment(report.software)}, trainings up to {report.date or 'none'}",
            PACKAGES,
            r"% \usepackage{graphicx} for the figures; where this file lies in another folder than the paper,",
            r"% \graphicspath{{that folder/}}",
        ]
    )
    yield rf"\subsection*{{{line(report.name)}}}"
    if report.question:
        yield escaped(report.question)
    for warning in report.warnings:
        yield rf"\textbf{{Mind:}} {line(warning)}."
    for section in report.sections:
        yield from _section(report, section)
    data = ", ".join(rf"{line(name)} (\texttt{{{short(value)}}})" for name, value in report.fingerprints.items())
    yield rf"{{\raggedright Data: {data}. {line(report.colophon)}\par}}"


def _section(report: Report, section: Section) -> Iterator[str]:
    yield rf"\subsubsection*{{{line(section.title)}}}"
    if section.sentences:
        yield "\n\n".join(line(sentence) for sentence in section.sentences)
    if section.explanation:
        yield escaped(section.explanation)
    for table in section.tables:
        if table.appendix:
            where = rf"\texttt{{{line(table.name)}}} of the formats csv, parquet and json"
            yield f"{line(table.caption)}: {len(table.rows)} rows, {where}."
        else:
            yield from floats(table.rows, Paper(table.caption, f"{report.name}-{table.name}"))
    for picture in section.pictures:
        yield _figure(report, picture)
    for reason in section.absent:
        yield rf"\emph{{{line(reason)}}}"


def _figure(report: Report, picture: Picture) -> str:
    """Return a figure in the size that it was drawn for, or as wide as the text where that is narrower.

    One that is wider than a column goes across both columns, where a paper has two.
    """
    inches = picture.width
    kind = "figure*" if inches > COLUMN else "figure"
    width = rf"\ifdim\linewidth<{inches:.4g}in \linewidth\else {inches:.4g}in\fi"
    return "\n".join(
        [
            r"\ifdefined\includegraphics",
            rf"\begin{{{kind}}}[htbp]",
            r"\centering",
            rf"\includegraphics[width={width}]{{{picture.name}.pdf}}",
            rf"\caption{{{line(picture.caption)}}}",
            rf"\label{{fig:{report.name}-{picture.name}}}",
            rf"\end{{{kind}}}",
            r"\fi",
        ]
    )
