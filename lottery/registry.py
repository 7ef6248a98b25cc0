"""One Registry type: entries join by decorator, duplicates are refused, a typo gets a suggestion."""

from __future__ import annotations

import difflib
import importlib
import inspect
import logging
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from lottery.errors import UsageError
from lottery.plugins import signature
from lottery.plugins.load import GROUP, import_plugin, installed
from lottery.plugins.source import code_of, is_ours
from lottery.traits import (
    BranchTraits,
    CriterionTraits,
    DatasetTraits,
    InitTraits,
    ModelTraits,
    NormalizationTraits,
    OptimizerTraits,
    Traits,
)
from lottery.values import Component, as_given, plain

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T", bound=Traits)
Problem = tuple[tuple[str | int, ...], str]  # where inside the value, what is wrong


@dataclass(frozen=True)
class Entry(Generic[T]):
    """One function of a catalogue. Its keyword-only parameters are the keys a recipe may give.

    `version` goes into the keys of jobs: raise it when the entry's results change. Where only those with some arguments
    do, the trait `version_of` takes the arguments and gives the version that counts. Of an entry from outside this
    package `code` goes into the keys as well.
    """

    name: str
    make: Callable[..., Any]
    source: str
    version: int
    traits: T
    singular: str = "entry"  # what the catalogue calls it
    module: str = "lottery"  # that registered it
    code: str = ""  # hash of its source where that comes from outside this package

    @property
    def summary(self) -> str:
        """The first line of the docstring."""
        return (inspect.getdoc(self.make) or "").partition("\n")[0]

    @property
    def plugin(self) -> str:
        """What to call it where something is wrong with it."""
        return f"plugin {self.module}: {self.singular} {self.name!r}"

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """Default of each key a recipe may leave out."""
        keys = signature.parameters(self.make)
        return {p.name: p.default for p in keys if p.default is not inspect.Parameter.empty}

    @cached_property
    def schema(self) -> type[BaseModel]:
        """The keys a recipe may give, as a pydantic model made from the signature. Raises UsageError where a plugin's
        signature does not do for that.
        """
        try:
            return signature.schema(self.name, self.make)
        except ValueError as error:
            raise UsageError(f"{self.plugin}: {error}") from error

    def check(self, args: Mapping[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
        """The given keys with their values brought to the declared types, and what is wrong with them."""
        try:
            model = self.schema.model_validate(dict(args))
        except ValidationError as error:
            return {}, [(e["loc"], self._explain(e)) for e in error.errors()]
        return {key: getattr(model, key) for key in args}, []

    def _explain(self, error: Any) -> str:
        if error["type"] == "extra_forbidden":
            return (
                f"{self.name} has no key {error['loc'][-1]!r}{suggest(str(error['loc'][-1]), self.schema.model_fields)}"
            )
        if error["type"] == "missing" and len(error["loc"]) == 1:
            return f"{self.name} needs the key {error['loc'][0]!r}"
        if error["type"] == "missing":
            return f"the list is too short, it has no item {error['loc'][-1]}"
        return explain(error)


def explain(error: Any) -> str:
    """Pydantic's message with the offending value, on one line."""
    message = str(error["msg"]).removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    given = repr(as_given(error.get("input")))
    shown = given if len(given) <= 60 else given[:57] + "..."
    return message if shown in message else f"{message}, not {shown}"


def suggest(name: str, known: Any) -> str:
    """`; did you mean 'adam'?` for a near miss, else the list of what there is."""
    close = difflib.get_close_matches(name, list(known), n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    names = sorted(known)
    return f"; there are {', '.join(names)}" if 0 < len(names) <= 20 else ""


class Registry(Generic[T]):
    """A catalogue: the functions registered in `lottery.catalogue.<plural>`, loaded at the first question."""

    def __init__(self, singular: str, plural: str, traits: type[T], called: str = "", taken: str = ""):
        """`traits` is the class of the entries' traits. `called` names the positional arguments of an entry, `taken`
        the keys of a recipe that stand beside its own and are not for it.
        """
        self.singular, self.plural, self.traits = singular, plural, traits
        self.called, self.taken = called.split(), taken.split()
        self._entries: dict[str, Entry[T]] = {}
        self._loaded = False

    def register(self, name: str, *, source: str, version: int = 1, **traits: Any) -> Callable[[F], F]:
        """Decorator that adds a function under `name`.

        Args:
            name: what a recipe calls the entry.
            source: the authors and the year.
            version: a part of the keys of jobs; to be raised when the entry's results change.
            traits: by their names in the catalogue's class in `lottery.traits`.

        Raises:
            UsageError: a trait is unknown or of another type, the name is taken, or the source of the module that calls
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
                known = self.traits(**traits)
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
        """Why an entry from outside this package can be of no use."""
        entry = self[name]
        if not entry.code:
            return []
        called = entry.traits.positional(self.called)
        wrong = [f"{entry.plugin}: {fault}" for fault in signature.faults(entry.make, called, self.taken)]
        try:
            _ = entry.schema
        except UsageError as error:
            wrong.append(str(error))
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
            if info.name.startswith("_"):  # what entries import when they are called: torch is allowed there
                continue
            importlib.import_module(f"{module.__name__}.{info.name}")

    def __iter__(self) -> Iterator[Entry[T]]:
        self._load()
        return iter(sorted(self._entries.values(), key=lambda entry: entry.name))

    def __contains__(self, name: object) -> bool:
        self._load()
        return name in self._entries

    def __getitem__(self, name: str) -> Entry[T]:
        """The entry. Raises UsageError with a suggestion where there is none."""
        self._load()
        if name not in self._entries:
            raise UsageError(self.unknown(name))
        return self._entries[name]

    def known(self, name: str) -> str:
        """The name, as pydantic checks it. Raises ValueError where there is no such entry, or it can be of no use."""
        if name not in self:
            raise ValueError(self.unknown(name))
        if wrong := self.faults(name):
            raise ValueError("; ".join(wrong))
        return name

    def unknown(self, name: str) -> str:
        """What to tell a user who asked for an entry that is not there."""
        lost = "".join(f"; {failure}" for failure in _failures.values())
        return f"no {self.singular} {name!r}{suggest(name, self._entries)} (lottery list {self.plural}){lost}"

    def check(self, component: Component) -> tuple[Component, list[Problem]]:
        """The component with its arguments brought to the declared types, and all that is wrong with it."""
        if component.name not in self:
            return component, [((), self.unknown(component.name))]
        if wrong := self.faults(component.name):
            return component, [((), fault) for fault in wrong]
        args, problems = self[component.name].check(component.args)
        return Component(component.name, args), problems

    def identity(self, component: Component) -> dict[str, Any]:
        """What of a component can change a result: name, version, hash of a plugin's source, arguments that differ from
        their default.
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
        version = entry.version if entry.traits.version_of is None else entry.traits.version_of(component.args)
        return {"name": entry.name, "version": version, **({"code": entry.code} if entry.code else {}), **said}


datasets = Registry("dataset", "datasets", DatasetTraits, "root", "validation augment limit")
models = Registry("model", "models", ModelTraits, "input_shape classes")
inits = Registry("init", "inits", InitTraits, "model generator")
normalizations = Registry("normalization", "normalizations", NormalizationTraits, "channels spatial")
activations = Registry("activation", "activations", Traits)
optimizers = Registry("optimizer", "optimizers", OptimizerTraits, "model", "batch_size rates")
schedules = Registry("schedule", "schedules", Traits, "step total", "warmup")
criteria = Registry("criterion", "criteria", CriterionTraits, "weights context")
branches = Registry("branch", "branches", BranchTraits, "level generator", "samples as levels")

catalogues: dict[str, Registry[Any]] = {
    datasets.plural: datasets,
    models.plural: models,
    inits.plural: inits,
    normalizations.plural: normalizations,
    activations.plural: activations,
    optimizers.plural: optimizers,
    schedules.plural: schedules,
    criteria.plural: criteria,
    branches.plural: branches,
}

_failures: dict[str, str] = {}  # of installed plugins, by module: what is wrong with those that could not be loaded
_seen: set[str] = set()  # installed plugins that were loaded, or tried


def plugins() -> dict[str, str]:
    """The hash of the source of each module from outside this package that has registered an entry."""
    _plug_in_installed()
    every = (entry for registry in catalogues.values() for entry in registry._entries.values())
    return {entry.module: entry.code for entry in every if entry.code}


def plug_in(module: str) -> None:
    """Import a module that adds entries. Raises UsageError where that fails; what it has added until then is taken away
    again. Whether an entry can be of use is looked at when it is named.
    """
    before = {plural: set(registry._entries) for plural, registry in catalogues.items()}
    try:
        import_plugin(module)
    except UsageError:
        for plural, registry in catalogues.items():
            added = [name for name, entry in registry._entries.items() if entry.code and name not in before[plural]]
            for name in added:
                del registry._entries[name]
        raise


def _plug_in_installed() -> None:
    """Load the plugins of installed packages, once. One that fails breaks nothing but a recipe that names its entries:
    it is told of, and left out.
    """
    if GROUP in _seen:
        return
    _seen.add(GROUP)
    for plugin in installed():
        try:
            plug_in(plugin.module)
        except UsageError as error:
            said = str(error).partition("\n")[0]
            way = f"update or uninstall {plugin.distribution}, which brings it"
            _failures[plugin.module] = f"{said}; this plugin is left out: {way}"
            logging.getLogger("lottery").warning("%s", _failures[plugin.module])
