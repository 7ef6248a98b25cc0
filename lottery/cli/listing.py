"""Listings of what recipes can name, as records and as text."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lottery.cli import terminal
from lottery.errors import UsageError
from lottery.words import SHARES, in_unit

PIPED = 80  # characters of a line where the listing goes into a pipe or file


def catalogue_names() -> list[str]:
    """Return `recipes` and the names of the catalogues."""
    from lottery.registry import catalogues

    return ["recipes", *catalogues]


def entries(what: str) -> list[dict[str, Any]]:
    """Return name, summary, keys and source of each entry of a catalogue; for recipes name and first comment.

    Criteria have, beside these, what they say of `prune` where a recipe does not.

    Raises:
        UsageError: There is no such catalogue.
    """
    from lottery.recipe.load import shipped
    from lottery.registry import catalogues, suggest

    if what == "recipes":
        return [{"name": name, "summary": _first_comment(path)} for name, path in sorted(shipped().items())]
    if what not in catalogues:
        raise UsageError(f"list {what}: no such catalogue{suggest(what, catalogue_names())}")
    return [
        {
            "name": entry.name,
            "summary": entry.summary,
            "keys": "; ".join(catalogues[what].faults(entry.name)) or _keys(entry),
            **({"prune": _own_prune(entry)} if what == "criteria" else {}),
            "source": entry.source,
        }
        for entry in catalogues[what]
    ]


def _own_prune(criterion: Any) -> str:
    """Return in words what a criterion says of `prune` where a recipe does not."""
    from lottery.recipe.criterion_rules import own_rounds, own_scope
    from lottery.values import Component

    scope = own_scope({"criterion": Component(criterion.name), "densities": None})
    return f"scope: {scope}, rounds: {own_rounds(criterion.name)}"


def _keys(entry: Any) -> str:
    shown = []
    for name, about in entry.schema.model_fields.items():
        shown.append(name if about.is_required() else f"{name}={entry.defaults[name]}")
    return ", ".join(shown)


def _first_comment(path: Path) -> str:
    """Return the first sentence of the comment on top."""
    lines: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#") or (lines and lines[-1].endswith(".")):
            break
        lines.append(line.lstrip("# "))
    return " ".join(lines)


def print_json(value: Any) -> None:
    """Print a value as JSON on stdout."""
    print(json.dumps(value, indent=1, default=str))


def print_table(title: str, listed: Sequence[dict[str, Any]]) -> None:
    """Print entries below one another, in lines no wider than the terminal, or than PIPED where there is none."""
    columns = terminal.width() or PIPED
    beside = 4 + max(len(entry["name"]) for entry in listed)
    margin = beside if beside <= columns // 3 else 6  # where names are long, what they are stands below them
    lines = [title]
    for entry in listed:
        about = " ".join(filter(None, (entry["summary"], f"[{entry['source']}]" if entry.get("source") else "")))
        told = [about, *filter(None, (entry.get("keys"), entry.get("prune")))]
        below = [line for text in told for line in _wrapped(text, columns - margin)]
        head = f"  {entry['name']}"
        if margin == beside:
            lines.append(f"{head:<{margin}}{below.pop(0)}")
        else:
            lines += textwrap.wrap(head, columns, subsequent_indent="  ", drop_whitespace=False)
        lines += [" " * margin + line for line in below]
    terminal.write("".join(f"{line}\n" for line in lines).encode())


def _wrapped(text: str, columns: int) -> list[str]:
    """Return a text in lines of so many characters, the later ones set in; words that are longer are broken."""
    return textwrap.wrap(text, max(columns, 8), subsequent_indent="  ", break_on_hyphens=False)


def in_words(value: Any) -> str:
    """Return a number, a list or measurements of a job as a line; what is None is left out.

    For example `step 30, test_accuracy 50.00 %`.
    """
    if isinstance(value, dict):
        return ", ".join(f"{name} {_measured(name, item)}" for name, item in value.items() if item is not None)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _measured(name: str, value: Any) -> str:
    """Return a measurement as `in_words` does, shares of the examples in percent."""
    if isinstance(value, float):
        return in_unit(name, value) if name.endswith((*SHARES, "loss")) else f"{value:.6g}"
    return in_words(value)
