"""Ticket files: a ticket with all that its training needs, in one file that any machine can check and retrain.

The tensors are the surviving weights where its training starts (`start/<name>`, those not pruned in full), the mask at
eight weights a byte (`mask/<name>`), and the optimizer's state at a rewind point after step 0. The metadata hold, as
JSON, the identities that the ticket's key is a hash of, a recipe that trains it, and the evidence."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from lottery import registry
from lottery.build import build_model, prunable
from lottery.data import Splits, fingerprint, load
from lottery.errors import DamagedFile, DataError, LotteryError, UsageError
from lottery.identity import SCHEMA, data_identity, digest, sources_in, training_identity
from lottery.layout import load as load_state
from lottery.levels import pack, read_mask, read_state, read_trained, unpack
from lottery.mask import Mask
from lottery.reading import parse_json, read_bytes
from lottery.readings import READINGS
from lottery.recipe import parse_recipe
from lottery.spec import Component
from lottery.tensors import decode, encode, part
from lottery.train import flatten, unflatten
from lottery.trunk import Spec, Start

if TYPE_CHECKING:
    from torch import nn

    from lottery.plan import Job
    from lottery.schema import Recipe
    from lottery.store import Store

FORMAT, VERSION = "lottery ticket", 1
MOST_BYTES = 1 << 34
Identity = dict[str, Any]


@dataclass(frozen=True)
class Ticket:
    """What a ticket file holds. `chain` are the identities from the ticket's to its dense network's; `values` the
    optimizer's state, its tensors among `tensors`; `shape` that of an input without the batch; `evidence` what was
    measured, `trained_sha256` the hash of the trained weights as the store keeps them."""

    chain: list[Identity]
    recipe: Recipe
    shape: tuple[int, ...]
    classes: int
    step: int
    values: Any
    evidence: dict[str, Any]
    tensors: dict[str, Tensor]
    mask: Mask

    @property
    def key(self) -> str:
        return digest(self.chain[0])

    @property
    def training(self) -> Identity:
        """What determined the dense network's training."""
        training: Identity = self.chain[-1]["training"]
        return training

    @property
    def mode(self) -> str:
        return str(self.chain[0]["rewind"]["mode"])

    @property
    def weights(self) -> dict[str, Tensor]:
        """The state where training starts, as the method has it (`lottery.layout`), pruned weights 0."""
        return unpack(part(self.tensors, "start/"), self.mask)

    def start(self) -> Start:
        """Where its training starts, as the trunk makes it."""
        recipe = self.recipe
        schedule, optimizer = recipe.train.schedule, recipe.train.optimizer[0]
        spec = Spec(
            optimizer,
            schedule.component,
            schedule.warmup,
            self.step,
            last_rate=self.mode == "finetune",
            finetune_rate=None if recipe.finetune is None else recipe.finetune.rate,
            goes_on=self.mode != "weights",
        )
        state = None if self.values is None else unflatten(self.values, self.tensors)
        return Start(self.weights, self.mask, spec, state)

    def job(self) -> Job:
        """The ticket's job, with its own key; it needs no other."""
        from lottery.plan import Job

        identity, rewind = self.chain[0], self.recipe.rewind[0]
        optimizer, depth = self.recipe.train.optimizer[0], len(self.chain) - 1
        seed = int(self.training["seed"])
        return Job("ticket", identity, identity["parent"], seed, optimizer, level=depth, rewind=rewind)

    def model(self) -> nn.Module:
        """The network where training starts, pruned weights 0, on the CPU."""
        init, embeddings = Component("torch"), self.recipe.prune.embeddings
        network = build_model(self.recipe.model, self.shape, self.classes, init=init, seed=0, embeddings=embeddings)
        load_state(network, self.weights)
        return network

    def data(self, root: Path) -> Splits:
        """The data it was trained on. Raises DataError where those under `root` are missing or others."""
        splits = load(self.recipe.data.component, root)
        found, wanted = fingerprint(splits), self.training["fingerprint"]
        if found != wanted:
            name = self.recipe.data.component.name
            raise DataError(
                f"{root}: {name} is not what the ticket was trained on: its hash is {found[:12]}, not {wanted[:12]}"
            )
        return splits


def load_ticket(path: str | Path) -> tuple[nn.Module, Mask]:
    """The network of a ticket file where its training starts, pruned weights 0, and its mask.

    Hold the mask in a training of your own with `lottery.masked`. Raises UsageError for a file that is not there or no
    ticket, DamagedFile for one that is not whole."""
    ticket = read(path)
    return ticket.model(), ticket.mask


def export(store: Store, key: str, data: Path) -> bytes:
    """The ticket file of a finished ticket; arguments and errors are those of `opened`."""
    return _written(opened(store, key, data))


def opened(store: Store, key: str, data: Path) -> Ticket:
    """A finished ticket of a store; `key` are the first digits of its key, `data` the data root.

    Raises UsageError for jobs that are no ticket, or that were pruned in the course of their training."""
    full = store.resolve(key)
    chain = _chain(store, full)
    identity, training = chain[0], chain[-1]["training"]
    metrics, manifest = store.read_json(full, "metrics.json"), store.find(full)
    assert manifest is not None
    if "diverged" in metrics:
        raise UsageError(
            f"{full[:12]}: this ticket's training diverged at step {metrics['diverged']}; there is nothing to export"
        )
    _check_sources(training, full[:12])
    recipe = recipe_of(training, identity["rewind"], metrics.get("lr"), manifest.sessions[0].get("engine", "dense"))
    splits = load(recipe.data.component, data)
    mask = read_mask(store, full)
    point = {"schema": SCHEMA, "kind": "rewind", "training": training, "to": identity["rewind"]["to"]}
    state, values = read_state(store, digest(point))
    weights: Mapping[str, Tensor] = part(state, "model/")
    optimizer, tensors = None, dict[str, Tensor]()
    if identity["rewind"]["mode"] != "weights":
        weights = trained(store, chain[1])
    elif values["step"]:
        optimizer = flatten(unflatten(values["optimizer"], state), "optimizer", tensors)
    tensors |= {f"start/{name}": value for name, value in pack(weights, mask).items()}
    evidence = {
        "ticket": _measured(metrics),
        "dense": _measured(store.read_json(digest(chain[-1]), "metrics.json")),
        "density": metrics["density"],
        "alive": metrics["alive"],
        "trained_sha256": manifest.files["weights.safetensors"].sha256,
        "environment": manifest.environment,
        "created": manifest.created,
    }
    shape = tuple(splits.train_x.shape[1:])
    return Ticket(chain, recipe, shape, splits.classes, values["step"], optimizer, evidence, tensors, mask)


def _written(ticket: Ticket) -> bytes:
    packed, shapes = ticket.mask.pack()
    every = {**ticket.tensors, **{f"mask/{name}": bits for name, bits in packed.items()}}
    about = {
        "chain": ticket.chain,
        "recipe": ticket.recipe.canonical(),
        "shape": ticket.shape,
        "classes": ticket.classes,
        "step": ticket.step,
        "optimizer": ticket.values,
        "evidence": ticket.evidence,
    }
    text = json.dumps(about, sort_keys=True)
    head = {"format": FORMAT, "version": str(VERSION), "about": text, **shapes}
    return encode(every, {**head, "sha256": _hash(every, head)})


def _hash(tensors: Mapping[str, Tensor], head: Mapping[str, str]) -> str:
    return hashlib.sha256(encode(tensors, head)).hexdigest()


def read(path: str | Path) -> Ticket:
    """A ticket file, its hash checked. Raises UsageError for what is no ticket file, DamagedFile for one not whole."""
    if not Path(path).is_file():
        raise UsageError(f"{path}: there is no such file")
    content = read_bytes(path, most=MOST_BYTES)
    try:
        tensors, head = decode(content)
    except DamagedFile as error:
        raise DamagedFile(f"{path}: no whole ticket file: {error}; copy it again") from error
    if head.get("format") != FORMAT:
        raise UsageError(f"{path}: is no ticket file; lottery ticket export makes them")
    if head.get("version") != str(VERSION):
        raise UsageError(f"{path}: has format version {head.get('version')}, this lottery reads {VERSION}; update one")
    said = head.pop("sha256", "")
    if _hash(tensors, head) != said:
        raise DamagedFile(f"{path}: its bytes are not those that were written; copy it again")
    about = parse_json(head["about"].encode(), str(path))
    _check_sources(about["chain"][-1]["training"], str(path))
    return Ticket(
        about["chain"],
        parse_recipe(json.dumps(about["recipe"]), str(path)),
        tuple(about["shape"]),
        about["classes"],
        about["step"],
        about["optimizer"],
        about["evidence"],
        {name: value for name, value in tensors.items() if not name.startswith("mask/")},
        Mask.unpack(part(tensors, "mask/"), head),
    )


def checks(ticket: Ticket) -> Iterator[tuple[str, bool, str]]:
    """What can be proved of a ticket file without training: (what, whether it holds, what was found)."""
    chain = ticket.chain
    linked = all(one["parent"] == digest(above) for one, above in pairwise(chain))
    whole = linked and chain[-1].get("kind") == "dense" and all(one.get("kind") == "ticket" for one in chain[:-1])
    yield "key", whole, f"{ticket.key[:12]}, {len(chain) - 1} tickets down from its dense network"
    rate = ticket.training["optimizer"].get("lr")
    optimizer = ticket.recipe.train.optimizer[0]
    known = Component(optimizer.name, {**optimizer.args, "lr": rate} if isinstance(rate, dict) else optimizer.args)
    said = training_identity(ticket.recipe, ticket.training["fingerprint"], int(ticket.training["seed"]), known)
    yield "recipe", said == ticket.training, "trains what the key stands for"
    claimed = ticket.evidence["alive"]
    yield (
        "mask",
        ticket.mask.alive() == claimed,
        f"{sum(ticket.mask.alive().values()):,} of {_total(ticket.mask):,} weights",
    )
    try:
        network, fits = ticket.model(), "fit the model"
        layers = {name: tuple(weight.shape) for name, weight in prunable(network).items()}
        fine = layers == {name: tuple(bits.shape) for name, bits in ticket.mask.items()}
    except (LotteryError, RuntimeError) as error:
        fine, fits = False, str(error).splitlines()[0]
    yield "weights", fine, fits


def recipe_of(training: Identity, rewind: Mapping[str, Any], rate: float | None, engine: str) -> Recipe:
    """A recipe of one seed that trains a dense network of this identity, and its tickets with this engine; `rate` where
    its learning rate was chosen."""
    optimizer = _component(training["optimizer"])
    if isinstance(optimizer.get("lr"), dict):
        optimizer["lr"] = rate
    data: dict[str, Any] = {k: training[k] for k in ("validation", "stratify", "limit", "augment") if k in training}
    rest = ("batch_size", "length", "evaluate_every", "precision", "clip", "accumulate", "label_smoothing")
    train: dict[str, Any] = {name: training[name] for name in rest if name in training}
    warmup: dict[str, Any] = {name: training[name] for name in ("warmup",) if name in training}
    said = {
        "name": "ticket",
        "data": {**_component(training["data"]), **data},
        "model": _component(training["model"]),
        "init": _component(training["init"]),
        "train": {
            "optimizer": optimizer,
            "schedule": {**_component(training["schedule"]), **warmup},
            **train,
            # a graph asks for a machine that a reader may not have
            "engine": "auto" if engine == "graph" else engine,
        },
        **{name: training[name] for name in ("metrics",) if name in training},
        "prune": {"levels": 1, "embeddings": training.get("embeddings", False)},
        "rewind": {"to": rewind["to"], "mode": rewind["mode"]},
        **({"finetune": {"rate": rewind["rate"]}} if "rate" in rewind else {}),
        "seeds": [training["seed"]],
    }
    recipe = parse_recipe(json.dumps(said), "ticket")
    assert data_identity(recipe.data) == training["data"]
    return recipe


def _check_sources(training: Identity, place: str) -> None:
    """Raises UsageError where a plugin that the training needs is not loaded, or was edited since."""
    loaded = registry.plugins()
    if lost := sorted(set(sources_in(training)) - set(loaded.values())):
        now = ", ".join(f"{module} {code}" for module, code in loaded.items()) or "none"
        raise UsageError(
            f"{place}: was trained with a plugin whose source has the hash {', '.join(lost)}; name it as --plugin, its "
            f"files as they were then (loaded: {now})"
        )


def _component(identity: Mapping[str, Any]) -> dict[str, Any]:
    """An identity without its versions and sources."""
    return {
        name: _component(value) if isinstance(value, dict) and "name" in value else value
        for name, value in identity.items()
        if name not in ("version", "code") and not name.endswith(("_version", "_code"))
    }


def _chain(store: Store, key: str) -> list[Identity]:
    chain = [store.read_json(key, "job.json")]
    if chain[0]["kind"] != "ticket":
        raise UsageError(
            f"{key[:12]}: is the job of a {chain[0]['kind']}, not of a ticket; lottery table --view long lists keys"
        )
    if chain[0]["prune"].get("when") == "training":
        raise UsageError(f"{key[:12]}: was pruned in the course of its training: no training of this mask alone exists")
    while chain[-1].get("parent") is not None:
        chain.append(store.read_json(chain[-1]["parent"], "job.json"))
    return chain


def trained(store: Store, identity: Identity) -> Mapping[str, Tensor]:
    """The weights at the end of the training of a dense network or ticket of this identity."""
    key = digest(identity)
    return read_trained(store, key, None if identity["kind"] == "dense" else read_mask(store, key))


def _measured(metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {name: metrics.get(name) for name in (*READINGS, "diverged", "lr") if metrics.get(name) is not None}


def _total(mask: Mask) -> int:
    return sum(mask.sizes().values())
