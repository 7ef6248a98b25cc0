"""Tables as people read them: what fits a terminal, what is said once, and that nothing is lost on the way."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from lottery.analysis.columns import DENSITY, KEY, Column, p_values
from lottery.analysis.rows import Row
from lottery.formats.latex_tables import Paper, floats
from lottery.formats.render import render
from lottery.formats.text import text
from tests.support.studies import dense, everything, hand, made, record, ticket, view_of

OTHERS = ("adagrad", "sgd", "momentum", "nesterov", "rmsprop", "adamw", "radam", "nadam")
TEN = ["{name: adam, lr: 1e-3}", "{name: adam, lr: 1e-2}", *(f"{{name: {name}, lr: 0.1}}" for name in OTHERS)]


def shown(table: Sequence[Mapping[str, Any]], width: int | None = None) -> list[str]:
    """The lines of the table, the first one empty as those of a literal below are."""
    return ["", *text(table, width).splitlines()]


def lines(literal: str) -> list[str]:
    return literal.rstrip("\n ").splitlines()


@pytest.fixture(scope="module")
def means() -> list[Row]:
    """Two levels with two controls; a ticket of level 2 diverged, all early-stop steps of it are at the end."""
    planned = hand("prune.levels=2", "branches=[reinit, shuffle]")
    engines = ({"level": 0}, {"collapsed": ("fc1",)}), ({"kind": "ticket", "level": 1}, {"collapsed": ("fc1",)})
    found = everything(planned) | made(planned, dense(1, 0.75), ticket(0, 0.625), *engines)
    found |= made(planned, ({"kind": "ticket", "level": 2, "seed": 1}, {"diverged": 7}))
    found |= made(planned, ({"kind": "ticket", "level": 2, "seed": 0}, {"censored": True}))
    return view_of("means", planned, found)


def test_in_a_pipe_each_row_is_one_line_with_all_columns_and_its_notes_stand_below(means: list[Row]) -> None:
    assert shown(means) == lines("""
optimizer  density  dense (%)         dense  ticket (%)        ticket  ticket    reinit (%)        reinit  reinit    shuffle (%)       shuffle  shuffle   note
           (%)                        step                     step    diff                        step    diff                        step     diff
                                                                       (points)                            (points)                             (points)
---------  -------  ----------------  -----  ----------------  ------  --------  ----------------  ------  --------  ----------------  -------  --------  -----
adam       50       50.00 ± 0.00 (2)  30     50.00 ± 0.00 (2)  30      0.00      50.00 ± 0.00 (2)  30      0.00      50.00 ± 0.00 (2)  30       0.00
adam       25       50.00 ± 0.00 (2)  30     50.00 (1)         30      0.00      50.00 ± 0.00 (2)  30      0.00      50.00 ± 0.00 (2)  30       0.00      [1,2]
[1] ticket: 1 of 2 diverged (step 7)
[2] early-stop step censored: ticket 1 of 2
all rows: collapsed: fc1
""")  # noqa: E501


def test_on_80_columns_each_network_has_a_block_that_repeats_optimizer_and_density(means: list[Row]) -> None:
    assert shown(means, 80) == lines("""
optimizer  density  dense (%)         dense  note
           (%)                        step
---------  -------  ----------------  -----  -----
adam       50       50.00 ± 0.00 (2)  30
adam       25       50.00 ± 0.00 (2)  30     [1,2]

optimizer  density  ticket (%)        ticket  ticket
           (%)                        step    diff
                                              (points)
---------  -------  ----------------  ------  --------
adam       50       50.00 ± 0.00 (2)  30      0.00
adam       25       50.00 (1)         30      0.00

optimizer  density  reinit (%)        reinit  reinit
           (%)                        step    diff
                                              (points)
---------  -------  ----------------  ------  --------
adam       50       50.00 ± 0.00 (2)  30      0.00
adam       25       50.00 ± 0.00 (2)  30      0.00

optimizer  density  shuffle (%)       shuffle  shuffle
           (%)                        step     diff
                                               (points)
---------  -------  ----------------  -------  --------
adam       50       50.00 ± 0.00 (2)  30       0.00
adam       25       50.00 ± 0.00 (2)  30       0.00

[1] ticket: 1 of 2 diverged (step 7)
[2] early-stop step censored: ticket 1 of 2
all rows: collapsed: fc1
""")


def test_a_table_that_fits_is_not_cut_into_blocks() -> None:
    table = [
        {"optimizer": "adam", DENSITY: 0.5, "verdict": "matching", "n": 5, "reason": "shown to be near"},
        {"optimizer": "adam", DENSITY: 0.25, "verdict": "matching", "n": 5, "reason": "far; not; shown"},
    ]
    assert shown(table, 80) == lines("""
optimizer  density  verdict   n  reason
           (%)
---------  -------  --------  -  ------
adam       50       matching  5  [1]
adam       25       matching  5  [2]

[1] shown to be near
[2] far; not; shown
""")


def test_words_that_all_rows_share_are_said_once_and_columns_without_a_value_not_at_all() -> None:
    table = [
        {"optimizer": "sgd", KEY: letter * 64, "sample": None, "device": "cpu", "ok": True, "step": 100}
        for letter in "ab"
    ]
    assert shown(table, 80) == lines("""
optimizer  key           step
---------  ------------  ----
sgd        aaaaaaaaaaaa  100
sgd        bbbbbbbbbbbb  100

all rows: device cpu, ok True
""")
    assert shown(table)[1].split() == ["optimizer", "key", "sample", "device", "ok", "step"]
    assert "a" * 64 in shown(table)[3]  # in a pipe the whole key


def test_on_a_terminal_p_values_are_corrected_and_of_words_that_a_row_says() -> None:
    figures: dict[str, Any] = dict(zip(p_values("p_matching", 0.95), (0.01, 0.02), strict=True))
    figures |= zip(p_values("p_losing", 0.95, "losing"), (0.9, 0.95), strict=True)
    figures |= zip(p_values("p_better", 0.95, "better"), (0.03, 0.04), strict=True)
    figures |= {Column("p_earlier", "p", shows="winning"): 0.5}
    figures |= {Column("p_winning_adjusted", "p", shows="winning", corrects="p_earlier"): 0.6}
    figures |= {Column("difference_end", "points"): 0.01, Column("verdict_end", readers="programs"): "losing"}
    figures |= {Column("depends", readers="programs"): "verdict"}
    rows = [
        {"optimizer": name, "verdict": verdict, "also": also, **figures, "reason": "why"}
        for name, verdict, also in (("adam", "matching", "better"), ("sgd", "inconclusive", ""))
    ]
    assert shown(rows, 120) == lines("""
optimizer  verdict       also    p_         p_        difference_
                                 matching_  better_   end
                                 adjusted   adjusted  (points)
---------  ------------  ------  ---------  --------  -----------
adam       matching      better  0.02       0.04      +1.00
sgd        inconclusive          0.02       0.04      +1.00

all rows: why
""")
    everything_else = " ".join(" ".join(shown(rows)[:4]).split())
    assert all(name in everything_else for name in ("losing_", "earlier", "verdict_", "depends"))
    lost = " ".join(shown([{**row, "verdict": "losing", "also": ""} for row in rows], 200)[:4])
    assert "losing_" in lost and "better_" not in lost and "winning_" not in lost


def test_one_row_has_nothing_in_common_with_others() -> None:
    table = [{"optimizer": "sgd", "how": "by hand", "note": "one; two"}]
    assert shown(table, 80) == lines("""
optimizer  how      note
---------  -------  -----
sgd        by hand  [1,2]

[1] one
[2] two
""")


def test_where_a_cell_is_wider_than_the_terminal_it_is_broken_between_words() -> None:
    table = [{"optimizer": "sgd", DENSITY: 0.5, "how": "bootstrap of seeds, expanded percentile; no crossing"}]
    table[0]["note"] = "a note that is much longer than the terminal is wide"
    assert shown(table, 40) == lines("""
optimizer  density  note
           (%)
---------  -------  ----
sgd        50       [1]

optimizer  density  how
           (%)
---------  -------  --------------------
sgd        50       bootstrap of seeds,
                    expanded percentile;
                    no crossing

[1] a note that is much longer than the
    terminal is wide
""")


def test_the_note_of_a_row_gives_the_same_number_to_the_same_statement() -> None:
    table = [{"optimizer": name, "note": note} for name, note in (("a", "x; y"), ("b", "y"), ("c", ""), ("d", "z; x"))]
    assert shown(table) == lines("""
optimizer  note
---------  -----
a          [1,2]
b          [2]
c
d          [1,3]
[1] x
[2] y
[3] z
""")


@pytest.fixture(scope="module")
def wide() -> dict[str, list[Row]]:
    """Ten optimizers, two rewind points and four controls, retrained with each other."""
    controls = "branches=[reinit, shuffle, {name: random, samples: 2}, {name: same_sign, as: same_sign_as_before}]"
    planned = hand(
        f"train.optimizer=[{', '.join(TEN)}]",
        "rewind=[init, {to: 10it, mode: lr}]",
        "prune.levels=3",
        controls,
        "transfer=all",
    )
    records = {
        job.key: record(job, round(0.3 + number / 10_000, 4), step=10 * (1 + job.level), censored=job.level == 3)
        for number, job in enumerate(planned)
        if job.kind != "rewind"
    }
    records |= made(planned, ({"kind": "ticket", "level": 2, "seed": 1}, {"diverged": 4}))
    return {view: view_of(view, planned, records) for view in ("means", "transfer", "long")}


@pytest.mark.parametrize(
    ("view", "width"), [*((view, width) for view in ("means", "transfer") for width in (40, 80, 120)), ("long", 80)]
)
def test_nothing_is_wider_than_the_terminal_and_each_value_is_there(
    wide: dict[str, list[Row]], view: str, width: int
) -> None:
    table = wide[view]
    told = render(table, "text", width).decode()
    assert max(map(len, told.splitlines())) <= width
    joined = re.sub(r"\s+", " ", told)
    for row in table:
        for name, value in row.items():
            if f"{name}_n" in row and value is not None:
                mean = f"{100 * value:.2f}"
                spread = row[f"{name}_std"]
                cell = [mean, *([] if spread is None else [f"± {100 * spread:.2f}"]), f"({row[f'{name}_n']})"]
                assert all(part in joined for part in cell)
        if view == "long":
            assert row["key"][:12] in told
    notes = {part for row in table for part in (row.get("note") or "").split("; ") if part}
    assert all(note in joined for note in notes)


def test_the_blocks_of_a_row_are_near_one_another(wide: dict[str, list[Row]]) -> None:
    """Of 60 rows no more than 20 stand in a block, and the rows of an optimizer are not torn apart."""
    blocks = [block.splitlines() for block in render(wide["means"], "text", 80).decode().split("\n\n")]
    tables = [block for block in blocks if block[0].startswith("optimizer")]
    heads = {"".join(block[:2]) for block in tables}
    rows = [[line.split()[0] for line in block if re.search(r"\) +\d|\d +\d+\.?\d* ", line)] for block in tables]
    assert len(wide["means"]) == 60 and max(map(len, rows)) <= 20 and sum(map(len, rows)) == 60 * len(heads)
    assert all(names.count(name) == 6 for names in rows for name in names)
    assert tables[1][0].split()[:3] == ["optimizer", "rewind", "density"]


def test_files_keep_their_note(means: list[Row]) -> None:
    note = "collapsed: fc1; early-stop step censored: ticket 1 of 2"
    assert means[1]["note"] == f"ticket: 1 of 2 diverged (step 7); {note}"
    for form in ("csv", "markdown", "json", "latex"):
        assert note in render(means, form, 80).decode(), form
        assert render(means, form, 80) == render(means, form)


@pytest.mark.parametrize("width", [None, 80])
def test_a_table_without_rows_is_an_empty_line(width: int | None) -> None:
    assert render([], "text", width) == b"\n"


@pytest.mark.parametrize(("rows", "in_first"), [(2, 3), (40, 1)])
def test_the_parts_of_a_wide_table_of_few_rows_share_floats_in_latex(rows: int, in_first: int) -> None:
    """40 lines of a float are three parts of 2 rows, with 10 lines for the rules and the folded header of each."""
    names = [f"value_with_a_long_name_of_number_{number:02}" for number in range(30)]
    table = [Row({"optimizer": "adam", **dict.fromkeys(names, 0.5 + row)}, ()) for row in range(rows)]
    made = floats(table, Paper("wide", "wide"))
    assert made[0].count(r"\begin{tabular}") == in_first
    for number in range(30):
        assert "\n".join(made).count(f"{{{number:02}}}") >= 1
