"""Tables that commands print or write, in the format that an option names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lottery.cli import terminal
from lottery.errors import UsageError

if TYPE_CHECKING:
    from lottery.analysis.rows import Row

Format = Annotated[str, typer.Option("--format", help="text, csv, markdown, latex, json or parquet.")]
Output = Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write there.")]

Width = Annotated[
    str | None,
    typer.Option(
        "--width",
        metavar="column|page",
        help="In LaTeX: fit a column of the paper where that can be, or go across its page; column if not given.",
    ),
]


def writer(
    form: str, output: Path | None, caption: str = "", label: str = "", width: str | None = None
) -> Callable[[Sequence[Row]], None]:
    """Return what writes the rows of a table to a file, or to stdout where none is named.

    Args:
        form: The format.
        output: The file.
        caption: The caption in LaTeX.
        label: The label in LaTeX, without `tab:`.
        width: What `--width` names.

    Raises:
        UsageError: There is no such format, it needs a file, or it has no width.
    """
    from lottery.files.write import write_atomic
    from lottery.formats.latex_tables import WIDTHS, Paper
    from lottery.formats.render import FORMATS, render

    if form not in FORMATS:
        raise UsageError(f"--format {form}: there are {', '.join(FORMATS)}")
    if form == "parquet" and output is None:
        raise UsageError("--format parquet: is no text; name a file with -o")
    if width is not None and (form != "latex" or width not in WIDTHS):
        raise UsageError(f"--width {width}: is column or page, of --format latex")
    paper = Paper(caption, label, "page" if width == "page" else "column")
    if output is not None and not output.absolute().parent.is_dir():
        raise UsageError(f"-o {output}: there is no folder {output.parent}; make it, or name another file")

    def write(rows: Sequence[Row]) -> None:
        if output is None:
            terminal.write(render(rows, form, terminal.width(), paper))
        else:
            write_atomic(output, render(rows, form, paper=paper))

    return write
