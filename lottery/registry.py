"""One Registry type: entries join by decorator, duplicates are refused, a typo gets a suggestion."""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import UnionType
from typing import Annotated, Any, Generic, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Strict, ValidationError, create_model

from lottery.errors import UsageError
from lottery.spec import Component, as_given, plain

F = TypeVar("F", bound=Callable[..., Any])
Problem = tuple[tuple[str | int, ...], str]  # where inside the value, what is wrong


@dataclass(frozen=True)
class Entry(Generic[F]):
    """One function of a catalogue. Its keyword-only parameters are the keys a recipe may give.

    `version` goes into the keys of jobs: raise it when the entry's results change."""

    name: str
    make: F
    source: str
    version: int
    traits: Mapping[str, Any]  # what the catalogue's machinery asks of an entry beside calling it

    @property
    def summary(self) -> str:
        """The first line of the docstring."""
        return (inspect.getdoc(self.make) or "").partition("\n")[0]

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """Default of each key a recipe may leave out."""
        return {p.name: p.default for p in self._keys() if p.default is not inspect.Parameter.empty}

    def _keys(self) -> list[inspect.Parameter]:
        parameters = inspect.signature(self.make).parameters.values()
        return [p for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]

    @cached_property
    def schema(self) -> type[BaseModel]:
        """The keys a recipe may give, as a pydantic model made from the signature."""
        scope = vars(sys.modules[self.make.__module__])
        fields: dict[str, Any] = {}
        for p in self._keys():
            kind = eval(p.annotation, dict(scope)) if isinstance(p.annotation, str) else p.annotation
            fields[p.name] = (_strict(kind), ... if p.default is inspect.Parameter.empty else p.default)
        config = ConfigDict(extra="forbid", allow_inf_nan=False, protected_namespaces=())
        return create_model(f"{self.name}_keys", __config__=config, **fields)

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


def _strict(kind: Any) -> Any:
    """The type with its numbers and flags taken at their word: `true` and `"0.1"` are no float."""
    if kind in (int, float, bool, str):
        return Annotated[kind, Strict()]
    if get_origin(kind) is Annotated:
        return Annotated[_strict(get_args(kind)[0]), *kind.__metadata__]
    if get_origin(kind) in (tuple, list, dict):
        return get_origin(kind)[tuple(_strict(arg) for arg in get_args(kind))]
    if get_origin(kind) in (Union, UnionType):
        return Union[tuple(_strict(arg) for arg in get_args(kind))]  # noqa: UP007
    return kind


def explain(error: Any) -> str:
    """pydantic's message with the offending value, on one line."""
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
    return f"; there are {', '.join(names)}" if 0 < len(names) <= 16 else ""


class Registry(Generic[F]):
    """A catalogue: the functions that register themselves in `lottery.<plural>`, loaded at the first question."""

    def __init__(self, singular: str, plural: str):
        self.singular = singular
        self.plural = plural
        self._entries: dict[str, Entry[F]] = {}
        self._loaded = False

    def register(self, name: str, *, source: str, version: int = 1, **traits: Any) -> Callable[[F], F]:
        """Decorator that adds a function under `name`. `source` names the authors and the year.

        Raises ValueError where the name is taken."""

        def add(function: F) -> F:
            if name in self._entries:
                raise ValueError(f"{self.singular} {name!r} is registered twice")
            self._entries[name] = Entry(name, function, source, version, traits)
            return function

        return add

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        module = importlib.import_module(f"lottery.{self.plural}")
        for info in pkgutil.iter_modules(getattr(module, "__path__", [])):
            if info.name.startswith("_"):  # what entries import when they are called: torch is allowed there
                continue
            importlib.import_module(f"{module.__name__}.{info.name}")

    def __iter__(self) -> Iterator[Entry[F]]:
        self._load()
        return iter(sorted(self._entries.values(), key=lambda entry: entry.name))

    def __contains__(self, name: object) -> bool:
        self._load()
        return name in self._entries

    def __getitem__(self, name: str) -> Entry[F]:
        """The entry. Raises UsageError with a suggestion where there is none."""
        self._load()
        if name not in self._entries:
            raise UsageError(self.unknown(name))
        return self._entries[name]

    def known(self, name: str) -> str:
        """The name, as pydantic checks it. Raises ValueError where there is no such entry."""
        if name not in self:
            raise ValueError(self.unknown(name))
        return name

    def unknown(self, name: str) -> str:
        """What to tell a user who asked for an entry that is not there."""
        return f"no {self.singular} {name!r}{suggest(name, self._entries)} (lottery list {self.plural})"

    def check(self, component: Component) -> tuple[Component, list[Problem]]:
        """The component with its arguments brought to the declared types, and all that is wrong with it."""
        if component.name not in self:
            return component, [((), self.unknown(component.name))]
        args, problems = self[component.name].check(component.args)
        return Component(component.name, args), problems

    def identity(self, component: Component) -> dict[str, Any]:
        """What of a component can change a result: name, version, arguments that differ from their default."""
        entry = self[component.name]
        how = entry.traits.get("how", ())  # arguments that say how a result is come by, and change none
        given = {
            k: v
            for k, v in component.args.items()
            if k not in how and (k not in entry.defaults or v != entry.defaults[k])
        }
        named = {registry.singular: registry for registry in catalogues.values()}  # an inner component's key says which
        inner = {k: named[k].identity(v) for k, v in given.items() if isinstance(v, Component) and v.name in named[k]}
        said = {k: inner[k] if k in inner else plain(v) for k, v in sorted(given.items())}
        return {"name": entry.name, "version": entry.version, **said}


datasets: Registry[Callable[..., Any]] = Registry("dataset", "datasets")
models: Registry[Callable[..., Any]] = Registry("model", "models")
inits: Registry[Callable[..., Any]] = Registry("init", "inits")
normalizations: Registry[Callable[..., Any]] = Registry("normalization", "normalizations")
activations: Registry[Callable[..., Any]] = Registry("activation", "activations")
optimizers: Registry[Callable[..., Any]] = Registry("optimizer", "optimizers")
schedules: Registry[Callable[..., Any]] = Registry("schedule", "schedules")
criteria: Registry[Callable[..., Any]] = Registry("criterion", "criteria")
branches: Registry[Callable[..., Any]] = Registry("branch", "branches")

catalogues: dict[str, Registry[Callable[..., Any]]] = {
    r.plural: r
    for r in (datasets, models, inits, normalizations, activations, optimizers, schedules, criteria, branches)
}
