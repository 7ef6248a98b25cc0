"""What a run of `make gpu` leaves: a table in Markdown, and a line of JSON for each measurement."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.gpu.drive import Ended
from benchmarks.gpu.stage import Measurement
from lottery.files.write import write_atomic

LOG = "gpu.jsonl"
DRY = "**A dry run on a CPU with small sizes: these numbers say nothing of a GPU, and none is kept.**"


def environment_of(ended: Sequence[Ended]) -> dict[str, Any]:
    """Return the machine, as the stage `facts` has told of it."""
    return {name: value for each in ended for name, value in each.environment.items()}


def markdown(ended: Sequence[Ended], *, dry: bool, date: datetime) -> str:
    """Return the table of a run, with how each stage ended and the output of those that went wrong.

    Args:
        ended: The stages.
        dry: Whether its numbers mean nothing, which is then said.
        date: When the run began.
    """
    return "\n".join([*_head(ended, dry, date), *_stages(ended), *_table(ended, dry), *_outputs(ended)]) + "\n"


class Log:
    """What is kept of a run, at once: it may be cut off at any time.

    Args:
        folder: Folder of the log and the table.
        date: When the run began.

    Attributes:
        file: The log, to which each measurement adds a line.
        table: The table in Markdown, written anew after each stage.
    """

    def __init__(self, folder: Path, date: datetime):
        folder.mkdir(parents=True, exist_ok=True)
        self.file, self.table, self._date = folder / LOG, folder / f"gpu-{date:%Y-%m-%d-%H%M%S}.md", date

    def add(self, stage: str, found: Measurement, environment: Mapping[str, Any]) -> None:
        """Add the line of a measurement."""
        with self.file.open("ab") as file:
            file.write(json.dumps(line(stage, found, environment, self._date)).encode() + b"\n")

    def write_table(self, ended: Sequence[Ended]) -> None:
        """Write the table of the stages that have ended so far."""
        write_atomic(self.table, markdown(ended, dry=False, date=self._date).encode())


def line(stage: str, found: Measurement, environment: Mapping[str, Any], date: datetime) -> dict[str, Any]:
    """Return a line of the log: when, where, and the one result."""
    return {
        "date": date.astimezone(UTC).isoformat(timespec="seconds"),
        "environment": dict(environment),
        "results": [{"case": stage, **found.row()}],
    }


def _head(ended: Sequence[Ended], dry: bool, date: datetime) -> Iterator[str]:
    yield f"# GPU, {date:%Y-%m-%d %H:%M} UTC"
    yield ""
    if dry:
        yield DRY
        yield ""
    known = {name: value for name, value in environment_of(ended).items() if not name.startswith("plugin ")}
    yield "; ".join(f"{name} {value}" for name, value in known.items()) or "The machine is not known: no stage told."
    yield ""


def _stages(ended: Sequence[Ended]) -> Iterator[str]:
    yield "| stage | what | ended | seconds |"
    yield "|---|---|---|---|"
    for each in ended:
        seconds = "" if each.how == "left out" else f"{each.seconds:.1f}"
        yield f"| {each.stage.name} | {_cell(each.stage.what)} | {each.how} | {seconds} |"
    yield ""


def _table(ended: Sequence[Ended], dry: bool) -> Iterator[str]:
    yield f"| stage | measured{', dry' if dry else ''} | median | least and largest | ratio | note |"
    yield "|---|---|---|---|---|---|"
    for each in ended:
        for found in each.measurements:
            cells = (each.stage.name, found.what, _value(found), _spread(found), _ratio(found), _note(found))
            yield f"| {' | '.join(_cell(cell) for cell in cells)} |"


def _outputs(ended: Sequence[Ended]) -> Iterator[str]:
    for each in ended:
        if not each.good:
            yield from ("", f"The last lines of `{each.stage.name}`, {each.how}:", "", "```", *each.output, "```")


def _value(found: Measurement) -> str:
    return "" if found.value is None else f"{found.value:.4g} {found.unit}".rstrip()


def _spread(found: Measurement) -> str:
    return "" if found.low is None or found.high is None else f"{found.low:.4g} to {found.high:.4g}"


def _ratio(found: Measurement) -> str:
    return "" if found.ratio is None else f"{found.ratio:.2f}x as fast as {found.against}"


def _note(found: Measurement) -> str:
    held = {True: "holds", False: "**does not hold**", None: ""}[found.holds]
    return ", ".join(filter(None, (held, found.note)))


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
