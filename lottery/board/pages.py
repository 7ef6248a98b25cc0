"""The templates of the board, and those of the report that they share; all that is put into them is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from lottery.board.curves import drawn
from lottery.words import counted, duration, short

if TYPE_CHECKING:
    import jinja2

FILES = {  # address: media type, and the files that it is made of
    "board.css": ("text/css", (("lottery.report", "report.css"), ("lottery.board", "board.css"))),
    "board.js": ("text/javascript", (("lottery.board", "board.js"),)),
    "shared.js": ("text/javascript", (("lottery.board", "shared.js"),)),
}


def render(name: str, **what: Any) -> str:
    """Return a template, filled in."""
    from lottery.report.html import printable

    return printable(_environment().get_template(f"{name}.html.jinja").render(what))


@cache
def file(name: str) -> tuple[str, bytes]:
    """Return the media type and the bytes of one of FILES."""
    media, parts = FILES[name]
    each = (resources.files(package).joinpath("templates", part).read_bytes() for package, part in parts)
    return media, b"\n".join(each)


@cache
def _environment() -> jinja2.Environment:
    import jinja2

    loaders = [jinja2.PackageLoader(package, "templates") for package in ("lottery.board", "lottery.report")]
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(loaders),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.globals |= {"counted": counted, "duration": duration, "short": short, "drawn": drawn}
    environment.filters |= {"quoted": lambda text: quote(text, safe=""), "counts": counts}
    return environment


def counts(numbers: Mapping[str, int], words: Sequence[str] = ()) -> str:
    """Return numbers above 0 as `3 running, 1 failed`."""
    return ", ".join(f"{numbers[word]:,} {word}" for word in words or numbers if numbers.get(word))
