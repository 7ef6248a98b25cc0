"""The answer of a study as pieces of a page: sentences, tables and figures of its report, made one section at a time.

This is done in a process beside that of the board, see `lottery.board.maker`.
"""

from __future__ import annotations

import hashlib
import time
import traceback
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lottery.board.pages import render
from lottery.errors import LotteryError, UsageError
from lottery.words import counted

if TYPE_CHECKING:
    from lottery.recipe.sweep import Sweep
    from lottery.report.content import Section, Table
    from lottery.results.studies import RememberedStudy
    from lottery.results.study import Study
    from lottery.store.store import Store

LARGER = 1.4  # pixels a point: letters of figures are then as high as those of the page
MOST_ROWS = 200  # of one table


@dataclass(frozen=True)
class Figure:
    """A figure: its name in addresses, a hash of its bytes, an svg, and its size in pixels where there is room."""

    name: str
    svg: bytes
    caption: str
    width: int
    height: int


@dataclass(frozen=True)
class Piece:
    """A section as HTML, with the figures that it shows."""

    name: str
    title: str
    html: str
    figures: tuple[Figure, ...] = ()

    @property
    def version(self) -> str:
        """A hash of its content."""
        return hashlib.sha256(self.html.encode("utf-8", "surrogatepass")).hexdigest()[:16]


class Answers:
    """Answers of the studies of one store, a section at a time.

    Args:
        store: A store that is only read.
        plugins: Modules that are imported, of those that studies name.
    """

    def __init__(self, store: Store, plugins: Sequence[str]):
        self._store, self._plugins = store, tuple(plugins)
        self._pieces: Iterator[Piece] = iter(())

    def begin(self, remembered: RememberedStudy) -> str:
        """Begin with a study, whose sections `go_on` then makes; return why there are none, or nothing."""
        self._pieces = iter(())
        try:
            sweep = _loaded(remembered, self._plugins)
            self._check_data(sweep)
            studies = self._studies(sweep)
        except LotteryError as error:
            return self._explained(remembered, error)
        self._pieces = _of_sweep(sweep, studies) if sweep.keys else _of_study(studies[0])
        return ""

    def go_on(self) -> Piece | None:
        """Return the next section; None where there are no more."""
        return next(self._pieces, None)

    def spent(self) -> float:
        """Return the seconds of a processor that this process has used, once it has all that it works with."""
        import lottery.report.content  # noqa: F401

        return time.process_time()

    def _studies(self, sweep: Sweep) -> tuple[Study, ...]:
        from lottery.results.sweep import swept_study

        return swept_study(sweep, store=self._store).studies

    def _check_data(self, sweep: Sweep) -> None:
        """Check that the store knows the data of each point: the board reads no data sets.

        Raises:
            UsageError: It does not, or has runs on several versions of them.
        """
        from lottery.plan.expand import other_data
        from lottery.plan.keys import dataset_identity, digest

        for point in sweep.points:
            data = point.recipe.data
            every = [(data.component, data.label_noise), *((other, None) for other in other_data(point.recipe))]
            for dataset, noise in every:
                seen = self._store.remembered_data(digest(dataset_identity(dataset, noise)))
                if not seen:
                    raise UsageError("nothing is there yet: no run has come so far as to read the data")
                if len(seen) > 1:
                    raise UsageError(
                        f"{self._store.name} has runs on {len(seen)} versions of the data, and the board reads none to "
                        f"know which is meant: lottery table {sweep.name} --data DIR has the tables"
                    )

    def _explained(self, study: RememberedStudy, error: LotteryError) -> str:
        if lacking := [plugin for plugin in study.plugins if plugin not in self._plugins]:
            options = " ".join(f"--plugin {plugin}" for plugin in lacking)
            return (
                f"This study was run with code from outside. If you trust it, start the board with {options}; without "
                f"it the recipe cannot be read: {error}"
            )
        return str(error)


def _loaded(study: RememberedStudy, plugins: Sequence[str]) -> Sweep:
    """Return the recipe as it was run; plugins are imported that are trusted, or that the board was started with."""
    from lottery.recipe.plugins import import_named
    from lottery.recipe.sweep import parse_sweep

    import_named(plugins)
    folder = Path(study.source).parent if study.source else None
    name = study.source or study.name
    return parse_sweep(study.recipe, name, study.overrides, folder=folder, plugins=study.plugins)


def _of_study(study: Study) -> Iterator[Piece]:
    """Yield the sections of the report on a study as they are made, and what has to be minded at the end."""
    from lottery.analysis.missing import lacking
    from lottery.report.content import sections_of, warnings

    made: list[Section] = []

    def kept() -> Iterator[Section]:
        for section in sections_of(study):
            made.append(section)
            yield section

    yield from _pieces(kept())
    yield from _minded(lambda: list(warnings(study, made, lacking(study))))


def _of_sweep(sweep: Sweep, studies: tuple[Study, ...]) -> Iterator[Piece]:
    from lottery.report.sweep import collect_sweep
    from lottery.results.sweep import SweptStudy

    try:
        report = collect_sweep(SweptStudy(sweep, studies))
    except Exception as error:
        yield _fault("report", sweep.name, error)
        return
    yield from _pieces(iter(report.sections))
    yield from _minded(lambda: report.warnings)


def _pieces(sections: Iterator[Section]) -> Iterator[Piece]:
    """Yield sections as pieces; an error that a user's code or ours raises is shown in the place of its section."""
    while True:
        try:
            section = next(sections, None)
            if section is None:
                return
            if piece := _piece(section):
                yield piece
        except Exception as error:
            yield _fault("fault", "A section that could not be made", error)
            return


def _minded(make: Callable[[], list[str]]) -> Iterator[Piece]:
    try:
        if said := make():
            yield Piece("mind", "Mind", _rendered("mind", warnings=said))
    except Exception as error:
        yield _fault("mind", "Mind", error)


def _piece(section: Section) -> Piece | None:
    """Return a section as a piece; None where nothing is in it, but reasons why that are said elsewhere."""
    if not (section.sentences or section.tables or section.pictures or section.absent):
        return None
    figures = tuple(_figure(picture.svg, picture.caption) for picture in section.pictures)
    html = _rendered("section", section=section, tables=list(map(_shortened, section.tables)), figures=figures)
    return Piece(section.name, section.title, html, figures)


def _shortened(table: Table) -> Table:
    """Return a table that is not longer than a browser shows with ease."""
    if len(table.rows) <= MOST_ROWS:
        return table
    rest = f"the first {MOST_ROWS} of {counted(len(table.rows), 'row')}; lottery table has all"
    return replace(table, rows=table.rows[:MOST_ROWS], caption=f"{table.caption} ({rest})")


def _fault(name: str, title: str, error: Exception) -> Piece:
    text = "".join(traceback.format_exception(error))
    return Piece(name, title, _rendered("fault", message=f"{type(error).__name__}: {error}", traceback=text))


def _figure(svg: bytes, caption: str) -> Figure:
    _, _, width, height = ElementTree.fromstring(svg).attrib["viewBox"].split()
    size = round(LARGER * float(width)), round(LARGER * float(height))
    return Figure(hashlib.sha256(svg).hexdigest()[:24], svg, caption, *size)


def _rendered(name: str, **what: Any) -> str:
    from lottery.report.html import words

    return render(name, **words(), **what)
