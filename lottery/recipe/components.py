"""Checks of the components that a recipe names: their arguments against the signatures of catalogue entries."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lottery import registry
from lottery.registry import Problem, Registry, explain, suggest
from lottery.values import Component

CATALOGUES: dict[tuple[str | int, ...], Registry[Any]] = {  # where a recipe names an entry
    ("data",): registry.datasets,
    ("model",): registry.models,
    ("init",): registry.inits,
    ("train", "optimizer"): registry.optimizers,
    ("train", "schedule"): registry.schedules,
    ("prune", "criterion"): registry.criteria,
    ("branches",): registry.branches,
    ("analyses",): registry.analyses,
}


class OptimizerKeys(BaseModel):
    """Keys of every optimizer beside its entry's own: a batch size, and the range that `tune` searches."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    batch_size: Annotated[int, Field(ge=1, lt=10**9)] | Literal["all"] | None = None
    rates: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] | None = None


_INNER = {catalogue.singular: catalogue for catalogue in registry.catalogues.values()}


def components(data: Mapping[str, Any], own_keys: Mapping[tuple[str | int, ...], Collection[str]]) -> Iterator[Problem]:
    """Yield what is wrong with the components of a recipe's raw data; their arguments become their types in place.

    `own_keys` are, for each section, the keys that are not arguments of the entry it names.
    """
    for path, catalogue in CATALOGUES.items():
        holder: Any = data
        for step in path[:-1]:
            holder = holder.get(step) if isinstance(holder, dict) else None
        value = holder.get(path[-1]) if isinstance(holder, dict) else None
        items = value if isinstance(value, list) else [value]
        rated = catalogue is registry.optimizers and data.get("tune") is not None
        checked = [check_entry(catalogue, item, own_keys.get(path, ()), rated) for item in items]
        for index, (_, problems) in enumerate(checked):
            yield from (((*path, index, *inside), message) for inside, message in problems)
        if isinstance(value, list):
            value[:] = [item for item, _ in checked]
        elif value is not None:
            holder[path[-1]] = checked[0][0]


def check_entry(
    catalogue: Registry[Any], value: Any, own: Collection[str] = (), rated: bool = False
) -> tuple[Any, list[Problem]]:
    """Return the value with its arguments checked, and what is wrong; unchanged if the schema will refuse it anyway.

    `own` are keys of the section and not of the entry. An optimizer that is `rated` gets its learning rate from
    elsewhere and need not have one.
    """
    try:
        given = Component.parse(value)
    except ValueError:
        return value, []
    kept = {key: item for key, item in given.args.items() if key in own}
    args = {key: item for key, item in given.args.items() if key not in own}
    component, problems = _check_component(catalogue, Component(given.name, args), own, rated)
    return ({"name": component.name, **kept, **component.args} if own else component), problems


def _check_component(
    catalogue: Registry[Any], given: Component, own: Collection[str], rated: bool
) -> tuple[Component, list[Problem]]:
    """Return the component with its arguments brought to their types, those inside it as well, and what is wrong."""
    if given.name not in catalogue:
        return given, [((), catalogue.unknown(given.name))]
    if wrong := catalogue.faults(given.name):
        return given, [((), fault) for fault in wrong]
    fields = catalogue[given.name].schema.model_fields
    args, general, problems = _general_keys(catalogue, given)
    for key in list(args):
        if key not in fields:
            del args[key]
            problems.append(((key,), f"{given.name} has no key {key!r}{suggest(key, [*fields, *own])}"))
        elif key in _INNER and Component in (fields[key].annotation, *get_args(fields[key].annotation)):
            of_optimizer = catalogue is registry.optimizers  # one that another rates where it has no rate itself
            args[key], inner = check_entry(_INNER[key], args[key], (), rated=of_optimizer)
            problems += [((key, *inside), message) for inside, message in inner]
    absent = {"lr": 1.0} if rated and "lr" in fields and "lr" not in args else {}
    component, found = catalogue.check(Component(given.name, {**args, **absent}))
    problems += found
    checked = {key: value for key, value in component.args.items() if key not in absent}
    return (given if problems else Component(given.name, {**checked, **general})), problems


def _general_keys(catalogue: Registry[Any], given: Component) -> tuple[dict[str, Any], dict[str, Any], list[Problem]]:
    """Return the arguments without the keys that every optimizer may have, these keys, and what is wrong with them."""
    general = OptimizerKeys.model_fields if catalogue is registry.optimizers else {}
    args = {key: value for key, value in given.args.items() if key not in general}
    found = {key: value for key, value in given.args.items() if key in general}
    if isinstance(found.get("rates"), list):
        found["rates"] = tuple(found["rates"])
    try:
        keys = OptimizerKeys.model_validate(found)
    except ValidationError as error:
        places = {e["loc"][0]: e for e in error.errors()}
        return args, {}, [((key,), explain(e)) for key, e in places.items()]
    if keys.rates is not None and keys.rates[0] >= keys.rates[1]:
        return args, {}, [(("rates",), f"{list(keys.rates)} is no range; write the lower rate first")]
    return args, {key: value for key in found if (value := getattr(keys, key)) is not None}, []
