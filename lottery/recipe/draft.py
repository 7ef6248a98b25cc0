"""A recipe before it is checked: a document that `--set` or a sweep may still change."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from copy import copy, deepcopy
from typing import Any, NamedTuple

from lottery.errors import RecipeError
from lottery.recipe.yaml import MOST_DEPTH, Document, Path, dotted, legible, parse_value

MOST_LETTERS = 400  # of a problem, which may quote a value
MOST_PROBLEMS = 100


class Written(NamedTuple):
    """The place that a value was written at: in the order of the file, then of the overrides."""

    order: tuple[int, int, int]
    text: str  # `file:line:column` or `--set a.b=value`


class Draft:
    """A document that `--set` may still change; it knows where each value was written, and collects what is wrong."""

    def __init__(self, document: Document, name: str, short: Mapping[Path, str]):
        """Take a document over.

        Args:
            document: The document as it was read.
            name: What messages call it.
            short: For a path without indices at which a text may stand for a mapping, the key of that text.

        Raises:
            RecipeError: The document is no mapping.
        """
        if not isinstance(document.value, dict):
            raise RecipeError([f"{name}:1:1: recipe: write keys and values, such as `name: my-recipe`"])
        self.data: dict[str, Any] = document.value
        self._short = short
        self._written: dict[Path, Written] = {
            path: Written((0, *place.key), f"{name}:{place.key[0]}:{place.key[1]}")
            for path, place in document.places.items()
        }
        self.found: list[tuple[Written, str]] = []  # what is wrong, and where
        self.overridden: dict[str, Written] = {}  # by the key that was set
        self.lacks: tuple[str, ...] = ()  # plugins that were not imported
        self._overrides = 0

    def set(self, override: str) -> None:
        """Apply `a.b=value`: a list item by its index; a name becomes `{name: x}` if a key is given to it."""
        self._overrides += 1
        here = Written((1, self._overrides, 0), f"--set {legible(override, 60)}")
        name, equals, value = override.partition("=")
        path = _steps(name)
        if not equals or not all(path) or len(path) > MOST_DEPTH:
            self.found.append((here, "write it as a.b=value"))
            return
        self.overridden[name] = here
        try:
            document = parse_value(value, here.text, path)
            self._put(path, document.value, dict.fromkeys(document.places, here))
        except RecipeError as error:
            self.found += [(here, line.removeprefix(f"{here.text}: ")) for line in error.problems]
        except ValueError as error:
            self.found.append((here, str(error)))

    def point(self, values: Mapping[str, Path], without: Collection[str]) -> Draft:
        """Return a copy in which values of this document stand under other keys too, as `set` puts them there.

        Args:
            values: By key, such as `train.optimizer.lr`, where in this document its value is.
            without: Sections that the copy does not have.
        """
        point = copy(self)
        point.data = deepcopy({key: value for key, value in self.data.items() if key not in without})
        point._written, point.found = dict(self._written), []
        for key, source in values.items():
            value: Any = self.data
            for step in source:
                value = value[step]
            inside = {p[len(source) :]: place for p, place in self._written.items() if p[: len(source)] == source}
            try:
                point._put(tuple(key.split(".")), deepcopy(value), inside)
            except ValueError as error:
                point.found.append((inside[()], str(error)))
        return point

    def place(self, path: Path) -> Written:
        """Return where the innermost part of a path was written that somebody wrote."""
        return self._written[self._known(path)]

    def places_in(self, path: Path) -> frozenset[Written]:
        """Return where a value and all in it were written."""
        return frozenset(place for known, place in self._written.items() if known[: len(path)] == path)

    def _known(self, path: Path) -> Path:
        known: Path = ()
        for step in path:  # short forms leave out an index or a key
            known = (*known, step) if (*known, step) in self._written else known
        return known

    def _put(self, steps: tuple[str, ...], value: Any, written: Mapping[Path, Written]) -> None:
        """Put a value in its place; `written` has where its parts were written, by their paths in it."""
        here = written[()]
        holder: Any = self.data
        path: Path = ()
        for step in steps[:-1]:
            key = _key_in(holder, step, path)
            path = (*path, key)
            inner = {} if isinstance(holder, dict) and holder.get(key) is None else holder[key]
            short = self._short.get(tuple(step for step in path if isinstance(step, str)))
            if short and isinstance(inner, str):
                inner = {short: inner}
                self._written[*path, short] = self._written[path]
            holder[key] = inner
            self._written.setdefault(path, here)
            holder = inner
        key = _key_in(holder, steps[-1], path)
        path = (*path, key)
        holder[key] = value
        self._written = {old: place for old, place in self._written.items() if old[: len(path)] != path}
        self._written |= {(*path, *inside): place for inside, place in written.items()}

    def note(self, problems: Iterable[tuple[Path, str]], most: int = MOST_LETTERS) -> None:
        """Add problems of so many letters, each at the innermost part of its path that somebody wrote."""
        for path, message in problems:
            message = message if len(message) <= most else message[: most - 3] + "..."
            self.found.append((self.place(path), f"{dotted(self._known(path))}: {message}"))

    def problems(self) -> list[str]:
        """Return a line for each problem in the order of the file, then of the overrides; the first hundred."""
        found = sorted((place, " ".join(f"{place.text}: {text}".splitlines())) for place, text in self.found)
        lines = list(dict.fromkeys(line for _, line in found))
        rest = len(lines) - MOST_PROBLEMS
        more = [f"{self._written[()].text}: recipe: {rest} more problems; mend these first"] if rest > 0 else []
        return lines[:MOST_PROBLEMS] + more


def _steps(name: str) -> tuple[str, ...]:
    """Return the keys of a dotted name; those of a sweep have dots themselves."""
    section = next((each for each in ("sweep.zip.", "sweep.") if name.startswith(each)), "")
    return (*section.split(".")[:-1], name.removeprefix(section)) if section else tuple(name.split("."))


def _key_in(holder: Any, step: str, path: Path) -> str | int:
    """Return the key or index that a step of a `--set` path means.

    Raises:
        ValueError: There is none.
    """
    if isinstance(holder, dict):
        return step
    if not isinstance(holder, list):
        raise ValueError(f"{dotted(path)} is {str(holder)[:40]!r}, which has no key {step!r}")
    if not re.fullmatch("[0-9]{1,5}", step) or int(step) >= len(holder):
        raise ValueError(f"{dotted(path)} is a list of {len(holder)}; write an index from 0, not {step!r}")
    return int(step)
