"""The report on a sweep: its points, what is claimed of them, their means side by side, a figure against a key."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import yaml

from lottery.analysis.engines import how_computed
from lottery.analysis.environments import environments_of, newest, software
from lottery.analysis.missing import lacking
from lottery.analysis.rows import Row
from lottery.analysis.sweep import swept_rows, swept_rows_of, swept_values
from lottery.analysis.views import VIEWS
from lottery.audit import disclosures
from lottery.environment import mixed
from lottery.figures.sweep import sweep_figure
from lottery.formats.pages import columns
from lottery.recipe.families import acting
from lottery.recipe.readings import IN_WORDS
from lottery.report.content import MOST_COLUMNS, Dumper, Picture, Report, Section, Table, attempt
from lottery.report.explanations import metrics_explained
from lottery.results import coverage
from lottery.verdicts.connected import sentences as connected
from lottery.verdicts.frontier import sentences as frontier
from lottery.verdicts.sentences import sentences
from lottery.words import counted

if TYPE_CHECKING:
    from lottery.results.study import Study
    from lottery.results.sweep import SweptStudy


def collect_sweep(found: SweptStudy) -> Report:
    """Return the report on what is finished of a sweep; `collect` makes that of one point, with all that it has."""
    sweep, studies = found.sweep, found.studies
    compare = acting(sweep.points[0].recipe)
    missing = swept_rows(found, lacking)
    return Report(
        sweep.name,
        sweep.question,
        list(_warnings(found)),
        list(_sections(found)),
        Table("missing", "Trainings that are missing, diverged or blocked", missing, appendix=True),
        yaml.dump(dict(sweep.document), Dumper=Dumper, sort_keys=False, allow_unicode=True, width=100),
        {name: value for study in studies for name, value in disclosures.fingerprints(study)},
        software(),
        max(filter(None, map(newest, studies)), default=None),
        0.95 if compare is None else compare.confidence,
    )


def _sections(found: SweptStudy) -> Iterator[Section]:
    sweep = found.sweep
    points = Section(
        "points",
        "The points",
        f"Each point is a recipe of its own, with these values of {', '.join(sweep.keys)}; seeds pair the points. A"
        " training that several points share is one, and counts at each. lottery report --point has the whole report on"
        " one of them.",
    )
    points.tables.append(Table("points", "The points of the sweep, and their trainings", _points(found)))
    yield points
    if sweep.replicates is not None:
        text = "What the literature claims, held against the trainings of these points."
        yield _tables(found, Section("replication", "Claims", text), "replication")
    reading = sweep.points[0].recipe
    accuracy = Section(
        "accuracy",
        "Accuracy",
        f"Mean test accuracy over seeds ± standard deviation (number of seeds), read {IN_WORDS[reading.report]}."
        f" Differences to the dense network are paired by seed.{metrics_explained(reading)}",
        _of_points(found, coverage.sentences),
    )
    for figure in attempt(accuracy, lambda: [sweep_figure(found)]):
        accuracy.pictures.append(Picture("accuracy", str(figure.get_label()), figure))
    yield _tables(found, accuracy, "means")
    verdicts = Section("tickets", "Tickets against dense networks", "Point by point, at the margin of the recipe.")
    verdicts.sentences.extend(attempt(verdicts, lambda: _of_points(found, _decided)))
    yield _tables(found, verdicts, "verdicts", "sparsest")
    for label in dict.fromkeys(each.label for point in sweep.points for each in point.recipe.analyses):
        measured = Section(f"analysis-{label}", f"Analysis: {label}", "What was measured, network by network.")
        yield _tables(found, measured, label)
    yield _tables(found, Section("costs", "Costs", "What was spent at each point, search included."), "costs")
    provenance = Section(
        "provenance",
        "Provenance",
        "Every training has a key, a hash of everything that can change its result; lottery show KEY tells all about"
        " it. Dates are in UTC.",
        how_computed(*found.studies, labels=[point.label for point in sweep.points]),
    )
    ran = environments_of(record for study in found.studies for record in study.found.values())
    provenance.tables.append(Table("environments", "Environments that the trainings ran in", ran))
    yield _tables(found, provenance, "long")


def _tables(found: SweptStudy, section: Section, *views: str) -> Section:
    """Return a section with the tables of views, those with too many columns for a page as appendices."""
    for view in views:
        if rows := attempt(section, partial(swept_rows_of, found, view)):
            caption = VIEWS[view].caption if view in VIEWS else f"{view}: what was measured, network by network"
            name = view if view in VIEWS else f"analysis-{view}"
            section.tables.append(Table(name, caption, rows, view == "long" or len(columns(rows)) > MOST_COLUMNS))
    if not (section.sentences or section.tables or section.pictures or section.absent):
        section.absent.append("Nothing yet: no training that this needs is finished.")
    return section


def _points(found: SweptStudy) -> list[Row]:
    """Return a row for each point: its values, and how many of its trainings are done, diverged, blocked, missing."""
    rows = []
    for values, (_, study) in zip(swept_values(found.sweep), found, strict=True):
        ended = study.found.values()
        diverged = sum(record.diverged is not None for record in ended)
        counts = {"done": len(ended) - diverged, "diverged": diverged, "blocked": len(study.blocked)}
        total = sum(job.kind.measured for job in study.plan)
        rows.append(Row({**values, "trainings": total, **counts, "missing": study.missing}, ()))
    return rows


def _decided(study: Study) -> list[str]:
    """Return the sentences on one point that its table of verdicts cannot say."""
    told = frontier(study) or (sentences(study) if study.recipe.compare else [])
    return [*told, *connected(study)]


def _of_points(found: SweptStudy, make: Callable[[Study], list[str]]) -> list[str]:
    """Return the sentences of all points, each once, with the points that it is about where that are not all."""
    about: dict[str, list[str]] = {}
    for point, study in found:
        for sentence in make(study):
            about.setdefault(sentence, []).append(point.label)
    return [
        sentence if len(labels) == len(found.studies) else f"{'; '.join(labels)}: {sentence}"
        for sentence, labels in about.items()
    ]


def _warnings(found: SweptStudy) -> Iterator[str]:
    if found.missing:
        yield f"{counted(found.missing, 'training')} {'is' if found.missing == 1 else 'are'} missing"
    records = {key: record for study in found.studies for key, record in study.found.items()}
    diverged = sum(record.diverged is not None for record in records.values())
    if diverged:
        yield f"{counted(diverged, 'training')} diverged, see The points"
    if apart := mixed([record.manifest.machines for record in records.values()]):
        yield f"mixed environments ({', '.join(apart)}), see Provenance"
    yield from _of_points(found, disclosures.sentences)
