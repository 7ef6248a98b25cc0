"""The executor that `--on` names: an entry of the catalogue, or a profile of a file with a site's defaults."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lottery.errors import RecipeError, UsageError
from lottery.recipe import yaml
from lottery.registry import executors, suggest
from lottery.values import Component

FILE, VARIABLE = "lottery-executors.yaml", "LOTTERY_EXECUTORS"

_Steps = tuple[str | int, ...]


def executor_of(on: str | Mapping[str, Any]) -> Component:
    """Return the executor with its checked arguments.

    Args:
        on: Name of an executor or of a profile, or `{name: ..., key: value}`, which changes keys of a profile. As text,
            it is what the command line was given.

    Raises:
        UsageError: There is none, or it has no such key or value; a line for each problem, with its place.
    """
    document = yaml.parse_value(on, "--on") if isinstance(on, str) else yaml.Document(dict(on), {})
    try:
        given = Component.parse(document.value)
    except ValueError as error:
        raise UsageError(f"--on: {error}") from None
    profiles = _profiles()
    if given.name not in profiles:
        return _checked(given, {(): "--on"}, known=profiles)
    profile, places = profiles[given.name]
    places = {**places, **{(key,): "--on" for key in given.args}}
    return _checked(Component(profile.name, {**profile.args, **given.args}), places)


def _checked(component: Component, places: Mapping[_Steps, str], known: Mapping[str, Any] | None = None) -> Component:
    """Return the executor with its arguments in their types; `places` says where each of them was written."""
    if known and component.name not in executors:
        names = [*(entry.name for entry in executors), *known]
        raise UsageError(
            f"--on: no executor or profile {component.name!r}{suggest(component.name, names)} (lottery list executors)"
        )
    checked, problems = executors.check(component)
    lines = []
    for steps, message in problems:
        here = places.get(steps[:1]) or places[()]
        lines.append(f"{here}: {yaml.dotted(steps) + ': ' if steps else ''}{message}")
    if lines:
        raise RecipeError(lines)
    return checked


def _profiles() -> dict[str, tuple[Component, dict[_Steps, str]]]:
    """Return each profile of the file by its name, with the places of its keys.

    Raises:
        RecipeError: The file is no mapping of names to executors.
        UsageError: The file that the variable names is not there, or cannot be read.
    """
    named = os.environ.get(VARIABLE)
    path = Path(named or FILE)
    if not named and not path.exists():
        return {}
    try:
        with path.open("rb") as file:
            text = file.read(yaml.MOST_BYTES + 1)
    except OSError as error:
        whose = f" (${VARIABLE})" if named else ""
        raise UsageError(f"{path}{whose}: cannot be read: {error.strerror}") from None
    if not text.strip():
        return {}
    try:
        document = yaml.parse(text, str(path))
    except RecipeError as error:  # where the reader speaks of the whole, it calls it a recipe
        raise RecipeError([line.replace(": recipe: ", ": profiles: ", 1) for line in error.problems]) from None
    where = {steps: f"{path}:{place.key[0]}:{place.key[1]}" for steps, place in document.places.items()}
    if not isinstance(document.value, dict):
        raise RecipeError([f"{where[()]}: write profiles by their names, such as `cluster: {{name: slurm}}`"])
    found: dict[str, tuple[Component, dict[_Steps, str]]] = {}
    lines = []
    for name, value in document.value.items():
        if not isinstance(value, dict) or not isinstance(value.get("name"), str):
            lines.append(f"{where[name,]}: {name}: write {{name: EXECUTOR, key: value}}")
            continue
        inside = {steps[1:]: place for steps, place in where.items() if steps[:1] == (name,)}
        found[name] = Component.parse(value), {steps: f"{place}: {name}" for steps, place in inside.items()}
    if lines:
        raise RecipeError(lines)
    return found
