"""Strict reading of one small YAML document, with the line and column of every key and value.

Only what recipes need: mappings, lists and plain values, in the types of YAML 1.2 (`1e-3` is a number, `no` is text).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

import yaml

from lottery.errors import RecipeError

MOST_BYTES = 1_000_000
MOST_NODES = 10_000
MOST_DEPTH = 20
LONGEST_KEY = 200
TOO_DEEP = f"nested deeper than {MOST_DEPTH} levels; is this a recipe?"
LONGEST_NUMBER = 18  # digits of an integer that every reader of JSON keeps; also more than a float has

Path = tuple[str | int, ...]  # keys and list indices from the root to a value
_Locate = Callable[[int, int], str]  # (line, column), from 1, as a user reads it

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_LINE_BREAK = re.compile("\r\n|[\r\n\x85\u2028\u2029]")
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


class Place(NamedTuple):
    """Line and column, from 1, of a value and of its key; the same for list items and the root."""

    value: tuple[int, int]
    key: tuple[int, int]


@dataclass(frozen=True)
class Document:
    """The plain value of a document, and where each part of it stands."""

    value: Any
    places: Mapping[Path, Place]


def parse(source: str | bytes, name: str) -> Document:
    """Read one document.

    Raises:
        RecipeError: With a line `name:line:column: key: message` for each problem.
    """
    return _Reader(lambda line, column: f"{name}:{line}:{column}").document(source)


def parse_value(text: str, name: str, path: Path = ()) -> Document:
    """Read a value given on a command line for `path`; an empty text is null.

    Raises:
        RecipeError: With a line `name: key: message` for each problem.
    """
    return _Reader(lambda line, column: name, path).document(text or "~")


def dotted(path: Path) -> str:
    """Return a path as `--set` takes it, such as `train.optimizer.0.lr`; `recipe` for the root."""
    return ".".join(legible(str(key), quoted=r"[\s:'\"]|^$") for key in path) or "recipe"


def legible(text: str, most: int = 40, quoted: str = r"^$") -> str:
    """Return the text as a terminal can show it, in quotes if it has to be or if `quoted` is found in it."""
    text = text if len(text) <= most else text[: most - 3] + "..."
    return text if text.isprintable() and not re.search(quoted, text) else ascii(text)


class _Reader:
    """Builds the value from the parser's events, so that nothing larger than the limits is ever held.

    Not from `yaml.compose`: its nodes exist only when the whole document has been read, and keep neither aliases and
    anchors nor which tags were written, each of which is refused at its place.
    """

    def __init__(self, locate: _Locate, base: Path = ()):
        self.locate = locate
        self.base = base
        self.path: Path = ()
        self.places: dict[Path, Place] = {}
        self.problems: list[str] = []

    def document(self, source: str | bytes) -> Document:
        """Return the only document of a source; problems are collected and raised at its end."""
        self.events = self._events(self._text(source))
        next(self.events)  # the stream's start
        start = next(self.events)
        if isinstance(start, yaml.StreamEndEvent):
            self._stop((1, 1), "there is nothing in it; see `lottery list recipes` for ones to copy")
        if start.version or start.tags:
            self._note(_place(start), "directives (%) are not read; remove the line")
        value = self._value(next(self.events), (), None)
        next(self.events)  # the document's end
        end = next(self.events)
        if not isinstance(end, yaml.StreamEndEvent):
            self._note(_place(end), "a second document starts here; keep one document in a file")
        if self.problems:
            raise RecipeError(self.problems)
        return Document(value, self.places)

    def _text(self, source: str | bytes) -> str:
        if len(source) > MOST_BYTES:
            self._stop((1, 1), f"more than {MOST_BYTES:,} bytes; is this a recipe?")
        try:
            text = source if isinstance(source, str) else source.decode("utf-8")
        except UnicodeDecodeError as error:
            before, bad_byte = error.object[: error.start].decode("utf-8"), error.object[error.start]
            self._stop(_end_of(before), f"byte 0x{bad_byte:02x} is not UTF-8; save the file as UTF-8")
        text = text.removeprefix("\ufeff")
        if bad := _UNPRINTABLE.search(text):
            self._stop(_end_of(text[: bad.start()]), f"character {bad[0]!a} is not text; remove it")
        return text

    def _events(self, text: str) -> Iterator[Any]:
        try:
            yield from yaml.parse(text, Loader=_LOADER)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
            if "nesting depth" in str(error.problem):  # the parser, which reads ahead, has a limit of its own
                self._stop(place, TOO_DEEP)
            what = " ".join(part for part in (error.context, error.problem) if part)
            self._stop(place, f"not YAML: {what}")
        except (yaml.YAMLError, ValueError, OverflowError):  # escapes beyond Unicode, in PyYAML without libyaml
            self._stop(self.places[self.path].value if self.path else (1, 1), "not YAML: an escape names no character")

    def _value(self, event: Any, path: Path, key: tuple[int, int] | None) -> Any:
        here = _place(event)
        self.path = path
        self.places[path] = Place(here, key or here)
        if len(self.places) > MOST_NODES:
            self._stop(here, f"more than {MOST_NODES:,} values; is this a recipe?")
        if len(path) > MOST_DEPTH:
            self._stop(here, TOO_DEEP)
        if isinstance(event, yaml.AliasEvent):
            return self._note(here, f"the alias *{event.anchor} is not read; write the value out")
        self._refuse_marks(event)
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(path)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(path)
        return self._scalar(event)

    def _refuse_marks(self, event: Any) -> None:
        if event.anchor is not None:
            self._note(_place(event), f"the anchor &{event.anchor} is not read; remove it")
        if event.tag is not None:
            self._note(_place(event), f"the tag {event.tag[:40]!r} is not read; remove it")

    def _mapping(self, path: Path) -> dict[str, Any]:
        result: dict[str, Any] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key, here = self._key(event), _place(event)
            if key in result:
                first = self.places[*path, key].key
                self._note(here, f"the key {key!r} is given twice, first in line {first[0]}; keep one")
            result[key] = self._value(next(self.events), (*path, key), here)
            self.path = path
        return result

    def _key(self, event: Any) -> str:
        here = _place(event)
        if isinstance(event, yaml.AliasEvent):
            self._stop(here, f"the alias *{event.anchor} is not read; write the key out")
        if not isinstance(event, yaml.ScalarEvent):
            self._stop(here, "a key is text, not a list or mapping; write `key: value`")
        self._refuse_marks(event)
        if len(event.value) > LONGEST_KEY:
            self._stop(here, f"a key of {len(event.value):,} characters; {LONGEST_KEY} is the most")
        key = self._scalar(event)
        if key == "<<":
            self._note(here, "merge keys (<<) are not read; write the keys out")
        elif not isinstance(key, str):
            self._note(here, f"a key is text; write {event.value!r} in quotes if it is a name")
        return str(event.value)

    def _sequence(self, path: Path) -> list[Any]:
        result: list[Any] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            result.append(self._value(event, (*path, len(result)), None))
            self.path = path
        return result

    def _scalar(self, event: Any) -> Any:
        text: str = event.value
        if bad := _UNPRINTABLE.search(text):
            return self._note(_place(event), f"character {bad[0]!a} is not text; remove it")
        try:
            return text if event.style else scalar(text)
        except ValueError as error:
            return self._note(_place(event), str(error))

    def _note(self, place: tuple[int, int], message: str) -> None:
        line = f"{self.locate(*place)}: {dotted((*self.base, *self.path))}: {message}"
        self.problems.append(" ".join(line.splitlines()))

    def _stop(self, place: tuple[int, int], message: str) -> NoReturn:
        self._note(place, message)
        raise RecipeError(self.problems) from None


def scalar(text: str) -> bool | int | float | str | None:
    """Return the meaning of an unquoted scalar: null, true or false, a decimal number, else text.

    Raises:
        ValueError: A number is not finite or has too many digits.
    """
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        if len(text.lstrip("+-")) > LONGEST_NUMBER:
            raise ValueError(f"a number of more than {LONGEST_NUMBER} digits; write a smaller one")
        return int(text)
    if _FLOAT.fullmatch(text):
        number = float(text)
        if math.isinf(number):
            raise ValueError(f"{text[:40]} is too large a number; write a smaller one")
        return number
    if _NOT_FINITE.fullmatch(text):
        raise ValueError(f"{text} is no finite number; write a finite one, or quotes for text")
    return text


def _place(event: Any) -> tuple[int, int]:
    return event.start_mark.line + 1, event.start_mark.column + 1


def _end_of(text: str) -> tuple[int, int]:
    """Return line and column, from 1, of the character that would follow the text."""
    lines = _LINE_BREAK.split(text)
    return len(lines), len(lines[-1]) + 1
