"""A report as one HTML file: no network, no script; style and figures are inside it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lottery.provenance import DIGITS
from lottery.reports.columns import VERDICTS, columns
from lottery.reports.figures import inline_svg

if TYPE_CHECKING:
    from lottery.report import Report

SHAPES = {  # before a verdict's word: no one has to tell colours apart
    "winning": "▲",
    "superior": "▲",
    "matching": "●",
    "losing": "▼",
    "inconclusive": "○",
    "inferior": "▼",
    "withheld": "✕",
}
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def html(report: Report) -> bytes:
    """The whole report; the rows of long tables, the recipe and the keys behind each row fold out."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lottery.reports", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    template = environment.get_template("report.html.jinja")
    text = template.render(
        report=report,
        columns=lambda table: columns(table, report.confidence),
        drawing=inline_svg,
        digits=DIGITS,
        shapes=SHAPES,
        verdicts=VERDICTS,
        text_width=28,
    )
    return _CONTROL.sub("\ufffd", text).encode()
