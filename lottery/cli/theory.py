"""The commands `lottery theory ...`: tables of networks that nothing is trained of, or that learn a teacher."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from lottery.cli.options import Plugins, plug_in
from lottery.cli.tables import Format, Output, writer
from lottery.errors import LotteryError, RecipeError, UsageError

if TYPE_CHECKING:
    from lottery.analysis.rows import Row
    from lottery.values import Component

theory = typer.Typer(help="Tables without a recipe: signal propagation, spurious minima.", no_args_is_help=True)

PROGRESS_EVERY = 30.0  # seconds between lines where stderr is no terminal
MOST_DEPTH, MOST_WIDTH, MOST_UNITS, MOST_STARTS = 1000, 10_000, 30, 100_000
INITS = ("kaiming_normal", "glorot_normal", "lecun_normal", "mean_field")
DEPTHS, TEACHERS, WIDER = (5, 20, 50), (8,), (0, 1, 2)
Smooth = Literal["relu", "erf", "quadratic"]
ACTIVATIONS: tuple[Smooth, ...] = ("relu", "erf", "quadratic")
FRACTIONS = ("dead", "saturated", "share")
Seed = Annotated[int, typer.Option(help="Seed of all that is drawn.")]


@theory.command()
def propagation(
    inits: Annotated[
        list[str] | None,
        typer.Option(
            "--init", metavar="ENTRY", help=f"As in a recipe; repeatable; {', '.join(INITS)} if none is given."
        ),
    ] = None,
    activations: Annotated[
        list[str] | None,
        typer.Option("--activation", metavar="NAME", help="Repeatable; relu and tanh if none is given."),
    ] = None,
    norms: Annotated[
        list[str] | None, typer.Option("--norm", metavar="NAME", help="Repeatable; none and batch if none is given.")
    ] = None,
    depths: Annotated[
        list[int] | None,
        typer.Option("--depth", metavar="LAYERS", help="Hidden layers; repeatable; 5, 20, 50 if none is given."),
    ] = None,
    model: Annotated[str, typer.Option(metavar="ENTRY", help="As in a recipe; with a key depth or widths.")] = "mlp",
    width: Annotated[int, typer.Option(help="Units or channels of a hidden layer.")] = 100,
    shape: Annotated[
        str,
        typer.Option("--input", metavar="SHAPE", help="Shape of an input, such as 3,32,32; --width numbers if none."),
    ] = "",
    seed: Seed = 0,
    form: Format = "text",
    output: Output = None,
    plot: Annotated[
        list[Path] | None,
        typer.Option("--plot", metavar="FILE", help="Draw the table there too; .png, .svg, .pdf; repeatable."),
    ] = None,
    plot_width: Annotated[
        str | None, typer.Option("--plot-width", metavar="column|page|INCHES", help="Width of the drawing in print.")
    ] = None,
    plugin: Plugins = None,
) -> None:
    """Say what signals do at initialization by init, activation, normalization and depth: explode, vanish or hold.

    A signal explodes where it grows by more than e^6 over the hidden layers, vanishes where it shrinks so. Inputs are
    256 standard normal ones. Nothing is trained.
    """
    from lottery.figures.sizes import width_of

    write, pictures, inches = writer(form, output), [_picture(path) for path in plot or ()], width_of(plot_width)
    plug_in(plugin)
    from lottery import registry
    from lottery.registry import suggest

    known = [_entry("--init", registry.inits, text) for text in inits or INITS]
    chosen = {
        "activations": _names("--activation", registry.activations, activations or ("relu", "tanh")),
        "norms": _names("--norm", registry.normalizations, norms or ("none", "batch")),
        "depths": [_within("--depth", depth, 1, MOST_DEPTH) for depth in dict.fromkeys(depths or DEPTHS)],
    }
    component = _entry("--model", registry.models, model)
    deep = [entry.name for entry in registry.models if _can_be_deep(entry.schema.model_fields)]
    if component.name not in deep:
        raise UsageError(
            f"--model {component.name}: has no keys for activation, norm and depth or widths{suggest('', deep)}"
        )
    _within("--width", width, 1, MOST_WIDTH)
    _within("--seed", seed, 0, 2**32 - 1)
    given: dict[str, Any] = {"inits": known, **chosen, "model": component, "width": width, "seed": seed}
    given["input_shape"] = _shape(shape) if shape else (width,)
    from lottery.analysis.propagation import propagation_table

    total = math.prod(len(given[name]) for name in ("inits", "activations", "norms", "depths"))
    with _progress("networks", total) as after:
        try:
            rows = propagation_table(**given, after=after)
        except UsageError as error:
            raise UsageError(f"--model {component.name} with --depth, --width or --input: {error}") from error
    if all(row["verdict"] == "refused" for row in rows):
        raise UsageError(f"none of these networks can be: {rows[0]['note']}; change --init, --model or --input")
    if pictures:
        _draw_propagation(rows, pictures, f"{component.name} networks of width {width} and seed {seed}", inches)
    write(_rows(rows))


@theory.command()
def minima(
    activations: Annotated[
        list[str] | None,
        typer.Option(
            "--activation", metavar="NAME", help="relu, or smooth: erf, quadratic; repeatable; relu and erf if none."
        ),
    ] = None,
    teachers: Annotated[
        list[int] | None,
        typer.Option("--teacher", metavar="UNITS", help="Units of the teacher; repeatable; 8 if none is given."),
    ] = None,
    wider: Annotated[
        list[int] | None,
        typer.Option("--wider", metavar="UNITS", help="Units that the student has more; repeatable; 0, 1, 2 if none."),
    ] = None,
    starts: Annotated[int, typer.Option(help="Descents from random weights, for each row.")] = 50,
    seed: Seed = 0,
    form: Format = "text",
    output: Output = None,
) -> None:
    """Count the spurious minima where two-layer networks that learn a teacher end, by activation and by width.

    The loss is that over all standard normal inputs, in closed form (Safran & Shamir 2018). How often a minimum is met
    depends on the descent, and one that is not met is no proof that there is none.
    """
    write = writer(form, output)
    units = [_within("--teacher", k, 2, MOST_UNITS) for k in dict.fromkeys(teachers or TEACHERS)]
    more = [_within("--wider", n, 0, MOST_UNITS) for n in dict.fromkeys(WIDER if wider is None else wider)]
    _within("--starts", starts, 1, MOST_STARTS)
    _within("--seed", seed, 0, 2**32 - 1)
    names = list(dict.fromkeys(activations or ACTIVATIONS[:2]))
    for name in names:
        if name not in ACTIVATIONS:
            raise UsageError(f"--activation {name}: there are {', '.join(ACTIVATIONS)}")
    from lottery.landscape.memo import Memo
    from lottery.landscape.teacher_student import spurious_table

    with _progress("descents", len(names) * len(units) * len(more) * starts) as after:
        memo = Memo(after=lambda _: after())
        smooth = cast("list[Smooth]", names)
        rows = spurious_table(units, wider=more, activations=smooth, starts=starts, seed=seed, memo=memo)
    write(_rows(rows))


class _Stopped(LotteryError):
    """A table that was stopped by a signal."""

    def __init__(self, number: int, done: int, total: int, things: str):
        self.exit_code = 128 + number
        super().__init__(f"stopped by signal {number} after {done} of {total} {things}; no table is written")


@contextmanager
def _progress(things: str, total: int) -> Iterator[Callable[[], None]]:
    """Show progress on stderr; give what is called after each of the things, which raises where a signal came."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from lottery.signals import Stop, handle_signals

    console, stop, told = Console(stderr=True), Stop(), time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    done = 0
    with (
        handle_signals(stop),
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar,
    ):
        task = bar.add_task(things, total=total)

        def after() -> None:
            nonlocal done, told
            done += 1
            bar.advance(task)
            if stop.signal is not None:
                raise _Stopped(stop.signal, done, total, things)
            if not console.is_terminal and time.monotonic() - told >= PROGRESS_EVERY:
                told = time.monotonic()
                print(f"{done} of {total} {things}", file=sys.stderr)

        yield after


def _picture(path: Path) -> Path:
    """Return where a picture goes. Raises UsageError where that is no name of a picture, or its folder is missing."""
    from lottery.figures.save import check_suffix

    if not path.absolute().parent.is_dir():
        raise UsageError(f"--plot {path}: there is no folder {path.parent}; make it, or name another file")
    return check_suffix(path)


def _draw_propagation(
    rows: Sequence[Mapping[str, Any]], paths: Sequence[Path], network: str, width: float | None
) -> None:
    from lottery.figures.propagation import propagation_figure
    from lottery.figures.save import save_figure

    figure = propagation_figure(rows, network, width=width)
    for path in paths:
        save_figure(path, lambda: figure)


def _entry(option: str, catalogue: Any, text: str) -> Component:
    """Return an entry of a catalogue that an option names as a recipe does, `naive` or `{name: naive, std: 0.3}`.

    Raises:
        UsageError: There is none, or a key of it is wrong.
    """
    from lottery.recipe.components import check_entry
    from lottery.recipe.yaml import parse_value
    from lottery.values import Component

    try:
        component = Component.parse(parse_value(text, option).value)
    except (RecipeError, ValueError) as error:
        raise UsageError(f"{option} {text}: {str(error).removeprefix(f'{option}: ')}") from error
    checked, problems = check_entry(catalogue, component)
    for path, message in problems:
        raise UsageError(f"{option} {'.'.join([component.name, *map(str, path)])}: {message}")
    return cast("Component", checked)


def _names(option: str, catalogue: Any, names: Sequence[str]) -> list[str]:
    """Return names of a catalogue without repetition. Raises UsageError where there is no such entry."""
    for name in names:
        if name not in catalogue:
            raise UsageError(f"{option} {name}: {catalogue.unknown(name)}")
    return list(dict.fromkeys(names))


def _within(option: str, value: int, least: int, most: int) -> int:
    """Return a number as it is. Raises UsageError where it is not within its limits."""
    if not least <= value <= most:
        raise UsageError(f"{option} {value}: write a number from {least:,} to {most:,}")
    return value


def _can_be_deep(keys: Mapping[str, Any]) -> bool:
    return {"activation", "norm"} <= set(keys) and ("depth" in keys or "widths" in keys)


def _shape(text: str) -> tuple[int, ...]:
    """Return a shape. Raises UsageError where it is none."""
    sizes = text.split(",")
    if len(sizes) not in (1, 3) or not all(size.strip().isdecimal() and int(size) for size in sizes):
        raise UsageError(f"--input {text}: write a number such as 100, or channels, height and width as 3,32,32")
    if math.prod(map(int, sizes)) > MOST_WIDTH:
        raise UsageError(f"--input {text}: write at most {MOST_WIDTH:,} numbers in all")
    return tuple(map(int, sizes))


def _rows(rows: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Return the rows of a table, with NaN as None."""
    from lottery.analysis.columns import Column
    from lottery.analysis.rows import Row

    return [
        Row(
            {
                Column(name, "fraction" if name in FRACTIONS else ""): None if value != value else value
                for name, value in row.items()
            },
            (),
        )
        for row in rows
    ]
