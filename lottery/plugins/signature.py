"""Signatures of a catalogue's functions: keys that a recipe may give, their types, and faults."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Strict, create_model
from pydantic.errors import PydanticUserError

Parameter = inspect.Parameter

_UNFIT = (PydanticUserError, TypeError, NameError)
_RESERVED = ("name", "version", "code")  # what an identity says of an entry beside its arguments


def parameters(function: Callable[..., Any]) -> list[Parameter]:
    """Return the parameters after the `*`: the keys that a recipe may give."""
    return [p for p in inspect.signature(function).parameters.values() if p.kind is Parameter.KEYWORD_ONLY]


def schema(name: str, function: Callable[..., Any]) -> type[BaseModel]:
    """Return a pydantic model of the keys that a recipe may give.

    Raises:
        ValueError: A key has no type, or one that no recipe can write; the message names all of them.
    """
    fields: dict[str, Any] = {}
    wrong = []
    for p in parameters(function):
        try:
            fields[p.name] = (_type(p, function), ... if p.default is Parameter.empty else p.default)
        except ValueError as error:
            wrong.append(str(error))
    if not wrong:
        try:
            return _model(f"{name}_keys", fields)
        except _UNFIT:
            wrong = [said for key, (kind, _) in fields.items() if (said := _unfit(key, kind))]
            if not wrong:
                raise
    raise ValueError("; ".join(wrong))


def _model(name: str, fields: dict[str, Any]) -> type[BaseModel]:
    config = ConfigDict(extra="forbid", allow_inf_nan=False, protected_namespaces=())
    return create_model(name, __config__=config, **fields)


def _type(p: Parameter, function: Callable[..., Any]) -> Any:
    """Return the type that a parameter is declared with, strict.

    Raises:
        ValueError: There is none, it cannot be read, or no recipe could write it.
    """
    if p.annotation is Parameter.empty:
        raise ValueError(f"the parameter {p.name!r} has no type; write `{_typed(p)}`")
    scope = dict(vars(sys.modules[function.__module__])) if function.__module__ in sys.modules else {}
    try:
        kind = eval(p.annotation, scope) if isinstance(p.annotation, str) else p.annotation
    except Exception as error:  # whatever the text of a type stumbles over
        raise ValueError(
            f"the type of the parameter {p.name!r}, {p.annotation!r}, cannot be read: {error}; import what it names at "
            "the top of the module"
        ) from error
    try:
        return _strict(kind)
    except TypeError as error:
        raise ValueError(_cannot(p.name, kind)) from error


def _unfit(key: str, kind: Any) -> str:
    """Return what is wrong with one parameter of which pydantic makes no schema; empty if it makes one."""
    try:
        _model("type", {"key": (kind, ...)})
    except _UNFIT:
        return _cannot(key, kind)
    return ""


def _cannot(key: str, kind: Any) -> str:
    said = kind.__name__ if isinstance(kind, type) else str(kind)
    return (
        f"the parameter {key!r} is of type {said}, which no recipe can write; use int, float, bool, str, tuples, lists "
        "or dicts of them, Literal or Component"
    )


def _typed(p: Parameter) -> str:
    """Return the parameter as it could be written, with the type of its default."""
    if p.default is Parameter.empty:
        return f"{p.name}: int"
    kind = "int | None" if p.default is None else type(p.default).__name__
    return f"{p.name}: {kind} = {p.default!r}"


def _strict(kind: Any) -> Any:
    """Return the type with strict numbers and flags: `true` and `"0.1"` are no float."""
    if kind in (int, float, bool, str):
        return Annotated[kind, Strict()]
    if get_origin(kind) is Annotated:
        return Annotated[_strict(get_args(kind)[0]), *kind.__metadata__]
    if get_origin(kind) in (tuple, list, dict):
        return get_origin(kind)[tuple(_strict(arg) for arg in get_args(kind))]
    if get_origin(kind) in (Union, UnionType):
        return Union[tuple(_strict(arg) for arg in get_args(kind))]  # noqa: UP007
    return kind


def faults(function: Callable[..., Any], called: Sequence[str], taken: Sequence[str]) -> Iterator[str]:
    """Yield why a function cannot be called with these positional arguments, and which of its keys no recipe can give.

    Args:
        function: The function that was registered.
        called: Names of the positional arguments that it is called with.
        taken: Keys that stand beside an entry's own in a recipe and mean something else.
    """
    form = f"it is called as f({', '.join([*called, '*, key=value'])})"
    try:
        every = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError) as error:
        yield f"its signature cannot be read ({error}); register a function written in Python"
        return
    positional = [p for p in every if p.kind in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)]
    if len(positional) < len(called) and not any(p.kind is Parameter.VAR_POSITIONAL for p in every):
        yield f"it takes {len(positional)} positional arguments; {form}"
    for p in positional[len(called) :]:
        yield f"its parameter {p.name!r} is no key of a recipe; write `*` before it: {form}"
    for p in parameters(function):
        if p.name in (*_RESERVED, *taken) or p.name.startswith("_") or p.name.endswith(("_version", "_code")):
            yield f"its parameter {p.name!r} has a name that means something else there; give it another"
