"""Facts told beside verdicts that withhold none: what is left out, equal seeds, wide margins, copied examples."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lottery import registry
from lottery.analysis.cells import by_place, by_seed
from lottery.analysis.labels import optimizer_labels
from lottery.audit import repeated
from lottery.audit.left_out import Cell, left_out
from lottery.data.duplicates import remembered, sentence
from lottery.plan.expand import other_data
from lottery.plan.keys import digest
from lottery.results.study import once

if TYPE_CHECKING:
    from lottery.results.study import Study

WIDE = 3  # standard deviations of the dense networks: a margin above says little
SCORE = "test_accuracy"


@dataclass(frozen=True)
class Disclosure:
    """One thing to be told: a `field` of the audit's table, the optimizer's place (None: all), a sentence."""

    field: str
    place: int | None
    sentence: str


@once
def disclosures(study: Study) -> list[Disclosure]:
    """Return what is to be told of a study beside its findings, the most telling first."""
    told = [Disclosure("left_out", place, sentence) for place, sentence in left_out(study).sentences(study)]
    told += [Disclosure("repeated", place, sentence) for place, sentence in repeated.sentences(study)]
    told += [Disclosure("margin", place, words) for place, words in wide_margins(study).items()]
    return [*told, *_copies(study)]


def of_cell(study: Study, cell: Cell) -> str:
    """Return what is to be told beside the verdict on one cell of the tables; empty where nothing is."""
    place, point, *_ = cell
    equal = repeated.repeated(study)
    copies = [equal.get(cell, ""), equal.get((place, point, 0, "dense"), "")]
    return "; ".join(filter(None, (left_out(study).said(cell), *copies, wide_margins(study).get(place, ""))))


def wide_margins(study: Study) -> dict[int, str]:
    """Say where the margin is above three times the spread of an optimizer's dense networks over their seeds.

    Within such a margin a ticket may lie outside all that was seen of dense networks and still match them. Dense
    networks that are all equal have no spread to compare with.
    """
    compare, recipe = study.recipe.compare, study.recipe
    told: dict[int, str] = {}
    for (place, _, level), columns in by_place(study).items() if compare is not None else ():
        values = list(by_seed([r for _, r in columns.get("dense", ())], recipe.report, SCORE).values())
        if level or len(values) < 2 or place in told:
            continue
        assert compare is not None
        spread, margin = statistics.stdev(values), compare.margin / 100
        if spread and margin > WIDE * spread:
            told[place] = (
                f"the margin of {compare.points} is {margin / spread:.3g} times the spread of the {len(values)} dense "
                f"networks over seeds ({100 * spread:.2g})"
            )
    return told


def fingerprints(study: Study) -> list[tuple[str, str]]:
    """Return name and fingerprint of each data set of a study, the recipe's own first."""
    others = ((each.name, digest(registry.datasets.identity(each))) for each in other_data(study.recipe))
    own = (study.recipe.data.component.name, study.plan.fingerprint)
    return [own, *((name, study.plan.others[identity]) for name, identity in others)]


def _copies(study: Study) -> list[Disclosure]:
    """Examples that a data set has more than once, as far as somebody has looked."""
    said = [sentence(name, remembered(study.store, fingerprint)) for name, fingerprint in fingerprints(study)]
    return [Disclosure("duplicates", None, words) for words in said if words]


def sentences(study: Study) -> list[str]:
    """Return the sentences of all of them, which name the optimizer where there are several."""
    labels = optimizer_labels(study.recipe.train.optimizer)
    named = len(labels) > 1
    return [
        f"{labels[each.place]}: {each.sentence}"
        if named and each.place is not None and each.field != "left_out"
        else each.sentence
        for each in disclosures(study)
    ]
