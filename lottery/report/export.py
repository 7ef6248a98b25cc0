"""The formats of a report, from `lottery.report.content.Report` to bytes, and the writer of a folder of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from lottery.errors import UsageError
from lottery.files.clock import FileClock
from lottery.files.write import abandoned, machine_error, make_folder, remove, write_atomic
from lottery.formats.render import frame_bytes

if TYPE_CHECKING:
    from lottery.report.content import Report, Table

FORMATS = ("html", "md", "tex", "json", "csv", "parquet")
IMAGES = (("tex", "pdf"), ("md", "svg"))  # files of figures beside the report
OWN = ("environments", "missing", "points", "sources")  # tables of a report that are no views


def formats(named: str | None) -> list[str]:
    """Return the formats that are named, `html,tex`; where none are, all that this installation can write.

    Raises:
        UsageError: For another format.
    """
    if named is None:
        return [form for form in FORMATS if form != "parquet" or find_spec("pyarrow")]
    wanted = [form.strip() for form in named.split(",")]
    if unknown := [form for form in wanted if form not in FORMATS]:
        raise UsageError(f"--format {','.join(unknown)}: there are {', '.join(FORMATS)}")
    return wanted


def drawings(formats: Sequence[str]) -> list[str]:
    """Return the kinds of drawings that these formats show."""
    return [image for form, image in IMAGES if form in formats or (image == "svg" and "html" in formats)]


def export(report: Report, folder: Path, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Write the report into a folder, made where there is none, and return its files in the order they were written.

    Each file is the old or the new one at any moment; the report itself is written last. Tables and figures of an
    earlier export that the study no longer has are removed, as are drafts of killed exports.
    """
    files = {name: make() for name, make in _files(report, formats)}
    make_folder(folder)
    for name, content in files.items():
        write_atomic(folder / name, content)
    clock = FileClock(folder)
    for path in _listed(folder):
        if (_ours(path.name, formats) and path.name not in files) or abandoned(path, clock.now):
            remove(path)
    return [folder / name for name in files]


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise machine_error(error, "list", folder) from error


def _ours(name: str, formats: Sequence[str]) -> bool:
    """Return True for the name of a file that reports in these formats may have."""
    from lottery.analysis.views import VIEWS
    from lottery.figures import FIGURES

    tables = {f"{view}.{form}" for view in (*VIEWS, *OWN) for form in ("csv", "parquet") if form in formats}
    images = {f"{figure}.{image}" for figure in FIGURES for form, image in IMAGES if form in formats}
    ends = [form for form in ("csv", "parquet") if form in formats]
    ends += [image for form, image in IMAGES if form in formats]
    return name in tables | images or (name.startswith("analysis-") and name.rpartition(".")[2] in ends)


def _framed(table: Table, form: str) -> bytes:
    return frame_bytes(table.frame, form)


def _files(report: Report, formats: Sequence[str]) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Yield the names of files and what makes them, report.html last."""
    from lottery.report.html import html
    from lottery.report.json_document import as_json, sources_table
    from lottery.report.latex import latex
    from lottery.report.markdown import markdown

    framed = [form for form in ("csv", "parquet") if form in formats]
    tables = [table for table in [*report.tables, sources_table(report)] if table.rows] if framed else []
    for form in framed:
        for table in tables:
            yield f"{table.name}.{form}", partial(_framed, table, form)
    for form, image in IMAGES:
        if form in formats:
            for picture in report.pictures:
                yield f"{picture.name}.{image}", partial(getattr, picture, image)
    for form, make in (("json", as_json), ("tex", latex), ("md", markdown), ("html", html)):
        if form in formats:
            yield f"report.{form}", partial(make, report)
