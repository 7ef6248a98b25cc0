"""A report as one HTML file: no network, no script; style and figures are inside it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lottery.formats.numbers import moment
from lottery.formats.pages import NOTES, VERDICTS, columns, in_common, is_sentence
from lottery.report.svg import inline_svg, pixels
from lottery.words import short

if TYPE_CHECKING:
    import jinja2

    from lottery.analysis.rows import Row
    from lottery.formats.cells import Shown
    from lottery.report.content import Report, Section

SHAPES = {  # before a verdict's word: no one has to tell colours apart
    "winning": "▲",
    "superior": "▲",
    "matching": "●",
    "losing": "▼",
    "inconclusive": "○",
    "inferior": "▼",
    "withheld": "✕",
}
ANSWERS = ("frontier", "verdicts")  # sections whose sentences stand on top, the first that has some
RESULT = "accuracy"  # the figure beside them
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def words() -> dict[str, Any]:
    """Return what the templates of tables and sentences know beside what they show."""
    return {
        "is_long": is_sentence,
        "notes": NOTES,
        "layout": _layout,
        "cells": _cells,
        "in_common": in_common,
        "moment": moment,
        "short": short,
        "shapes": SHAPES,
    }


def template(name: str) -> jinja2.Template:
    """Return one of the page templates of this room."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lottery.report", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(name)


def html(report: Report) -> bytes:
    """Return the whole report; the rows of long tables, the recipe and the keys behind each row fold out."""
    text = template("report.html.jinja").render(
        report=report,
        answer=_answer(report),
        result=next((picture for picture in report.pictures if picture.name == RESULT), None),
        drawing=inline_svg,
        pixels=pixels,
        **words(),
    )
    return printable(text).encode()


def printable(text: str) -> str:
    """Return a page without characters that no page may have, as names and tracebacks can."""
    return _CONTROL.sub("\ufffd", text)


def _answer(report: Report) -> Section | None:
    """Return the section that answers the question in sentences."""
    sections = {section.name: section for section in report.sections if section.sentences}
    return next((sections[name] for name in ANSWERS if name in sections), None)


def _layout(rows: Sequence[Row]) -> tuple[Shown, list[Shown], list[Shown]]:
    """Return the column that names a row, those beside it, and those of sentences, which stand in a row below."""
    first, *others = columns(rows)
    below = [column for column in others if is_sentence(column, rows)]
    return first, [column for column in others if column not in below], below


def _cells(columns: Sequence[Shown], row: Row) -> list[tuple[str, str]]:
    """Return what each cell of a row is, `verdict`, `key`, `number` or words, and its text."""
    # one call for a row: a macro for each of the cells of thousands of rows takes most of a second
    return [(_kind(column, text), text) for column in columns for text in [column.text(row)]]


def _kind(column: Shown, text: str) -> str:
    if column.column in VERDICTS and text in SHAPES:
        return "verdict"
    return "key" if column.column.unit == "key" else "number" if column.number else ""
