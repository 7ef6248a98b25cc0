"""Tables of any view in the formats that people, papers and scripts want."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lottery.analysis.labels import finite
from lottery.errors import UsageError
from lottery.formats.text import text

if TYPE_CHECKING:
    import pandas as pd

    from lottery.analysis.rows import Row
    from lottery.formats.latex_tables import Paper

FORMATS = ("text", "csv", "markdown", "latex", "json", "parquet")


def render(rows: Sequence[Row], form: str, width: int | None = None, paper: Paper | None = None) -> bytes:
    """Return a table in one of FORMATS.

    Args:
        rows: Its rows.
        form: The format.
        width: Columns of the terminal that text has to fit; None for a file or a pipe.
        paper: Caption, label and width in LaTeX; without any, it has no caption and fits a column where it can.

    Raises:
        UsageError: For another format, or where parquet lacks pyarrow.
    """
    # what a run prints at its end and what is quick: without the time and memory that pandas takes
    if form == "json":
        return (json.dumps([finite(row) for row in rows], indent=1) + "\n").encode()
    if form == "text":
        return text(rows, width).encode()
    if form == "markdown":
        from lottery.formats.markdown import pipe_table

        return f"{pipe_table(rows)}\n".encode()
    if form == "latex":
        from lottery.formats.latex_tables import PACKAGES, Paper, floats

        return ("\n\n".join([PACKAGES, *floats(rows, paper or Paper())]) + "\n").encode()
    if form == "csv":
        return frame(rows).to_csv(index=False, lineterminator="\n").encode()
    if form == "parquet":
        return _parquet(frame(rows))
    raise UsageError(f"--format {form}: there are {', '.join(FORMATS)}")


def frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return the rows as a data frame.

    A column of integers stays one where a row has none: pandas would make it one of fractions, 130.0 for 130.
    """
    import pandas as pd

    made = pd.DataFrame([{str(name): value for name, value in row.items()} for row in rows])
    for name in made.columns:
        known = [row[name] for row in rows if row.get(name) is not None]
        if len(known) < len(rows) and known and all(type(value) is int for value in known):
            made[name] = made[name].astype("Int64")
    return made


def _parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    try:
        frame.to_parquet(buffer, index=False, engine="pyarrow")
    except ImportError as error:
        raise UsageError("--format parquet needs pyarrow: pip install 'lottery[parquet]'") from error
    return buffer.getvalue()
