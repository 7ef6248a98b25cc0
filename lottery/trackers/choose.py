"""The trackers that `--track` names."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lottery.errors import UsageError
from lottery.recipe import yaml
from lottery.registry import trackers
from lottery.values import Component

if TYPE_CHECKING:
    from lottery.catalogue.trackers._tracker import Tracker

Track = str | Mapping[str, Any]


def trackers_of(track: Track | Sequence[Track]) -> list[tuple[str, Tracker]]:
    """Return the trackers with their names, ready to be told of a run. One that cannot be made is warned of.

    Args:
        track: Name of a tracker, or `{name: ..., key: value}`, or several; as text, it is what the command line has.

    Raises:
        UsageError: There is no such tracker, or it lacks its package, or refuses a key or value.
    """
    every = [track] if isinstance(track, (str, Mapping)) else track
    checked = [_checked(each) for each in every]
    return [(component.name, made) for component in checked if (made := _made(component)) is not None]


def _checked(track: Track) -> Component:
    document = yaml.parse_value(track, "--track") if isinstance(track, str) else yaml.Document(dict(track), {})
    try:
        given = Component.parse(document.value)
    except ValueError as error:
        raise UsageError(f"--track: {error}") from None
    component, problems = trackers.check(given)
    if problems:
        raise UsageError(
            "\n".join(f"--track: {yaml.dotted(steps) + ': ' if steps else ''}{said}" for steps, said in problems)
        )
    package = trackers[component.name].traits.package
    if package and importlib.util.find_spec(package.partition(".")[0]) is None:
        extra = f"pip install 'lottery[{component.name}]'" if not trackers[component.name].code else "install it"
        raise UsageError(f"--track {component.name}: needs {package}, not installed here: {extra}")
    return component


def _made(component: Component) -> Tracker | None:
    try:
        made: Tracker = trackers[component.name].make(**component.args)
    except UsageError as error:
        raise UsageError(f"--track {component.name}: {error}") from error
    except Exception as error:
        said = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        logging.getLogger("lottery").warning(
            "tracker %s cannot be used: %s; it is told nothing of this run", component.name, said
        )
        return None
    return made
