"""Tables in LaTeX with cells of several lines."""

from __future__ import annotations

from lottery.formats.latex_paragraphs import paragraph_table


def test_a_long_table_becomes_floats_that_each_fit_a_page_and_lose_no_row() -> None:
    rows = [[f"{number}_", "word " * 40] for number in range(30)]  # of five lines each
    floats = paragraph_table(["no.", "text"], rows, [0.0, 0.5], "All & more", "tab:all")
    assert len(floats) == 4 and "".join(floats).count("word") == 30 * 40
    assert [rf"{number}\_ & " in "".join(floats) for number in range(30)] == [True] * 30
    assert r"\caption{All \& more}" in floats[0] and r"\caption{All \& more (continued)}" in floats[1]
    assert r"\label{tab:all}" in floats[0] and r"\label{tab:all-2}" in floats[1]
    assert all(made.count(r"\raggedright") == made.count(r"\tabularnewline") for made in floats)
