"""A report in Markdown, as code hosting sites show it; figures are SVG files beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tabulate import tabulate

from lottery.report.columns import colophon, columns, in_common
from lottery.words import short

if TYPE_CHECKING:
    from lottery.report.content import Report, Section, Table

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|&~])")
_LINE_START = re.compile(r"(?m)^(\s*)([-+=]|\d+[.)])(?=\s|[-=]|$)")


def markdown(report: Report) -> bytes:
    """The whole report but the rows of long tables, which lie in files of their own."""
    return ("\n\n".join(_blocks(report)) + "\n").encode()


def escaped(text: str) -> str:
    """Text that Markdown, and HTML inside it, shows as it is."""
    text = _SPECIAL.sub(r"\\\1", text.replace("\r\n", "\n"))
    return _LINE_START.sub(lambda match: f"{match[1]}{match[2][:-1]}\\{match[2][-1]}", text)


def _blocks(report: Report) -> Iterator[str]:
    yield f"# {escaped(report.name)}"
    if report.question:
        yield escaped(report.question)
    if report.warnings:
        yield "\n".join(f"> **Mind:** {_line(warning)}  " for warning in report.warnings)
    for section in report.sections:
        yield from _section(report, section)
    if report.lacking.rows:
        yield from _titled(report, report.lacking)
    yield "### Data"
    yield "\n".join(f"- {_line(name)}: `{value}`" for name, value in report.fingerprints.items())
    yield "### Recipe"
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", report.recipe))])
    yield f"{fence}yaml\n{report.recipe}{fence}"
    yield _line(colophon(report))


def _section(report: Report, section: Section) -> Iterator[str]:
    yield f"## {escaped(section.title)}"
    if section.sentences:
        yield "\n".join(f"- **{_line(sentence)}**" for sentence in section.sentences)
    if section.explanation:
        yield escaped(section.explanation)
    for table in section.tables:
        yield from _titled(report, table)
    for picture in section.pictures:
        yield f"![{_line(picture.caption)}]({picture.name}.svg)"
    if section.absent:
        yield "\n".join(f"- {_line(reason)}" for reason in section.absent)


def _titled(report: Report, table: Table) -> Iterator[str]:
    yield f"**{_line(table.caption)}**"
    if table.appendix:
        yield f"{len(table.rows)} rows: `{table.name}` of the formats csv, parquet and json."
        return
    if shared := in_common(table, report.confidence):
        yield _line(shared)
    yield _table(report, table)


def _table(report: Report, table: Table) -> str:
    """A pipe table, the first digits of its trainings' keys in the last column."""
    shown = columns(table, report.confidence)
    cells = [
        [*(_line(column.text(row)) for column in shown), ", ".join(f"`{short(key)}`" for key in keys)]
        for row, keys in zip(table.rows, table.keys, strict=True)
    ]
    return str(
        tabulate(
            cells,
            [*(_line(column.header) for column in shown), "made from"],
            tablefmt="pipe",
            disable_numparse=True,
            colalign=[*("right" if column.number else "left" for column in shown), "left"],
        )
    )


def _line(text: str) -> str:
    return " ".join(escaped(text).split())
