"""The jobs that a recipe's `analyses` and `keep` ask for, made from those of its trainings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

from lottery.plan.children import pairs_of_children
from lottery.plan.jobs import Job, Look
from lottery.plan.keys import SCHEMA, with_versions
from lottery.plan.kinds import Kind
from lottery.recipe.analyses import DENSE, PRUNED, TICKET, AnalysisSpec, KeepSpec, number_of_points
from lottery.recipe.readings import READINGS

if TYPE_CHECKING:
    from lottery.recipe.schema import Recipe

START, END = "start", "end"


class Networks:
    """The trainings of a plan by what a recipe calls them.

    A trunk has the trainings of one seed, optimizer and rewind point; its dense network is shared with other trunks.

    Args:
        jobs: The trainings in the order of the plan.
        rewinds: The recipe's rewind points.
    """

    def __init__(self, jobs: Iterable[Job], rewinds: Sequence[Any]):
        self._found: dict[tuple[int, int, int], dict[tuple[int, str], list[Job]]] = {}
        dense: dict[tuple[int, int], Job] = {}
        for job in jobs:
            if job.kind is Kind.DENSE:
                dense[job.seed, job.optimizer_index] = job
            elif job.kind in (Kind.TICKET, Kind.BRANCH) and job.transfer is None:
                assert job.rewind is not None
                name = TICKET if job.branch is None else job.branch.label
                trunk = self._found.setdefault((job.seed, job.optimizer_index, rewinds.index(job.rewind)), {})
                trunk.setdefault((job.level, name), []).append(job)
        for (seed, optimizer), job in dense.items():
            for rewind in range(len(rewinds)):
                self._found.setdefault((seed, optimizer, rewind), {})[0, DENSE] = [job]

    def trunks(self) -> Iterator[tuple[int, int, int]]:
        """Yield seed, optimizer and rewind point of each trunk, the last two as indices in the recipe."""
        yield from self._found

    def levels(self, trunk: tuple[int, int, int]) -> list[int]:
        """Return the levels of a trunk, 0 for the dense network."""
        return sorted({level for level, name in self._found.get(trunk, ()) if name in (DENSE, TICKET)})

    def trunk_level(self, trunk: tuple[int, int, int], level: int) -> Job | None:
        """Return the dense network at level 0, else the ticket; None where there is none."""
        found = self._found.get(trunk, {}).get((level, TICKET if level else DENSE))
        return found[0] if found else None

    def named(self, trunk: tuple[int, int, int], level: int, name: str) -> list[Job]:
        """Return the trainings of a network at a level, one for each sample; the dense network is at each level."""
        return self._found.get(trunk, {}).get((0 if name == DENSE else level, name), [])


def analysis_jobs(recipe: Recipe, jobs: Mapping[str, Job]) -> Iterator[Job]:
    """Yield the jobs that keep states and those that measure, from the trainings of a plan by key."""
    networks = Networks(jobs.values(), recipe.rewind)
    if recipe.keep is not None:
        yield from _keeping(recipe.keep, networks)
    for analysis in recipe.analyses:
        if analysis.looks_at == "children":
            yield from _of_children(analysis, recipe, jobs)
            continue
        for trunk in networks.trunks():
            for job, looks in _subjects(analysis, networks, trunk, recipe):
                yield from _measuring(analysis, job, looks, jobs)


def _of_children(analysis: AnalysisSpec, recipe: Recipe, jobs: Mapping[str, Job]) -> Iterator[Job]:
    """Yield the children of the states that an analysis names, each pair before the job that looks at it."""
    for words, beside, *pair in pairs_of_children(analysis, recipe, jobs.values()):
        yield from pair
        looks = [Look(f"{words} {child.noise}", child.key, analysis.reading) for child in pair]
        yield analysis_job(analysis, beside, looks, {child.key: child for child in pair})


def _keeping(keep: KeepSpec, networks: Networks) -> Iterator[Job]:
    """Yield a job for each training whose states are to be kept."""
    moments: list[str] = []
    for moment in keep.at:
        points = number_of_points(moment)
        moments += [moment] if points is None else shares(points)
    for trunk in networks.trunks():
        for level in networks.levels(trunk):
            for name in keep.of:
                for job in networks.named(trunk, level, name) if (name == DENSE) == (level == 0) else []:
                    yield states_of(job, tuple(dict.fromkeys(moments)))


def shares(points: int) -> list[str]:
    """Return so many moments of a training at equal distances, `start` first and `end` last."""
    return [START, *(f"{number}/{points - 1}" for number in range(1, points - 1)), END]


def states_of(job: Job, moments: tuple[str, ...]) -> Job:
    """Return the job that has the states of a training at these moments."""
    identity = {"schema": SCHEMA, "kind": Kind.STATES.value, "parent": job.key, "moments": list(moments)}
    about: dict[str, Any] = {"parent": job.key, "moments": moments, "needs": (job.key, *job.needs)}
    return replace(job, kind=Kind.STATES, identity=identity, **about)


def _subjects(
    analysis: AnalysisSpec, networks: Networks, trunk: tuple[int, int, int], recipe: Recipe
) -> Iterator[tuple[Job, list[tuple[str, Job, Job | None]]]]:
    """Yield what each job of an analysis looks at in a trunk: the job that it stands beside, and networks.

    A network is its name, its training, and the ticket whose mask is put on it where it is not its own.
    """
    for level in networks.levels(trunk):
        if analysis.levels is not None and level not in analysis.levels:
            continue
        ticket = networks.trunk_level(trunk, level)
        if ticket is None:
            continue
        if analysis.looks_at == "pair":
            for pair in _pairs(analysis, networks, trunk, level, recipe):
                yield ticket, pair
        elif analysis.looks_at == "three":
            for parts in _together(analysis.networks, networks, trunk, level):
                yield ticket, parts
        else:
            for name in analysis.networks:
                if (name == DENSE) == (level == 0):
                    for parts in _together((name,), networks, trunk, level):
                        yield ticket, parts


def _pairs(
    analysis: AnalysisSpec, networks: Networks, trunk: tuple[int, int, int], level: int, recipe: Recipe
) -> Iterator[list[tuple[str, Job, Job | None]]]:
    """Yield the pairs of networks that an analysis looks at, each at the first level that has both."""
    seed, optimizer, rewind = trunk
    here = networks.trunk_level(trunk, level)
    assert here is not None
    own = TICKET if level else DENSE
    if analysis.of is not None:
        yield from _together(analysis.of, networks, trunk, level)
    for pairing in analysis.pairings:
        if pairing == "dense-ticket":
            yield from _together((DENSE, TICKET), networks, trunk, level)
        elif pairing == "level-level" and level > 1:
            above = networks.trunk_level(trunk, level - 1)
            if above is not None:
                yield [(f"{own} above", above, None), (own, here, None)]
        elif pairing == "seed-seed" and (other := _next(recipe.seeds, seed)) is not None:
            there = networks.trunk_level((other, optimizer, rewind), level)
            if there is not None:
                yield [(own, here, None), (f"{own} of another seed", there, None)]
        elif pairing == "optimizer-optimizer":
            for one, two in combinations(range(len(recipe.train.optimizer)), 2):
                there = networks.trunk_level((seed, two, rewind), level) if one == optimizer else None
                if there is not None:
                    yield [
                        (own, here, None),
                        (f"{own} of {there.trained_by}", there, None),
                    ]


def _next(seeds: Sequence[int], seed: int) -> int | None:
    """Return the seed after this one, the first after the last; None where there is none, or that pair is another's."""
    index = seeds.index(seed)
    if len(seeds) < 2 or (len(seeds) == 2 and index):
        return None
    return seeds[(index + 1) % len(seeds)]


def _together(
    names: Sequence[str], networks: Networks, trunk: tuple[int, int, int], level: int
) -> Iterator[list[tuple[str, Job, Job | None]]]:
    """Yield networks of a level that are looked at together, sample by sample; none where one of them is missing.

    Controls of several samples go together by their numbers, what has one sample goes with each.
    """
    ticket = networks.trunk_level(trunk, level)
    columns: list[list[tuple[str, Job, Job | None]]] = []
    for name in names:
        if name == PRUNED:
            found = networks.named(trunk, 0, DENSE) if level else []
            columns.append([(name, job, ticket) for job in found])
        else:
            found = networks.named(trunk, level, name)
            columns.append([(_numbered(name, job, found), job, None) for job in found])
    if level == 0 and len(names) > 1:
        return  # the dense network is beside the networks of each level
    samples = max(map(len, columns))
    if all(columns) and all(len(column) in (1, samples) for column in columns):
        for sample in range(samples):
            yield [column[sample if len(column) > 1 else 0] for column in columns]


def _numbered(name: str, job: Job, found: Sequence[Job]) -> str:
    return f"{name} {job.sample}" if len(found) > 1 else name


def _measuring(
    analysis: AnalysisSpec, beside: Job, parts: Sequence[tuple[str, Job, Job | None]], jobs: Mapping[str, Job]
) -> Iterator[Job]:
    """Yield the job that measures these networks, after those that have their states."""
    moments = tuple(shares(analysis.along or 5)) if analysis.looks_at == "trajectory" else (analysis.reading,)
    looks: list[Look] = []
    for name, training, ticket in parts:
        kept = None
        if not all(has_state(training, moment) for moment in moments):
            states = states_of(training, moments)
            kept = states.key
            yield states
        looks += [Look(name, training.key, at, kept, ticket.key if ticket else None) for at in moments]
    yield analysis_job(analysis, beside, looks, jobs)


def has_state(training: Job, moment: str) -> bool:
    """Return whether a finished training has its state at a moment without having been asked to keep it."""
    return moment == START or (moment in READINGS and training.keeps_weights)


def analysis_job(analysis: AnalysisSpec, beside: Job, looks: Sequence[Look], jobs: Mapping[str, Job]) -> Job:
    """Return the job of an analysis that looks at these states.

    Args:
        analysis: What is measured.
        beside: The training whose optimizer, level and rewind point its row is told by.
        looks: The states.
        jobs: The trainings by key.
    """
    identity = {
        "schema": SCHEMA,
        "kind": Kind.ANALYSIS.value,
        "analysis": with_versions("analysis", analysis.component),
        "states": [look.identity for look in looks],
    }
    trainings = [jobs[look.key] for look in looks]
    needs = [key for look in looks for key in (look.key, look.kept, look.mask) if key is not None]
    needs += [need for training in trainings for need in training.needs]
    about: dict[str, Any] = {
        "parent": looks[0].key,
        "seed": trainings[0].seed,
        "analysis": analysis,
        "looks": tuple(looks),
    }
    blank: dict[str, Any] = {"branch": None, "sample": 0, "partner": None, "noise": 0, "transfer": None, "moments": ()}
    needed = tuple(dict.fromkeys(needs))
    return replace(beside, kind=Kind.ANALYSIS, identity=identity, needs=needed, **about, **blank)
