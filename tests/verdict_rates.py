"""How often verdicts err and how much they show: `python tests/verdict_rates.py` prints tables of docs/statistics.md.

2,000 studies a cell, 3 minutes. The unit is the margin; differences are normal, correlated 0.5 over the densities of a
seed, as those to one dense network are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tabulate import tabulate

from lottery import resolution
from lottery.decisions import Cell, Decision, decide
from lottery.schema import CompareSpec

STUDIES = 2_000
SEEDS = (5, 6, 8, 10)
MARGIN = 1.0
PROFILES = {  # true differences from dense to sparse
    "only declines": (0.0, 0.0, 0.0, -0.1, -0.2, -0.4, -0.7, -1.0, -2.0, -4.0),
    "improves, then declines": (0.0, 0.3, 0.7, 1.0, 1.0, 0.7, 0.3, -0.3, -1.0, -3.0),
}

Array = Any
Count = Callable[[Sequence[Decision]], float]


def spec(**compare: Any) -> CompareSpec:
    return CompareSpec(margin=100 * MARGIN, **compare)


def simulated(truths: Sequence[float], n: int, spread: float) -> Array:
    """Differences by study, density and seed."""
    draws = np.random.default_rng(n)
    own, shared = draws.standard_normal((STUDIES, len(truths), n)), draws.standard_normal((STUDIES, 1, n))
    return np.array(truths)[:, None] + spread * (own + shared) / 2**0.5


def early(n: int, ratio: float) -> list[list[tuple[float, float, bool, bool]]]:
    """Early-stop steps of as many cells as there are densities in all studies, cut off at 150, and whether they were."""
    draws = np.random.default_rng(100 + n)
    steps = np.exp(draws.normal(4.3, 0.4, (STUDIES * 10, n, 2))) * (ratio, 1.0)
    cut, seen = (steps >= 150).tolist(), np.minimum(steps, 150).tolist()
    return [[(*s, *c) for s, c in zip(*pair, strict=True)] for pair in zip(seen, cut, strict=True)]


def mean(
    count: Count, truths: Sequence[float], n: int, spread: float, *, ratio: float | None = None, **compare: Any
) -> float:
    """Mean of a count over the simulated studies."""
    steps = None if ratio is None else iter(early(n, ratio))
    total, acting = 0.0, spec(**compare)
    for study in simulated(truths, n, spread).tolist():
        cells = [Cell(values, 0, None if steps is None else next(steps)) for values in study]
        total += count(decide(cells, acting, may_win=ratio is not None))
    return total / STUDIES


def matched(decision: Decision) -> bool:
    return decision.verdict in ("matching", "winning")


def sparsest(decisions: Sequence[Decision]) -> int:
    """How many densities match from the dense end on without one between them that does not."""
    return next((place for place, each in enumerate(decisions) if not matched(each)), len(decisions))


def corrections(spread: float) -> list[list[str]]:
    """For each profile and number of seeds: of the three procedures any false matching, the share of the densities that
    do match that is shown, and the share that the sparsest matching density reaches."""
    table = []
    for name, truths in PROFILES.items():
        true = [truth > -MARGIN for truth in truths]
        last = true.index(False)
        for n in SEEDS:
            row = [name, str(n)]
            for procedure in ("fixed_sequence", "holm", "fallback"):

                def count(found: Sequence[Decision]) -> Any:
                    shown = [matched(each) for each in found]
                    wrong = any(s and not t for s, t in zip(shown, true, strict=True))
                    return np.array([wrong, sum(shown[:last]) / last, min(sparsest(found), last) / last])

                wrong, power, reached = mean(count, truths, n, spread, densities=procedure)  # type: ignore[misc]
                row.append(f"{100 * wrong:.1f} / {100 * power:.0f} / {100 * reached:.0f}")
            table.append(row)
    return table


def word(has: Callable[[Decision], bool], places: Sequence[int]) -> Count:
    return lambda found: any(has(found[place]) for place in places)


def part(has: Callable[[Decision], bool], places: Sequence[int]) -> Count:
    return lambda found: sum(has(found[place]) for place in places) / len(places)


def rates() -> list[list[str]]:
    """Of each word, with the default correction: any false one where it is easiest to say, and the share of the
    densities of which it is true that it is said of."""
    improves, declines = (PROFILES[name] for name in ("improves, then declines", "only declines"))
    losing, winning = (lambda d: d.verdict == "losing"), (lambda d: d.verdict == "winning")
    better, equivalent = (lambda d: d.better), (lambda d: d.equivalent)
    rows: list[tuple[str, Callable[[int], float], Callable[[int], float]]] = [
        (
            "matching",
            lambda n: mean(word(matched, range(2, 6)), (0, 0, -1, -1, -1, -1), n, 0.5),
            lambda n: mean(part(matched, range(8)), improves, n, 0.7),
        ),
        (
            "losing",
            lambda n: mean(word(losing, range(4)), (0, -1, -1, -1, -3, -3), n, 0.5),
            lambda n: mean(part(losing, (8, 9)), declines, n, 0.7),
        ),
        (
            "winning (as early)",
            lambda n: mean(word(winning, range(6)), (1,) * 6, n, 0.5, ratio=1.0),
            lambda n: mean(part(winning, range(6)), (1,) * 6, n, 0.5, ratio=0.5),
        ),
        (
            "better",
            lambda n: mean(word(better, (0, 1, 2, 4, 5)), (0, 0, 0, 2, 0, 0), n, 0.3),
            lambda n: mean(part(better, range(1, 7)), improves, n, 0.5),
        ),
        (
            "equivalent",
            lambda n: mean(word(equivalent, range(2, 6)), (0, 0, 1, 1, 1, 1), n, 0.3),
            lambda n: mean(part(equivalent, range(7)), declines, n, 0.5),
        ),
        (
            "sparsest matching",
            lambda n: mean(lambda found: sparsest(found) > 2, (0, 0, -1, -1, -1, -1), n, 0.5),
            lambda n: mean(lambda found: sparsest(found) == 4, (0, 0, 0, 0, -3, -6), n, 0.7),
        ),
        (
            "matching or better",
            lambda n: mean(
                lambda f: any(matched(each) for each in f[4:]) or any(each.better for each in f[:4]),
                (0, 0, 0, 0, -1, -1),
                n,
                0.3,
            ),
            lambda n: float("nan"),
        ),
    ]
    table = []
    for name, errs, shows in rows:
        said = [f"{100 * errs(n):.1f}" for n in SEEDS] + [f"{100 * shows(n):.0f}" for n in SEEDS]
        table.append([name, *("" if figure == "nan" else figure for figure in said)])
    return table


def counted(spread: float, n: int, floor: float) -> float:
    """The largest chance over where the true mean lies of a false matching or losing by the t test at 5 %, where each
    accuracy is a count of test examples and latent counts of seeds have a deviation of `spread` examples."""
    worst = 0.0
    for place in np.arange(0, 1, 0.1):
        draws = np.random.default_rng(n)
        ours = np.round(place + spread * draws.standard_normal((STUDIES, n)))
        theirs = np.round(0.5 + spread * draws.standard_normal((STUDIES, n)))
        many = np.random.default_rng(1).standard_normal((2, 400_000))
        true = float(np.round(place + spread * many[0]).mean() - np.round(0.5 + spread * many[1]).mean())
        acting, wrong = CompareSpec(margin=100.0), 0
        for values in (ours - theirs - true - 1).tolist():
            wrong += decide([Cell(values)], acting, may_win=False, floor=floor)[0].verdict == "matching"
        worst = max(worst, wrong / STUDIES)
    return worst


if __name__ == "__main__":
    for spread in (0.7, 1.0):
        print(f"\nspread {spread}: any false matching / densities shown / as far as the sparsest goes, in percent")
        heads = ["true differences", "seeds", "fixed sequence", "Holm", "fallback"]
        print(tabulate(corrections(spread), heads, tablefmt="github", disable_numparse=True))
    heads = ["", *(f"errs, {n} seeds" for n in SEEDS), *(f"shows, {n}" for n in SEEDS)]
    print(tabulate(rates(), heads, tablefmt="github", disable_numparse=True))
    table = []
    for spread in (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0):
        bare, held = ([f"{100 * counted(spread, n, floor):.1f}" for n in SEEDS] for floor in (0.0, resolution.floor(1)))
        table.append([f"{spread:g}", *bare, *held])
    heads = ["spread (examples)", *(f"bare, {n} seeds" for n in SEEDS), *(f"floor, {n}" for n in SEEDS)]
    print(tabulate(table, heads, tablefmt="github", disable_numparse=True))
