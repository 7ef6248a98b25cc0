"""Sentences told beside verdicts that withhold none: what is left out, equal seeds, wide margins, copied examples."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lottery.analysis.cells import by_seed, records_by_cell
from lottery.analysis.labels import optimizer_labels, rewind_label
from lottery.audit import repeated
from lottery.audit.left_out import left_out
from lottery.data.duplicates import remembered, sentence
from lottery.plan.expand import other_data
from lottery.plan.keys import name_of
from lottery.results.rewind_search import search_in
from lottery.results.study import once

if TYPE_CHECKING:
    from lottery.audit.findings import Cell
    from lottery.results.study import Study

WIDE = 3  # standard deviations of the dense networks: a margin above says little
SCORE = "test_accuracy"


@dataclass(frozen=True)
class Disclosure:
    """A sentence to be told, with a `field` of the audit's table and the optimizer's index (None: all of them)."""

    field: str
    optimizer_index: int | None
    sentence: str


@once
def disclosures(study: Study) -> list[Disclosure]:
    """Return all that is to be told of a study beside its findings, the most telling first."""
    told = [Disclosure("left_out", index, sentence) for index, sentence in left_out(study).sentences(study)]
    told += [Disclosure("repeated", index, sentence) for index, sentence in repeated.sentences(study)]
    told += [Disclosure("margin", index, words) for index, words in wide_margins(study).items()]
    return [*told, *_searched_point(study), *_copied_examples(study)]


def _searched_point(study: Study) -> list[Disclosure]:
    """Return the sentence that a rewind point was looked for on seeds that have results here, where it was."""
    recipe, search = study.recipe, study.recipe.search
    if search is None or search_in(recipe, study.plan.fingerprint, study.store).found is None:
        return []
    seeds = recipe.seeds[: search.seeds]
    words = (
        f"the rewind point {rewind_label(recipe.rewind[0])} was looked for on seed{'' if len(seeds) == 1 else 's'} "
        f"{', '.join(map(str, seeds))} of these, by the error on {search.part} examples"
    )
    return [Disclosure("rewind", None, words)]


def disclosed_of_cell(study: Study, cell: Cell) -> str:
    """Return all that is to be told beside the verdict on one cell of the tables; empty where there is nothing."""
    optimizer_index, point, *_ = cell
    equal = repeated.repeated(study)
    equal_seeds = [equal.get(cell, ""), equal.get((optimizer_index, point, 0, "dense"), "")]
    return "; ".join(
        filter(None, (left_out(study).sentence(cell), *equal_seeds, wide_margins(study).get(optimizer_index, "")))
    )


def wide_margins(study: Study) -> dict[int, str]:
    """Return a sentence for each optimizer whose margin is above three times the spread of its dense networks.

    The spread is the standard deviation over seeds. Within such a margin a ticket may lie outside all that was seen of
    dense networks and still match them. Dense networks that are all equal have no spread to compare with.

    Returns:
        The sentences, by the optimizer's index in the recipe.
    """
    compare, recipe = study.recipe.compare, study.recipe
    told: dict[int, str] = {}
    for (optimizer_index, _, level), columns in records_by_cell(study).items() if compare is not None else ():
        values = list(by_seed([r for _, r in columns.get("dense", ())], recipe.report, SCORE).values())
        if level or len(values) < 2 or optimizer_index in told:
            continue
        assert compare is not None
        spread, margin = statistics.stdev(values), compare.margin / 100
        if spread and margin > WIDE * spread:
            told[optimizer_index] = (
                f"the margin of {compare.points} is {margin / spread:.3g} times the spread of the {len(values)} dense "
                f"networks over seeds ({100 * spread:.2g})"
            )
    return told


def fingerprints(study: Study) -> list[tuple[str, str]]:
    """Return name and fingerprint of each data set of a study, the recipe's own first."""
    others = ((each.name, name_of(each)) for each in other_data(study.recipe))
    own = (study.recipe.data.component.name, study.plan.fingerprint)
    return [own, *((name, study.plan.others[identity]) for name, identity in others)]


def _copied_examples(study: Study) -> list[Disclosure]:
    """Return a sentence for each data set with examples that occur more than once, where they were looked for."""
    found = [sentence(name, remembered(study.store, fingerprint)) for name, fingerprint in fingerprints(study)]
    return [Disclosure("duplicates", None, words) for words in found if words]


def sentences(study: Study) -> list[str]:
    """Return the sentences of all disclosures, with the optimizer's name where there are several."""
    labels = optimizer_labels(study.recipe.train.optimizer)
    named = len(labels) > 1
    return [
        f"{labels[each.optimizer_index]}: {each.sentence}"
        if named and each.optimizer_index is not None and each.field != "left_out"
        else each.sentence
        for each in disclosures(study)
    ]
