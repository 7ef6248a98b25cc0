"""Checks of a study's stored masks against the identities, parents and metrics of its records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from lottery.audit.mask_checks import differing, inconsistent, misdescribed, not_nested, wrong_counts, wrong_sizes
from lottery.errors import LotteryError, MachineError
from lottery.plan.kinds import CORRECT_FILE, MASK_FILE, WEIGHTS_FILE
from lottery.plan.origins import origin_of
from lottery.pruning.mask import Mask
from lottery.results.artifacts import read_mask
from lottery.values import Component

if TYPE_CHECKING:
    from lottery.audit.stored_jobs import StoredJobs
    from lottery.results.record import Record

TRUNKS = 4  # masks held at once: those of a trunk are asked for one after the other
NO_WEIGHTS = (MASK_FILE, CORRECT_FILE)  # of the tensors that a job may keep
OF_THE_TICKET = ("the ticket's", "random", "the ticket's, permuted", "pruned once from the dense network")


class MaskChecker:
    """Reader of the masks that jobs have kept; it says what is wrong with the mask of a record."""

    def __init__(self, stored: StoredJobs):
        self.stored = stored
        self._read = lru_cache(TRUNKS)(self._read_mask)

    def wrong(self, record: Record) -> Iterator[str]:
        """Yield what is wrong with the mask of a finished training, or with what its metrics say of one, in words.

        Nothing is wrong where its identity, its parent and its own files agree. A record that is in no store is passed,
        and so is one whose identity is not what its key says: it proves nothing, which the audit says elsewhere.
        """
        manifest, metrics = record.manifest, record.metrics
        identity = self.stored.identity(manifest.key)
        if identity is None or not manifest.files or not self.stored.genuine(manifest.key):
            return
        if self.stored.store.find(manifest.key) is None:
            return
        kind, branch = identity.get("kind"), identity.get("branch")
        try:
            yield from inconsistent(metrics)
            if kind == "dense":
                yield from self._wrong_dense(record)
            elif "prune" in identity:
                yield from self._wrong_trunk(record, identity)
            elif branch is not None:
                yield from self._wrong_control(record, identity, branch)
        except (KeyError, TypeError, ValueError, AttributeError) as error:  # fields that no job of ours would have
            yield f"its identity and metrics do not fit together ({error!r})"

    def _wrong_dense(self, record: Record) -> Iterator[str]:
        """Yield where a dense network lacks weights, or its metrics have other sizes than its stored weights."""
        sizes = record.metrics["sizes"]
        yield from differing(sizes, record.metrics["alive"], "a dense network keeps")
        if record.diverged is None:
            shapes = self._shapes(record, WEIGHTS_FILE)
            if {name: _size(shapes.get(name, ())) for name in sizes} != sizes:
                yield "the sizes of layers in its metrics are not those of its weights"

    def _wrong_trunk(self, record: Record, identity: Mapping[str, Any]) -> Iterator[str]:
        """Yield what is wrong with the mask of a ticket, or of a level of a control's own trunk."""
        key, metrics = record.manifest.key, record.metrics
        above = self._mask_above(record, identity)
        in_training = identity["prune"].get("when") == "training"
        if (parent := self.stored.known.get(str(identity.get("parent")))) is not None:
            yield from differing(parent["sizes"], metrics["sizes"], "the network it was pruned from has, of size,")
        if above is not None and not (in_training and record.diverged is not None):  # then pruning had not ended
            yield from wrong_counts(metrics["alive"], above, identity["prune"])
        if record.diverged is not None:
            return
        mask = self._read(key)
        if mask is None:
            yield "its mask is not in the store"
            return
        yield from misdescribed(metrics, mask)
        if above is not None:
            yield from wrong_counts(mask.alive(), above, identity["prune"])
            yield from not_nested(mask, above)
        for name in record.manifest.files:
            if name.endswith(".safetensors") and name not in NO_WEIGHTS:
                yield from wrong_sizes(self._shapes(record, name), mask)

    def _wrong_control(self, record: Record, identity: Mapping[str, Any], branch: Mapping[str, Any]) -> Iterator[str]:
        """Yield where a control, whose mask is not kept, has other counts than its origin gives it."""
        component = Component(str(branch["name"]), {k: v for k, v in branch.items() if k != "name"})
        ticket, metrics = self.stored.known.get(str(identity.get("parent"))), record.metrics
        origin = origin_of(component, self._mode(record.manifest.key))
        if not origin.known or ticket is None:
            return
        if origin.mask == "none":
            yield from differing(metrics["sizes"], metrics["alive"], "a network without a mask has")
            return
        yield from differing(ticket["sizes"], metrics["sizes"], "its ticket has, of size,")
        if origin.mask == "learned":
            if component.name == "edge_popup" and record.diverged is None:
                yield from differing(ticket["alive"], metrics["alive"], "its ticket has")
        elif origin.mask in OF_THE_TICKET and not self._over_all(origin.mask, branch, identity):
            yield from differing(ticket["alive"], metrics["alive"], "its ticket has")
        elif origin.mask in OF_THE_TICKET:
            ours, theirs = (sum(each["alive"].values()) for each in (metrics, ticket))
            if ours != theirs:
                yield f"it has {ours:,} weights, its ticket has {theirs:,}"
        elif (partner := self.stored.known.get(str(identity.get("partner")))) is not None:
            yield from differing(partner["alive"], metrics["alive"], "the ticket whose mask it has keeps")

    def _over_all(self, mask: str, branch: Mapping[str, Any], identity: Mapping[str, Any]) -> bool:
        """Return True if a control has its ticket's number of weights over all layers together, and not in each."""
        if mask == "the ticket's, permuted":
            return branch.get("scope") == "global"
        ticket = self.stored.identity(str(identity.get("parent"))) or {}
        return mask == "pruned once from the dense network" and ticket.get("prune", {}).get("scope") == "global"

    def _mode(self, key: str) -> str:
        tickets = self.stored.tickets(key)
        return str(tickets[0]["rewind"].get("mode", "weights")) if tickets else "weights"

    def _mask_above(self, record: Record, identity: Mapping[str, Any]) -> Mask | None:
        """Return the mask that this one was pruned from; None where its parent is unknown, which is told elsewhere."""
        parent = str(identity.get("parent"))
        about = self.stored.identity(parent) or {}
        if about.get("kind") == "dense":
            mask = self._read(record.manifest.key)
            shapes = mask.shapes() if mask is not None else None
            if shapes is None:  # a diverged one keeps none
                weights = self._packed_shapes(parent, WEIGHTS_FILE)
                shapes = {name: weights.get(name, ()) for name in record.metrics["sizes"]}
            return Mask.full(shapes)
        return self._read(parent) if about else None

    def _read_mask(self, key: str) -> Mask | None:
        try:
            return read_mask(self.stored.store, key)
        except MachineError:
            raise
        except LotteryError:
            return None

    def _shapes(self, record: Record, name: str) -> Mapping[str, tuple[int, ...]]:
        return self._packed_shapes(record.manifest.key, name)

    def _packed_shapes(self, key: str, name: str) -> Mapping[str, tuple[int, ...]]:
        try:
            return self.stored.store.shapes(key, name)
        except MachineError:
            raise
        except LotteryError:
            return {}


def _size(shape: tuple[int, ...]) -> int:
    count = 1
    for side in shape:
        count *= side
    return count
