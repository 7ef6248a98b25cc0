"""Paragraphs of a report that say how its numbers were made."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING

from lottery import registry
from lottery.analysis.labels import whose
from lottery.analysis.measurements import rows
from lottery.figures.analyses import data_said, mode_said
from lottery.recipe.families import acting, counted
from lottery.values import PARTS, said

if TYPE_CHECKING:
    from lottery.recipe.analyses import AnalysisSpec
    from lottery.recipe.schema import Recipe
    from lottery.results.study import Study


def metrics_explained(recipe: Recipe) -> str:
    """Return what the metrics beside accuracy mean; empty where there are none."""
    words = {
        "balanced_accuracy": "Balanced accuracy is the mean of the classes' shares of recognized test examples.",
        "top5": "Top-5 accuracy is the share of test examples whose class is among the five with the highest scores.",
    }
    return "".join(f" {words[metric]}" for metric in recipe.metrics)


def verdicts_explained(recipe: Recipe) -> str:
    """Return when a ticket matches or wins; empty where the recipe declares no margin."""
    compare = acting(recipe)
    if compare is None:
        return ""
    sure, margin = f"{100 * compare.confidence:g} %", compare.points
    order = {
        "fixed_sequence": "The densities of an optimizer are tested in a fixed sequence from dense to sparse",
        "holm": "The densities of an optimizer are tested with Holm's correction",
        "fallback": "The densities of an optimizer are tested by the fallback procedure from dense to sparse",
    }[compare.densities]
    later = f"at most {100 * compare.later:g} % later" if compare.later else "no later"
    return (
        f"A ticket matches where it is shown to be less than {margin} below the dense network (the one-sided {sure}"
        f" lower bound of the mean difference, paired by seed, lies above −{margin}). It wins where it was rewound to"
        f" initialization, matches, and its early-stop step is shown to be {later} than the dense"
        f" network's. It is inconclusive where the seeds decide"
        f" nothing: that is no sign of equality. Also said of tickets that match: better, where the difference is shown"
        f" to be above 0, and equivalent, where it is shown to be less than {margin} away either way. {order}."
        f" {counted(recipe)}"
    )


def analysis_explained(study: Study, analysis: AnalysisSpec) -> str:
    """Return what an analysis measures, on which data, by which definition and source, as its entry says it."""
    entry = registry.analyses[analysis.name]
    text = (inspect.getdoc(entry.make) or "").partition("\n\nRaises:")[0]
    defined = re.sub("`([^`]*)`", r"“\1”", " ".join(text.split()))
    asked = analysis.component.args.get("parts") or PARTS
    parts = [part for part in asked if any(name.startswith(f"{part}_") for name in entry.traits.units)]
    measured = f"Measured on {data_said(study, analysis, parts)}; mode: {mode_said(analysis)}."
    known = "" if analysis.looks_at == "trajectory" else f" The state is that of the reading {analysis.reading}."
    given = ", ".join(f"{name}={_in_words(value)}" for name, value in analysis.component.args.items())
    with_these = f" With {given}." if given else ""
    means = "Values are means over seeds or pairs ± standard deviation."
    return f"{defined} {measured}{known}{with_these} {means} Source: {entry.source}."


def _in_words(value: object) -> str:
    return " and ".join(map(str, value)) if isinstance(value, (list, tuple)) else said(value)


def diverged_said(study: Study, label: str) -> list[str]:
    """Return a sentence on each row of an analysis whose networks diverged."""
    return [
        f"{whose(row)}, {row['networks']} at level {row['level']}: {note}."
        for row in rows(study, label)
        for note in row["note"].split("; ")
        if note.startswith("diverged")
    ]
