"""Costs of tickets, search included: trainings, steps, multiply-adds, time; and a dense network of the same cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from lottery import registry
from lottery.analysis.cells import measured_cell
from lottery.analysis.columns import DENSITY, LEVEL_OF_DENSITY, SEEDS, Column
from lottery.analysis.labels import head, optimizer_labels, rewind_label
from lottery.analysis.rows import Row, Values, in_plan_order, keys_of
from lottery.environment import differing
from lottery.network.build import prunable
from lottery.plan.kinds import METRICS_FILE, Kind
from lottery.recipe.readings import READINGS
from lottery.runner.finished_study import context_of
from lottery.runner.timelines import whole_timeline
from lottery.structure.chain import chain_steps, makes_chain
from lottery.structure.multiply_adds import passes, per_layer, per_layer_and_step, surviving

if TYPE_CHECKING:
    from lottery.plan.jobs import Job
    from lottery.results.record import Record
    from lottery.results.study import Study
    from lottery.runner.context import RunContext
    from lottery.store.manifest import Manifest


@dataclass(frozen=True)
class Cost:
    """The cost of one training or several.

    `madds_dense` are multiply-adds of the training as executed, `madds_sparse` those of the surviving weights alone,
    `evaluation_madds` those on validation and test set as executed; `seconds` are of work.
    """

    trainings: int = 0
    steps: int = 0
    madds_dense: float = 0.0
    madds_sparse: float = 0.0
    evaluation_madds: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


def rows(study: Study) -> list[Row]:
    """Return the costs of dense networks and of tickets whose whole search is finished.

    There is a row for each optimizer's dense network, and for each optimizer, rewind point (where there are several)
    and density with such a ticket.

    Means over the `n` seeds of what it took to find and train the ticket: `trainings` (the dense network, each level
    above, its own; a rewind point is part of the dense training), `steps`, `madds_dense`, `madds_sparse` and
    `evaluation_madds` as in Cost, `seconds`. `example_madds_...` are those of one example's forward pass through the
    ticket. `tuning_...` is what the trials of the learning rate took, once for all seeds and densities (their
    evaluations are left out); `total_...` the sum over the seeds and the tuning. `dense`, `ticket` and `equal_cost`
    (the branch `longer_dense`, None without it) are test accuracies with `_std`, `_n` and `_diverged`.
    A step is one forward and one backward pass over its batch, times the `passes` of the optimizer; the backward pass
    costs two forward passes (Kaplan et al. 2020, section 2.1; Evci et al. 2020, appendix), and one in layers that read
    the input, see `multiply_adds.per_layer_and_step`.

    Raises:
        DataError: Where the data are not there: how many examples a step has, and of what shape, is only known with
            them.
    """
    meter, table = _Meter(study), list[Row]()
    labels = optimizer_labels(study.recipe.train.optimizer)
    tickets: dict[tuple[int, str | None, int], list[Job]] = {}
    for job in study.plan:
        if job.kind.in_trunk:
            rewind = rewind_label(job.rewind) if job.rewind else None
            tickets.setdefault((job.optimizer_index, rewind, job.level), []).append(job)
    for (optimizer_index, rewind, level), jobs in sorted(tickets.items(), key=lambda cell: cell[0][0]):
        records = [study.found.get(job.key) for job in jobs]
        searches = [search for job in jobs if (search := meter.search(job)) is not None]
        if not searches and (level or not any(records)):
            continue
        row = head(study.recipe, rewind, optimizer=labels[optimizer_index])
        row |= {LEVEL_OF_DENSITY: level, DENSITY: next(record.density for record in records if record)}
        row |= _costs(meter, optimizer_index, [search.cost for search in searches], jobs)
        accuracies = _accuracies(study, jobs, level)
        row |= {
            name: value for column in accuracies for name, value in measured_cell(*column, study.recipe.report).items()
        }
        row["note"] = "; ".join(_notes(study, meter, jobs, searches))
        trained = [*(search.records for search in searches), *(records for _, records in accuracies)]
        keys = keys_of(study, (record for records in trained for record in records))
        table.append(Row(row, in_plan_order(study, [*meter.trials(optimizer_index), *keys])))
    return table


def _costs(meter: _Meter, optimizer_index: int, costs: Sequence[Cost], jobs: Sequence[Job]) -> Values:
    """Return the columns of what was spent, means over the seeds whose `costs` are given."""
    spent, tuning = sum(costs, Cost()), meter.tuning(optimizer_index)
    row: Values = {SEEDS: len(costs)}
    row |= {_column(name): _mean(value, len(costs)) for name, value in vars(spent).items()}
    metrics = next((record.metrics for job in jobs if (record := meter.trained(job))), None)
    row[_column("example_madds_dense")] = meter.forward
    row[_column("example_madds_sparse")] = surviving(meter.layers, metrics) if metrics else None
    if meter.study.recipe.tune is not None:
        names = ("trainings", "steps", "madds_dense", "seconds")
        row |= {_column(f"tuning_{name}"): getattr(tuning, name) for name in names}
    return row | {f"total_{name}": value for name, value in vars(spent + tuning).items() if name != "evaluation_madds"}


def _column(name: str) -> Column:
    """Return the column of a cost; on pages there is no room for the shares of it."""
    shares = ("example", "tuning", "evaluation")
    return Column(name, readers="terminal" if name.partition("_")[0] in shares else "all")


def _mean(total: float, count: int) -> float | None:
    """Return the mean of so many; a count that is the same in all of them stays an integer."""
    if not count:
        return None
    return total // count if isinstance(total, int) and total % count == 0 else total / count


def _accuracies(study: Study, jobs: Sequence[Job], level: int) -> list[tuple[str, list[Record | None]]]:
    """Return the trainings whose accuracy stands beside the costs: dense network, ticket, equal-cost control.

    The last is the dense network trained for as many steps as the search.
    """
    own = [study.found.get(job.key) for job in jobs]
    seeds = {(job.optimizer_index, job.seed) for job in jobs}
    dense = [
        study.found.get(job.key)
        for job in study.plan
        if job.kind is Kind.DENSE and (job.optimizer_index, job.seed) in seeds
    ]
    keys = {job.key for job in jobs}
    longer = [job for job in study.plan if job.parent in keys and job.branch is not None and _is_longer(job)]
    first = [job for job in longer if job.branch == longer[0].branch]
    equal_cost = [study.found.get(job.key) for job in first]
    return [("dense", dense), ("ticket", own if level else []), ("equal_cost", equal_cost)]


def _is_longer(job: Job) -> bool:
    return job.branch is not None and registry.branches[job.branch.name].traits.longer


def _notes(study: Study, meter: _Meter, jobs: Sequence[Job], searches: Sequence[_Search]) -> Iterator[str]:
    missing = len(jobs) - len(searches)
    if missing:
        yield f"{missing} of {len(jobs)} searches not finished"
    diverged = sum(search.diverged for search in searches)
    if diverged:
        yield f"{diverged} of {len(searches)} diverged, counted up to there"
    machines = (machine for search in searches for manifest in search.manifests for machine in manifest.machines)
    if differing([machine] for machine in machines):
        yield "seconds of different machines, threads or versions"
    if any(manifest.in_lockstep for search in searches for manifest in search.manifests):
        yield "seconds in lockstep, a share of those in which several were trained"
    if any(search.unknown_seconds for search in searches):
        yield "seconds without the rewind points, which are not in the store"
    if passes(jobs[0].optimizer) is None:
        yield f"{jobs[0].optimizer.name} makes more than one pass a step, counted as one"
    if study.recipe.prune.when == "training" and jobs[0].kind is Kind.TICKET:
        yield "counted as dense until pruning ends"
    if uncounted := [name for name, count in meter.layers.items() if not count]:
        yield f"without {', '.join(uncounted)}"
    if study.recipe.tune is not None and (lost := meter.lost_trials(jobs[0].optimizer_index)):
        yield f"{lost} trials of the learning rate not in the store"


@dataclass(frozen=True)
class _Search:
    """The cost of finding and training one seed's ticket, or dense network, and the trainings that it is the sum of."""

    cost: Cost
    records: Sequence[Record]
    manifests: Sequence[Manifest]
    diverged: bool
    unknown_seconds: bool


@dataclass
class _Meter:
    """Meter of what the finished jobs of a study took. Sizes of the data are the same for each seed."""

    study: Study

    @cached_property
    def context(self) -> RunContext:
        return context_of(self.study)

    @cached_property
    def _chain(self) -> dict[str, int] | None:
        """Sizes of the layers, where that says all: a pass through the network takes a second of torch's imports."""
        if not makes_chain(self.study.recipe.model):
            return None
        return {name: weight.numel() for name, weight in prunable(self.context.networks.blank()).items()}

    @cached_property
    def layers(self) -> dict[str, int]:
        """Multiply-adds of one example's forward pass, by layer."""
        if self._chain is not None:
            return self._chain
        return per_layer(self.context.networks.blank(), self.context.splits.input_shape)

    @cached_property
    def steps(self) -> dict[str, int]:
        """Multiply-adds of one example's share in a training step, by layer."""
        if self._chain is not None:
            return chain_steps(self._chain)
        return per_layer_and_step(self.context.networks.blank(), self.context.splits.input_shape)

    @property
    def forward(self) -> int:
        """Multiply-adds of one example's forward pass through the dense network."""
        return sum(self.layers.values())

    def trained(self, job: Job) -> Record | None:
        """Return the record of a job that trained; None where there was no learning rate to train with."""
        record = self.study.found.get(job.key)
        return record if record is not None and record.manifest.key == job.key else None

    def search(self, job: Job) -> _Search | None:
        """Return all it took to find and train a ticket, or a dense network; None where part of it is not finished."""
        plan, alone = self.study.plan, job.kind is Kind.DENSE or self.study.recipe.prune.when != "trained"
        found = [record for each in ([job] if alone else plan.trunk(job)) if (record := self.trained(each)) is not None]
        if len(found) < (1 if alone else len(plan.trunk(job))):
            return None
        cost = sum((self._own(record) for record in found), Cost())
        first = found[0].job
        before = first.needs
        if first.kind is Kind.TICKET:  # pruned without a trained network: the dense one was needed to this point only
            assert first.point is not None
            cost += self._to_point(first)
            before = (first.point, *plan.jobs[first.point].needs)
        points = [key for key in before if plan.jobs[key].kind is Kind.REWIND]
        known = [manifest for key in points if (manifest := self.study.store.find(key)) is not None]
        cost += Cost(seconds=sum(manifest.seconds for manifest in known))
        manifests = [*(record.manifest for record in found), *known]
        return _Search(cost, found, manifests, any(r.diverged is not None for r in found), len(known) < len(points))

    def tuning(self, optimizer_index: int) -> Cost:
        """Return the cost of the trials of an optimizer's learning rate."""
        store = self.study.store
        return sum(
            (
                self._training(job, store.read_json(job.key, METRICS_FILE), manifest.seconds)
                for job, manifest in self._finished_trials(optimizer_index)
            ),
            Cost(),
        )

    def trials(self, optimizer_index: int) -> list[str]:
        """Return the keys of the finished trials of an optimizer's learning rate."""
        return [job.key for job, _ in self._finished_trials(optimizer_index)]

    def lost_trials(self, optimizer_index: int) -> int:
        """Return the number of trials that are not in the store."""
        return sum(self.study.store.find(job.key) is None for job in self._trials(optimizer_index))

    def _finished_trials(self, optimizer_index: int) -> list[tuple[Job, Manifest]]:
        found = ((job, self.study.store.find(job.key)) for job in self._trials(optimizer_index))
        return [(job, manifest) for job, manifest in found if manifest is not None]

    def _trials(self, optimizer_index: int) -> list[Job]:
        return [job for job in self.study.plan if job.kind is Kind.TRIAL and job.optimizer_index == optimizer_index]

    def _own(self, record: Record) -> Cost:
        return self._training(record.job, record.metrics, record.manifest.seconds)

    def _training(self, job: Job, metrics: Mapping[str, Any], seconds: float) -> Cost:
        """Return the cost of a training without what came before its rewind point, and without the networks above."""
        steps = whole_timeline(self.context, job.optimizer).steps
        first = steps(job.rewind.to) if job.kind is Kind.TICKET and job.rewind else 0
        last = metrics["diverged"] if "diverged" in metrics else metrics["end"]["step"]
        during = self.study.recipe.prune.during
        whole = min(max(first, steps(during.end)), last) if job.kind is Kind.TICKET and during else first
        each = sum(self.steps.values())
        sparse = self._executed(job, first, whole, each)
        sparse += self._executed(job, whole, last, surviving(self.steps, metrics))
        read = {metrics[name]["step"] for name in READINGS if metrics.get(name)}
        tested = 0 if "diverged" in metrics or job.kind is Kind.TRIAL else len(read) * len(self.context.splits.test_x)
        examples = len(metrics["curve"]) * self.context.sizes().validation + tested
        dense = self._executed(job, first, last, each)
        return Cost(1, last - first, dense, sparse, float(examples * self.forward), seconds)

    def _to_point(self, job: Job) -> Cost:
        """Return the cost of the dense network's steps to the rewind point, one training with what follows."""
        assert job.rewind is not None
        whole = whole_timeline(self.context, job.optimizer)
        point, every = whole.steps(job.rewind.to), whole.evaluate_every
        dense = self._executed(job, 0, point, sum(self.steps.values()))
        examples = -(-point // every) * self.context.sizes().validation  # at step 0, every, ... before the point
        return Cost(0, point, dense, dense, float(examples * self.forward))

    def _executed(self, job: Job, first: int, last: int, each: int) -> float:
        """Return the multiply-adds of the steps from one to another, with `each` for an example.

        The last batch of a pass over the data may be smaller.
        """
        whole, examples = whole_timeline(self.context, job.optimizer), self.context.sizes().train

        def seen(step: int) -> int:
            epochs, batches = divmod(step, whole.steps_per_epoch)
            return epochs * examples + batches * whole.batch_size

        return (passes(job.optimizer) or 1) * (seen(last) - seen(first)) * float(each)
