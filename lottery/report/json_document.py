"""A report for programs: one JSON document, and the table of which row was made from which training."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from lottery.analysis.labels import finite
from lottery.analysis.rows import Row
from lottery.report.content import Table

if TYPE_CHECKING:
    from lottery.report.content import Report

SCHEMA = 1


def as_json(report: Report) -> bytes:
    """Return all that the report says but the drawings.

    Rows are those of the views; a number that is not finite is null.
    """
    document = {
        "schema": SCHEMA,
        "name": report.name,
        "question": report.question,
        "date": report.date,
        "software": report.software,
        "confidence": report.confidence,
        "warnings": report.warnings,
        "sections": [
            {
                "name": section.name,
                "title": section.title,
                "explanation": section.explanation,
                "sentences": section.sentences,
                "tables": [_table(table) for table in section.tables],
                "figures": [{"name": picture.name, "caption": picture.caption} for picture in section.pictures],
                "absent": section.absent,
            }
            for section in report.sections
        ],
        "lacking": _table(report.lacking),
        "fingerprints": report.fingerprints,
        "recipe": report.recipe,
    }
    return (json.dumps(document, indent=1, allow_nan=False) + "\n").encode()


def _table(table: Table) -> dict[str, Any]:
    return {
        "name": table.name,
        "caption": table.caption,
        "rows": [finite(row) for row in table.rows],
        "keys": [list(row.made_from) for row in table.rows],
    }


def sources_table(report: Report) -> Table:
    """Return a row for each row of a table, counted from 0, and each training that it was made from."""
    rows = [
        Row({"table": table.name, "row": number, "key": key}, [key])
        for table in report.tables
        for number, row in enumerate(table.rows)
        for key in row.made_from
    ]
    return Table("sources", "Which row was made from which training", rows, appendix=True)
