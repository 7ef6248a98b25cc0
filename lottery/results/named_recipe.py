"""The recipe that a word of a command or a call means: a file, a study that a store remembers, or a shipped recipe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lottery import registry
from lottery.errors import RecipeError
from lottery.recipe.load import find_recipe, read_file, shipped
from lottery.recipe.sweep import Sweep, load_sweep, parse_sweep
from lottery.results.studies import find_study, none_named, studies_named
from lottery.store.open import open_store
from lottery.words import short

if TYPE_CHECKING:
    from lottery.results.studies import RememberedStudy
    from lottery.store.store import Store

SHIPPED = "@shipped"  # behind the name of a shipped recipe: as it came, whatever was run under its name
SUFFIXES = (".yaml", ".yml")


def load_named(
    recipe: str | Path,
    store: Store | str | Path | None,
    overrides: Sequence[str] = (),
    plugins: Sequence[str] = (),
    tell: Callable[[str], None] = lambda words: None,
) -> Sweep:
    """Return the recipe that is meant, as a sweep, with its plugins imported; its `origin` has the plugins of both.

    A path is a file. Another word is a study that was run in the store, with its overrides and plugins, to which those
    given here are added, or else a shipped recipe. The name of a shipped recipe means that recipe where overrides or
    plugins are given, so that such a command always does the same; `name@shipped` means it always.

    Args:
        recipe: A path, `name`, `name@version` or `name@shipped`.
        store: The store that remembers studies, looked at for a name only; its usual place where it is None.
        overrides: Further values of `--set`.
        plugins: Further modules of `--plugin`.
        tell: Is told which study a name was taken for, where that needs words.

    Raises:
        RecipeError: There is no such recipe, or something is wrong with it.
        UsageError: Several versions of a study have the name, or a plugin cannot be imported.
    """
    for plugin in plugins:
        registry.plug_in(plugin)
    study = None if is_file(recipe) else _remembered(str(recipe), store, given=bool(overrides or plugins))
    if study is None:
        sweep = load_sweep(_shipped_name(recipe), overrides)
        return _with_plugins(sweep, tuple(plugins))
    for plugin in study.plugins:
        registry.plug_in(plugin)
    sweep = parse_sweep(study.recipe, study.source or study.name, (*study.overrides, *overrides))
    if words := _about(study):
        tell(words)
    return _with_plugins(sweep, tuple(dict.fromkeys((*study.plugins, *plugins))))


def is_file(recipe: str | Path) -> bool:
    """Return True for a word that can only mean a recipe file, whether or not there is one."""
    if not isinstance(recipe, str):
        return True
    if recipe.endswith(SUFFIXES) or "/" in recipe or "\\" in recipe or "\0" in recipe:
        return True
    return recipe not in shipped() and Path(recipe).is_file()


def _remembered(name: str, where: Store | str | Path | None, *, given: bool) -> RememberedStudy | None:
    """Return the study that a name means; None where it means a shipped recipe.

    Raises:
        UsageError: It means neither, or several versions of a study.
    """
    known = shipped()
    if name.removesuffix(SHIPPED) in known and (given or name.endswith(SHIPPED)):
        return None
    store = open_store(where)
    if name in known and not studies_named(store, name):
        return None
    if "@" not in name and not studies_named(store, name):
        try:
            find_recipe(name)
        except RecipeError as error:
            raise RecipeError([f"{line}; {none_named(store, name)}" for line in error.problems]) from None
    return find_study(store, name)


def _shipped_name(recipe: str | Path) -> str | Path:
    return recipe.removesuffix(SHIPPED) if isinstance(recipe, str) else recipe


def _with_plugins(sweep: Sweep, plugins: tuple[str, ...]) -> Sweep:
    assert sweep.origin is not None  # it was read
    return replace(sweep, origin=replace(sweep.origin, plugins=plugins))


def _is_changed(file: Path, text: str) -> bool:
    """Return True if there is such a file, and it says something else."""
    try:
        return file.is_file() and read_file(file).decode(errors="replace") != text
    except RecipeError:
        return False  # it cannot be read, and is not needed


def _about(study: RememberedStudy) -> str:
    """Return what to tell of a study that a name was taken for; empty for a file as it is now, without options."""
    words = [f"as it was run with {study.how}"] if study.how else []
    if study.source and _is_changed(Path(study.source), study.recipe):
        words.append(f"the file {study.source} was changed since")
    if not words:
        return ""
    other = f"; {study.name}{SHIPPED} is the recipe as it came" if study.name in shipped() else ""
    return f"{study.name}@{short(study.version)}: {', '.join(words)}{other}"
