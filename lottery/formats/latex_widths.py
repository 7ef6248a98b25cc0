"""Widths of text in LaTeX's own fonts, so that a table is known to fit before it is set."""

from __future__ import annotations

_GROUPS = {  # characters by their width in thousandths of the size, of Computer Modern at 8 points (cmr8.tfm)
    295: "!',.:;[]`il|",
    325: "fj",
    354: "- \u00a0",
    419: "()Irst",
    472: "cez",
    531: "?$*/0123456789^_ag~",
    590: "JSbdhknopquvxy",
    664: "LZ",
    723: "EFP",
    782: "BCRTw",
    834: "&+=@ADGHKNOQUVXY−±×≤≥≈<>",
    885: "#%m",
    1091: "MW→",
}
_EACH = {character: width for width, characters in _GROUPS.items() for character in characters}
_OTHER = 1000  # a letter that is in no group
POINTS = 8.0  # size of tables in an article of 10 points: \footnotesize
_MATH = 4.8  # points of space around a sign such as ±, in all
BOLD = 1.15  # times as wide as the font that stands upright


def width(text: str) -> float:
    """Return the width of a line of text in points, a little too wide rather than too narrow."""
    signs = sum(character in "±×" for character in text)
    return sum(_EACH.get(character, _OTHER) for character in text) * POINTS / 1000 + _MATH * signs
