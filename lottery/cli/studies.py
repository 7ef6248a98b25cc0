"""The commands `lottery studies ...`: what was run in a store, how far it has come, and what of it can go."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lottery.cli import terminal
from lottery.cli.listing import print_json
from lottery.cli.options import Json, StoreDir, no_store
from lottery.errors import UsageError
from lottery.paths import store_root
from lottery.words import counted, duration

if TYPE_CHECKING:
    from lottery.results.studies import RememberedStudy
    from lottery.results.study_progress import StudyProgress
    from lottery.results.study_removal import Removal
    from lottery.store.store import Store

MOST_DIFFERENCES = 8  # lines about one study

studies = typer.Typer(help="List the studies of a store, with their progress; remove or rename them.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="A study, all its versions, or one of them: NAME@VERSION.")]


@studies.callback(invoke_without_command=True)
def listing(context: typer.Context, store: StoreDir = None, as_json: Json = False) -> None:
    """List the studies that were run in a store: jobs finished of those planned, failures, size, and how they were run.

    Each was run as `lottery run`, `lottery work` or `lottery.run` was last told; its name stands for RECIPE in every
    command. Versions of one name differ in what is said below the list.
    """
    if context.invoked_subcommand is not None:
        context.obj = store
        return
    from lottery.results.studies import remembered
    from lottery.results.study_progress import progress

    kept = _opened(store)
    found = progress(kept, remembered(kept))
    if as_json:
        from lottery.results.study_progress import versions_told_apart

        print_json({"studies": [each.as_dict() for each in found], "differences": versions_told_apart(_studies(found))})
        return
    if absent := no_store(kept):
        print(absent)
    elif not found:
        print(f"{kept.name}: no study was run here since stores remember them; lottery status counts the jobs")
    else:
        _show(found)


@studies.command()
def remove(
    context: typer.Context,
    name: Name,
    store: StoreDir = None,
    delete: Annotated[bool, typer.Option("--delete", help="Remove it; without this it is only listed.")] = False,
    as_json: Json = False,
) -> None:
    """List, and with --delete remove, a study with those of its jobs that no other remembered study has.

    Jobs of a study that nobody has run since stores remember them stay where they were computed from others: run it
    again, which trains nothing that is there, to have all of it kept.
    """
    from lottery.results import study_removal
    from lottery.results.studies import none_named, studies_named

    kept = _opened(store or context.obj)
    found = studies_named(kept, name)
    if not found:
        raise UsageError(f"{name}: {none_named(kept, name)}")
    removal = study_removal.removal_of(kept, found)
    if delete:
        study_removal.remove(kept, removal)
    if as_json:
        print_json(removal.as_dict() | {"removed": delete})
    else:
        for line in _removed(removal, delete=delete):
            print(line)


@studies.command()
def rename(
    context: typer.Context,
    old: Name,
    new: Annotated[str, typer.Argument(metavar="NEW", help="The new name.")],
    store: StoreDir = None,
) -> None:
    """Give a study another name; its jobs, which have no name in their keys, stay as they are."""
    from lottery.results import study_removal

    for study in study_removal.rename(_opened(store or context.obj), old, new):
        print(study.full_name)


def _opened(store: str | None) -> Store:
    from lottery.store.store import Store

    return Store(store_root(store))


def _studies(found: list[StudyProgress]) -> list[RememberedStudy]:
    return [each.study for each in found]


def _show(found: list[StudyProgress]) -> None:
    from lottery.formats.text import text
    from lottery.results.study_progress import versions_told_apart
    from lottery.values import in_flow

    now = datetime.now(UTC)
    terminal.write(text([_row(each, now) for each in found], terminal.width()).encode())
    for name, differing in versions_told_apart(_studies(found)).items():
        versions = {each.version: None for each in _studies(found) if each.name == name}
        print(f"{name}: {len(versions)} versions")
        for key, values in list(differing.items())[:MOST_DIFFERENCES]:
            alike: dict[str, list[str]] = {}
            for version in versions:
                alike.setdefault(in_flow(values[version]), []).append(f"@{version}")
            told = "; ".join(f"{_in_few_words(value)} in {', '.join(those)}" for value, those in alike.items())
            terminal.say(f"  {key}: {told}", indent=4)
        if len(differing) > MOST_DIFFERENCES:
            print(f"  and {len(differing) - MOST_DIFFERENCES} more keys; --json has them")


def _row(each: StudyProgress, now: datetime) -> dict[str, Any]:
    study = each.study
    row: dict[str, Any] = {"study": study.full_name, "jobs": f"{each.finished:,} of {each.planned:,}"}
    row |= {"running": len(each.running), "failed": len(each.failed), "diverged": each.diverged}
    row |= {"size": f"{each.size / 1e6:,.1f} MB", "last run": f"{duration((now - study.last_run).total_seconds())} ago"}
    return row | {"recipe": " ".join(filter(None, (Path(study.source).name or "made by a program", study.how)))}


def _in_few_words(words: str) -> str:
    return words if len(words) <= 60 else f"{words[:57]}..."


def _removed(removal: Removal, *, delete: bool) -> list[str]:
    lines = [
        f"{'removed' if delete else 'can go'}: {study.full_name} {study.how}".rstrip() for study in removal.studies
    ]
    lines.append(f"{counted(len(removal.finished), 'finished job')}, {removal.size / 1e6:,.1f} MB")
    if removal.unfinished:
        lines.append(f"checkpoints and notes of {counted(len(removal.unfinished), 'unfinished job')}")
    if removal.shared:
        lines.append(f"{counted(removal.shared, 'job')} that other studies have: kept")
    if removal.built_on:
        lines.append(f"{counted(removal.built_on, 'job')} that jobs of no remembered study were computed from: kept")
    if not delete:
        lines.append("nothing was removed; --delete removes it")
    return lines
