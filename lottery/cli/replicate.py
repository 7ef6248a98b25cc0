"""The command `lottery replicate`: run what a paper's claims need, and say which of them hold."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from lottery.cli.claims import SURVEY, no_gpu, ran, tell
from lottery.cli.options import (
    DataDir,
    Json,
    NumberOfJobs,
    Plugins,
    Sets,
    StoreDir,
    command_line,
    load_points,
    number_of_jobs,
    plug_in,
)
from lottery.errors import UsageError
from lottery.words import counted


def replicate(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[RECIPE|survey]",
            help="A recipe with claims, or survey for all recipes of the survey; without one they are listed.",
        ),
    ] = None,
    sets: Sets = None,
    data: DataDir = None,
    store: StoreDir = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    jobs: NumberOfJobs = "1",
    deterministic: Annotated[bool, typer.Option("--deterministic", help="The same bytes again.")] = False,
    judge_only: Annotated[bool, typer.Option("--judge-only", help="Train nothing; judge what is finished.")] = False,
    on_cpu: Annotated[bool, typer.Option("--on-cpu", help="Run without a GPU what is meant for one.")] = False,
    only: Annotated[
        str | None, typer.Option("--only", metavar="N,N", help="With survey: the statements of these numbers.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="The claims as .csv, .md, .tex or .json; with survey the folder that its page is written to.",
        ),
    ] = None,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Run what is missing for the claims of a paper, then say which of them hold, with figures."""
    settings: dict[str, Any] = {"data": data, "store": store, "device": device, "deterministic": deterministic}
    settings |= {"jobs": number_of_jobs(jobs), "plugins": plugin or ()}
    if name == SURVEY:
        from lottery.cli.replicate_survey import replicate_survey

        plug_in(plugin)
        raise typer.Exit(replicate_survey(sets or (), only, settings, judge_only, on_cpu, output, as_json))
    from lottery.recipe.load import shipped
    from lottery.results.named_recipe import SHIPPED

    if only is not None:
        raise UsageError("--only: chooses among the statements of `lottery replicate survey`")
    if name is None:
        plug_in(plugin)
        _list()
        return
    sweep = load_points(f"{name}{SHIPPED}" if name in shipped() else name, sets, plugin, (), store)
    if sweep.replicates is None:
        raise UsageError(f"{name}: has no claims; `lottery replicate` alone lists the recipes that have")
    form = _format(output)
    from lottery.formats.render import render
    from lottery.results.sweep import swept_study
    from lottery.verdicts.replication import seeds_needed
    from lottery.verdicts.swept_claims import rows

    told = no_gpu(sweep, device, on_cpu) if not judge_only else ""
    exit_code = 0 if told or judge_only else ran(sweep, settings)
    found = swept_study(sweep, store=store, data=data)
    table = rows(found)
    if output is not None:
        from lottery.files.write import write_atomic

        write_atomic(output, render(table, form))
    if as_json:
        sys.stdout.buffer.write(render(table, "json"))
    else:
        tell(table)
    if told or found.missing:
        are = "is" if found.missing == 1 else "are"
        missing = f"{counted(found.missing, 'training')} {are} missing in {found.studies[0].store.name}"
        runs = command_line("replicate", name, sets, plugins=plugin, data=data, store=store)
        print(told or f"{missing}; {runs} runs what can be run", file=sys.stderr)
    elif (wanted := seeds_needed(table)) is not None:
        print(_more(name, sets, wanted), file=sys.stderr)
    raise typer.Exit(exit_code)


def _more(name: str, sets: list[str] | None, seeds: int) -> str:
    """Return in words what would decide the claims that are left."""
    from lottery.recipe.schema import MOST_SEEDS

    if seeds > MOST_SEEDS:
        return f"what is undecided would take more than {MOST_SEEDS:,} seeds, if means and spreads stay as they are"
    other = "".join(f" --set {shlex.quote(each)}" for each in sets or () if not each.startswith("seeds="))
    command = f"lottery replicate {shlex.quote(name)}{other} --set seeds={seeds}"
    return (
        f"{seeds} seeds would decide what more seeds can, if means and spreads stay as they are: {command} (claims "
        "that get more seeds for what was seen hold or fail by chance more often than stated)"
    )


def _list() -> None:
    from lottery.recipe.load import shipped
    from lottery.recipe.sweep import load_sweep

    survey = 0
    for name, path in shipped().items():
        replicates = load_sweep(name).replicates
        if replicates is not None:
            gpu = ", needs a GPU" if replicates.needs_gpu else ""
            print(f"{name}: {replicates.source}, {counted(len(replicates.claims), 'claim')}{gpu}")
            survey += path.parent.name == SURVEY
    if survey:
        print(f"{SURVEY}: all {counted(survey, 'recipe')} of recipes/survey")


def _format(output: Path | None) -> str:
    forms = {".csv": "csv", ".md": "markdown", ".tex": "latex", ".json": "json"}
    if output is None:
        return "json"
    if output.suffix not in forms:
        raise UsageError(f"{output}: no table is called so; end the name in {', '.join(forms)}")
    return forms[output.suffix]
