"""What `--help` says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer
from rich.text import Text

from lottery.cli.main import app


def told(command: Any, path: str = "lottery") -> Iterator[tuple[str, str]]:
    """Yield the texts about a command, its arguments and options, and all commands below it."""
    yield path, command.help or ""
    for parameter in command.params:
        yield f"{path} {parameter.name}", getattr(parameter, "help", None) or ""
    for name, below in getattr(command, "commands", {}).items():
        yield from told(below, f"{path} {name}")


def test_no_words_of_a_help_text_are_taken_for_markup() -> None:
    texts = dict(told(typer.main.get_command(app)))
    assert len(texts) > 100
    # words in square brackets are no words to rich, which draws the help, but the name of a colour
    assert {of: text for of, text in texts.items() if Text.from_markup(text).plain != text} == {}
