"""Checks of a ticket file without training, which tell what it proves from what it only says.

The key of a ticket is a hash of identities, and from these follow a recipe, the numbers of weights alive, the step and,
where it goes back to the initialization, the weights that its training starts from. Measures follow from weights and
data. All that follows is compared with what the file holds; all that follows from a training alone is named as said.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from lottery import registry
from lottery.audit.chain_counts import proven_counts
from lottery.audit.protocol_checks import in_steps
from lottery.data.splits import fingerprint
from lottery.device import prepared
from lottery.errors import LotteryError, MachineError
from lottery.files.tensors import encode, part
from lottery.network.build import build_model, prunable
from lottery.network.initial_weights import ROUNDING, alike, distance, elsewhere
from lottery.network.layout import state_of
from lottery.plan.keys import SCHEMA, digest, training_identity
from lottery.recipe.readings import READINGS
from lottery.results.artifacts import pack, unpack
from lottery.runner.assemble import optimizer_of
from lottery.runner.timelines import whole_timeline
from lottery.tickets.measures import Found, dense_measures, ticket_measures
from lottery.training.state import load_optimizer
from lottery.training.trainer import Diverged
from lottery.values import Duration
from lottery.words import short

if TYPE_CHECKING:
    from lottery.runner.context import RunContext
    from lottery.tickets.file import Ticket

F = TypeVar("F")


class Finding(NamedTuple):
    """One line of the verification.

    Attributes:
        name: The part of the file.
        holds: True if it is proven, False if it is wrong, None where only a training could tell.
        found: What was found, in words.
    """

    name: str
    holds: bool | None
    found: str


def findings(ticket: Ticket, context: RunContext | None = None, *, again: bool = False) -> Iterator[Finding]:
    """Yield what the file proves and what it says.

    Args:
        ticket: The ticket file.
        context: A `context_of_ticket` with the data to compare with, where there is one.
        again: True to measure the trained weights of the file on these data, by the context's machine.
    """
    data = Finding("data", *_attempt(partial(_data, ticket, context)))
    yield data
    context = None if data.holds is False else context  # other data prove nothing of this ticket
    for name, check in _CHECKS.items():
        yield Finding(name, *_attempt(partial(check, ticket, context)))
    for network in ("ticket", "dense"):
        for reading in READINGS:
            if ticket.evidence[network].get(reading):
                check = partial(dense_measures if network == "dense" else ticket_measures, ticket, reading)
                yield Finding(f"{network} {reading}", *_attempt(partial(check, context if again else None)))
    yield from _said_only(ticket)


def checks(ticket: Ticket, context: RunContext | None = None, *, again: bool = False) -> Iterator[Finding]:
    """Yield the findings that hold or are wrong, without what is only said."""
    return (finding for finding in findings(ticket, context, again=again) if finding.holds is not None)


def _attempt(check: Callable[[], F]) -> F | Found:
    """Make a check fail where it cannot be carried out, since anybody may have written the file."""
    try:
        return check()
    except MachineError:
        raise
    except (Diverged, AttributeError, IndexError, KeyError, TypeError, ValueError, RuntimeError, LotteryError) as error:
        return False, f"cannot be checked, {type(error).__name__}: {error}".splitlines()[0]


def _key(ticket: Ticket, context: RunContext | None) -> Found:
    chain = ticket.chain
    linked = all(one["parent"] == digest(above) for one, above in pairwise(chain))
    kinds = [one["kind"] for one in chain] == ["ticket"] * (len(chain) - 1) + ["dense"] and len(chain) > 1
    alike = all(one["schema"] == SCHEMA for one in chain) and all(
        one["rewind"] == chain[0]["rewind"] and one["prune"].get("when") != "training" for one in chain[:-1]
    )
    levels = f"{len(chain) - 1} ticket{'s'[: len(chain) > 2]} down from its dense network"
    return linked and kinds and alike, f"{short(ticket.key)}, {levels}"


def _recipe(ticket: Ticket, context: RunContext | None) -> Found:
    """Compare the whole recipe with the key, but for a chosen learning rate, and the engine, which only rounds."""
    ours, theirs = ticket.recipe.canonical(), ticket.stated
    other = [name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)]
    said = f"not what the key stands for: {', '.join(sorted(other))}" if other else "trains what the key stands for"
    return not other, said


def _rate(ticket: Ticket, context: RunContext | None) -> Found:
    rate = ticket.recipe.train.optimizer[0].args.get("lr")
    chosen = ticket.training["optimizer"].get("lr")
    if not isinstance(chosen, dict):
        return True, f"{rate}, part of the key" if rate is not None else "none"
    choice, trial = ticket.choice
    recipe = ticket.recipe
    tried = training_identity(
        recipe, ticket.training["fingerprint"], trial["training"]["seed"], recipe.train.optimizer[0]
    )
    tried.pop("metrics", None)
    fine = digest(choice) == chosen["chosen"] and digest(trial) in choice["trials"] and trial["training"] == tried
    number = len(choice["trials"])
    return fine, f"{rate}, {'one' if fine else 'none'} of those tried in the {number} trials that it was chosen among"


def _mask(ticket: Ticket, context: RunContext | None) -> Found:
    shapes = {name: tuple(weight.shape) for name, weight in prunable(ticket.blank()).items()}
    if list(shapes.items()) != list(ticket.mask.shapes().items()):
        return False, "its layers are not those of the model"
    *_, proven = proven_counts(shapes, [identity["prune"] for identity in reversed(ticket.chain[:-1])])
    problems = list(proven.problems(ticket.mask.alive()))
    total = sum(ticket.mask.sizes().values())
    what = f"the total of {len(proven.together)} layers follows" if proven.together else "each layer's number follows"
    return not problems, problems[0] if problems else f"{proven.alive:,} of {total:,} weights, {what} from the key"


def _density(ticket: Ticket, context: RunContext | None) -> Found:
    alive, evidence = ticket.mask.alive(), ticket.evidence
    fine = evidence["alive"] == alive and math.isclose(evidence["density"], ticket.mask.density, rel_tol=1e-12)
    said = f"; the evidence says {evidence['density']:.6g}" if not fine else ""
    return fine, f"{ticket.mask.density:.6g} of the mask" + said


def _weights(ticket: Ticket, context: RunContext | None) -> Found:
    """Check that the file has the tensors of the model, with values for the weights alive, and no others."""
    state = state_of(ticket.blank())
    expected = {name: (value.dtype, tuple(value.shape)) for name, value in pack(state, ticket.mask).items()}
    prefixes = {name.rpartition("/")[0].partition("/")[0] for name in ticket.tensors}
    kept = [reading for reading in READINGS if ticket.trained(reading)]
    groups = {"start": part(ticket.tensors, "start/"), **{f"trained {name}": ticket.trained(name) for name in kept}}
    for group, tensors in groups.items():
        if wrong := _unlike(expected, tensors):
            return False, f"{group}: {wrong}"
    count = sum(len(tensors) for tensors in groups.values())
    state_names = {name for name in ticket.tensors if name.startswith("optimizer/")}
    if count + len(state_names) != len(ticket.tensors):
        return False, f"there are tensors that belong to nothing, in {', '.join(sorted(prefixes))}"
    return True, "fit the model and the mask"


def _unlike(expected: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    if other := expected.keys() ^ tensors.keys():
        return f"{sorted(other)[0]} is {'missing' if sorted(other)[0] in expected else 'no tensor of the model'}"
    for name, value in tensors.items():
        if (value.dtype, tuple(value.shape)) != expected[name]:
            return f"{name} has {value.numel():,} values of {value.dtype}, not {math.prod(expected[name][1]):,}"
        if not bool(torch.isfinite(value).all()):
            return f"{name} is not finite"
    return ""


def _start(ticket: Ticket, context: RunContext | None) -> Found:
    if ticket.mode != "weights":
        above = "dense network" if len(ticket.chain) == 2 else "level above"
        return None, f"the trained weights of the {above}; only training that again proves them"
    if ticket.chain[0]["rewind"]["to"] != "init":
        return None, f"the weights at step {ticket.step}; only training so far again proves them"
    recipe, looks = ticket.recipe, registry.inits[ticket.recipe.init.name].traits.batch
    if looks and context is None:
        return None, f"not checked without data: init {recipe.init.name} looks at training examples"
    here = alike(ticket.evidence["environment"])
    with prepared(here, "fp32"):
        if looks and context is not None:
            network = context.networks.network(ticket.seed)
        else:
            network = build_model(
                recipe.model,
                ticket.shape,
                ticket.classes,
                init=recipe.init,
                seed=ticket.seed,
                embeddings=recipe.prune.embeddings,
            )
    apart = distance(pack(state_of(network), ticket.mask), part(ticket.tensors, "start/"))
    if apart == 0:
        return True, f"those that the init draws from seed {ticket.seed}, bit for bit"
    other = elsewhere(ticket.evidence["environment"], here)
    where = f", made with another {', '.join(other)}" if other else ""
    if other and apart <= ROUNDING:
        return True, f"those that the init draws from seed {ticket.seed}, within rounding ({apart:.1g}){where}"
    if other and looks:
        return None, f"computed from data{where}: {apart:.1g} from those that are computed here"
    return False, f"are not those that the init draws from seed {ticket.seed}{where}"


def _step(ticket: Ticket, context: RunContext | None) -> Found:
    to, length = ticket.chain[0]["rewind"]["to"], ticket.training["length"]
    point = Duration.parse("0it" if to == "init" else to)
    if point.unit == "it" or point.value == 0:
        return ticket.step == point.value, f"{ticket.step}, {to} in the key"
    if context is not None:
        steps = whole_timeline(context, ticket.recipe.train.optimizer[0]).steps(point)
        return ticket.step == steps, f"{ticket.step}, {to} in the key are {steps} steps on these data"
    steps_said = in_steps(to, length, ticket.evidence["ticket"]["end"]["step"])
    if steps_said is not None and steps_said != ticket.step:
        return False, f"{ticket.step}, but {to} of {length} are {steps_said} where these end at the step measured last"
    return None, f"{ticket.step} for {to}: data prove how many steps an epoch has"


def _steps(ticket: Ticket, context: RunContext | None) -> Found:
    """Check that no reading lies before the start or after the end, which is that of the training."""
    length = Duration.parse(ticket.training["length"])
    total = length.value if length.unit == "it" else None
    if context is not None:
        total = whole_timeline(context, ticket.recipe.train.optimizer[0]).steps(length)
    for network, first in (("ticket", ticket.step), ("dense", 0)):
        rows = ticket.evidence[network]
        if "diverged" in rows:
            continue
        last = rows["end"]["step"]
        if total is not None and last != total:
            return False, f"the {network} was measured at step {last} last, its training ends at {total}"
        for reading in READINGS:
            if reading in rows and not first <= rows[reading]["step"] <= last:
                return False, f"the {network} has {reading} at step {rows[reading]['step']}, outside {first} to {last}"
    return True, "measured at steps of these trainings"


def _optimizer(ticket: Ticket, context: RunContext | None) -> Found:
    state = ticket.optimizer_state()
    if ticket.mode != "weights" or ticket.chain[0]["rewind"]["to"] == "init":
        extra = state is not None or any(name.startswith("optimizer/") for name in ticket.tensors)
        return not extra, "has a state where its training starts with a fresh one" if extra else "fresh"
    if state is None:
        return False, f"has no state, that of step {ticket.step} belongs to it"
    load_optimizer(optimizer_of(ticket.recipe.train.optimizer[0], ticket.blank()), state)
    return None, f"its state at step {ticket.step}, which fits it; only training so far again proves the values"


def _trained(ticket: Ticket, context: RunContext | None) -> Found:
    packed = ticket.trained("end")
    unpack(packed, ticket.mask)
    steps = [ticket.evidence["ticket"][name]["step"] for name in READINGS if ticket.trained(name)]
    wanted = {row["step"] for name in READINGS if (row := ticket.evidence["ticket"].get(name))}
    if not packed or len(set(steps)) != len(steps) or set(steps) != wanted:
        return False, f"there for the steps {steps}, measured were {sorted(wanted)}"
    found = hashlib.sha256(encode(packed)).hexdigest()
    if found != ticket.evidence["trained_sha256"]:
        return False, f"their hash is {short(found)}, the evidence says {short(str(ticket.evidence['trained_sha256']))}"
    return True, f"{short(found)}, the hash in the evidence"


def _data(ticket: Ticket, context: RunContext | None) -> Found:
    wanted = ticket.training["fingerprint"]
    if context is None:
        return None, f"{short(wanted)}, inputs of shape {list(ticket.shape)}: not compared without data"
    splits = context.splits
    found, shape = fingerprint(splits), tuple(splits.train_x.shape[1:])
    if found != wanted:
        return False, f"their hash is {short(found)}, the key's {short(wanted)}"
    fine = (shape, splits.classes) == (ticket.shape, ticket.classes)
    what = f"inputs of shape {list(shape)}, {splits.classes} classes"
    return fine, f"{short(found)}, {what}" + ("" if fine else f"; not {list(ticket.shape)}, {ticket.classes}")


_CHECKS: dict[str, Callable[[Ticket, RunContext | None], Found]] = {
    "key": _key,
    "recipe": _recipe,
    "rate": _rate,
    "mask": _mask,
    "density": _density,
    "weights": _weights,
    "step": _step,
    "start weights": _start,
    "optimizer": _optimizer,
    "steps": _steps,
    "trained weights": _trained,
}


def _said_only(ticket: Ticket) -> Iterator[Finding]:
    """Yield what only training the chain again can tell, or nothing at all can."""
    yield Finding("mask content", None, "which weights are alive: only training the chain above it again proves it")
    yield Finding("training", None, "that it leads from the start to the trained weights: lottery ticket retrain tells")
    device = ticket.evidence["environment"].get("device", "a machine that is not named")
    yield Finding("environment", None, f"{device}, {ticket.evidence['created']}")
