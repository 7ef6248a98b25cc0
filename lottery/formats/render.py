"""Tables of any view in the formats that people, papers and scripts want."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lottery.analysis.labels import Row, density_label, finite
from lottery.errors import UsageError
from lottery.formats.text import text

if TYPE_CHECKING:
    import pandas as pd

FORMATS = ("text", "csv", "markdown", "latex", "json", "parquet")


def render(table: Sequence[Row], form: str, width: int | None = None) -> bytes:
    """The table in one of FORMATS; text fits a terminal of this width where one is given.

    Raises UsageError for another format, or where parquet lacks pyarrow.
    """
    if form == "json":
        return (json.dumps([finite(row) for row in table], indent=1) + "\n").encode()
    # what a run prints at its end: without the time and memory that pandas takes
    if form == "text":
        return text(table, [_compact(row) for row in table], width).encode()
    if form == "markdown":
        return _markdown([_compact(row) for row in table]).encode()
    if form not in FORMATS:
        raise UsageError(f"--format {form}: there are {', '.join(FORMATS)}")
    if form == "csv":
        return frame(table).to_csv(index=False, lineterminator="\n").encode()
    if form == "parquet":
        return _parquet(frame(table))
    import pandas as pd

    style = pd.DataFrame([_compact(row) for row in table]).style
    latex = style.format(escape="latex").format_index(escape="latex", axis=1).hide(axis="index").to_latex(hrules=True)
    return str(latex).replace("±", "$\\pm$").encode()


def frame(table: Sequence[Row]) -> pd.DataFrame:
    """Return the rows as a data frame. A column of integers stays one where a row has none: pandas would make it one of
    fractions, 130.0 for 130.
    """
    import pandas as pd

    made = pd.DataFrame(list(table))
    for name in made.columns.astype(str):
        known = [row[name] for row in table if row.get(name) is not None]
        if len(known) < len(table) and known and all(type(value) is int for value in known):
            made[name] = made[name].astype("Int64")
    return made


def _compact(row: Row) -> dict[str, str]:
    """One cell for each network, for reading: mean ± standard deviation (seeds); one for each part of the gain."""
    cells, parts = {}, {name for name in row if f"{name}_low" in row}
    for name, value in row.items():
        if f"{name}_n" in row:
            spread = row[f"{name}_std"]
            mean = "" if value is None else f"{value:.4f}" + ("" if spread is None else f" ± {spread:.4f}")
            cells[name] = mean and f"{mean} ({row[f'{name}_n']})"
            if value is None and row[f"{name}_diverged"] is not None:
                cells[name] = f"diverged (step {row[f'{name}_diverged']})"
        elif name.endswith(("_std", "_n", "_diverged")) or name.rpartition("_")[0] in parts:
            continue
        elif name in parts:
            cells[name.replace("_", " ")] = _part(row, name)
        elif name.endswith("_step"):
            cells[name.replace("_", " ")] = "" if value is None else f"{value:.0f}"
        elif name.endswith("_diff"):
            cells[name.replace("_", " ")] = "" if value is None else f"{value:+.4f}"
        elif (name == "density" or name.endswith("_density")) and value is not None:
            cells[name] = density_label(value)
        elif isinstance(value, float):
            cells[name] = f"{value:.4g}" if abs(value) < 1000 else f"{value:.6g}"
        else:
            cells[name] = "" if value is None else str(value)
    return cells


def _markdown(cells: Sequence[dict[str, str]]) -> str:
    from tabulate import tabulate

    rows, names = [list(row.values()) for row in cells], list(cells[0]) if cells else []
    return f"{tabulate(rows, names, tablefmt='github', disable_numparse=True)}\n"


def _part(row: Row, name: str) -> str:
    """A difference with its interval, and the verdict where there is one."""
    if row[name] is None:
        return ""
    ends = [row[f"{name}_{end}"] for end in ("low", "high")]
    interval = "" if None in ends else f" [{ends[0]:+.4f}, {ends[1]:+.4f}]"
    verdict = row[f"{name}_verdict"]
    return f"{row[name]:+.4f}{interval}" + ("" if verdict == "inconclusive" else f" {verdict}")


def _parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    try:
        frame.to_parquet(buffer, index=False, engine="pyarrow")
    except ImportError as error:
        raise UsageError("--format parquet needs pyarrow: pip install 'lottery[parquet]'") from error
    return buffer.getvalue()
