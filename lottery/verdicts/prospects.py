"""What a recipe will be able to claim, before it trains: for each test the fewest seeds, and what stands in its way.

Nothing here is a second account of the tests: each is asked itself, see `lottery.verdicts.fewest_seeds`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from lottery import registry
from lottery.analysis.labels import rewind_label
from lottery.audit.planned_steps import shares_steps, withheld_fields
from lottery.plan.analyses import next_seed
from lottery.plan.frontier import rule, walk
from lottery.recipe.analysis_subjects import Trunks, subjects
from lottery.recipe.families import acting, stands_for_a_claim
from lottery.recipe.finetuning import STEPS_PER_EPOCH
from lottery.recipe.pruned_once import levels_of
from lottery.statistics import paired
from lottery.statistics.independent import independent_means
from lottery.verdicts.barriers import CONFIDENCE
from lottery.verdicts.decisions import CORRECTIONS
from lottery.verdicts.fewest_seeds import against_dense, fewest, of_pairs, of_transfers
from lottery.verdicts.superiority import least_seeds, why_nothing
from lottery.words import counted

if TYPE_CHECKING:
    from lottery.recipe.analyses import AnalysisSpec
    from lottery.recipe.schema import BranchSpec, CompareSpec, Recipe
    from lottery.recipe.types import RewindSpec

PAIR = "independent pair"
ANOTHER_SEED = " of another seed"  # in the name of a pair of networks of two seeds
AUTO = "levels: auto adds seeds by what it sees: tests of a number of seeds fixed before do not hold"


@dataclass(frozen=True)
class Prospect:
    """One test of a study, and whether its seeds can show anything.

    Attributes:
        word: The verdict that it may end in, such as `matching`.
        against: What tickets are compared with: `dense`, or a control's label; for other tests what they are about.
        rewind: Label of the rewind point; empty where the recipe has one, or the test is of all.
        family: Number of tests that are corrected together.
        seeds: Number of seeds, or of independent pairs, that the recipe has for it.
        fewest: The fewest with which any results would show it; None where no number would, or none was looked for.
        why: Why these seeds can show nothing, in words; empty where they can.
    """

    word: str
    against: str
    rewind: str
    family: int
    seeds: int
    fewest: int | None
    why: str = ""

    @property
    def can(self) -> bool:
        """True if some results of the recipe's seeds would show it."""
        return not self.why


@dataclass(frozen=True)
class Look:
    """How a recipe's tests are looked at.

    Attributes:
        floor: The least spread that is believed of differences, see `lottery.results.resolution`; 0 where the number
            of test examples is not known.
        numbers: True if the fewest seeds are looked for of tests that can show something as well, which takes half a
            second more.
    """

    floor: float = 0.0
    numbers: bool = True


def prospects(recipe: Recipe, look: Look) -> list[Prospect]:
    """Return the tests of tickets that a recipe makes: against dense networks, controls, transfers, pairs of networks.

    The recipe may be one point of a sweep.
    """
    compare, found = acting(recipe), list[Prospect]()
    for rewind in recipe.rewind if compare is not None and recipe.prune.deepest else ():
        assert compare is not None
        label = rewind_label(rewind) if len(recipe.rewind) > 1 else ""
        found += _of_dense(recipe, compare, rewind, label, look)
        for branch in recipe.branches:
            found += _of_control(recipe, compare, branch, rewind, label)
    return [*found, *_of_transfers(recipe, look), *_of_pairs(recipe, look)]


def prospect(
    word: str,
    about: tuple[str, str, int, int],
    shows: Callable[[int], bool],
    look: Look,
    *,
    unit: str = "seed",
    rising: bool = True,
) -> Prospect:
    """Return the prospect of a test that is asked for the recipe's seeds, and for more and more of them.

    Args:
        word: The verdict.
        about: The fields of `Prospect` from `against` to `seeds`.
        shows: Returns True for a number of seeds some results of which would show it.
        look: What is looked for.
        unit: What is counted.
        rising: False if more seeds may show less.
    """
    seeds = about[-1]
    if seeds and shows(seeds):
        return Prospect(word, *about, fewest(shows, rising=rising) if look.numbers else None)
    least = fewest(shows, rising=rising)
    takes = f"no number of {unit}s can" if least is None else f"it takes {least} or more"
    return Prospect(word, *about, least, f"{counted(seeds, unit)} cannot show it; {takes}")


def _of_dense(recipe: Recipe, compare: CompareSpec, rewind: RewindSpec, label: str, look: Look) -> Iterator[Prospect]:
    """Yield the words of verdicts on tickets against dense networks."""
    if recipe.prune.auto is not None:
        yield from _of_walk(recipe, label, look.floor)
        return
    family, seeds, train = recipe.prune.deepest, len(recipe.seeds), recipe.train
    lengths = (each.steps(STEPS_PER_EPOCH) for each in (train.length, train.evaluate_every))
    evaluations = -(-next(lengths) // next(lengths))
    for word in ("matching", "winning", "losing", "better", "equivalent"):
        if word == "winning" and (why := _never_winning(recipe, rewind)):
            yield Prospect(word, "dense", label, family, seeds, None, why)
            continue
        shows = partial(against_dense, word, compare, family, look.floor, evaluations)
        yield prospect(word, ("dense", label, family, seeds), shows, look)


def matching_spread(recipe: Recipe) -> float | None:
    """Return the spread of differences with which the densest ticket is shown to match, with the recipe's `power`.

    It is the largest standard deviation over seeds, a fraction, where tickets are as good as dense networks; None
    where nothing is compared, where `levels: auto` decides, and for fewer than 2 seeds. Takes most of a second.
    """
    compare, levels = acting(recipe), recipe.prune.deepest
    if compare is None or not levels or recipe.prune.auto is not None:
        return None
    tiny = compare.alpha / 1e6  # what the correction makes of it if nothing else is shown tells the first one's level
    level = compare.alpha * tiny / CORRECTIONS[compare.densities]([tiny, *[1.0] * (levels - 1)])[0]
    return paired.largest_spread(len(recipe.seeds), compare.margin / 100, 1 - level, compare.power)


def _never_winning(recipe: Recipe, rewind: RewindSpec) -> str:
    """Return why no ticket of a rewind point can be called winning; empty where one can."""
    if not recipe.data.validation:
        return "without data.validation there is no early-stop step to be earlier than"
    if rewind.to.value or rewind.mode != "weights":
        return "is said of tickets that are rewound to their initialization alone"
    return ""


def _of_walk(recipe: Recipe, label: str, floor: float) -> Iterator[Prospect]:
    """Yield the words of `levels: auto`, whose pool of seeds is looked at again and again."""
    whole, seeds = rule(recipe, floor), len(recipe.seeds)
    step = floor * 2**0.5 or 1e-6  # less is no spread to the walk
    for word, value in (("matching", 1.0), ("losing", -1.0)):

        def pair(level: int, seed: int, value: float = value) -> float:
            return value * (1 - step * (seed == 0))

        first = walk(whole, pair)[0]
        shown = first.decision == word
        why = "" if shown else f"{counted(seeds, 'seed')} cannot show it"
        yield Prospect(word, "dense", label, 1, seeds, first.n if shown else None, why)


def _of_control(
    recipe: Recipe, compare: CompareSpec, branch: BranchSpec, rewind: RewindSpec, label: str
) -> Iterator[Prospect]:
    """Yield the words of claims against one control, if it stands for one."""
    if registry.branches[branch.name].traits.claim is None or not levels_of(branch, recipe.prune):
        return
    family, seeds = len(levels_of(branch, recipe.prune)), len(recipe.seeds)
    why = _no_claim(recipe, branch, rewind)
    least = None if why else least_seeds(compare, family)
    why = why or why_nothing(compare, family, seeds)
    for word in ("superior", "inferior"):
        yield Prospect(word, branch.label, label, family, seeds, least, why)


def _no_claim(recipe: Recipe, branch: BranchSpec, rewind: RewindSpec) -> str:
    """Return why no number of seeds makes a claim of a control; empty where one does."""
    if recipe.prune.auto is not None:
        return AUTO
    if not stands_for_a_claim(recipe, branch.name):
        return "tickets are not pruned step by step, so there is no gain of iteration to be shown"
    levels = levels_of(branch, recipe.prune)
    fields = withheld_fields(recipe, branch, rewind, levels)
    if not fields:
        return ""
    tickets = "tickets rewound after step 0" if rewind.mode == "weights" else f"tickets of mode {rewind.mode}"
    return f"trains other steps than {tickets}: {ways_out(fields, shares_steps(recipe, branch, rewind, levels))}"


def ways_out(fields: Iterable[str], fair: str) -> str:
    """Return what makes a claim of a control of other steps, in words; `fair` is its key for those of its ticket."""
    allowed = f"withheld without `compare: {{allow: [{', '.join(fields)}]}}`"
    return f"{allowed}; with `{fair}` it trains the same steps" if fair else allowed


def _of_transfers(recipe: Recipe, look: Look) -> Iterator[Prospect]:
    """Yield the words of tickets retrained with another optimizer, which are one family for each side."""
    compare, transfer, optimizers = recipe.compare, recipe.transfer, len(recipe.train.optimizer)
    if compare is None or transfer is None or optimizers < 2:
        return
    levels = recipe.prune.deepest if transfer.levels is None else len(transfer.levels)
    family = levels * len(recipe.rewind) * optimizers * (optimizers - 1)
    for against in ("dense", "own ticket"):
        for word in ("matching", "losing"):
            shows = partial(of_transfers, word, compare, family, look.floor)
            about = f"retrained tickets against {against}", "", family, len(recipe.seeds)
            yield prospect(word, about, shows, look)


def _of_pairs(recipe: Recipe, look: Look) -> Iterator[Prospect]:
    """Yield the verdicts on whether networks are connected, a family for each analysis."""
    compare = acting(recipe)
    alpha = 1 - CONFIDENCE if compare is None else compare.alpha
    for analysis in recipe.analyses:
        if not registry.analyses[analysis.name].traits.connects:
            continue
        kinds, family = pairs_of(recipe, analysis)
        for names in kinds:
            units = independent_pairs(recipe, names)
            for word in ("connected", "not connected"):
                shows = partial(of_pairs, word, analysis.within / 100, alpha, family, look.floor)
                yield prospect(word, (f"{analysis.label}, {names}", "", family, units), shows, look, unit=PAIR)


def pairs_of(recipe: Recipe, analysis: AnalysisSpec) -> tuple[dict[str, int], int]:
    """Return the networks that an analysis looks at, each with its number of cells, and the number of all cells."""
    trunks = Trunks(recipe.prune, recipe.branches, recipe.rewind, recipe.seeds, recipe.train.optimizer)
    each_optimizer, cells = len(recipe.train.optimizer), dict[str, int]()
    for _, names in subjects(analysis, trunks):
        two = any(names.endswith(f" of {optimizer.name}") for optimizer in recipe.train.optimizer)
        cells[names] = cells.get(names, 0) + len(recipe.rewind) * (1 if two else each_optimizer)
    return cells, sum(cells.values())


def independent_pairs(recipe: Recipe, names: str) -> int:
    """Return how many values of networks are independent of each other: one a seed, or one for each two seeds."""
    seeds = recipe.seeds
    if ANOTHER_SEED not in names:
        return len(seeds)
    pairs = ((frozenset({seed, other}), 0.0) for seed in seeds if (other := next_seed(seeds, seed)) is not None)
    return len(independent_means(pairs))
