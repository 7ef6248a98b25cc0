"""The content of a report: the question, the answer, tables, figures and where each number comes from, in plain values.

`collect` makes it of a study; `lottery.report.export` writes it in the formats that people and programs read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, TypeVar

import yaml

from lottery.analysis.environments import environments, newest, software
from lottery.analysis.measurements import rows as rows_of_analysis
from lottery.analysis.missing import lacking
from lottery.analysis.rows import Row
from lottery.analysis.views import VIEWS, rows_of
from lottery.audit import disclosures
from lottery.environment import essence, mixed
from lottery.errors import DamagedFile, UsageError
from lottery.figures import FIGURES, draw, figure_bytes
from lottery.figures.analyses import analysis_figure
from lottery.formats.numbers import moment
from lottery.formats.pages import columns
from lottery.formats.render import frame
from lottery.meanwhile import divided
from lottery.recipe.families import acting
from lottery.report.explanations import analysis_explained, diverged_said
from lottery.report.parts import Part, parts

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from lottery.recipe.analyses import AnalysisSpec
    from lottery.recipe.schema import Recipe
    from lottery.results.study import Study

T = TypeVar("T")
MOST_COLUMNS = 20  # of a table for a page
ORDER = (  # of sections for two processes that make them from both ends; those that need torch, or may, are not named
    *("verdicts", "claims", "replication", "frontier", "audit"),  # which share what they read
    *("rewind", "connectivity", "provenance", "optimizers", "early-stopping", "curves"),
)
APPENDICES = ("layers", "overlaps", "long")  # views too long for a page of a paper


@dataclass(frozen=True)
class Table:
    """Rows of a view, or of the report's own; an `appendix` is for programs, too long for a page of a paper."""

    name: str
    caption: str
    rows: list[Row]
    appendix: bool = False

    @cached_property
    def frame(self) -> pd.DataFrame:
        """Return the rows as a data frame."""
        return frame(self.rows)


@dataclass(frozen=True)
class Picture:
    """A figure with its name, one of `lottery.figures`, and its caption; with `letters`, drawn with text as text."""

    name: str
    caption: str
    figure: Figure | None
    letters: bool = False

    @cached_property
    def svg(self) -> bytes:
        """Return the drawing that HTML and Markdown show."""
        return self._bytes("svg", self.letters)

    @cached_property
    def pdf(self) -> bytes:
        """Return the drawing that LaTeX shows."""
        return self._bytes("pdf")

    @cached_property
    def width(self) -> float:
        """Return the width of the figure in inches."""
        assert self.figure is not None
        return float(self.figure.get_figwidth())

    def _bytes(self, form: str, letters: bool = False) -> bytes:
        assert self.figure is not None
        return figure_bytes(self.figure, form, letters)

    def drawn(self, images: Sequence[str]) -> Picture:
        """Return the picture as nothing but its drawings, `svg` or `pdf`, which another process can be sent."""
        made = replace(self, figure=None)
        made.__dict__.update({image: getattr(self, image) for image in (*images, "width")})
        return made


@dataclass(frozen=True)
class Section:
    """A part of the report; `absent` says in a line each what is not there and why."""

    name: str
    title: str
    explanation: str
    sentences: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Report:
    """All that a report says, in plain values.

    `warnings` stand on top: what is missing, diverged, mixed or unfair. `date` is that of the newest training, so that
    the same study makes the same report; `recipe` is the full one as YAML; `confidence` that of intervals; `changed` a
    sentence on what `--set` changed of the recipe, empty for nothing.
    """

    name: str
    question: str
    warnings: list[str]
    sections: list[Section]
    lacking: Table
    recipe: str
    fingerprints: dict[str, str]  # of the data sets, by name
    software: str
    date: str | None
    confidence: float
    changed: str = ""

    @property
    def colophon(self) -> str:
        """Return sentences: how new the report is, what wrote it, and what `--set` changed."""
        newest = f"{moment(self.date)} UTC" if self.date else "none"
        return f"Newest training: {newest}. Written by {self.software}. {self.changed}".rstrip()

    @property
    def tables(self) -> list[Table]:
        """Return all tables, in order."""
        return [*(table for section in self.sections for table in section.tables), self.lacking]

    @property
    def pictures(self) -> list[Picture]:
        """Return all figures, in order."""
        return [picture for section in self.sections for picture in section.pictures]


def collect(study: Study, images: Sequence[str] = ()) -> Report:
    """Return the report on what is finished of a study; what it cannot say is said to be absent, with the reason.

    With `images`, the drawings that will be asked for (`svg`, `pdf`), a second process makes some of the sections.
    """
    recipe = study.recipe
    sections = _divided(study, images) if images else list(sections_of(study))
    missing = lacking(study)
    return Report(
        recipe.name,
        recipe.question,
        list(warnings(study, sections, missing)),
        sections,
        Table("missing", "Trainings that are missing, diverged or blocked", missing, appendix=True),
        written(recipe),
        dict(disclosures.fingerprints(study)),
        software(),
        newest(study),
        compare.confidence if (compare := acting(recipe)) else 0.95,
    )


def sections_of(study: Study) -> Iterator[Section]:
    """Yield the sections of the report on a study in order, each made when it is asked for."""
    for part in parts(study.recipe):
        yield _section(study, part)


def _divided(study: Study, images: Sequence[str]) -> list[Section]:
    """Return the sections with their drawings, of which a second process has made some."""
    every = list(parts(study.recipe))
    order = sorted(every, key=lambda part: ORDER.index(part.name) if part.name in ORDER else len(ORDER))
    made = divided([partial(_drawn_section, study, part, images) for part in order])
    by_name = {section.name: section for section in made}
    return [by_name[part.name] for part in every]


def _drawn_section(study: Study, part: Part, images: Sequence[str]) -> Section:
    section = _section(study, part)
    return replace(section, pictures=[picture.drawn(images) for picture in section.pictures])


def _section(study: Study, part: Part) -> Section:
    section = Section(part.name, part.title, part.explanation)
    if part.analysis is not None:
        section = _measured(study, part.name, part.title, part.analysis)
    if part.sentences is not None:
        section.sentences.extend(attempt(section, partial(part.sentences, study)))
    for name in part.tables:
        made = attempt(section, partial(_table, study, name))
        section.tables.extend(table for table in made if table.rows)
    for name in part.figures:
        for figure in attempt(section, partial(_figures, study, name)):
            section.pictures.append(Picture(name, FIGURES[name].caption, figure))
    if not (section.sentences or section.tables or section.pictures or section.absent):
        section.absent.append("Nothing yet: the recipe asks for no training that this needs, or none is finished.")
    return section


def _measured(study: Study, name: str, title: str, analysis: AnalysisSpec) -> Section:
    """Return the section of an analysis; a table with too many columns for a page is an appendix."""
    section = Section(name, title, analysis_explained(study, analysis), diverged_said(study, analysis.label))
    rows = attempt(section, partial(rows_of_analysis, study, analysis.label))
    if rows:
        caption = f"{analysis.label}: what was measured, network by network"
        section.tables.append(Table(name, caption, rows, len(columns(rows)) > MOST_COLUMNS))
    for figure in attempt(section, lambda: [analysis_figure(study, analysis.label, captioned=False)]):
        section.pictures.append(Picture(name, str(figure.get_label()), figure))
    return section


def _table(study: Study, name: str) -> list[Table]:
    if name == "environments":
        return [Table(name, "Environments that the trainings ran in", environments(study))]
    return [Table(name, VIEWS[name].caption, rows_of(study, name), name in APPENDICES)]


def _figures(study: Study, name: str) -> list[Figure]:
    return [draw(study, name)]


def attempt(section: Section, make: Callable[[], list[T]]) -> list[T]:
    """Return what is made, or nothing and in the section the reason why it cannot be made of this study."""
    try:
        return make()
    except (UsageError, DamagedFile) as error:
        if str(error) not in section.absent:  # often one reason for a whole section
            section.absent.append(str(error))
        return []


def warnings(study: Study, sections: list[Section], missing: list[Row]) -> Iterator[str]:
    """Yield what stands on top of a report with these sections: what is missing, diverged, mixed or unfair."""
    total = sum(job.kind.measured for job in study.plan)
    blocked = "cannot be, as one before them diverged"
    for state, said in (("missing", "are missing"), ("diverged", "diverged"), ("blocked", blocked)):
        rows = [row for row in missing if row["state"] == state]
        if rows:
            kinds = {
                kind: sum(row["kind"] == kind for row in rows) for kind in dict.fromkeys(row["kind"] for row in rows)
            }
            yield f"{len(rows)} of {total} trainings {said}: " + ", ".join(f"{kind} {n}" for kind, n in kinds.items())
    tables = {table.name: table.rows for section in sections for table in section.tables}
    machines = [record.manifest.machines for record in study.found.values()]
    if apart := mixed(machines):
        unlike = {json.dumps(essence(session), sort_keys=True) for sessions in machines for session in sessions}
        yield f"mixed environments ({', '.join(apart)}): the trainings ran in {len(unlike)}, see Provenance"
    unfair = sum(row["ok"] is False and row["field"] != "compared" for row in tables.get("audit", []))
    if unfair:
        yield f"{unfair} differences of tickets from dense networks that the recipe does not allow, see Fairness audit"
    yield from disclosures.sentences(study)


def written(recipe: Recipe) -> str:
    """Return the full recipe as YAML, defaults written out; reading it gives an equal recipe."""
    return yaml.dump(recipe.canonical(), Dumper=Dumper, sort_keys=False, allow_unicode=True, width=100)


class Dumper(yaml.SafeDumper):
    """YAML in which every text is quoted that our strict reader could take for a number."""


def _text(dumper: Dumper, value: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=None if value[:1].isalpha() else '"')


Dumper.add_representer(str, _text)
