"""Each control in each way of rewinding against the table of docs/controls.md: its start, its training, its audit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from lottery import registry
from lottery.analysis.cells import records_by_cell
from lottery.audit.audit import audit
from lottery.files.tensors import part
from lottery.plan.jobs import Job, Plan
from lottery.plan.origins import Origin, origin_of, table
from lottery.pruning.mask import Mask
from lottery.pruning.start import Start
from lottery.recipe.readings import READINGS
from lottery.results.artifacts import read_mask, unpack
from lottery.results.record import Record, records
from lottery.results.study import Study
from lottery.runner.assemble import training_of
from lottery.runner.context import RunContext
from lottery.runner.events import Request
from lottery.runner.prepare import prepare
from lottery.runner.run import work
from lottery.runner.starting_point import starting_point
from lottery.runner.timelines import planned_timeline
from lottery.seed import generator
from lottery.training.state import flatten, unflatten
from tests.support.controls_table import PAGE, lines
from tests.support.levels import EVERYWHERE
from tests.support.micro import micro

FIRST, TOTAL, EVERY, RATE, FINETUNE = 4, 12, 4, 0.1, 0.02
MILESTONES = (6, 9)
STUDY = (
    "data={name: mnist1d, samples: 500, validation: 100}",
    "train.optimizer={name: momentum, lr: 0.1}",
    "train.schedule={name: multi_step, at: [6it, 9it], factor: 0.1}",
    "train.engine=dense",
    "prune.criterion=movement",
    "rewind=[{to: 4it}, {to: 4it, mode: lr}, {to: 4it, mode: finetune}]",
    "seeds=2",
    "report=end",
)
ARGUMENTS = {
    "retrain": "optimizer: {name: sgd, lr: 0.05}",
    "other_data": "dataset: {name: mnist1d, samples: 300, seed: 7}",
    "learned_supermask": "optimizer: {name: momentum, lr: 50}",
}


def branches(levels: int) -> Iterator[str]:
    """Every control of the catalogue, once for each value of its key `weights`, but those that level 1 has not."""
    for entry in EVERYWHERE:
        if entry.traits.once and levels == 1:
            continue
        for option in entry.traits.origins:
            given = [f"weights: {option}"] * bool(option) + [ARGUMENTS.get(entry.name, "samples: 1")]
            yield f"{{name: {entry.name}, as: {entry.name}-{option or 'only'}, {', '.join(given)}}}"


Finished = tuple[RunContext, dict[str, Record]]


@pytest.fixture(scope="module", params=["none", "batch"])
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The study with and without batch normalization; of the second, fine-tuning has a rate of its own."""
    finetune = "null" if request.param == "none" else f"{{rate: {FINETUNE}}}"
    levels = 2 if request.param == "none" else 1
    changes = [f"model.norm={request.param}", f"prune.levels={levels}", f"finetune={finetune}"]
    recipe = micro(*STUDY, *changes, f"branches=[{', '.join(branches(levels))}]")
    folder = tmp_path_factory.mktemp(f"origins-{request.param}")
    context = prepare(Request(recipe, folder, folder / "store", device="cpu", deterministic=True))
    every = context.plan.jobs.items()
    one_seed = {key: job for key, job in every if job.seed == 0 or job.kind != "branch"}  # partners have their tickets
    context = replace(context, plan=Plan(recipe, context.plan.fingerprint, one_seed, context.plan.others))
    assert {event.kind for event in work(context)} <= {"start", "progress", "done", "found"}
    return context, records(context.plan, context.store)


def controls(context: RunContext) -> list[tuple[Job, Origin]]:
    """Tickets and controls of the first seed, each with its row of the table."""
    return [
        (job, origin_of(job.branch.component if job.branch else None, job.rewind.mode))
        for job in context.plan
        if job.kind in ("ticket", "branch") and job.seed == 0 and job.rewind is not None
    ]


class Stored:
    """What the jobs that a ticket or control comes from left in the store, read without the framework's own levels."""

    def __init__(self, context: RunContext, job: Job):
        self.context, self.store, self.job = context, context.store, job
        self.trunk = context.plan.trunk(job)
        assert job.point is not None
        self.tensors = self.store.read_tensors(job.point, "state.safetensors")
        self.rewound = part(self.tensors, "model/")
        self.state = unflatten(self.store.read_json(job.point, "state.json")["optimizer"], self.tensors)

    def trained(self, job: Job) -> dict[str, Tensor]:
        packed = self.store.read_tensors(job.key, "weights.safetensors")
        return packed if job.kind == "dense" else unpack(packed, read_mask(self.store, job.key))

    @property
    def dense(self) -> dict[str, Tensor]:
        return self.trained(self.trunk[0])

    @property
    def ticket(self) -> Mask:
        return read_mask(self.store, self.trunk[-1].key)

    def draws(self) -> torch.Generator:
        assert self.job.branch is not None
        name = self.job.branch.component.name
        return generator(self.job.seed, f"branch/{name}/{len(self.trunk) - 1}", self.job.sample)

    def expected_weights(self, words: str) -> dict[str, Tensor] | None:
        """The weights that these words of the table stand for; None where the words name random numbers only."""
        noisy = words.endswith(", with noise added")
        words = words.removesuffix(", with noise added").removesuffix(", frozen")
        made: dict[str, Callable[[], dict[str, Tensor] | None]] = {
            "rewound": lambda: self.rewound,
            "initial": lambda: dict(self.context.networks.network(self.job.seed).state_dict()),
            "trained, of the level above": lambda: self.trained(self.trunk[-2]),
            "trained, of the dense network": lambda: self.dense,
            "one absolute value a layer, original signs": self._one_size,
            "one absolute value a layer, signs drawn anew": self._random_signs,
            "signs times sqrt(2 / fan_in)": self._kaiming,
            "drawn anew": self._drawn,
            "drawn anew with the original signs": lambda: self._signed(self.rewound),
            "drawn anew with the signs the ticket ends with": lambda: self._signed(self.trained(self.trunk[-1])),
            "drawn anew, of a narrower network": lambda: None,
        }
        assert words in made, f"say in `Stored.expected_weights` which weights {words!r} stands for, as `origins` do"
        base = made[words]()
        return self._noisy(base) if noisy and base is not None else base

    def _one_size(self) -> dict[str, Tensor]:
        sizes = {n: self.rewound[n].std(correction=0) for n in self.ticket}
        return {n: torch.where(w < 0, -1.0, 1.0) * sizes[n] if n in sizes else w for n, w in self.rewound.items()}

    def _random_signs(self) -> dict[str, Tensor]:
        draws, weights = self.draws(), self._one_size()
        for name in self.ticket:
            weights[name] = weights[name].abs() * (torch.randint(2, weights[name].shape, generator=draws) * 2 - 1)
        return weights

    def _kaiming(self) -> dict[str, Tensor]:
        signs = {n: torch.where(self.rewound[n] < 0, -1.0, 1.0) for n in self.ticket}
        return {n: signs[n] * (2 / w.shape[1]) ** 0.5 if n in signs else w for n, w in self.rewound.items()}

    def _drawn(self) -> dict[str, Tensor] | None:
        draws = self.draws()
        assert self.job.branch is not None
        if self.job.branch.name == "random":  # its mask is drawn first
            for shape in self.ticket.shapes().values():
                torch.rand(shape, generator=draws)
        return dict(self.context.networks.fresh(self.job.seed, self.context.plan.recipe.model, draws).state_dict())

    def _signed(self, by: dict[str, Tensor]) -> dict[str, Tensor]:
        drawn = self.context.networks.fresh(self.job.seed, self.context.plan.recipe.model, self.draws()).state_dict()
        signs = {n: torch.where(by[n] < 0, -1.0, 1.0) for n in self.ticket}
        return {n: w.abs() * signs[n] if n in signs else w for n, w in drawn.items()}

    def _noisy(self, base: dict[str, Tensor]) -> dict[str, Tensor]:
        assert self.job.rewind is not None
        spread, draws = self.rewound if self.job.rewind.mode == "weights" else self.dense, self.draws()
        weights = dict(base)
        for name, bits in self.ticket.items():
            noise = torch.randn(bits.shape, generator=draws) * bits
            weights[name] = base[name] + 1.0 * spread[name].std(correction=0) * noise
        return weights

    def check_mask(self, words: str, mask: Mask) -> None:
        ticket, dense = self.ticket, Mask.dense(self.ticket)
        if words in ("the ticket's, permuted", "random"):
            assert mask.alive() == ticket.alive() and mask != ticket
        elif words.startswith("that of the next seed's ticket"):
            (partner,) = [
                job
                for job in self.context.plan
                if (job.kind, job.seed, job.level, job.rewind) == ("ticket", 1, self.job.level, self.job.rewind)
            ]
            theirs = read_mask(self.store, partner.key)
            if words.endswith(", aligned"):  # units in another order have as many weights as before, in each layer
                assert mask != theirs
                assert all(mask[n].sum(1).sort().values.equal(theirs[n].sum(1).sort().values) for n in mask)
            else:
                assert mask == theirs
        elif words == "pruned once from the dense network":
            for name, count in ticket.alive().items():
                moved = (self.dense[name] - self.rewound[name]).abs().flatten()
                assert mask[name].flatten().nonzero().flatten().tolist() == sorted(moved.topk(count).indices.tolist())
        elif words in ("learned", "none"):
            assert mask.density == 1 and (words == "none" or mask == dense)
        else:
            assert words == "the ticket's" and mask == ticket


def counts(origin: Origin, level: int) -> int:
    """The steps that the table gives a training of this level itself."""
    searched = 1 + level * Fraction(TOTAL - FIRST, TOTAL)
    rest = TOTAL - FIRST
    steps: dict[str, Any] = {
        "T": TOTAL,
        "T - k": rest,
        "T - k of the other data": rest,
        "0": 0,
        "n T": searched * TOTAL,
    }
    return int(steps[origin.steps])


def same(start: dict[str, Tensor], wanted: dict[str, Tensor]) -> bool:
    return set(start) == set(wanted) and all(torch.equal(start[name], wanted[name]) for name in start)


def test_the_documentation_has_the_table() -> None:
    text = PAGE.read_text("utf-8").splitlines()
    assert [line for line in text if line.startswith("| ")] == lines(), "python -m tests.support.controls_table"


def test_the_table_has_every_control_and_every_mode() -> None:
    rows = list(table())
    for entry in registry.branches:
        modes: dict[Any, set[Any]] = {row[1]: set() for row in rows if row[0] == entry.name}
        for row in rows:
            if row[0] == entry.name:
                modes[row[1]] |= {"weights", "lr", "finetune"} if row[2] == "any" else set(row[2].split(", "))
        assert modes and all(each == {"weights", "lr", "finetune"} for each in modes.values()), entry.name


def test_each_start_is_that_of_the_table_to_the_byte(finished: Finished) -> None:
    context, _ = finished
    for job, origin in controls(context):
        start, stored = starting_point(context, job), Stored(context, job)
        wanted = stored.expected_weights(origin.weights)
        assert wanted is None or same(dict(start.weights), wanted), job.label
        stored.check_mask(origin.mask, start.mask)
        training = training_of(context, job, start)
        assert training.timeline.stop - training.step == counts(origin, job.level), job.label
        assert planned_timeline(context, job) == training.timeline, job.label
        assert training.step == (
            FIRST if "step k" in origin.schedule or origin.schedule in ("none", "last rate") else 0
        )
        given = [training.multiplier(step) for step in range(training.step, training.timeline.stop)]
        assert given == pytest.approx(
            [rate(context, origin, job.level, s) for s in range(training.step, training.timeline.stop)]
        )
        if origin.state == "rewound":
            assert flatten(start.optimizer_state, "o", {}) == flatten(stored.state, "o", {})
            buffers = [dict[str, Tensor](), dict[str, Tensor]()]
            flatten(start.optimizer_state, "o", buffers[0])
            flatten(stored.state, "o", buffers[1])
            assert buffers[0] and same(*buffers)
        else:
            assert start.optimizer_state is None, job.label


def rate(context: RunContext, origin: Origin, level: int, step: int) -> float:
    """The learning rate at a step, as a share of the highest."""
    if origin.schedule == "last rate":
        return FINETUNE if context.plan.recipe.finetune else 0.01
    stretch = Fraction(counts(origin, level), TOTAL) if origin.steps == "n T" else 1
    return float(0.1 ** sum(step // stretch >= milestone for milestone in MILESTONES))


def by_hand(context: RunContext, job: Job, origin: Origin, start: Start) -> list[tuple[int, float, float]]:
    """Steps, validation losses and test accuracies of the training, by a loop of its own over torch's SGD."""
    model = context.networks.blank(start.model)
    model.load_state_dict(dict(start.weights))
    mask = {name: bits.float() for name, bits in start.mask.items()}
    weights = {name: parameter for name, parameter in model.named_parameters() if name in mask}
    options: dict[str, Any] = (
        {"lr": 0.05} if job.branch and job.branch.name == "retrain" else {"lr": RATE, "momentum": 0.9}
    )
    optimizer = torch.optim.SGD(model.parameters(), **options)
    if start.optimizer_state is not None:
        groups = [{**group, **options} for group in start.optimizer_state["param_groups"]]
        optimizer.load_state_dict({**optimizer.state_dict(), "state": start.optimizer_state["state"]})
        assert len(groups) == len(optimizer.param_groups)
    data, curve = context.data(job.seed, start.dataset), list[tuple[int, float, float]]()
    first = FIRST if origin.schedule in ("from step k", "last rate", "none") else 0
    last = first + counts(origin, job.level)
    every: Fraction | int = EVERY
    if origin.steps == "n T":
        every = Fraction(EVERY * last, TOTAL)
    with torch.no_grad():
        for name, weight in weights.items():
            weight.mul_(mask[name])
            if "momentum_buffer" in optimizer.state.get(weight, {}):
                optimizer.state[weight]["momentum_buffer"] *= mask[name]

    def measure() -> tuple[int, float, float]:
        model.eval()
        if origin.schedule == "none":
            update_bn([x for x, _ in data.evaluation("train", 50)], model)
        with torch.no_grad():
            (x, y), (test_x, test_y) = (next(iter(data.evaluation(part))) for part in ("validation", "test"))
            loss = nn.functional.cross_entropy(model(x), y).item()
            accuracy = (model(test_x).argmax(1) == test_y).float().mean().item()
        model.train()
        return step, loss, accuracy

    step = first
    curve.append(measure())
    while step < last:
        epoch, batch = divmod(step, data.steps_per_epoch(50))
        x, y = next(iter(data.epoch(epoch, 50, batch, start.spec.noise)))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        for name, weight in weights.items():
            assert weight.grad is not None
            weight.grad.mul_(mask[name])
        for group in optimizer.param_groups:
            group["lr"] = options["lr"] * rate(context, origin, job.level, step)
        optimizer.step()
        with torch.no_grad():
            for name, weight in weights.items():
                weight.mul_(mask[name])
        step += 1
        if step // every > (step - 1) // every or step == last:
            curve.append(measure())
    return curve


def test_each_training_is_what_a_loop_by_hand_makes_of_its_start(finished: Finished) -> None:
    context, found = finished
    for job, origin in controls(context):
        if origin.mask == "learned":  # see test_branches
            continue
        hand = by_hand(context, job, origin, starting_point(context, job))
        steps, losses, _ = zip(*hand, strict=True)
        curve, report = found[job.key].metrics["curve"], found[job.key].score
        counted = hand[1:] if origin.weights.startswith("trained") else hand
        one = 1.001 / 60  # of the fewest test examples: sums in another order may turn one of them
        assert report("end") == pytest.approx(hand[-1][2], abs=one), job.label
        assert report("early_stop") == pytest.approx(min(counted, key=lambda row: row[1])[2], abs=one), job.label
        most = found[job.key].metrics["best_accuracy"]["step"]
        assert report("best_accuracy") == pytest.approx({row[0]: row[2] for row in hand}[most], abs=one), job.label
        assert tuple(row["step"] for row in curve) == steps, job.label
        assert [row["validation_loss"] for row in curve] == pytest.approx(losses, rel=2e-4), job.label


def test_no_row_before_the_first_step_of_what_goes_on_is_a_result(finished: Finished) -> None:
    context, found = finished
    went_on = 0
    for job, origin in controls(context):
        metrics = found[job.key].metrics
        rows = metrics["curve"][1:] if origin.weights.startswith("trained") else metrics["curve"]
        best = min(rows, key=lambda row: row["validation_loss"])
        assert metrics["early_stop"]["step"] == best["step"], job.label
        most = max(rows, key=lambda row: row["validation_accuracy"])
        assert metrics["best_accuracy"]["step"] == most["step"], job.label
        went_on += rows is not metrics["curve"] and metrics["curve"][0]["validation_loss"] < best["validation_loss"]
    norm = context.plan.recipe.model.args.get("norm")
    assert went_on or norm == "batch"  # some of them would have been read before they were trained


@pytest.mark.parametrize("report", READINGS)
def test_the_audit_lists_what_the_table_says_and_nothing_else(finished: Finished, report: str) -> None:
    context, _ = finished
    recipe = context.plan.recipe.model_copy(update={"report": report})
    plan = Plan(recipe, context.plan.fingerprint, context.plan.jobs, context.plan.others)
    study = Study(plan, records(plan, context.store), context.store)
    listed: dict[str, set[tuple[str, str]]] = {}
    for finding in audit(study).findings:
        listed.setdefault(finding.key, set()).add((finding.field, finding.against))
        if finding.field in ("weights", "schedule", "optimizer_state"):
            assert finding.allowed_by
    for job, origin in controls(context):
        other_rate = last_rate(context, job, origin) not in (None, pytest.approx(RATE * 0.1 ** len(MILESTONES)))
        expected = differences(job, origin) | ({("last_rate", "dense network")} if other_rate else set())
        assert listed.pop(job.key, set()) == expected, (job.label, job.rewind)
    assert not {key for key in listed if context.plan.jobs[key].seed == 0}
    values = {name for named in records_by_cell(study).values() for name in named}
    assert len(values) == 2 + len(recipe.branches)


def last_rate(context: RunContext, job: Job, origin: Origin) -> float | None:
    """The learning rate of a training's last step; None where there is no step."""
    highest = {"retrain": 0.05, "learned_supermask": 50.0}.get(job.branch.name if job.branch else "", RATE)
    first = FIRST if origin.schedule in ("from step k", "last rate") else 0
    steps = counts(origin, job.level)
    return highest * rate(context, origin, job.level, first + steps - 1) if steps else None


def differences(job: Job, origin: Origin) -> set[tuple[str, str]]:
    """What the table says of a training, as the fields of the audit and what they are compared with."""
    dense, ticket = "dense network", "ticket"
    mode = job.rewind.mode if job.rewind else ""
    before = {"rewound": FIRST if "step k" in origin.schedule or origin.steps == "0" else 0}
    before |= {"trained, of the level above": TOTAL + (job.level - 1) * (TOTAL - FIRST)}
    before |= {"trained, of the dense network": TOTAL}
    own = counts(origin, job.level)
    start = FIRST if origin.steps == "0" else before.get(origin.weights.removesuffix(", with noise added"), 0)
    steps = start + own
    tickets = TOTAL + (job.level * (TOTAL - FIRST) if mode != "weights" else 0)
    found = {("weights", dense)} if origin.weights != "rewound" else set()
    if job.branch and job.branch.name == "retrain":
        found |= {("weights", dense), ("optimizer", dense), ("learning_rate", dense)}
    if job.branch and job.branch.name == "learned_supermask":
        found |= {("learning_rate", dense)}
    if job.branch and job.branch.name == "other_data":
        found |= {("weights", dense), ("data", dense), ("fingerprint", dense)}
    if job.branch and job.branch.name == "small_dense":
        found |= {("model", dense)}
    if origin.steps == "n T":
        found |= {("evaluation_grid", dense)}
    if origin.schedule == "last rate":
        found |= {("schedule", dense)}
    if origin.state == "fresh" and origin.schedule in ("from step k", "last rate"):
        found |= {("optimizer_state", dense)}
    found |= {("steps", dense)} if steps != TOTAL else set()
    if job.kind == "branch":
        found |= {("own_steps", ticket)} if own != TOTAL - FIRST else set()
        found |= {("steps", ticket)} if steps != tickets != TOTAL else set()
    return found
