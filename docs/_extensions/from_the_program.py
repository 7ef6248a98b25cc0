"""Parts of pages that are made from the program when the site is built, in the place of a comment that names them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_PLACE = re.compile(r"^<!-- from the program: (.+) -->$", re.MULTILINE)


def catalogues() -> Iterator[str]:
    """Yield a heading for each catalogue, and for each of its entries what `lottery list` prints of it."""
    from lottery.cli.listing import catalogue_names, entries

    for what in catalogue_names():
        yield f"## {what}\n"
        for entry in entries(what):
            yield "\n\n".join([f"`{entry['name']}`\n: {entry['summary'] or '-'}", *_details(entry)]) + "\n"


def _details(entry: dict[str, Any]) -> Iterator[str]:
    if entry.get("keys"):
        yield f"  Keys: {', '.join(f'`{key}`' for key in _split(entry['keys']))}"
    if entry.get("prune"):
        yield f"  Where a recipe does not say: {', '.join(f'`{key}`' for key in entry['prune'].split(', '))}"
    if entry.get("source"):
        yield f"  Source: {entry['source']}"


def _split(keys: str) -> list[str]:
    """Return the keys of a list of them, whose values may hold commas in brackets."""
    return re.split(r", (?=\w+(?:=|,|$))", keys)


def commands() -> Iterator[str]:
    """Yield what `--help` says of each command, as typer writes it."""
    import typer
    from typer.cli import get_docs_for_click

    from lottery.cli.main import app

    command = typer.main.get_command(app)
    _say_all(command)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name="lottery")
    yield text.partition("\n")[2]  # the page has a title of its own


def _say_all(command: Any) -> None:
    """Let lists of commands have the whole first line of each, which is cut off at 45 letters otherwise."""
    for inner in getattr(command, "commands", {}).values():
        inner.short_help = (inner.help or "").partition("\n")[0]
        _say_all(inner)


PARTS: dict[str, Callable[[], Iterator[str]]] = {"catalogues": catalogues, "commands": commands}


def _fill(app: Sphinx, page: str, source: list[str]) -> None:
    def made(place: re.Match[str]) -> str:
        if place[1] not in PARTS:
            raise ValueError(f"{page}: no part {place[1]!r}; there are {', '.join(PARTS)}")
        return "\n".join(PARTS[place[1]]())

    source[0] = _PLACE.sub(made, source[0])


def setup(app: Sphinx) -> dict[str, Any]:
    """Fill in the parts as pages are read."""
    app.connect("source-read", _fill)
    return {"parallel_read_safe": True}
