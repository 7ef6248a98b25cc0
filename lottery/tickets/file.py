"""Ticket files: a ticket with all that its training needs, in one file that any machine can check and retrain.

The tensors are the surviving weights where its training starts (`start/<name>`, those not pruned in full), the mask
with one bit per weight (`mask/<name>`), the optimizer's state at a rewind point after step 0, and the surviving weights
that its accuracies belong to (`trained/<reading>/<name>`). The metadata hold, as JSON, the identities that the ticket's
key is a hash of, a recipe that trains it, and the evidence.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from lottery.data.load import load
from lottery.data.splits import Splits, fingerprint
from lottery.errors import DamagedFile, DataError, RecipeError, UsageError
from lottery.files.read import parse_json
from lottery.files.tensors import part
from lottery.network.build import build_model
from lottery.network.layout import load as load_state
from lottery.plan.keys import SCHEMA, digest
from lottery.plan.kinds import Kind
from lottery.pruning.mask import Mask
from lottery.pruning.start import Spec, Start
from lottery.recipe.readings import READINGS
from lottery.results.artifacts import unpack
from lottery.results.stored_recipe import check_sources, recipe_of
from lottery.tickets.container import FORMAT, VERSION, printable, sealed, unsealed
from lottery.training.state import unflatten
from lottery.values import Component
from lottery.words import short

if TYPE_CHECKING:
    from torch import nn

    from lottery.plan.jobs import Job
    from lottery.recipe.schema import Recipe

Identity = dict[str, Any]


@dataclass(frozen=True, repr=False)
class Ticket:
    """The content of a ticket file.

    Attributes:
        chain: The identities from the ticket's to its dense network's.
        choice: The identities of the choice of its learning rate and of a trial of the chosen rate; empty if none was
            chosen.
        recipe: The recipe of one seed that trains it, which follows from the identities, but for a chosen learning rate
            and the engine.
        stated: The recipe that stands in the file, in plain JSON values.
        shape: The shape of an input, without the batch.
        classes: The number of classes, or of targets.
        step: The step where its training starts.
        values: The optimizer's state there, its tensors among `tensors`; None for a fresh optimizer.
        evidence: What was measured, where and when; `trained_sha256` is the hash of the weights at the end of training
            as the store keeps them.
        tensors: All tensors but the mask, by their names in the file.
        mask: The mask.
    """

    chain: list[Identity]
    choice: list[Identity]
    recipe: Recipe
    stated: dict[str, Any]
    shape: tuple[int, ...]
    classes: int
    step: int
    values: Any
    evidence: dict[str, Any]
    tensors: dict[str, Tensor]
    mask: Mask

    def __repr__(self) -> str:
        where = f"{self.recipe.model.name} on {self.recipe.data.name}, {self.recipe.train.optimizer[0].name}"
        level = len(self.chain) - 1
        return f"Ticket {short(self.key)}: {where}, seed {self.seed}, level {level}, {self.mask.in_words()}"

    @property
    def key(self) -> str:
        """The key of the ticket in the store that it was exported from."""
        return digest(self.chain[0])

    @property
    def training(self) -> Identity:
        """The section `training` of the dense network's identity: all that determined its training."""
        training: Identity = self.chain[-1]["training"]
        return training

    @property
    def mode(self) -> str:
        """The mode of rewinding: `weights`, `lr` or `finetune`."""
        return str(self.chain[0]["rewind"]["mode"])

    @property
    def seed(self) -> int:
        """The seed of its training."""
        return int(self.training["seed"])

    @property
    def weights(self) -> dict[str, Tensor]:
        """The state where training starts, as the method has it (`lottery.network.layout`), pruned weights 0."""
        return unpack(part(self.tensors, "start/"), self.mask)

    def trained(self, reading: str) -> dict[str, Tensor]:
        """Return the surviving weights at a reading, packed; empty where the file has none of their own for it."""
        return part(self.tensors, f"trained/{reading}/")

    def start(self) -> Start:
        """Return the start of its training, as the trunk makes it."""
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
        return Start(self.weights, self.mask, spec, self.optimizer_state())

    def optimizer_state(self) -> Any:
        """Return the optimizer's state dict where training starts; None for a fresh optimizer."""
        return None if self.values is None else unflatten(self.values, self.tensors)

    def retraining(self, deterministic: bool) -> Job:
        """Return the job that trains the file's ticket again.

        Its key is one of its own, a hash of all that the file says. No study looks a result up under it, so that no
        file, whatever it holds, can put a result where a study finds it.
        """
        from lottery.plan.jobs import Job

        file = hashlib.sha256(ticket_bytes(self)).hexdigest()
        identity = {"schema": SCHEMA, "kind": "retraining", "file": file, "deterministic": deterministic}
        optimizer, rewind = self.recipe.train.optimizer[0], self.recipe.rewind[0]
        return Job(Kind.RETRAINING, identity, None, self.seed, optimizer, level=len(self.chain) - 1, rewind=rewind)

    def model(self) -> nn.Module:
        """Return the network where training starts, pruned weights 0, on the CPU."""
        network = self.blank()
        load_state(network, self.weights)
        return network

    def blank(self) -> nn.Module:
        """Return a network whose weights mean nothing, to load a state into, on the CPU."""
        init, embeddings = Component("torch"), self.recipe.prune.embeddings
        return build_model(self.recipe.model, self.shape, self.classes, init=init, seed=0, embeddings=embeddings)

    def data(self, root: Path) -> Splits:
        """Return the data it was trained on.

        Raises:
            DataError: The data under `root` are missing, or others.
        """
        splits = load(self.recipe.data.component, root, self.recipe.data.label_noise)
        found, wanted = fingerprint(splits), self.training["fingerprint"]
        if found != wanted:
            name = self.recipe.data.component.name
            raise DataError(
                f"{root}: {name} is not what the ticket was trained on: its hash is {short(found)}, not {short(wanted)}"
            )
        return splits


def ticket_bytes(ticket: Ticket) -> bytes:
    """Return the bytes of a ticket's file: the same bytes for the same ticket."""
    packed, shapes = ticket.mask.pack()
    every = {**ticket.tensors, **{f"mask/{name}": bits for name, bits in packed.items()}}
    about = {
        "chain": ticket.chain,
        "choice": ticket.choice,
        "recipe": ticket.stated,
        "shape": ticket.shape,
        "classes": ticket.classes,
        "step": ticket.step,
        "optimizer": ticket.values,
        "evidence": ticket.evidence,
    }
    text = json.dumps(about, sort_keys=True)
    return sealed(every, {"format": FORMAT, "version": str(VERSION), "about": text, **shapes})


def read(path: str | Path) -> Ticket:
    """Return the ticket of a file, its hash checked.

    Raises:
        UsageError: The file is not there, is no ticket file, or has another version.
        DamagedFile: The file is not whole.
    """
    tensors, head = unsealed(path)
    if head["format"] != FORMAT:
        raise UsageError(
            f"{path}: is a ticket file of no study, which proves nothing about training; lottery.load_ticket loads it"
        )
    try:
        return _ticket(tensors, head, str(path))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, RecipeError) as error:
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        raise DamagedFile(f"{path}: is no ticket that lottery ticket export has written ({what})") from error


def _ticket(tensors: Mapping[str, Tensor], head: Mapping[str, str], path: str) -> Ticket:
    about = parse_json(head["about"].encode(), path)
    chain, stated = list(about["chain"]), dict(about["recipe"])
    training, train = chain[-1]["training"], stated["train"]
    evidence = _evidence(about["evidence"])
    check_sources(training, {printable(str(k)): v for k, v in evidence["environment"].items()}, path)
    recipe = recipe_of(training, chain[0]["rewind"], train["optimizer"][0].get("lr"), train["engine"])
    return Ticket(
        chain,
        list(about["choice"]),
        recipe,
        stated,
        tuple(int(size) for size in about["shape"]),
        int(about["classes"]),
        int(about["step"]),
        about["optimizer"],
        evidence,
        {name: value for name, value in tensors.items() if not name.startswith("mask/")},
        Mask.unpack(part(tensors, "mask/"), head),
    )


def _evidence(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the file says was measured.

    Raises:
        KeyError: A part is missing.
        TypeError: A part has another form.
        ValueError: A row has no step and test loss.
    """
    for network in ("ticket", "dense"):
        for reading in READINGS:
            row = found[network].get(reading)
            if row is not None and not (type(row["step"]) is int and type(row["test_loss"]) is float):
                raise ValueError(f"{network} {reading} has no step and test loss")
    return {**found, "environment": dict(found["environment"]), "created": str(found["created"])}
