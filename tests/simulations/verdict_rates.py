"""How often verdicts err and how much they show: `python -m tests.simulations.verdict_rates` prints tables of
docs/statistics.md.

2,000 studies a cell, a few minutes. The unit is the margin; differences are normal, correlated 0.5 over the densities
of a seed, as those to one dense network are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from statistics import fmean
from typing import Any

import numpy as np
from scipy.stats import norm
from tabulate import tabulate

from lottery.recipe.schema import CompareSpec
from lottery.results import resolution
from lottery.statistics import paired
from lottery.verdicts.decisions import DenseDifferences, MatchingDecision, decide

STUDIES = 2_000
SEEDS = (5, 6, 8, 10)
IMPROVES = (0.0, 0.3, 0.7, 1.0, 1.0, 0.7, 0.3, -0.3, -1.0, -3.0)  # true differences from dense to sparse
DECLINES = (0.0, 0.0, 0.0, -0.1, -0.2, -0.4, -0.7, -1.0, -2.0, -4.0)
PROFILES = {"improve, then decline": IMPROVES, "only decline": DECLINES}

Found = Sequence[MatchingDecision]
Shown = Callable[[MatchingDecision], bool]


def studies(
    truths: Sequence[float], n: int, spread: float, *, ratio: float | None = None, **compare: Any
) -> Iterator[list[MatchingDecision]]:
    """The decisions of simulated studies of n seeds; `ratio` is that of early-stop steps, ticket to dense."""
    draws, spec = np.random.default_rng(n), CompareSpec(margin=100.0, **compare)
    for _ in range(STUDIES):
        noise = (draws.standard_normal((len(truths), n)) + draws.standard_normal(n)) / 2**0.5
        seen = (np.array(truths)[:, None] + spread * noise).tolist()
        cells = [
            DenseDifferences(row) if ratio is None else DenseDifferences(row, 0, early(draws, n, ratio)) for row in seen
        ]
        yield decide(cells, spec, may_win=ratio is not None)


def early(draws: np.random.Generator, n: int, ratio: float) -> list[tuple[float, float, bool, bool]]:
    """Early-stop steps of ticket and dense network by seed, cut off at 150, and whether they were."""
    steps = np.exp(draws.normal(4.3, 0.4, (n, 2))) * (ratio, 1.0)
    cut = np.minimum(steps, 150)
    return [(float(a), float(b), bool(a >= 150), bool(b >= 150)) for a, b in cut]


def matching(decision: MatchingDecision) -> bool:
    return decision.verdict in ("matching", "winning")


def losing(decision: MatchingDecision) -> bool:
    return decision.verdict == "losing"


def winning(decision: MatchingDecision) -> bool:
    return decision.verdict == "winning"


def better(decision: MatchingDecision) -> bool:
    return decision.better


def equivalent(decision: MatchingDecision) -> bool:
    return decision.equivalent


def reach(found: Found) -> int:
    """How many densities match from the dense end on, without one between them that does not."""
    return next((place for place, each in enumerate(found) if not matching(each)), len(found))


def any_of(shown: Shown, found: Found) -> bool:
    return any(shown(each) for each in found)


def part_of(shown: Shown, found: Found) -> float:
    return fmean(shown(each) for each in found)


def corrections(spread: float) -> Iterator[list[str]]:
    """For each profile and number of seeds: of the three procedures any false matching, the share of the densities that
    do match that is shown, and the share of them that the sparsest matching density reaches."""
    for name, truths in PROFILES.items():
        true = next(place for place, truth in enumerate(truths) if truth <= -1)
        for n in SEEDS:
            row = [name, str(n)]
            for procedure in ("fixed_sequence", "holm", "fallback"):
                found = list(studies(truths, n, spread, densities=procedure))
                wrong = fmean(any_of(matching, each[true:]) for each in found)
                shown = fmean(part_of(matching, each[:true]) for each in found)
                reached = fmean(min(reach(each), true) / true for each in found)
                row.append(f"{100 * wrong:.1f} / {100 * shown:.0f} / {100 * reached:.0f}")
            yield row


def errors(n: int) -> dict[str, float]:
    """Of each word, how often any false one is said where that is easiest, with the default correction."""
    ends, gains = (0, 0, -1, -1, -1, -1), (0, 0, 0, 2, 0, 0)
    matched = list(studies(ends, n, 0.5))
    gained = list(studies(gains, n, 0.3))
    return {
        "matching": fmean(any_of(matching, found[2:]) for found in matched),
        "sparsest matching": fmean(reach(found) > 2 for found in matched),
        "losing": fmean(any_of(losing, found[:4]) for found in studies((0, -1, -1, -1, -3, -3), n, 0.5)),
        "winning": fmean(any_of(winning, found) for found in studies((1,) * 6, n, 0.5, ratio=1.0)),
        "better": fmean(any_of(better, (*found[:3], *found[4:])) for found in gained),
        "equivalent": fmean(any_of(equivalent, found[2:]) for found in studies((0, 0, 1, 1, 1, 1), n, 0.3)),
        "matching or better": fmean(
            any_of(better, found[:4]) or any_of(matching, found[4:]) for found in studies((0, 0, 0, 0, -1, -1), n, 0.3)
        ),
    }


def powers(n: int) -> dict[str, float]:
    """Of each word, the share of the densities of which it is true that it is said of; of the sparsest matching density
    how often it is the true one."""
    return {
        "matching": fmean(part_of(matching, found[:8]) for found in studies(IMPROVES, n, 0.7)),
        "sparsest matching": fmean(reach(found) == 4 for found in studies((0, 0, 0, 0, -3, -6), n, 0.7)),
        "losing": fmean(part_of(losing, found[8:]) for found in studies(DECLINES, n, 0.7)),
        "winning": fmean(part_of(winning, found) for found in studies((1,) * 6, n, 0.5, ratio=0.5)),
        "better": fmean(part_of(better, found[1:7]) for found in studies(IMPROVES, n, 0.5)),
        "equivalent": fmean(part_of(equivalent, found[:7]) for found in studies(DECLINES, n, 0.5)),
    }


def counted(spread: float, n: int, floor: float) -> tuple[float, float]:
    """How often a density at the margin is shown by the t test at 5 % to match where accuracies are counts of test
    examples, and those of the seeds differ by `spread` examples before they are rounded.

    The mean over where the true means of ticket and dense network lie between two counts, and the worst of them."""
    draws, rates = np.random.default_rng(n), []
    for ours in np.arange(0.05, 1, 0.1):
        for theirs in (0.0, 0.2, 0.5):
            seen = [np.round(at + spread * draws.standard_normal((STUDIES, n))) for at in (ours, theirs)]
            true = rounded(ours, spread) - rounded(theirs, spread)
            found = [paired.t_pvalue(row, true, "greater", floor) for row in (seen[0] - seen[1]).tolist()]
            rates.append(fmean(p <= 0.05 for p in found))
    return fmean(rates), max(rates)


def rounded(mean: float, spread: float) -> float:
    """The mean of a normal count that is rounded."""
    counts = np.arange(-20, 21)
    return float(counts @ (norm.cdf((counts + 0.5 - mean) / spread) - norm.cdf((counts - 0.5 - mean) / spread)))


def show(rows: Iterable[Sequence[str]], *heads: str) -> None:
    print(tabulate(list(rows), heads, tablefmt="github", disable_numparse=True), end="\n\n")


if __name__ == "__main__":
    for spread in (0.7, 1.0):
        print(f"deviation {spread}: any false matching / densities shown / as far as the sparsest goes, in percent")
        show(corrections(spread), "true differences", "seeds", "fixed sequence", "Holm", "fallback")
    wrong, right = [errors(n) for n in SEEDS], [powers(n) for n in SEEDS]
    words = [[word, *(f"{100 * each[word]:.1f}" for each in wrong)] for word in wrong[0]]
    words = [[*row, *(f"{100 * each[row[0]]:.0f}" for each in right if row[0] in each)] for row in words]
    show(words, "in percent", *(f"errs, {n} seeds" for n in SEEDS), *(f"shows, {n}" for n in SEEDS))
    rows = [
        [f"{spread:g}", *("{:.1f} / {:.1f}".format(*100 * np.array(counted(spread, n, floor))) for n in SEEDS)]
        for floor in (0.0, resolution.floor(1))
        for spread in (0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
    ]
    print("without, then with the floor: mean / worst in percent")
    show(rows, "deviation, examples", *(f"{n} seeds" for n in SEEDS))
