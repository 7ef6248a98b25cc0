"""A finished training of a store by its key alone: what it is, and the recipe of one seed that its identity is of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lottery import registry
from lottery.errors import UsageError
from lottery.plan.jobs import Job
from lottery.plan.keys import SCHEMA, digest
from lottery.plan.kinds import IDENTITY_FILE, METRICS_FILE, Kind
from lottery.recipe.analysis_rules import out_of_reach
from lottery.recipe.components import check_entry
from lottery.results.stored_recipe import check_sources, recipe_of, without_versions
from lottery.values import Component
from lottery.words import short

if TYPE_CHECKING:
    from lottery.recipe.schema import BranchSpec, Recipe
    from lottery.store.store import Store

_LISTED = "lottery table --view long lists the keys of networks"


@dataclass(frozen=True)
class StoredTraining:
    """A finished training of a dense network, a ticket, a control, or a child of a state.

    Attributes:
        key: Its key.
        label: What its manifest calls it.
        chain: Its identity and those of its parents, the dense network's last, or that of the state a child is of.
        metrics: What was measured of it.
        recipe: A recipe of one seed that trains its dense network; levels and controls are not in it.
    """

    key: str
    label: str
    chain: tuple[dict[str, Any], ...]
    metrics: dict[str, Any]
    recipe: Recipe = field(repr=False)

    @property
    def training(self) -> dict[str, Any]:
        """The section `training` of the dense network's identity, or of that of its state at a rewind point."""
        found: dict[str, Any] = self.chain[-1]["training"]
        return found

    @property
    def diverged(self) -> int | None:
        """The step at which it diverged; None where it ended well."""
        return self.metrics.get("diverged")

    @property
    def branch(self) -> dict[str, Any]:
        """The section `branch` of a control's identity; empty for other networks."""
        found: dict[str, Any] = self.chain[0].get("branch", {})
        return found

    @property
    def name(self) -> str:
        """`dense`, `ticket`, `child`, or the name of the control's entry."""
        if self.chain[0]["kind"] == Kind.CHILD:
            return "child"
        return self.branch.get("name", "ticket") if len(self.chain) > 1 else "dense"

    def jobs(self) -> dict[str, Job]:
        """Return its job and those of its parents by key, of which a plan can be made; none needs another."""
        point = {"schema": SCHEMA, "kind": Kind.REWIND.value, "training": self.training, "to": self._rewind["to"]}
        seed, optimizer = int(self.training["seed"]), self.recipe.train.optimizer[0]
        found: dict[str, Job] = {}
        for index, identity in enumerate(self.chain):
            dense = index == len(self.chain) - 1
            about: dict[str, Any] = {} if dense else {"rewind": self.recipe.rewind[0], "point": digest(point)}
            if index == 0 and self.branch and not self.start_unknown:
                about |= {"branch": self._branch_spec, "sample": int(identity["sample"])}
            level = sum("rewind" in each for each in self.chain[index:])
            job = Job(Kind(identity["kind"]), identity, identity.get("parent"), seed, optimizer, level=level, **about)
            found[job.key] = job
        return found

    @property
    def start_unknown(self) -> str:
        """Why the state that it starts from cannot be told without its recipe, in words; empty where it can.

        A control's start is made again from the ticket that it leaves, by its own entry, where that looks at nothing
        which identities do not have: how the recipe prunes, and other seeds.
        """
        if any("during" in identity.get("prune", {}) for identity in self.chain):
            return "it is pruned in the course of its training"
        if not self.branch:
            return ""
        entry = registry.branches[self.branch["name"]]
        if not entry.make.__module__.startswith("lottery."):
            return f"{entry.name} comes from a plugin"
        if self.chain[1]["kind"] == Kind.BRANCH or entry.traits.criterion:
            return "it depends on how the recipe prunes"
        if self.branch.get("scope") == "global":
            return "it depends on which layers the recipe prunes"
        return "it has the mask of another seed" if entry.traits.partner else ""

    @property
    def _branch_spec(self) -> BranchSpec:
        """The control, as a recipe names it; a learning rate that was chosen is the one that was taken."""
        from lottery.recipe.schema import BranchSpec

        given = without_versions(self.branch)
        if isinstance(optimizer := given.get("optimizer"), dict) and isinstance(optimizer.get("lr"), dict):
            optimizer["lr"] = self.metrics["lr"]
        checked, problems = check_entry(registry.branches, given)
        assert not problems, problems  # a training that is finished had arguments that are valid
        return BranchSpec.model_validate({"name": checked.name, **checked.args})

    @property
    def _rewind(self) -> dict[str, Any]:
        return rewind_of(self.chain)


def rewind_of(chain: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the section `rewind` of the ticket's identity in a chain; that of the initialization where there is none.

    A control leaves the ticket that is its parent, a child the state of its parent.
    """
    named: list[dict[str, Any]] = [identity["rewind"] for identity in chain if "rewind" in identity]
    return named[0] if named else {"to": chain[-1].get("to", "init"), "mode": "weights"}


def find_training(store: Store, prefix: str) -> StoredTraining:
    """Return the finished training whose key starts so.

    Raises:
        UsageError: No finished job has such a key, the job is no training of a network, it needs a plugin that is not
            loaded as it was, or its states are not those of the recipe's network.
        DamagedFile: A file of the store is damaged.
    """
    key = _finished(store, prefix)
    manifest = store.find(key)
    if manifest is None:
        raise UsageError(f"{short(key)}: was damaged and has been put aside; run its recipe again")
    _check_kind(key, manifest.kind)
    chain = [store.read_json(key, IDENTITY_FILE)]
    while chain[-1].get("parent") is not None:
        chain.append(store.read_json(chain[-1]["parent"], IDENTITY_FILE))
    training = chain[-1]["training"]
    check_sources(training, manifest.environment, short(key))
    branch = dict(chain[0].get("branch", {}))
    if branch and (why := out_of_reach(Component(branch.pop("name"), branch))):
        raise UsageError(f"{short(key)}: {manifest.label} {why}, so that it has no state of the recipe's network")
    metrics = store.read_json(key, METRICS_FILE)
    recipe = recipe_of(training, rewind_of(chain), _rate(store, [digest(identity) for identity in chain]))
    return StoredTraining(key, manifest.label, tuple(chain), metrics, recipe)


def _rate(store: Store, keys: Sequence[str]) -> float | None:
    """Return the learning rate that was chosen, by the first of these trainings that was given it; else None."""
    for key in keys:
        manifest = store.find(key)
        if manifest is not None and METRICS_FILE in manifest.files:
            rate: float | None = store.read_json(key, METRICS_FILE).get("lr")
            if rate is not None:
                return rate
    return None


def _check_kind(key: str, kind: str) -> None:
    """Raise UsageError where a job is no training of a dense network, a ticket, a control or a child of a state."""
    if kind == Kind.RETRAINING:
        raise UsageError(
            f"{short(key)}: is the training of a ticket file, whose key does not say what it was trained on; name the "
            f"ticket that the file was exported from ({_LISTED})"
        )
    if not (Kind(kind).measured or kind == Kind.CHILD):
        raise UsageError(f"{short(key)}: is a job of kind {kind}, no network; {_LISTED}")


def _finished(store: Store, prefix: str) -> str:
    """Return the key of the one finished job whose key starts so.

    Raises:
        UsageError: There is none or several, or the one that there is is not finished.
    """
    try:
        return store.resolve(prefix)
    except UsageError:
        begun = [key for key in {*store.checkpoints.jobs(), *store.leases.held()} if key.startswith(prefix)]
        if len(begun) != 1:
            raise
        state = store.state(begun[0])
        raise UsageError(
            f"{short(begun[0])}: this job is not finished ({state}); lottery run goes on with it, then look at it"
        ) from None
