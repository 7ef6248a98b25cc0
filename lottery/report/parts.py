"""The sections of a report on a study of one recipe: what each is called, says of itself, and is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lottery import registry
from lottery.analysis import rewind_search
from lottery.analysis.engines import how_computed
from lottery.recipe.families import acting
from lottery.recipe.readings import IN_WORDS
from lottery.report.explanations import metrics_explained, verdicts_explained
from lottery.results import coverage
from lottery.verdicts import connected, frontier, superiority
from lottery.verdicts.sentences import sentences

if TYPE_CHECKING:
    from lottery.recipe.analyses import AnalysisSpec
    from lottery.recipe.schema import Recipe
    from lottery.results.study import Study


@dataclass(frozen=True)
class Part:
    """A section by what it is made of: views and figures by name, an analysis, and what makes its sentences."""

    name: str
    title: str
    explanation: str = ""
    sentences: Callable[[Study], list[str]] | None = None
    tables: tuple[str, ...] = ()
    figures: tuple[str, ...] = ()
    analysis: AnalysisSpec | None = None


def parts(recipe: Recipe) -> Iterator[Part]:
    """Yield the sections of the report on a study of this recipe, in order."""
    yield Part(
        "verdicts",
        "Verdicts",
        verdicts_explained(recipe),
        sentences,
        ("verdicts", "sparsest"),
        ("differences",) if recipe.compare else (),
    )
    if recipe.replicates is not None:
        text = "What the literature claims, held against the trainings of this study."
        yield Part("replication", "Replication", text, tables=("replication",))
    if recipe.prune.auto is not None:
        text = "Which densities and seeds were trained in search of the sparsest matching density, and why no more."
        yield Part("frontier", "Adaptive frontier", text, frontier.sentences, ("frontier",))
    if recipe.search is not None:
        text = "The search for the earliest step from which copies under different noise end without a barrier."
        yield Part("rewind", "Rewind point", text, rewind_search.sentences, ("rewind",))
    yield Part(
        "claims",
        "What wins",
        "The ticket against each control, at equal density and paired by seed; samples of a control are averaged within"
        " their seed first. A positive difference says how much better the ticket is for what the control lacks; the"
        " parts do not add up to a whole. Cells without a verdict beside them show nothing either way."
        f"{'' if (compare := acting(recipe)) is None else f' {superiority.explain_tests(compare)}'}",
        tables=("decomposition", "claims"),
    )
    if any(registry.analyses[analysis.name].traits.connects for analysis in recipe.analyses):
        yield Part(
            "connectivity",
            "Connected or not",
            "Two networks are connected where the test error on the path between them is shown to rise by less than a"
            " margin over the mean of its ends, by an equivalence test over independent pairs: those of a seed count"
            " once. Undecided is no sign of either.",
            connected.sentences,
            ("connected",),
        )
    yield Part(
        "accuracy",
        "Accuracy",
        f"Mean test accuracy over seeds ± standard deviation (number of seeds), read {IN_WORDS[recipe.report]}."
        f" Differences to the dense network are paired by seed.{metrics_explained(recipe)}",
        coverage.sentences,
        tables=("means", "examples"),
        figures=("accuracy",) if recipe.compare else ("accuracy", "differences"),
    )
    yield Part(
        "early-stopping",
        "Early stopping",
        "The early-stop step is the first minimum of the validation loss on the evaluation grid. It is censored where"
        " the last step was the best: the true one may lie later.",
        figures=("early_stop",),
    )
    yield Part(
        "costs",
        "Costs",
        "What was spent, search included: trainings, optimizer steps, and multiply-adds as dense hardware does them and"
        " as ideal sparse hardware would.",
        tables=("costs",),
    )
    yield Part(
        "genealogy",
        "Genealogy",
        "What the masks look like, layer by layer, and what those of different seeds and optimizers have in common,"
        " against what chance would give.",
        tables=("layers", "overlaps"),
        figures=("layers", "overlap", "weights"),
    )
    matrix = ["transfer", "transfer_tests"] * bool(recipe.transfer) + ["rates"] * bool(recipe.tune)
    if matrix:
        yield Part("optimizers", "Optimizers", tables=tuple(matrix), figures=("transfer",) if recipe.transfer else ())
    yield Part("curves", "Learning curves", figures=("curves",))
    for analysis in recipe.analyses:
        yield Part(f"analysis-{analysis.label}", f"Analysis: {analysis.label}", analysis=analysis)
    yield Part(
        "audit",
        "Fairness audit",
        "Tickets and dense networks compared field by field. A difference that the recipe does not allow withholds the"
        " verdict.",
        tables=("audit",),
    )
    yield Part(
        "provenance",
        "Provenance",
        "Every training has a key, a hash of everything that can change its result; lottery show KEY tells all about"
        " it. Dates are in UTC.",
        how_computed,
        tables=("environments", "long"),
    )
