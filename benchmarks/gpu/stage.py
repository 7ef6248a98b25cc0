"""A stage of `make gpu`: what it is given, and what it writes down."""

from __future__ import annotations

import json
import math
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import torch

Value = TypeVar("Value")


class NotHere(Exception):
    """Raised by a stage that this machine cannot run; the message says why."""


@dataclass(frozen=True)
class Stage:
    """A part of the measurements that runs in a process of its own.

    Attributes:
        name: What the command and the log call it.
        what: The same in words.
        limit: Seconds after which it is stopped.
        call: Module and function that do it, `module:function`; the function takes a `Setting`.
    """

    name: str
    what: str
    limit: float
    call: str


@dataclass(frozen=True)
class Measurement:
    """One thing that was measured or checked.

    Attributes:
        what: The thing, in words.
        value: Median; None where there is no number.
        unit: Unit of the value.
        low: Least value.
        high: Largest value.
        repeats: Number of values.
        ratio: How many times as fast as `against`, or as much work at once.
        against: What the ratio compares with.
        holds: Whether a check came out as it has to; None for what is no check.
        note: What else is to be known, or why nothing was measured.
    """

    what: str
    value: float | None = None
    unit: str = ""
    low: float | None = None
    high: float | None = None
    repeats: int = 1
    ratio: float | None = None
    against: str = ""
    holds: bool | None = None
    note: str = ""

    def in_words(self) -> str:
        """Return it as a line of text."""
        spread = f" ({self.low:.4g} to {self.high:.4g})" if self.low is not None and self.repeats > 1 else ""
        parts = [
            "" if self.holds is None else "holds" if self.holds else "DOES NOT HOLD",
            "" if self.value is None else f"{self.value:.4g} {self.unit}{spread}".rstrip(),
            "" if self.ratio is None else f"{self.ratio:.2f}x as fast as {self.against}",
            self.note,
        ]
        return f"{self.what}: {', '.join(filter(None, parts))}"

    def row(self) -> dict[str, Any]:
        """Return what is known as plain values, rounded to five digits, for the log."""
        return {name: _rounded(value) for name, value in asdict(self).items() if value not in (None, "")}


def _rounded(value: Any) -> Any:
    if isinstance(value, float) and value and math.isfinite(value):
        return float(f"{value:.5g}")
    return value


@dataclass
class Setting:
    """What a stage is given.

    Attributes:
        file: Where it writes down what it measures, a line of JSON each, at once.
        dry: True for a try on the CPU with small sizes, whose numbers mean nothing.
        limit: Seconds until the stage is stopped.
        log: Folder of the logs.
    """

    file: Path
    dry: bool
    limit: float
    log: Path
    began: float = field(default_factory=time.monotonic)

    @property
    def device(self) -> torch.device:
        """The device that is measured."""
        import torch

        return torch.device("cpu" if self.dry else "cuda")

    def sized(self, full: Value, small: Value) -> Value:
        """Return the size for a GPU, or the small one for a dry run."""
        return small if self.dry else full

    def left(self) -> float:
        """Return the seconds that are left to the stage, five of them kept for its end."""
        return self.limit - (time.monotonic() - self.began) - 5

    def tell(self, measurement: Measurement) -> None:
        """Write a measurement down: it is kept also where the stage is stopped afterwards."""
        self._write({"measurement": asdict(measurement)})

    def skip(self, what: str, why: str) -> None:
        """Write down that something was not measured, and why."""
        self.tell(Measurement(what, note=f"not measured: {why}"))

    def tell_environment(self, environment: Mapping[str, Any]) -> None:
        """Write down what the machine is, which goes with each measurement of the run."""
        self._write({"environment": environment})

    def check(self, what: str, call: Callable[[], str]) -> None:
        """Write down whether a call ends, with what it returns, or what it raised."""
        with self._raised(what):
            self.tell(Measurement(what, holds=True, note=call()))

    def attempt(self, what: str, call: Callable[[], None], least: float = 5.0) -> None:
        """Do a part of the stage that writes down its own measurements; what it raises does not stop the other parts.

        Args:
            what: The part in words.
            call: Does it.
            least: Seconds that have to be left to the stage; in a dry run none have to.
        """
        if not self.dry and self.left() < least:
            self.skip(what, "no time was left")
            return
        with self._raised(what):
            call()

    @contextmanager
    def _raised(self, what: str) -> Iterator[None]:
        """Write down what is raised in the `with` block as a check that does not hold, and print the traceback."""
        try:
            yield
        except NotHere as reason:
            self.skip(what, str(reason))
        except Exception as error:
            traceback.print_exc()
            first = str(error).strip().partition("\n")[0]
            self.tell(Measurement(what, holds=False, note=f"{type(error).__name__}: {first}"))

    def _write(self, line: Mapping[str, Any]) -> None:
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def median(values: list[float]) -> Measurement:
    """Return the median of values with their least and largest, to be given a name by `dataclasses.replace`."""
    import statistics

    return Measurement("", statistics.median(values), low=min(values), high=max(values), repeats=len(values))
