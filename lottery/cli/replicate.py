"""The command `lottery replicate`: run what a paper's claims need, and say which of them hold."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from lottery.cli.options import DataDir, Json, NumberOfJobs, Plugins, Sets, StoreDir, load, number_of_jobs, plug_in
from lottery.errors import UsageError
from lottery.words import counted

MARKS = {"holds": "HOLDS    ", "fails": "FAILS    ", "undecided": "UNDECIDED"}


def replicate(
    name: Annotated[
        str | None, typer.Argument(metavar="[RECIPE]", help="A recipe with claims; without one they are listed.")
    ] = None,
    sets: Sets = None,
    data: DataDir = None,
    store: StoreDir = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    jobs: NumberOfJobs = "1",
    deterministic: Annotated[bool, typer.Option("--deterministic", help="The same bytes again.")] = False,
    judge_only: Annotated[bool, typer.Option("--judge-only", help="Train nothing; judge what is finished.")] = False,
    on_cpu: Annotated[bool, typer.Option("--on-cpu", help="Run without a GPU what is meant for one.")] = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="The claims as .csv, .md, .tex or .json.")
    ] = None,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Run what is missing for the claims of a paper, then say which of them hold, with figures."""
    if name is None:
        plug_in(plugin)
        _list()
        return
    recipe = load(name, sets, plugin)
    if recipe.replicates is None:
        raise UsageError(f"{name}: has no claims; `lottery replicate` alone lists the recipes that have")
    form = _format(output)
    from lottery.cli.progress import run_and_show
    from lottery.formats.render import render
    from lottery.results.study import study
    from lottery.verdicts.claims_in_words import claims_in_words
    from lottery.verdicts.replication import rows, seeds_needed

    told = ""
    if not judge_only and recipe.replicates.needs_gpu and not on_cpu and not _cuda(device):
        told = "these claims need a GPU, and there is none here: nothing was trained (--on-cpu does so all the same)"
    exit_code = 0
    if not (told or judge_only):
        outcome = run_and_show(
            recipe,
            data=data,
            store=store,
            device=device,
            jobs=number_of_jobs(jobs),
            deterministic=deterministic,
            plugins=plugin or (),
        )
        exit_code = outcome.exit_code
        for message in outcome.messages:
            print(message, file=sys.stderr)
    found = study(recipe, store=store, data=data)
    table = rows(found)
    if output is not None:
        from lottery.files.write import write_atomic

        write_atomic(output, render(table, form))
    if as_json:
        sys.stdout.buffer.write(render(table, "json"))
    else:
        for claim in claims_in_words(table):
            print(f"{MARKS[claim.verdict]}  {claim.text} [{claim.source}]{claim.where}")
            for line in claim.figures:
                print(f"           {line}")
    if told or found.missing:
        are = "is" if found.missing == 1 else "are"
        print(told or f"{counted(found.missing, 'training')} {are} missing", file=sys.stderr)
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
    from lottery.recipe.load import load_recipe, shipped

    for name in shipped():
        replicates = load_recipe(name).replicates
        if replicates is not None:
            gpu = ", needs a GPU" if replicates.needs_gpu else ""
            print(f"{name}: {replicates.source}, {len(replicates.claims)} claims{gpu}")


def _format(output: Path | None) -> str:
    forms = {".csv": "csv", ".md": "markdown", ".tex": "latex", ".json": "json"}
    if output is None:
        return "json"
    if output.suffix not in forms:
        raise UsageError(f"{output}: no table is called so; end the name in {', '.join(forms)}")
    return forms[output.suffix]


def _cuda(device: str) -> bool:
    import torch

    return device != "cpu" and torch.cuda.is_available()
