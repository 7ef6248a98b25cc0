"""Words in LaTeX: text escaped so that it is set as it is, and letters for notes."""

from __future__ import annotations

import re
import string
import unicodedata

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "_": r"\_",
    "%": r"\%",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "`": r"\char96{}",
    "[": "{[}",  # after the end of a row it would begin an argument
    "]": "{]}",
    "*": "{*}",
    "−": "$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "≤": r"$\le$",
    "≥": r"$\ge$",
    "∞": r"$\infty$",
    "²": "$^2$",
    "°": r"$^\circ$",
    "µ": r"$\mu$",
    "·": r"$\cdot$",
    "→": r"$\to$",
    "≈": r"$\approx$",
    "●": r"$\bullet$",
    "○": r"$\circ$",
    "▼": r"$\bigtriangledown$",
    "–": r"\textendash{}",
    "—": r"\textemdash{}",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
    "…": r"\dots{}",
    "\u00a0": "~",
}


def escaped(text: str) -> str:
    """Return text so that LaTeX sets it as it is.

    A character that its standard fonts lack becomes its number, as in [U+4E2D].
    """
    text = re.sub(r"\s*\n\s*", "\n\n", text.strip())  # a line of its own stays one
    characters = (_SPECIAL.get(character) or _known(character) for character in unicodedata.normalize("NFC", text))
    return re.sub("-(?=-)", "-{}", "".join(characters))  # two hyphens are no dash


def _known(character: str) -> str:
    """Return a character that the encoding OT1, which LaTeX begins with, can set; else its number."""
    if character == "\n" or " " <= character <= "~":
        return character
    if character.isspace():
        return " "
    letter, *marks = list(unicodedata.normalize("NFD", character))
    if character in _LETTERS or (character < "\u0180" and letter in string.ascii_letters and set(marks) <= _MARKS):
        return character
    return f"{{[}}U+{ord(character):04X}{{]}}"


_LETTERS = "ßÆæŒœØøÅåŁłıĲĳ"
_MARKS = set("\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030b\u030c\u0327")  # accents that OT1 has


def line(text: str) -> str:
    """Return text in one line, escaped."""
    return escaped(" ".join(text.split()))


def letter(number: int) -> str:
    """Return a to z, then aa, ab and so on."""
    first, second = divmod(number, 26)
    return (letter(first - 1) if first else "") + string.ascii_lowercase[second]
