"""The report on a sweep, of real trainings, in every format."""

from __future__ import annotations

import json
from pathlib import Path

import lottery
from lottery.recipe.sweep import parse_sweep
from lottery.report.export import export
from lottery.report.sweep import collect_sweep
from lottery.results.sweep import swept_study
from tests.support.micro import MICRO

TEXT = MICRO + "sweep: {model.norm: [none, batch]}\n"
CLAIM = (
    "{text: norm helps, source: here, left: {model.norm: batch}, right: {model.norm: none}, densities: [1], least: 0}"
)


def test_the_report_of_a_sweep_has_its_points_claims_means_and_figure_in_every_format(tmp_path: Path) -> None:
    sweep = parse_sweep(TEXT, "micro.yaml", ["prune.levels=1", f"replicates={{source: here, claims: [{CLAIM}]}}"])
    outcome = lottery.run(sweep, store=tmp_path, data=tmp_path, device="cpu")
    report = collect_sweep(swept_study(sweep, store=tmp_path))
    named = {section.name: section for section in report.sections}
    assert list(named)[:4] == ["points", "replication", "accuracy", "tickets"]
    assert [(row["model.norm"], row["trainings"], row["done"]) for row in named["points"].tables[0].rows] == [
        ("none", 2, 2),
        ("batch", 2, 2),
    ]
    assert [row["claim"] for row in named["replication"].tables[0].rows] == ["norm helps"]
    assert [row["model.norm"] for row in named["accuracy"].tables[0].rows] == ["none", "batch"]
    assert not report.warnings
    files = {path.name for path in export(report, tmp_path / "report", ("html", "md", "tex", "json", "csv"))}
    assert {"report.html", "report.md", "report.tex", "means.csv", "points.csv", "accuracy.svg"} <= files
    assert "<svg" in (tmp_path / "report" / "report.html").read_text()
    document = json.loads((tmp_path / "report" / "report.json").read_text())
    again = parse_sweep(document["recipe"], "again.yaml")
    assert [point.recipe for point in again.points] == [point.recipe for point in sweep.points]
    long = next(table for table in named["provenance"].tables if table.name == "long")
    assert {key for row in long.rows for key in row.made_from} <= outcome.plan.jobs.keys()
