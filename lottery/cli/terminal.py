"""Output of the commands on stdout: fitted to a terminal where it is one, always the same bytes in a pipe or file."""

from __future__ import annotations

import shutil
import sys
import textwrap

PLAIN = str.maketrans({"±": "+-", "−": "-", "×": "x", "≤": "<=", "≥": ">=", "∞": "inf", "²": "^2", "→": "->"})


def width() -> int | None:
    """Return the characters of a line of the terminal that stdout is; None where it is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def write(content: bytes) -> None:
    """Print UTF-8 text; a terminal of another encoding gets what it has instead of characters that it lacks."""
    if sys.stdout.isatty():
        content = _encoded(content.decode(), sys.stdout.encoding)
    sys.stdout.flush()
    sys.stdout.buffer.write(content)
    sys.stdout.flush()


def say(sentence: str, indent: int = 0) -> None:
    """Print a sentence, on a terminal in lines that end between words; the later ones are set in."""
    columns = width()
    lines = [sentence]
    if columns is not None:
        margin = " " * min(indent, columns // 2)
        lines = textwrap.wrap(sentence, columns, subsequent_indent=margin, break_on_hyphens=False)
    write("".join(f"{line}\n" for line in lines).encode())


def _encoded(text: str, encoding: str) -> bytes:
    try:
        return text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(PLAIN).encode(encoding, errors="replace")
