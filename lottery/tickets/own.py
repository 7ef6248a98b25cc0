"""Ticket files of no study: a mask and weights found elsewhere, with nothing that says how they came about."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor, nn

from lottery._version import __version__
from lottery.errors import DamagedFile, UsageError
from lottery.files.read import parse_json
from lottery.files.tensors import part
from lottery.files.write import write_atomic
from lottery.network.layout import Layout, state_of
from lottery.network.weights import packed_projection
from lottery.network.wrappers import plain_name, plain_state, unwrapped
from lottery.pruning.mask import Mask, fitted
from lottery.results.artifacts import pack, unpack
from lottery.tickets.container import OWN_FORMAT, OWN_VERSION, sealed, unsealed

State: TypeAlias = nn.Module | Mapping[str, Tensor]

MOST_WORDS = 10_000  # letters of a note
PROVES_NOTHING = "is of no study: it proves nothing about training"


@dataclass(frozen=True, repr=False)
class OwnTicket:
    """The content of a ticket file of no study.

    Attributes:
        mask: The mask.
        start: The state where training starts, as the method has it (`lottery.network.layout`), pruned weights 0.
        trained: The state after training; empty where none was given.
        network: Class of the network, as its maker's code calls it; empty where states were given.
        note: Words of its maker.
        created: When it was written, ISO 8601.
        versions: Versions of lottery and torch that wrote it.
    """

    mask: Mask
    start: dict[str, Tensor]
    trained: dict[str, Tensor]
    network: str
    note: str
    created: str
    versions: dict[str, str]

    def __repr__(self) -> str:
        return f"Ticket of no study: {self.mask.in_words()}" + (f", {self.note}" if self.note else "")


def save_ticket(
    path: str | Path,
    mask: Mask,
    start: State,
    trained: State | None = None,
    *,
    note: str = "",
) -> None:
    """Write a mask, and the weights that it was found for, into one file that `lottery.load_ticket` reads.

    The file is marked as of no study: `lottery ticket verify` never takes it for a ticket that a study has found.

    Args:
        path: The file; what was there is replaced once the new one is whole.
        mask: Bool tensors by name, True where a weight survives.
        start: Where training under the mask starts: a network, or a state dict that was copied before training.
        trained: The network, or its state, after that training.
        note: Words that stand in the file, such as where the mask comes from.

    Raises:
        UsageError: A weight that the mask names is not there or has another shape, or a state holds more than tensors.
    """
    if len(note) > MOST_WORDS:
        raise UsageError(f"note: has {len(note):,} letters, {MOST_WORDS:,} at most fit")
    given = {"start": start} if trained is None else {"start": start, "trained": trained}
    networks = [unwrapped(each) for each in given.values() if isinstance(each, nn.Module)]
    further = {plain_name(name) for network in networks for name in Layout.of(network).same}  # of shared weights
    for network in networks:
        mask = fitted(mask, network)[1]
    states = {group: _state(group, each, mask, further) for group, each in given.items()}
    own = mask.named_as(states["start"])
    tensors: dict[str, Tensor] = {}
    for group, state in states.items():
        _check(group, own, state, states["start"])
        tensors |= {f"{group}/{name}": value for name, value in pack(state, own).items()}
    packed, shapes = own.pack()
    about = {
        "network": type(networks[0]).__name__ if networks else "",
        "note": note,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"lottery": __version__, "torch": str(torch.__version__)},
    }
    head = {"format": OWN_FORMAT, "version": str(OWN_VERSION), "about": json.dumps(about, sort_keys=True), **shapes}
    write_atomic(Path(path), sealed({**tensors, **{f"mask/{name}": bits for name, bits in packed.items()}}, head))


def own_ticket(tensors: Mapping[str, Tensor], head: Mapping[str, str], path: str) -> OwnTicket:
    """Return the ticket of a file of no study from its tensors and metadata.

    Raises:
        DamagedFile: They are not what `save_ticket` writes.
    """
    try:
        about = parse_json(head["about"].encode(), path)
        mask = Mask.unpack(part(tensors, "mask/"), head)
        if part(tensors, "mask/").keys() != set(mask):
            raise DamagedFile("layers of its mask have no shape")
        start, trained = (unpack(part(tensors, f"{group}/"), mask) for group in ("start", "trained"))
        if not start.keys() >= set(mask) or not (trained.keys() >= set(mask) or not trained):
            raise DamagedFile("weights that the mask names are missing")
        texts = {name: str(about[name]) for name in ("network", "note", "created")}
        versions = {str(name): str(value) for name, value in about["versions"].items()}
    except (AttributeError, KeyError, TypeError, ValueError, DamagedFile) as error:
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        raise DamagedFile(f"{path}: is no ticket that lottery.save_ticket has written ({what})") from error
    return OwnTicket(mask, start, trained, versions=versions, **texts)


def read_own(path: str | Path) -> OwnTicket | None:
    """Return the ticket of a file of no study; None for that of a study.

    Raises:
        UsageError: The file is not there, is no ticket file, or has another version.
        DamagedFile: The file is not whole.
    """
    tensors, head = unsealed(path)
    return own_ticket(tensors, head, str(path)) if head["format"] == OWN_FORMAT else None


def _state(group: str, given: State, mask: Mask, further: Collection[str]) -> dict[str, Tensor]:
    """Return a state as the method has it, by names without wrappers.

    Raises:
        UsageError: It holds more than tensors.
    """
    state = state_of(unwrapped(given)) if isinstance(given, nn.Module) else dict(given)
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise UsageError(f"{group}: {name} is a {type(value).__name__}, and a ticket file holds tensors alone")
    state = {name: value for name, value in plain_state(state).items() if name not in further}
    for name in mask:
        if (place := packed_projection(name, state)) is not None:  # of attention: one tensor, three weights of a mask
            front = name.removesuffix(name[-len("q.weight") :])
            parts = state.pop(place.parameter).chunk(3)
            state |= {f"{front}{letter}.weight": each for letter, each in zip("qkv", parts, strict=True)}
    return state


def _check(group: str, mask: Mask, state: Mapping[str, Tensor], start: Mapping[str, Tensor]) -> None:
    """Raise UsageError where a weight has another shape than in the mask, or the states are of two networks."""
    for name, shape in mask.shapes().items():
        if name in state and tuple(state[name].shape) != shape:
            raise UsageError(f"{group}: {name} is of shape {tuple(state[name].shape)}, in the mask of {shape}")
    if other := sorted(state.keys() ^ start.keys()):
        raise UsageError(f"{group}: {other[0]} is not in both states, start and trained; give two of one network")
