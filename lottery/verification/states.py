"""Proofs of a study's stored states by what made them.

Initial states are drawn again, masks chosen again, stored weights evaluated again, and, on one machine, states to
rewind to trained again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lottery import registry
from lottery.device import prepared
from lottery.environment import are_alike
from lottery.errors import LotteryError, MachineError
from lottery.files.tensors import part
from lottery.network.initial_weights import ROUNDING, distance, elsewhere
from lottery.network.layout import state_of
from lottery.plan.kinds import METRICS_FILE, Kind
from lottery.pruning.mask import Mask
from lottery.pruning.masking import masked
from lottery.pruning.start import Start
from lottery.recipe.readings import READINGS
from lottery.results.artifacts import read_correct, read_mask, read_state, read_trained, stored_state
from lottery.runner.assemble import training_of
from lottery.runner.resume import environment_of
from lottery.runner.starting_point import starting_point
from lottery.runner.stored_level import StoredLevel, dense_spec
from lottery.tickets.measures import FEW_EXAMPLES, FEW_OF_ALL, LOSS_ROUNDING
from lottery.verification.measurements import depending_on_test, reads_test

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from lottery.plan.jobs import Job
    from lottery.recipe.readings import Reading
    from lottery.runner.context import RunContext

LOSS = {True: 1e-4, False: LOSS_ROUNDING}  # relative, of losses and r2, by whether the machine is the one that trained
DRAWN_ON_DATA = 1e-3  # of a tensor's largest value: what an init that looks at data may draw otherwise elsewhere
ALLOWED_MASK_SHARE = {
    True: 0.001,
    False: 0.01,
}  # of kept weights, that may be chosen otherwise elsewhere: by `dataless`
CHECKS = {
    "initial state": "drawn again from the seed, each is the same bit for bit",
    "rewind state": "trained again from the seed, each is the same bit for bit",
    "mask": "chosen again from the weights above, each is the same",
    "weights": "evaluated again on test and validation examples, each has the measures and bits of its readings",
    "measurement": "measured again with other labels of the test set, each is the same but for its test values",
}


@dataclass(frozen=True)
class Proof:
    """One check of one job.

    Attributes:
        check: The name of the check.
        key: The key of the job.
        label: The label of the job.
        wrong: What is wrong, in words; empty where it holds.
        unchecked: Why it could not be checked, in words.
    """

    check: str
    key: str
    label: str
    wrong: tuple[str, ...] = ()
    unchecked: str = ""


def jobs_with_states(context: RunContext) -> list[Job]:
    """Return the finished jobs of a plan that have kept a state or weights, or read the test set, seed by seed."""
    kept = [job for job in context.plan if job.kind.keeps_state or job.keeps_weights or reads_test(context.store, job)]
    done = [job for job in kept if (m := context.store.find(job.key)) is not None and m.status == "done"]
    return sorted(done, key=lambda job: job.seed)


def prove_job(context: RunContext, job: Job) -> Iterator[Proof]:
    """Check what one job has kept. Damage, and what does not fit together, counts as wrong and raises nothing.

    Raises:
        MachineError: The machine cannot do it: no memory, no disk.
    """
    with prepared(context.machine, context.plan.recipe.train.precision):
        if job.kind is Kind.ANALYSIS:
            checks = [_prove_measurement]
        elif job.kind.keeps_state:
            checks = [_prove_state]
        else:
            checks = [_prove_mask, _prove_weights] if job.keeps_mask else [_prove_weights]
        for check in checks:
            name = _NAMES.get(check, "weights")
            try:
                yield check(context, job)
            except MachineError:
                raise
            except (LotteryError, RuntimeError, KeyError, ValueError) as error:
                yield Proof(name, job.key, job.label, (str(error).partition("\n")[0] or type(error).__name__,))


def _prove_state(context: RunContext, job: Job) -> Proof:
    """Check that a state to rewind to is bit for bit the one that the seed gives."""
    stored, values = read_state(context.store, job.key)
    if values["step"] == 0:
        return Proof(
            "initial state", job.key, job.label, tuple(_initial_differences(context, job, part(stored, "model/")))
        )
    if not (context.machine.deterministic and _same_machine(context, job)):
        why = f"at step {values['step']}: trained again with --deterministic only, on the machine that trained it so"
        return Proof("rewind state", job.key, job.label, unchecked=why)
    training = training_of(context, job)
    with masked(training.model, Mask({}), training.optimizer):
        for _ in training.steps():
            pass
    tensors, again = training.state()
    found = {name: value.cpu() for name, value in stored_state(training.model, tensors).items()}
    wrong = list(_differing(stored, found))
    if {**values, "optimizer": None} != {**_through_json(again), "optimizer": None}:
        wrong.append("its step or curve are not those of a training from the seed")
    return Proof("rewind state", job.key, job.label, tuple(wrong))


def _prove_measurement(context: RunContext, job: Job) -> Proof:
    """Check that no value of an analysis but those of the test set depends on the test set."""
    wrong = [f"{name} depends on the test set" for name in depending_on_test(context, job)]
    return Proof("measurement", job.key, job.label, tuple(wrong))


def _prove_mask(context: RunContext, job: Job) -> Proof:
    """Check that a ticket's mask is the one that its criterion leaves of the weights of the level above."""
    recipe = context.plan.recipe
    if recipe.prune.when == "training":
        return Proof("mask", job.key, job.label, unchecked="pruned in the course of its training")
    kept, again = read_mask(context.store, job.key), starting_point(context, job).mask
    other = sum(int((kept[name] & ~again[name]).sum()) for name in kept)
    total = sum(kept.alive().values())
    dataless = registry.criteria[recipe.prune.criterion.name].traits.dataless
    exact = _same_machine(context, job) and (dataless or _deterministic(context, job))
    allowed = 0 if exact else ALLOWED_MASK_SHARE[dataless] * total
    wrong = [f"{other:,} of its {total:,} weights are not those that {recipe.prune.criterion.name} keeps"]
    return Proof("mask", job.key, job.label, tuple(wrong if other > allowed else ()))


def _prove_weights(context: RunContext, job: Job) -> Proof:
    """Check that the weights at each reading, evaluated again, have the measures and the bits of the record."""
    metrics = context.store.read_json(job.key, METRICS_FILE)
    mask = StoredLevel(context, job).mask
    correct, wrong = read_correct(context.store, job.key), list[str]()
    for reading in READINGS:
        if metrics.get(reading):
            weights = read_trained(context.store, job.key, None if job.kind is Kind.DENSE else mask, reading)
            found, bits, here = _measured(context, job, weights, mask, reading)
            sizes = {"test": len(context.splits.test_x), "validation": context.sizes().validation}
            wrong += _differing_measures(metrics[reading], found, sizes, reading, context.splits.classes, exact=here)
            wrong += _differing_bits(correct.get(reading), bits, reading, exact=here)
    return Proof("weights", job.key, job.label, tuple(wrong))


_NAMES = {_prove_mask: "mask", _prove_state: "rewind state", _prove_measurement: "measurement"}


def _measured(
    context: RunContext, job: Job, weights: Mapping[str, Tensor], mask: Mask, reading: Reading
) -> tuple[dict[str, float], Tensor | None, bool]:
    """Return the measures of a network with these weights, its bits, and True if this machine trained it.

    Returns:
        Measures by name, a bool tensor of shape (test examples,), and whether the environment is that of the training.
    """
    training = training_of(context, job, Start(weights, mask, dense_spec(context.plan.recipe, job)))
    found = training.measure("test", keep=reading)
    if context.sizes().validation:
        found |= training.measure("validation")
    here = environment_of(context, training)
    return found, training.correct.get(reading), _same_environment(context, job, here)


def _differing_measures(
    row: Mapping[str, Any],
    found: Mapping[str, float],
    sizes: Mapping[str, int],
    reading: str,
    classes: int,
    *,
    exact: bool,
) -> Iterator[str]:
    """Yield in words the measures of a record that its network does not have.

    Args:
        row: The recorded measures of a reading.
        found: The measures of the network.
        sizes: Numbers of examples by split.
        reading: The reading.
        classes: The number of classes.
        exact: True on the machine that trained: accuracies must be equal there.
    """
    for name, value in found.items():
        recorded = row.get(name)
        if recorded is None:
            yield f"{name} at {reading} is not recorded"
            continue
        split, _, measure = name.partition("_")
        if measure in ("loss", "r2"):
            fine = math.isclose(value, recorded, rel_tol=LOSS[exact], abs_tol=LOSS[exact])
        else:
            counted = _allowed_differences(sizes[split], exact) * (classes if measure == "balanced_accuracy" else 1)
            fine = abs(value - recorded) * sizes[split] <= counted + 1e-6
        if not fine:
            yield f"{name} at {reading} is recorded as {recorded:.6g}, its weights have {value:.6g}"


def _differing_bits(
    kept: NDArray[np.bool_] | None, found: Tensor | None, reading: str, *, exact: bool
) -> Iterator[str]:
    if kept is None or found is None:
        return
    differing = int((kept != found.numpy()).sum()) if kept.shape == found.shape else len(found)
    if differing > _allowed_differences(len(found), exact):
        yield f"{differing:,} of {len(found):,} test examples are recognized otherwise than recorded at {reading}"


def _allowed_differences(examples: int, exact: bool) -> float:
    """Return the number of examples that may come out otherwise: none on the machine that trained."""
    return 0 if exact else max(FEW_EXAMPLES, FEW_OF_ALL * examples)


def _same_machine(context: RunContext, job: Job) -> bool:
    return _same_environment(context, job, None)


def _deterministic(context: RunContext, job: Job) -> bool:
    manifest = context.store.find(job.key)
    return manifest is not None and all(session.get("deterministic") for session in manifest.sessions)


def _same_environment(context: RunContext, job: Job, here: dict[str, Any] | None) -> bool:
    """Return True if all sessions of a job ran in the environment of this process, with the engine where it is given.

    The setting `deterministic` may differ.
    """
    manifest = context.store.find(job.key)
    ours = here or context.machine.environment()
    sessions = [] if manifest is None else manifest.sessions if here else manifest.machines
    engine = {"engine": here["engine"]} if here else {}
    return bool(sessions) and all(
        are_alike({**session, "deterministic": None}, {**ours, **engine, "deterministic": None}) for session in sessions
    )


def _initial_differences(context: RunContext, job: Job, stored: Mapping[str, Tensor]) -> Iterator[str]:
    """Yield where an initial state is not the seed's: to the bit, or within rounding where another machine drew it."""
    manifest = context.store.find(job.key)
    other = elsewhere({} if manifest is None else manifest.environment, context.machine)
    on_data = registry.inits[context.plan.recipe.init.name].traits.batch and not _same_machine(context, job)
    allowed = DRAWN_ON_DATA if on_data else ROUNDING if other else 0.0
    if (apart := distance(state_of(context.networks.network(job.seed)), stored)) > allowed:
        yield f"its weights are up to {apart:.2g} of the largest away from those that the seed gives"


def _differing(stored: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> Iterator[str]:
    """Yield in words the tensors that are not bit for bit the same."""
    if stored.keys() != found.keys():
        yield f"it has other tensors: {', '.join(sorted(stored.keys() ^ found.keys())[:3])}"
        return
    wrong = [name for name, value in stored.items() if distance({name: found[name].cpu()}, {name: value})]
    if wrong:
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        yield f"{wrong[0]}{more} are not those that the seed gives"


def _through_json(values: Any) -> Any:
    return json.loads(json.dumps(values))
