"""The command `lottery replicate survey`: run the recipes of all statements, and write one page."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lottery.cli.claims import SURVEY, no_gpu, ran, tell
from lottery.errors import DataError, UsageError
from lottery.words import counted

if TYPE_CHECKING:
    from lottery.recipe.sweep import Sweep
    from lottery.report.survey import Survey


def replicate_survey(
    sets: Sequence[str],
    only: str | None,
    settings: Mapping[str, Any],
    judge_only: bool,
    on_cpu: bool,
    output: Path | None,
    as_json: bool,
) -> int:
    """Run the recipes one after the other, then judge all and write the page.

    A recipe whose data are not there is told of, and the others go on.

    Args:
        sets: Changes of keys, made in every recipe.
        only: Numbers of statements, `7,10`; None for all.
        settings: Those of `lottery.api.run`.
        judge_only: Train nothing.
        on_cpu: Run without a GPU what is meant for one.
        output: The folder of the page; None for none.
        as_json: Print the rows as JSON, and not as text.

    Returns:
        The exit code: 1 where a job failed, or a recipe could not be run.

    Raises:
        UsageError: There is no such statement, or the folder is a file.
        RecipeError: A recipe is not valid; nothing was trained.
    """
    if output is not None and output.is_file():
        raise UsageError(f"{output}: is a file; the page of the survey is a folder")
    sweeps = chosen(only, sets)
    exit_code, left_out = 0, dict[str, str]()
    for number, sweep in enumerate(sweeps, start=1):
        told = no_gpu(sweep, str(settings["device"]), on_cpu)
        if judge_only or told:
            print(f"{sweep.name}: {told}", file=sys.stderr) if told and not judge_only else None
            continue
        print(f"[{number}/{len(sweeps)}] {sweep.name}: {sweep.question}", file=sys.stderr)
        try:
            exit_code = max(exit_code, ran(sweep, settings))
        except DataError as error:
            left_out[sweep.name] = str(error)
    survey = judged([sweep for sweep in sweeps if sweep.name not in left_out], settings, left_out)
    _tell(survey, as_json)
    if output is not None:
        from lottery.report.survey_pages import write

        print(write(survey, output)[-1], file=sys.stderr)
    for name, why in left_out.items():
        print(f"{name}: left out: {why}", file=sys.stderr)
    print(survey.summary, file=sys.stderr)
    return 1 if left_out else exit_code


def chosen(only: str | None, sets: Sequence[str]) -> list[Sweep]:
    """Return the recipes of the survey, those of the numbers in `only` where it is given, in their order.

    Raises:
        UsageError: There is no statement of a number, or no recipe at all.
        RecipeError: A recipe is not valid.
    """
    from lottery.recipe.load import shipped
    from lottery.recipe.sweep import load_sweep
    from lottery.report.survey import number_of

    names = sorted(name for name, path in shipped().items() if path.parent.name == SURVEY)
    there = sorted({number_of(name) for name in names})
    if not there:
        raise UsageError("survey: no recipe of it is installed (recipes/survey)")
    given = [each.strip() for each in only.split(",")] if only is not None else [str(each) for each in there]
    for each in given:
        if not each.isdecimal() or int(each) not in there:
            raise UsageError(f"--only {each}: is no statement; there are {', '.join(map(str, there))}")
    wanted = {int(each) for each in given}
    return [load_sweep(name, sets) for name in names if number_of(name) in wanted]


def judged(sweeps: Sequence[Sweep], settings: Mapping[str, Any], left_out: dict[str, str]) -> Survey:
    """Return the survey of what is finished of recipes; one whose data nothing knows is put into `left_out`."""
    from lottery.report.survey import collect
    from lottery.results.sweep import swept_study
    from lottery.verdicts.swept_claims import rows

    found = []
    for sweep in sweeps:
        try:
            swept = swept_study(sweep, store=settings["store"], data=settings["data"])
        except DataError as error:
            left_out[sweep.name] = str(error)
            continue
        found.append((swept, rows(swept)))
        if swept.missing:
            store = swept.studies[0].store.name
            print(f"{sweep.name}: {counted(swept.missing, 'training')} missing in {store}", file=sys.stderr)
    return collect(found)


def _tell(survey: Survey, as_json: bool) -> None:
    from lottery.formats.render import render

    if as_json:
        sys.stdout.buffer.write(render(survey.rows, "json"))
        return
    for statement in survey.statements:
        print(f"{statement.number}. {statement.title}" if statement.number else statement.title)
        for recipe in statement.recipes:
            tell([row for claim in recipe.claims for row in claim.rows])
