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

    from lottery.analysis.column_types import Type
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
    if form in ("csv", "parquet"):
        return frame_bytes(frame(rows), form)
    raise UsageError(f"--format {form}: there are {', '.join(FORMATS)}")


def frame(rows: Sequence[Mapping[str, Any]], types: Mapping[str, Type] | None = None) -> pd.DataFrame:
    """Return the rows as a data frame whose columns have the types of their values, also where none is known.

    Seeds, levels and other whole numbers are integers, also where a row has none (pandas would make them fractions,
    130.0 for 130); densities, accuracies, p-values and the like are floats; what is true or false is boolean.

    Args:
        rows: The rows.
        types: Types of columns in which nothing is known; they are the columns of a table without rows.
    """
    import pandas as pd

    types = types or {}
    names = named(rows) if rows else [Column(name) for name in types]
    plain = [{str(name): value for name, value in row.items()} for row in rows]
    made = pd.DataFrame(plain, columns=[str(name) for name in names])
    for name in names:
        values = [row.get(name) for row in rows]
        declared, found = types.get(name), _type(name, [value for value in values if value is not None])
        kind = declared if found is None or (declared, found) == ("float", "int") else found
        if kind is not None and not (kind == "text" and any(value is not None for value in values)):
            missing = any(value is None for value in values)
            made[str(name)] = made[str(name)].astype(_DTYPES[kind][missing])  # type: ignore[call-overload]
    return made


_FLOATS = frozenset(get_args(Unit)) - {"", "steps", "ordinal", "key", "date"}
_DTYPES = {  # without and with values that are missing
    "text": ("str", "object"),
    "int": ("int64", "Int64"),
    "float": ("float64", "float64"),
    "bool": ("bool", "boolean"),
}


def _type(column: Column, known: Sequence[Any]) -> Type | None:
    """Return the type of a column by its values, by its unit where none is known; None where neither tells."""
    kinds = {type(value) for value in known}
    if kinds in ({int}, {bool}):
        return "int" if kinds == {int} else "bool"
    if kinds and kinds <= {int, float}:
        return "float"
    if not kinds and column.unit in _FLOATS:
        return "float"
    return "int" if not kinds and column.unit == "ordinal" else None


def frame_bytes(frame: pd.DataFrame, form: str) -> bytes:
    """Return a data frame as csv or parquet.

    Raises:
        UsageError: Where parquet lacks pyarrow.
    """
    if form == "csv":
        return frame.to_csv(index=False, lineterminator="\n").encode()
    buffer = io.BytesIO()
    try:
        frame.to_parquet(buffer, index=False, engine="pyarrow")
    except ImportError as error:
        raise UsageError("--format parquet needs pyarrow: pip install 'lottery[parquet]'") from error
    return buffer.getvalue()
