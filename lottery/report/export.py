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
from lottery.meanwhile import divided

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
    made = divided(list(_files(report, formats)))
    files = {name: content for some in reversed(made) for name, content in some.items()}
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


def _framed(table: Table, forms: Sequence[str]) -> dict[str, bytes]:
    return {f"{table.name}.{form}": frame_bytes(table.frame, form) for form in forms if table.rows}


def _pictures(report: Report, images: Sequence[str]) -> dict[str, bytes]:
    return {f"{picture.name}.{image}": getattr(picture, image) for image in images for picture in report.pictures}


def _page(report: Report, form: str, make: Callable[[Report], bytes]) -> dict[str, bytes]:
    return {f"report.{form}": make(report)}


def _files(report: Report, formats: Sequence[str]) -> Iterator[Callable[[], dict[str, bytes]]]:
    """Yield what makes files by their names, those first that take longest and are written last."""
    from lottery.report.html import html
    from lottery.report.json_document import as_json, sources_table
    from lottery.report.latex import latex
    from lottery.report.markdown import markdown

    for form, make in (("html", html), ("md", markdown), ("tex", latex), ("json", as_json)):
        if form in formats:
            yield partial(_page, report, form, make)
    yield partial(_pictures, report, [image for form, image in IMAGES if form in formats])
    if framed := [form for form in ("csv", "parquet") if form in formats]:
        yield from (partial(_framed, table, framed) for table in report.tables)
        yield lambda: _framed(sources_table(report), framed)
