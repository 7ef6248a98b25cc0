"""The table of docs/controls.md: `python -m tests.support.controls_table` writes it anew after a control was added."""

from __future__ import annotations

from lottery.plan.origins import COLUMNS, table
from tests.support import ROOT

PAGE = ROOT / "docs" / "controls.md"


def lines() -> list[str]:
    """Return the lines of the table, without the rule below its head."""
    shown = [[f"`{cell}`" if column < 2 and cell else cell for column, cell in enumerate(row)] for row in table()]
    return ["| " + " | ".join(row) + " |" for row in [list(COLUMNS), *shown]]


def write() -> None:
    """Put the table into the page, in place of the one that is there."""
    text = PAGE.read_text(encoding="utf-8").splitlines()
    first = next(number for number, line in enumerate(text) if line.startswith("| "))
    before, after = text[:first], [line for line in text[first:] if not line.startswith("|")]
    head, *body = lines()
    rule = "|" + "---|" * len(COLUMNS)
    PAGE.write_text("\n".join([*before, head, rule, *body, *after]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write()
