"""Strict YAML: what is read as what, what is refused, and that every refusal names file, line and column."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import pytest
import yaml as pyyaml

from lottery.errors import RecipeError
from lottery.recipe import yaml

EMPTY = "there is nothing in it; see `lottery list recipes` for ones to copy"
LOADERS = [pyyaml.SafeLoader] + ([pyyaml.CSafeLoader] if hasattr(pyyaml, "CSafeLoader") else [])


@pytest.fixture(params=LOADERS, ids=lambda loader: loader.__name__)
def either_loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parser with libyaml and the one without give the same answers."""
    monkeypatch.setattr(yaml, "_LOADER", request.param)


def problems(source: str | bytes) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        yaml.parse(source, "f.yaml")
    return caught.value.problems


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E5", 100000.0),
        ("-2e-4", -0.0002),
        ("1.2e-3", 0.0012),
        (".5", 0.5),
        ("1.", 1.0),
        ("+7", 7),
        ("-0", 0),
        ("60", 60),
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("Off", "Off"),
        ("y", "y"),
        ("true", True),
        ("FALSE", False),
        ("null", None),
        ("~", None),
        ("''", ""),
        ("'1'", "1"),
        ('"true"', "true"),
        ("1:30", "1:30"),
        ("010", "010"),
        ("0o17", "0o17"),
        ("0x1F", "0x1F"),
        ("1_000", "1_000"),
        ("2026-11-23", "2026-11-23"),
        ("500it", "500it"),
        ("1e", "1e"),
        ("e3", "e3"),
        ("=", "="),
        ("é ü", "é ü"),
        ("'\U0001f3b2'", "\U0001f3b2"),
        ("|\n  two\n  lines\n", "two\nlines\n"),
        ("[1, a, {b: }]", [1, "a", {"b": None}]),
        ("{}", {}),
    ],
)
def test_a_scalar_has_the_type_of_yaml_1_2(either_loader: None, text: str, value: Any) -> None:
    found = yaml.parse(text, "f.yaml").value
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("", f"f.yaml:1:1: recipe: {EMPTY}"),
        ("# only a comment\n", f"f.yaml:1:1: recipe: {EMPTY}"),
        ("a: &x 1", "f.yaml:1:4: a: the anchor &x is not read; remove it"),
        ("a: *x", "f.yaml:1:4: a: the alias *x is not read; write the value out"),
        ("*x : 1", "f.yaml:1:1: recipe: the alias *x is not read; write the key out"),
        ("&x a: 1", "f.yaml:1:1: recipe: the anchor &x is not read; remove it"),
        ("a: !!int 1", "f.yaml:1:4: a: the tag 'tag:yaml.org,2002:int' is not read; remove it"),
        ("a: ! x", "f.yaml:1:4: a: the tag '!' is not read; remove it"),
        ("- a: [!py/os.system [ls]]", "f.yaml:1:7: 0.a.0: the tag '!py/os.system' is not read; remove it"),
        ("a:\n  <<: {b: 1}", "f.yaml:2:3: a: merge keys (<<) are not read; write the keys out"),
        ("a: 1\nb: 2\na: 3", "f.yaml:3:1: recipe: the key 'a' is given twice, first in line 1; keep one"),
        ("a: {b: 1, 'b': 2}", "f.yaml:1:11: a: the key 'b' is given twice, first in line 1; keep one"),
        ("a: 1\n---\nb: 2", "f.yaml:2:1: recipe: a second document starts here; keep one document in a file"),
        ("%YAML 1.1\n---\na: 1", "f.yaml:1:1: recipe: directives (%) are not read; remove the line"),
        ("1: a", "f.yaml:1:1: recipe: a key is text; write '1' in quotes if it is a name"),
        ("true: a", "f.yaml:1:1: recipe: a key is text; write 'true' in quotes if it is a name"),
        ("~: a", "f.yaml:1:1: recipe: a key is text; write '~' in quotes if it is a name"),
        ("? \n: a", "f.yaml:1:2: recipe: a key is text; write '' in quotes if it is a name"),
        ("? [a, b]\n: c", "f.yaml:1:3: recipe: a key is text, not a list or mapping; write `key: value`"),
        ("a: .inf", "f.yaml:1:4: a: .inf is no finite number; write a finite one, or quotes for text"),
        ("a: [1, -.INF]", "f.yaml:1:8: a.1: -.INF is no finite number; write a finite one, or quotes for text"),
        ("a: .NaN", "f.yaml:1:4: a: .NaN is no finite number; write a finite one, or quotes for text"),
        ("a: 1e999", "f.yaml:1:4: a: 1e999 is too large a number; write a smaller one"),
        ("a: " + "9" * 5000, "f.yaml:1:4: a: a number of more than 18 digits; write a smaller one"),
        ("a: 1\nb: \0", "f.yaml:2:4: recipe: character '\\x00' is not text; remove it"),
        ("a: \x1b[31m", "f.yaml:1:4: recipe: character '\\x1b' is not text; remove it"),
        ('a: "\\0"', "f.yaml:1:4: a: character '\\x00' is not text; remove it"),
        (b"a: 1\nb: \xe9", "f.yaml:2:4: recipe: byte 0xe9 is not UTF-8; save the file as UTF-8"),
        ("a: é".encode("utf-16"), "f.yaml:1:1: recipe: byte 0xff is not UTF-8; save the file as UTF-8"),
        (b"\x89PNG\r\n\x1a\n", "f.yaml:1:1: recipe: byte 0x89 is not UTF-8; save the file as UTF-8"),
        (b"PK\x03\x04", "f.yaml:1:3: recipe: character '\\x03' is not text; remove it"),
        ("a" * 201 + ": 1", "f.yaml:1:1: recipe: a key of 201 characters; 200 is the most"),
        ("a: 1\n" + "#" * 1_000_000, "f.yaml:1:1: recipe: more than 1,000,000 bytes; is this a recipe?"),
        ("[" * 900, "f.yaml:1:22: " + ".".join("0" * 21) + ": nested deeper than 20 levels; is this a recipe?"),
        ("a: [" + "1," * 10_000 + "]", "f.yaml:1:20001: a.9998: more than 10,000 values; is this a recipe?"),
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_what_is_refused_is_named_with_its_place(either_loader: None, source: str, line: str) -> None:
    assert problems(source) == [line]


@pytest.mark.parametrize(
    ("source", "place"),
    [
        ("a: [1, 2\nb: 3", "f.yaml:2:"),
        ("a: 'open", "f.yaml:1:"),
        ("a: b: c", "f.yaml:1:5"),
        ("a:\n\t- b", "f.yaml:2:1"),
        ("a: 1\n  b: 2", "f.yaml:2:4"),
        ("a: @b", "f.yaml:1:4"),
        ('a: "\\q"', "f.yaml:1:"),
        ('a: "\\U00110000"', "f.yaml:1:"),
        ('a: "\\ud800"', "f.yaml:1:"),
        ("a: 1\n}", "f.yaml:2:1"),
        ("%YAML 9.9\n---\na: 1", "f.yaml:1:"),
    ],
)
def test_broken_yaml_is_refused_in_one_line_with_its_place(either_loader: None, source: str, place: str) -> None:
    (line,) = problems(source)
    assert line.startswith(place)
    assert re.fullmatch(r"f\.yaml:\d+:\d+: [^:]+: .+", line)


def test_the_deepest_nesting_is_refused_alike_by_parsers_with_and_without_a_limit_of_their_own(
    either_loader: None,
) -> None:
    (line,) = problems("[" * 500_000)  # a parser that reads ahead may stop further on than the 21st level
    assert re.fullmatch(r"f\.yaml:1:\d+: [0.a-z]+: nested deeper than 20 levels; is this a recipe\?", line)


def test_a_billion_laughs_is_refused_at_once() -> None:
    laughs = 'a: &a ["lol", "lol"]\n' + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in pairwise("abcdefghij"))
    lines = problems(laughs)
    assert lines[0] == "f.yaml:1:4: a: the anchor &a is not read; remove it"
    assert len(lines) == 10 + 18


def test_all_that_can_be_read_past_is_reported_at_once() -> None:
    assert problems("a: &x 1\nb: *x\nb: !t 2\n3: .nan") == [
        "f.yaml:1:4: a: the anchor &x is not read; remove it",
        "f.yaml:2:4: b: the alias *x is not read; write the value out",
        "f.yaml:3:1: recipe: the key 'b' is given twice, first in line 2; keep one",
        "f.yaml:3:4: b: the tag '!t' is not read; remove it",
        "f.yaml:4:1: recipe: a key is text; write '3' in quotes if it is a name",
        "f.yaml:4:4: 3: .nan is no finite number; write a finite one, or quotes for text",
    ]


def test_every_value_has_the_place_of_itself_and_of_its_key(either_loader: None) -> None:
    document = yaml.parse("\ufeff# é\r\na:\r\n  - x\r\n  - {é: 1, c: [2]}\r\n", "f.yaml")
    assert document.value == {"a": ["x", {"é": 1, "c": [2]}]}
    assert document.places == {
        (): ((2, 1), (2, 1)),
        ("a",): ((3, 3), (2, 1)),
        ("a", 0): ((3, 5), (3, 5)),
        ("a", 1): ((4, 5), (4, 5)),
        ("a", 1, "é"): ((4, 9), (4, 6)),
        ("a", 1, "c"): ((4, 15), (4, 12)),
        ("a", 1, "c", 0): ((4, 16), (4, 16)),
    }


def test_a_value_of_the_command_line_is_read_by_the_same_rules() -> None:
    assert yaml.parse_value("1e-3", "--set a=1e-3").value == 0.001
    assert yaml.parse_value("no", "--set a=no").value == "no"
    assert yaml.parse_value("", "--set a=").value is None
    assert yaml.parse_value("{b: [1, 2]}", "--set a={b: [1, 2]}").value == {"b": [1, 2]}
    with pytest.raises(RecipeError) as caught:
        yaml.parse_value("*x", "--set a=*x", ("a",))
    assert caught.value.problems == ["--set a=*x: a: the alias *x is not read; write the value out"]


def test_a_path_is_written_so_that_a_terminal_can_show_it() -> None:
    assert yaml.dotted(()) == "recipe"
    assert yaml.dotted(("train", "optimizer", 0, "lr")) == "train.optimizer.0.lr"
    assert yaml.dotted(("a\nb\x1b", "")) == r"'a\nb\x1b'.''"
    assert yaml.dotted(("x" * 200,)) == "x" * 37 + "..."
