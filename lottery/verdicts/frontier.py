"""Decisions of `levels: auto` with their reasons, as a table and in words: sparsest matching density, and its cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from lottery.analysis.cells import densities, floor
from lottery.analysis.columns import BOUND, DENSITY, DIFFERENCE, LEVEL_OF_DENSITY, SEEDS, Column
from lottery.analysis.labels import density_label, finite, head, optimizer_labels, rewind_label, whose
from lottery.analysis.rows import Row, Values, in_plan_order, keys_of
from lottery.errors import UsageError
from lottery.plan.frontier import FUTILE, Step, over, rule, seeds_trained
from lottery.plan.kinds import Kind
from lottery.results.planning import walk_levels
from lottery.results.study import once

if TYPE_CHECKING:
    from lottery.plan.frontier import Rule
    from lottery.results.study import Study

Walks = Mapping[tuple[int, int], tuple[Step, ...]]  # by optimizer and rewind

REASONS = {
    "matching": "the lower bound is above the margin",
    "losing": "the upper bound is below the margin",
    "futile": f"the chance to be shown matching with the seeds that are left is below {FUTILE:.0%}",
    "exhausted": "the seeds of the pool are used up",
    "ticket diverged": "a ticket diverged",
    "dense diverged": "the dense network diverges",
    "open": "trainings are missing",
}


def rows(study: Study) -> list[Row]:
    """Return a row for each level that the walk came to, and one that sums up, for each optimizer and rewind point.

    Columns: `decision` (of `plan.frontier`, then `sparsest matching`), `n` differences at the last look, `looks` taken,
    mean `difference` and its lower `bound` (fractions; of the repeated confidence interval, valid at all looks
    together), the part of alpha `spent`, the `chance` that more seeds would show the level matching, and the cost:
    `trainings` of this level (in the last row of all, dense networks too), those of the fixed `grid` of the same pool
    and levels, the share `saved`; controls are not counted.

    Raises:
        UsageError: The recipe is without `levels: auto`.
    """
    table: list[Row] = []
    for (optimizer_index, rewind_index), steps in decided(study).items():
        own = _whose(study, optimizer_index, rewind_index)
        trained = _trained(study, steps)
        about = [(step, trained[step.level]) for step in steps]
        for step, cost in about:
            if (density := _density(study, optimizer_index, rewind_index, step.level)) is not None:
                row = {**own, **_row(density, step, cost, len(study.recipe.seeds))}
                table.append(Row(row, _seen(study, optimizer_index, rewind_index, step)))
        last, whole = _sparsest_matching(steps), rule(study.recipe)
        density = _density(study, optimizer_index, rewind_index, last.level) or 1.0
        summary = _row(density, last, sum(trained), whole.pool * (1 + whole.levels))
        summary |= {"decision": "sparsest matching", "reason": _guarantee(whole)}
        seen = (key for step in steps for key in _seen(study, optimizer_index, rewind_index, step))
        table.append(Row({**own, **summary}, in_plan_order(study, seen)))
    return table


@once
def decided(study: Study) -> Walks:
    """Return the steps of each walk, by the indexes of optimizer and rewind point.

    Raises:
        UsageError: The recipe's levels are given.
    """
    if study.recipe.prune.auto is None:
        raise UsageError(f"{study.recipe.name}: its levels are given, nothing was looked for; write `levels: auto`")
    return walk_levels(study.plan, lambda job: study.found.get(job.key), floor(study))


def sentences(study: Study) -> list[str]:
    """Return a sentence for each optimizer and rewind point on what was found; none without `levels: auto`."""
    if study.recipe.prune.auto is None:
        return []
    return [sentence(study, *where, steps) for where, steps in decided(study).items()]


def sentence(study: Study, optimizer_index: int, rewind_index: int, steps: Sequence[Step]) -> str:
    """Return in words the sparsest matching density, its guarantee, why the walk ended, and its cost."""
    return " ".join(_parts(study, optimizer_index, rewind_index, steps))


def _parts(study: Study, optimizer_index: int, rewind_index: int, steps: Sequence[Step]) -> Iterator[str]:
    whole, last, found = rule(study.recipe), steps[-1], _sparsest_matching(steps)
    points = f"{100 * whole.margin:g} point{'' if whole.margin == 0.01 else 's'}"
    density = _density(study, optimizer_index, rewind_index, found.level)
    name = whose(_whose(study, optimizer_index, rewind_index))
    if found.level and density is not None:
        yield f"{name}: the sparsest density shown to match the dense network is {density_label(density)}"
        yield f"(level {found.level}), less than {points} below it, as is each denser level."
    elif over(whole, steps):
        yield f"{name}: no density is shown to match the dense network within {points}."
    else:
        yield f"{name}: no density is shown to match the dense network within {points} yet."
    yield f"{_guarantee(whole)}."
    if not over(whole, steps):
        yield f"Level {last.level} is open: it wants {last.seeds} of the {whole.pool} seeds now; what follows, their"
        yield "results decide."
    elif last.decision == "matching":
        yield f"The walk ended there: level {last.level} is the last that prune.frontier.most_levels allows."
    else:
        yield f"The walk ended at level {last.level} with {last.seeds} seeds: {REASONS[last.decision]}."
    yield from _cost(study, whole, steps)


def _guarantee(whole: Rule) -> str:
    """Return the guarantee in words: the chance of a wrong verdict of matching."""
    return (
        f"The chance that a density is called matching which is not is {100 * whole.alpha:g} % at most, "
        "over all levels and looks, for independent normal differences"
    )


def _cost(study: Study, whole: Rule, steps: Sequence[Step]) -> Iterator[str]:
    cost, grid = sum(_trained(study, steps)), whole.pool * (1 + whole.levels)
    yield f"Trainings without controls: {cost}; the grid of {whole.pool} seeds and {whole.levels} levels has {grid}"
    yield f"({1 - cost / grid:.0%} saved), down to level {len(steps)} {whole.pool * (1 + len(steps))}."


def _row(density: float, step: Step, trainings: int, grid: int) -> Values:
    row = {
        LEVEL_OF_DENSITY: step.level,
        DENSITY: density,
        "decision": step.decision,
        SEEDS: step.n,
        "looks": step.looks,
        DIFFERENCE: step.difference,
        BOUND: step.bound,
        "spent": step.spent,
        Column("chance", "fraction"): step.chance,
        "trainings": trainings,
        "grid": grid,
        Column("saved", "fraction"): 1 - trainings / grid,
        "reason": REASONS[step.decision],
    }
    return finite(row)


def _whose(study: Study, optimizer_index: int, rewind_index: int) -> Values:
    """Return the columns that say whose walk it is."""
    recipe = study.recipe
    label = optimizer_labels(recipe.train.optimizer)[optimizer_index]
    return head(recipe, rewind_label(recipe.rewind[rewind_index]), optimizer=label)


def _trained(study: Study, steps: Sequence[Step]) -> list[int]:
    return seeds_trained(steps, trunk=not study.recipe.prune.alone)


def _sparsest_matching(steps: Sequence[Step]) -> Step:
    """Return the step of the sparsest level shown to match; that of the dense network where none is."""
    shown = [step for step in steps if step.decision == "matching"]
    return shown[-1] if shown else Step(0, "matching", 0)


def _density(study: Study, optimizer_index: int, rewind_index: int, level: int) -> float | None:
    """Return the density of a level; None where no ticket of it is finished."""
    return densities(study).get((optimizer_index, rewind_label(study.recipe.rewind[rewind_index]), level))


def _seen(study: Study, optimizer_index: int, rewind_index: int, step: Step) -> tuple[str, ...]:
    """Return the keys of the trainings that a step was decided by.

    These are the dense network and the ticket of each seed that it used, and a ticket above it that diverged.
    """
    where, seeds = (optimizer_index, study.recipe.rewind[rewind_index], step.level), study.recipe.seeds[: step.seeds]
    tickets = [
        job for job in study.plan if job.kind is Kind.TICKET and (job.optimizer_index, job.rewind, job.level) == where
    ]
    trunks = [[study.found.get(each.key) for each in study.plan.trunk(job)] for job in tickets if job.seed in seeds]
    ends = [trunk[end] for trunk in trunks for end in (0, -1)]
    diverged = [record for trunk in trunks for record in trunk if record is not None and record.diverged is not None]
    return keys_of(study, [*ends, *diverged])
