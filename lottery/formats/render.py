"""Tables of any view in the formats that people, papers and scripts want."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_args

from lottery.analysis.columns import Column, Unit
from lottery.analysis.labels import finite
from lottery.errors import UsageError
from lottery.formats.cells import named
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


def frame(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ()) -> pd.DataFrame:
    """Return the rows as a data frame whose columns have the types of their values, also where none is known.

    Seeds, levels and other whole numbers are integers, also where a row has none (pandas would make them fractions,
    130.0 for 130); densities, accuracies, p-values and the like are floats; what is true or false is boolean.

    Args:
        rows: The rows.
        columns: The columns of a table without rows.
    """
    import pandas as pd

    names = named(rows) or [name if isinstance(name, Column) else Column(name) for name in columns]
    made = pd.DataFrame([{str(name): value for name, value in row.items()} for row in rows], columns=list(map(str, names)))
    for name in names:
        values = [row.get(name) for row in rows]
        if (kind := _kind(name, [value for value in values if value is not None])) is not None:
            missing = any(value is None for value in values)
            made[str(name)] = made[str(name)].astype(_WITH_GAPS.get(kind, kind) if missing else kind)
    return made


_FLOATS = frozenset(get_args(Unit)) - {"", "ordinal", "key", "date"}
_WITH_GAPS = {"int64": "Int64", "bool": "boolean"}


def _kind(column: Column, known: Sequence[Any]) -> str | None:
    """Return the type of a column by its values, by its unit where none is known; None for one that pandas finds."""
    types = {type(value) for value in known}
    if types in ({int}, {bool}):
        return "int64" if types == {int} else "bool"
    if types <= {int, float} and (types or column.unit in _FLOATS):
        return "float64"
    if not types and (column.unit == "ordinal" or column.quantity in ("n", "diverged")):
        return "int64"
    return None


def _parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    try:
        frame.to_parquet(buffer, index=False, engine="pyarrow")
    except ImportError as error:
        raise UsageError("--format parquet needs pyarrow: pip install 'lottery[parquet]'") from error
    return buffer.getvalue()
