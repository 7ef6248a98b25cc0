"""The formats of a report, from `lottery.report.Report` to bytes, and the writer of a folder of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from lottery.errors import UsageError
from lottery.io import abandoned, make_folder, remove, write_atomic
from lottery.tables import render

if TYPE_CHECKING:
    from lottery.report import Report

FORMATS = ("html", "md", "tex", "json", "csv", "parquet")


def formats(named: str | None) -> list[str]:
    """Those named, `html,tex`; all that this installation can write where none are. Raises UsageError for another."""
    if named is None:
        return [form for form in FORMATS if form != "parquet" or find_spec("pyarrow")]
    wanted = [form.strip() for form in named.split(",")]
    if unknown := [form for form in wanted if form not in FORMATS]:
        raise UsageError(f"--format {','.join(unknown)}: there are {', '.join(FORMATS)}")
    return wanted


def export(report: Report, folder: Path, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Write the report into a folder, made where there is none, and return its files in the order they were written.

    Each file is the old or the new one at any moment; report.html is written last. Drafts of
    killed exports are removed."""
    files = dict(_files(report, formats))
    make_folder(folder)
    for draft in folder.iterdir():
        if abandoned(draft, time.time()):
            remove(draft)
    for name, make in files.items():
        write_atomic(folder / name, make())
    return [folder / name for name in files]


def _files(report: Report, formats: Sequence[str]) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Names of files and what makes them, report.html last."""
    from lottery.figures import drawn
    from lottery.reports.html import html
    from lottery.reports.latex import latex
    from lottery.reports.markdown import markdown
    from lottery.reports.plain import as_json, sources_table

    for form in ("csv", "parquet"):
        if form in formats:
            for table in [*report.tables, sources_table(report)]:
                if table.rows:
                    yield f"{table.name}.{form}", partial(render, table.rows, form)
    for form, image in (("tex", "pdf"), ("md", "svg")):
        if form in formats:
            for picture in report.pictures:
                yield f"{picture.name}.{image}", partial(drawn, picture.figure, image)
    for form, make in (("json", as_json), ("tex", latex), ("md", markdown), ("html", html)):
        if form in formats:
            yield f"report.{form}", partial(make, report)
