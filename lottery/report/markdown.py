"""A report in Markdown, as code hosting sites show it; figures are SVG files beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from lottery.formats.markdown import escaped, line, pipe_table

if TYPE_CHECKING:
    from lottery.report.content import Report, Section, Table


def markdown(report: Report) -> bytes:
    """Return the whole report but the rows of long tables, which lie in files of their own."""
    return ("\n\n".join(_blocks(report)) + "\n").encode()


def _blocks(report: Report) -> Iterator[str]:
    yield f"# {escaped(report.name)}"
    if report.question:
        yield escaped(report.question)
    if report.warnings:
        yield "\n".join(f"> **Mind:** {line(warning)}  " for warning in report.warnings)
    for section in report.sections:
        yield from _section(report, section)
    if report.lacking.rows:
        yield from _titled(report.lacking)
    yield "### Data"
    yield "\n".join(f"- {line(name)}: `{value}`" for name, value in report.fingerprints.items())
    yield "### Recipe"
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", report.recipe))])
    yield f"{fence}yaml\n{report.recipe}{fence}"
    yield line(report.colophon)


def _section(report: Report, section: Section) -> Iterator[str]:
    yield f"## {escaped(section.title)}"
    if section.sentences:
        yield "\n".join(f"- **{line(sentence)}**" for sentence in section.sentences)
    if section.explanation:
        yield escaped(section.explanation)
    for table in section.tables:
        yield from _titled(table)
    for picture in section.pictures:
        yield f"![{line(picture.caption)}]({picture.name}.svg)"
    if section.absent:
        yield "\n".join(f"- {line(reason)}" for reason in section.absent)


def _titled(table: Table) -> Iterator[str]:
    yield f"**{line(table.caption)}**"
    if table.appendix:
        yield f"{len(table.rows)} rows: `{table.name}` of the formats csv, parquet and json."
        return
    yield pipe_table(table.rows, keys=True)
