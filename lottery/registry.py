"""The catalogues: `Registry`, to which a decorator adds entries, and one registry for each of the twelve catalogues.

A name that is taken is refused, a misspelt one gets a suggestion; this package's entries are in `lottery.catalogue`.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from lottery import traits
from lottery.command_traits import ExecutorTraits, TrackerTraits
from lottery.data_traits import DatasetTraits
from lottery.errors import UsageError
from lottery.plugins import signature
from lottery.plugins.faults import place_of
from lottery.plugins.find import Found, find
from lottery.plugins.load import GROUP, import_installed, import_plugin, not_imported, other_ways
from lottery.plugins.source import code_of, is_ours
from lottery.values import Component, as_given, plain

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T", bound=traits.Traits)
V = TypeVar("V")
Problem = tuple[tuple[str | int, ...], str]  # the keys and indices that lead to a value, and what is wrong with it


@dataclass(frozen=True)
class Entry(Generic[T]):
    """One function of a catalogue, whose keyword-only parameters are the keys that a recipe may give.

    `version` goes into the keys of jobs: raise it when the entry's results change. Where only those with some arguments
    do, the trait `version_of` takes the arguments and gives the version that counts. If the entry is from outside this
    package, `code`, the hash of its source, goes into the keys as well.
    """

    name: str
    make: Callable[..., Any]
    source: str
    version: int
    traits: T
    singular: str = "entry"  # what the catalogue calls it
    module: str = "lottery"  # the one that registered it
    code: str = ""  # hash of its source if that is outside this package, else empty

    @property
    def summary(self) -> str:
        """First line of the docstring, which `lottery list` shows."""
        return (inspect.getdoc(self.make) or "").partition("\n")[0]

    @property
    def plugin(self) -> str:
        """Module, catalogue and name, as the beginning of a message about a fault of the entry."""
        return f"plugin {self.module}: {self.singular} {self.name!r}"

    def fault(self, what: str) -> UsageError:
        """Return the error for what the function has returned, with its place."""
        return UsageError(f"{self.plugin}: {place_of(self.make)}: {what}")

    def checked(self, value: Any, kind: type[V]) -> V:
        """Return what the function has returned. Raises UsageError where that is not of this kind."""
        if not isinstance(value, kind):
            raise self.fault(f"returns {type(value).__name__}; it has to return a {kind.__name__}")
        return value

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """Default of each key that a recipe may leave out."""
        keys = signature.parameters(self.make)
        return {p.name: p.default for p in keys if p.default is not inspect.Parameter.empty}

    def all_arguments(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the given arguments, and the default of each that is not given."""
        return {**self.defaults, **given}

    @cached_property
    def schema(self) -> type[BaseModel]:
        """Pydantic model of the keys that a recipe may give, made from the signature.

        Raises:
            UsageError: A plugin's signature cannot be made into one.
        """
        try:
            return signature.schema(self.name, self.make)
        except ValueError as error:
            raise UsageError(f"{self.plugin}: {error}") from error

    def check(self, args: Mapping[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
        """Return the given keys with their values brought to the declared types, and what is wrong with them."""
        try:
            model = self.schema.model_validate(dict(args))
        except ValidationError as error:
            return {}, [(e["loc"], self._explain(e)) for e in error.errors()]
        return {key: getattr(model, key) for key in args}, []

    def _explain(self, error: Any) -> str:
        if error["type"] == "extra_forbidden":
            key = error["loc"][-1]
            return f"{self.name} has no key {key!r}{suggest(str(key), self.schema.model_fields)}"
        if error["type"] == "missing" and len(error["loc"]) == 1:
            return f"{self.name} needs the key {error['loc'][0]!r}"
        if error["type"] == "missing":
            return f"the list is too short, it has no item {error['loc'][-1]}"
        return explain(error)


def explain(error: Any) -> str:
    """Return pydantic's message of one error with the value that is wrong, on one line."""
    message = str(error["msg"]).removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    given = repr(as_given(error.get("input")))
    shown = given if len(given) <= 60 else given[:57] + "..."
    return message if shown in message else f"{message}, not {shown}"


def suggest(name: str, known: Any) -> str:
    """Return `; did you mean 'adam'?` for a near miss, else the list of known names where there are at most 22."""
    close = difflib.get_close_matches(name, list(known), n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    names = sorted(known)
    return f"; there are {', '.join(names)}" if 0 < len(names) <= 22 else ""


class Registry(Generic[T]):
    """One catalogue: the functions registered in `lottery.catalogue.<plural>`, loaded when they are first asked for."""

    def __init__(self, singular: str, plural: str, traits: type[T], called: str = "", taken: str = ""):
        """Create an empty catalogue.

        Args:
            singular: What one entry is called in messages.
            plural: Name of the catalogue, and of its module or folder in `lottery.catalogue`.
            traits: Class of the entries' traits.
            called: Names of the positional arguments of an entry, separated by spaces.
            taken: Keys that stand beside an entry's own in a recipe and are not for it, separated by spaces.
        """
        self.singular, self.plural, self.traits = singular, plural, traits
        self.called, self.taken = called.split(), taken.split()
        self._entries: dict[str, Entry[T]] = {}
        self._loaded = False

    def register(self, name: str, *, source: str, version: int = 1, **traits: Any) -> Callable[[F], F]:
        """Decorator that adds a function under `name`.

        Args:
            name: What a recipe calls the entry.
            source: The authors and the year.
            version: A part of the keys of jobs; to be raised when the entry's results change.
            traits: By their names in the catalogue's class in `lottery.traits`.

        Raises:
            UsageError: A trait is unknown or of another type, the name is taken, or the source of the module that calls
                is in no file.
        """
        module = sys._getframe(1).f_globals.get("__name__", "")

        def add(function: F) -> F:
            said = f"plugin {module}: {self.singular} {name!r}"
            if not is_ours(module):
                self._load_own()  # so that a name of theirs that is one of ours is told to them
            if name in self._entries:
                theirs = self._entries[name].module
                raise UsageError(f"{said}: there is one already, of {theirs}; register yours under another name")
            try:
                code = "" if is_ours(module) else code_of(module, getattr(function, "__module__", module))
            except ValueError as error:
                raise UsageError(f"{said}: {error}") from error
            try:
                given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in traits.items()}
                known = self.traits(**given)
            except ValidationError as error:
                raise UsageError(f"{said}: {'; '.join(map(self._trait_fault, error.errors()))}") from error
            self._entries[name] = Entry(name, function, source, version, known, self.singular, module, code)
            return function

        return add

    def _trait_fault(self, error: Any) -> str:
        """Return one sentence on a trait that is unknown or of another type, from pydantic's description of it."""
        trait, *inside = map(str, error["loc"])
        if error["type"] == "unexpected_keyword_argument":
            return f"{self.plural} have no trait {trait!r}{suggest(trait, [f.name for f in fields(self.traits)])}"
        at = f" at {'.'.join(inside)}" if inside else ""
        return f"the trait {trait!r}{at}: {explain(error)}"

    def faults(self, name: str) -> list[str]:
        """Return why an entry of a plugin cannot be called or given keys, a sentence each; none if it can."""
        entry = self[name]
        if not entry.code:
            return []
        called = entry.traits.positional(self.called)
        wrong = [f"{entry.plugin}: {fault}" for fault in signature.faults(entry.make, called, self.taken)]
        try:
            keys = entry.schema.model_fields
        except UsageError as error:
            return [*wrong, str(error)]
        for trait, named in entry.traits.named_keys().items():
            for key in named:
                if key not in keys:
                    wrong.append(f"{entry.plugin}: the trait {trait!r} names no key of it: {key!r}{suggest(key, keys)}")
        return wrong

    def _load(self) -> None:
        self._load_own()
        _plug_in_installed()

    def _load_own(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        module = importlib.import_module(f"lottery.catalogue.{self.plural}")
        for info in pkgutil.iter_modules(getattr(module, "__path__", [])):
            if not info.name.startswith("_"):  # else entries import it when they are called: torch is allowed there
                importlib.import_module(f"{module.__name__}.{info.name}")

    def __iter__(self) -> Iterator[Entry[T]]:
        self._load()
        return iter(sorted(self._entries.values(), key=lambda entry: entry.name))

    def __contains__(self, name: object) -> bool:
        self._load()
        return name in self._entries

    def __getitem__(self, name: str) -> Entry[T]:
        """Return the entry of this name.

        Raises:
            UsageError: There is none; the message has a suggestion.
        """
        self._load()
        if name not in self._entries:
            raise UsageError(self.unknown(name))
        return self._entries[name]

    def known(self, name: str) -> str:
        """Return the name unchanged: the check of a key that names an entry, for pydantic.

        Raises:
            ValueError: There is no such entry, or it cannot be used.
        """
        if name not in self:
            raise ValueError(self.unknown(name))
        if wrong := self.faults(name):
            raise ValueError("; ".join(wrong))
        return name

    def unknown(self, name: str) -> str:
        """Return what to tell a user who asked for an entry that is not there."""
        if lost := not_imported():
            return f"no {self.singular} {name!r}; {lost}"
        near = suggest(name, self._entries)
        return f"no {self.singular} {name!r}{near} (lottery list {self.plural}){other_ways(misspelt='?' in near)}"

    def check(self, component: Component) -> tuple[Component, list[Problem]]:
        """Return the component with its arguments brought to the declared types, and all that is wrong with it."""
        if component.name not in self:
            return component, [((), self.unknown(component.name))]
        if wrong := self.faults(component.name):
            return component, [((), fault) for fault in wrong]
        args, problems = self[component.name].check(component.args)
        return Component(component.name, args), problems

    def identity(self, component: Component) -> dict[str, Any]:
        """Return the part of a job's identity that a component makes up.

        These are its name, its version, the hash of its source if it comes from a plugin, and the arguments that differ
        from their default, but for those that change no result (trait `how`).
        """
        entry = self[component.name]
        given = {
            k: v
            for k, v in component.args.items()
            if k not in entry.traits.how and (k not in entry.defaults or v != entry.defaults[k])
        }
        named = {registry.singular: registry for registry in catalogues.values()}  # an inner component's key says which
        inner = {k: named[k].identity(v) for k, v in given.items() if isinstance(v, Component) and v.name in named[k]}
        said = {k: inner[k] if k in inner else plain(v) for k, v in sorted(given.items())}
        arguments = entry.all_arguments(component.args)
        version = entry.version if entry.traits.version_of is None else entry.traits.version_of(arguments)
        return {"name": entry.name, "version": version, **({"code": entry.code} if entry.code else {}), **said}


datasets = Registry("dataset", "datasets", DatasetTraits, "root", "validation augment limit label_noise")
models = Registry("model", "models", traits.ModelTraits, "input_shape classes")
inits = Registry("init", "inits", traits.InitTraits, "model generator")
normalizations = Registry("normalization", "normalizations", traits.NormalizationTraits, "channels spatial")
activations = Registry("activation", "activations", traits.Traits)
optimizers = Registry("optimizer", "optimizers", traits.OptimizerTraits, "model", "batch_size rates")
schedules = Registry("schedule", "schedules", traits.Traits, "step total", "warmup")
criteria = Registry("criterion", "criteria", traits.CriterionTraits, "weights context")
branches = Registry("branch", "branches", traits.BranchTraits, "level generator", "samples as levels")
analyses = Registry(
    "analysis",
    "analyses",
    traits.AnalysisTraits,
    "subject memo",
    "of between through along at pairs levels reading margin as",
)
executors = Registry("executor", "executors", ExecutorTraits, "launch")
trackers = Registry("tracker", "trackers", TrackerTraits)

catalogues: dict[str, Registry[Any]] = {
    each.plural: each
    for each in (
        *(datasets, models, inits, normalizations, activations),
        *(optimizers, schedules, criteria, branches, analyses, executors, trackers),
    )
}

_seen: set[str] = set()  # entry-point groups whose plugins were loaded, or tried


def plugins() -> dict[str, str]:
    """Return the hash of the source of each module from outside this package that has registered an entry."""
    _plug_in_installed()
    every = (entry for registry in catalogues.values() for entry in registry._entries.values())
    return {entry.module: entry.code for entry in every if entry.code}


def plug_in(plugin: str | Found) -> None:
    """Import a module that adds entries, by its name or file; if one can be used is checked when a recipe names it.

    Raises:
        UsageError: The import failed; the entries that it had added until then are removed again.
    """
    before = {plural: set(registry._entries) for plural, registry in catalogues.items()}
    try:
        import_plugin(find(plugin) if isinstance(plugin, str) else plugin)
    except UsageError:
        for plural, registry in catalogues.items():
            for name in [n for n, entry in registry._entries.items() if entry.code and n not in before[plural]]:
                del registry._entries[name]
        raise


def _plug_in_installed() -> None:
    """Load the plugins of installed packages, once; one that fails breaks only recipes that name its entries."""
    if GROUP not in _seen:
        _seen.add(GROUP)
        import_installed(plug_in)
