"""Export of a finished ticket of a store as a ticket file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from lottery.data.load import load
from lottery.errors import DamagedFile, UsageError
from lottery.files.tensors import part
from lottery.plan.keys import SCHEMA, digest
from lottery.plan.kinds import IDENTITY_FILE, METRICS_FILE, WEIGHTS_FILE
from lottery.pruning.scoring import Weights
from lottery.recipe.readings import READINGS
from lottery.results.artifacts import pack, read_mask, read_state, read_trained
from lottery.results.stored_recipe import check_sources, recipe_of
from lottery.tickets.file import Identity, Ticket, ticket_bytes
from lottery.training.state import flatten, unflatten
from lottery.words import short

if TYPE_CHECKING:
    from lottery.pruning.mask import Mask
    from lottery.store.store import Store


def export(store: Store, key: str, data: Path) -> bytes:
    """Return the ticket file of a finished ticket; arguments and errors are those of `open_ticket`."""
    return ticket_bytes(open_ticket(store, key, data))


def open_ticket(store: Store, key: str, data: Path) -> Ticket:
    """Return a finished ticket of a store.

    Args:
        store: The store.
        key: The first digits of the ticket's key.
        data: The data root.

    Raises:
        UsageError: The job is no ticket, diverged, or was pruned in the course of its training.
        DamagedFile: A file of the store is damaged.
    """
    full = store.resolve(key)
    chain = _chain(store, full)
    identity, training = chain[0], chain[-1]["training"]
    metrics, manifest = store.read_json(full, METRICS_FILE), store.find(full)
    assert manifest is not None
    if "diverged" in metrics:
        raise UsageError(
            f"{short(full)}: this ticket's training diverged at step {metrics['diverged']}; there is nothing to export"
        )
    check_sources(training, manifest.environment, short(full))
    rate = metrics.get("lr")
    recipe = recipe_of(training, identity["rewind"], rate, manifest.sessions[0].get("engine", "dense"))
    splits = load(recipe.data.component, data, recipe.data.label_noise)
    mask = read_mask(store, full)
    point = {"schema": SCHEMA, "kind": "rewind", "training": training, "to": identity["rewind"]["to"]}
    state, values = read_state(store, digest(point))
    weights: Weights = part(state, "model/")
    optimizer, tensors = None, dict[str, Tensor]()
    if identity["rewind"]["mode"] != "weights":
        above = None if chain[1]["kind"] == "dense" else read_mask(store, digest(chain[1]))
        weights = read_trained(store, digest(chain[1]), above, "end")
    elif values["step"]:
        optimizer = flatten(unflatten(values["optimizer"], state), "optimizer", tensors)
    tensors |= {f"start/{name}": value for name, value in pack(weights, mask).items()}
    for reading, kept in kept_weights(store, full, mask, metrics):
        tensors |= {f"trained/{reading}/{name}": value for name, value in pack(kept, mask).items()}
    evidence = {
        "ticket": _measured(metrics),
        "dense": _measured(store.read_json(digest(chain[-1]), METRICS_FILE)),
        "density": metrics["density"],
        "alive": metrics["alive"],
        "trained_sha256": manifest.files[WEIGHTS_FILE].sha256,
        "environment": manifest.environment,
        "created": manifest.created,
    }
    return Ticket(
        chain,
        _choice(store, training, rate),
        recipe,
        recipe.canonical(),
        tuple(splits.train_x.shape[1:]),
        splits.classes,
        values["step"],
        optimizer,
        evidence,
        tensors,
        mask,
    )


def kept_weights(store: Store, key: str, mask: Mask, metrics: Mapping[str, Any]) -> Iterator[tuple[str, Weights]]:
    """Yield a ticket's weights at the end, and at each other reading whose step is another one."""
    steps = set()
    for reading in reversed(READINGS):  # the end first: its hash is in the manifest
        row = metrics.get(reading)
        if row and row["step"] not in steps:
            steps.add(row["step"])
            yield reading, read_trained(store, key, mask, reading)


def _chain(store: Store, key: str) -> list[Identity]:
    chain = [store.read_json(key, IDENTITY_FILE)]
    if chain[0]["kind"] != "ticket":
        raise UsageError(
            f"{short(key)}: is the job of a {chain[0]['kind']}, not of a ticket; lottery table --view long lists keys"
        )
    if chain[0]["prune"].get("when") == "training":
        raise UsageError(
            f"{short(key)}: was pruned in the course of its training: no training of this mask alone exists"
        )
    while chain[-1].get("parent") is not None:
        chain.append(store.read_json(chain[-1]["parent"], IDENTITY_FILE))
    return chain


def _choice(store: Store, training: Identity, rate: float | None) -> list[Identity]:
    """Return the identities of the choice of the learning rate and of a trial of it; none where none was chosen."""
    chosen = training["optimizer"].get("lr")
    if not isinstance(chosen, dict):
        return []
    choice: Identity = store.read_json(chosen["chosen"], IDENTITY_FILE)
    for key in choice["trials"]:
        trial: Identity = store.read_json(key, IDENTITY_FILE)
        if trial["training"]["optimizer"].get("lr") == rate:
            return [choice, trial]
    raise DamagedFile(f"{short(chosen['chosen'])}: chose the learning rate {rate}, which none of its trials has")


def _measured(metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {name: metrics[name] for name in (*READINGS, "diverged", "lr") if metrics.get(name) is not None}
