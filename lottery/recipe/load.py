"""Reading of recipes: a file with `--set` overrides, and all that is wrong with it at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from lottery.errors import RecipeError
from lottery.plugins.load import lacking
from lottery.recipe import components, consistency, finetuning, yaml
from lottery.recipe.analyses import AnalysisSpec, KeepSpec
from lottery.recipe.claims import ClaimSpec, MinusSpec, ReachesSpec, ReplicatesSpec
from lottery.recipe.draft import Draft
from lottery.recipe.plugins import import_named, import_plugins
from lottery.recipe.schema import (
    BranchSpec,
    CompareSpec,
    DataSpec,
    PruneSpec,
    Recipe,
    ScheduleSpec,
    TrainSpec,
    TransferSpec,
    TuneSpec,
)
from lottery.recipe.swept import SweptRecipe
from lottery.recipe.types import (
    AugmentSpec,
    DuringSpec,
    FinetuneSpec,
    FrontierSpec,
    ResizedCropSpec,
    RewindSearchSpec,
    RewindSpec,
)
from lottery.registry import Problem, explain, suggest
from lottery.values import ONE_ENTRY, LabelNoise


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of a recipe, for editors that complete and check YAML."""
    return SweptRecipe.model_json_schema()


def shipped() -> dict[str, Path]:
    """Return the files of the recipes that come with the package, by name."""
    package = Path(__file__).parents[1]
    folder = next((f for f in (package / "recipes", package.parent / "recipes") if f.is_dir()), package)
    return {path.stem: path for each in ("", "papers/", "survey/") for path in sorted(folder.glob(f"{each}*.yaml"))}


def find_recipe(source: str | Path) -> Path:
    """Return the file of a recipe: that of the shipped one of this name, else the path itself.

    A file that is called as a shipped recipe is written `./name`.

    Raises:
        RecipeError: There is no such file.
    """
    known = shipped() if isinstance(source, str) else {}
    path = known.get(str(source), Path(source))
    if "\0" not in str(path) and path.exists():
        return path
    near = get_close_matches(str(source), known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise RecipeError([f"{source}: neither a file nor a shipped recipe{hint} (lottery list recipes)"])


def load_recipe(
    source: str | Path, overrides: Sequence[str] = (), *, plugins: Sequence[str] = (), trust: bool = False
) -> Recipe:
    """Read a recipe file, or the shipped recipe of that name, with `a.b=value` overrides.

    The plugins that it names are imported where they are trusted; with `trust` they are, and it is remembered.
    `plugins` are further ones, which are imported.

    Raises:
        RecipeError: With all that is wrong, a line for each problem; also for one with a `sweep`, see `load_sweep`.
    """
    import_named(plugins)
    return _checked(_one_point(read_draft(source, overrides, trust=trust)))


def parse_recipe(text: str | bytes, name: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe from text.

    Args:
        text: The YAML document.
        name: What messages call it.
        overrides: `a.b=value`, as `--set` takes them.

    Raises:
        RecipeError: With all that is wrong, a line for each problem.
    """
    return _checked(_one_point(parse_draft(text, name, overrides)))


def restore_recipe(canonical: Mapping[str, Any]) -> Recipe:
    """Return the recipe of a canonical form; the plugins that it names must be there already.

    Raises:
        RecipeError: It is no recipe, such as one of another version.
    """
    document = yaml.Document(deepcopy(dict(canonical)), {(): yaml.Place((1, 1), (1, 1))})
    return _checked(Draft(document, "recipe", _SHORT))


def read_draft(source: str | Path, overrides: Sequence[str] = (), *, trust: bool = False) -> Draft:
    """Return what a recipe file, or the shipped recipe of that name, says under overrides, not checked yet.

    With `trust` the plugins that it names are trusted, and it is remembered.

    Raises:
        RecipeError: It cannot be read, or is no YAML.
    """
    path = find_recipe(source)
    return parse_draft(read_file(path), str(path), overrides, folder=path.parent, trust=trust)


def read_file(path: Path) -> bytes:
    """Return the bytes of a recipe file; of one that is too long, one more than `parse_draft` takes.

    Raises:
        RecipeError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(yaml.MOST_BYTES + 1)
    except OSError as error:
        raise RecipeError([f"{path}: cannot be read: {error.strerror}"]) from None


def parse_draft(
    text: str | bytes,
    name: str,
    overrides: Sequence[str] = (),
    *,
    folder: Path | None = None,
    plugins: Sequence[str] = (),
    trust: bool = False,
) -> Draft:
    """Return what a text says under overrides, not checked yet, with its plugins imported as far as they are trusted.

    Args:
        text: The YAML document.
        name: What messages call it.
        overrides: `a.b=value`, as `--set` takes them.
        folder: Folder in which the plugins that it names are looked for first.
        plugins: Further plugins, trusted no more than those that it names itself.
        trust: True to trust all of them, and to remember it.

    Raises:
        RecipeError: It is no YAML.
    """
    draft = Draft(yaml.parse(text, name), name, _SHORT)
    for override in overrides:
        draft.set(override)
    optional = {name for name, field in SweptRecipe.model_fields.items() if not field.is_required()}
    for section in ("sweep", "plugins", *(override.partition("=")[0] for override in overrides)):
        if section in optional and draft.data.get(section) is None:
            draft.data.pop(section, None)  # as `--set sweep=` and `--set branches=` leave it
    import_plugins(draft, folder, plugins, trust)
    return draft


def _one_point(draft: Draft) -> Draft:
    """Return the draft of a recipe without a sweep. Raises RecipeError for another."""
    if "sweep" in draft.data:
        place = draft.place(("sweep",)).text
        raise RecipeError([f"{place}: sweep: makes several recipes, and one is asked for; choose a point (--point)"])
    return draft


def check_draft(draft: Draft) -> Recipe | None:
    """Return the recipe of a draft, which notes all that is wrong with it; None where it cannot be one."""
    with lacking(draft.lacks):
        return _check_draft(draft)


def _check_draft(draft: Draft) -> Recipe | None:
    draft.note(components.components(draft.data, _OWN_KEYS))
    draft.note(consistency.exclusions(draft.data))
    recipe, valid = None, dict[str, Any]()
    try:
        recipe = Recipe.model_validate(draft.data, context=valid)
    except ValidationError as error:
        draft.note(misfit(each) for each in error.errors() if not consequence(each))
    for section, empty in (("tune", None), ("branches", ())):  # left out is valid, and pydantic does not hand it on
        if section not in draft.data:
            valid[section] = empty
    draft.note(consistency.contradictions(valid))
    draft.note(finetuning.contradictions(draft.data, valid))
    return recipe


def _checked(draft: Draft) -> Recipe:
    """Return the recipe of a draft; all checks run before the first problem is raised."""
    recipe = check_draft(draft)
    if problems := draft.problems():
        raise RecipeError(problems)
    assert recipe is not None  # every misfit is among the problems
    return recipe


def _keys(spec: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in spec.model_fields.items()]


_OWN_KEYS: dict[yaml.Path, list[str]] = {
    ("data",): _keys(DataSpec),
    ("train", "schedule"): _keys(ScheduleSpec),
    ("branches",): _keys(BranchSpec),
    ("analyses",): _keys(AnalysisSpec),
}
_SHORT: dict[yaml.Path, str] = {
    **dict.fromkeys(components.CATALOGUES, "name"),
    ("branches", "optimizer"): "name",
    ("branches", "schedule"): "name",
    ("rewind",): "to",
}
_SECTIONS: dict[yaml.Path, type[BaseModel]] = {
    (): SweptRecipe,
    ("data", "augment"): AugmentSpec,
    ("data", "label_noise"): LabelNoise,
    ("data", "augment", "random_resized_crop"): ResizedCropSpec,
    ("train",): TrainSpec,
    ("prune",): PruneSpec,
    ("prune", "during"): DuringSpec,
    ("prune", "frontier"): FrontierSpec,
    ("rewind",): RewindSpec,
    ("rewind", "auto"): RewindSearchSpec,
    ("finetune",): FinetuneSpec,
    ("tune",): TuneSpec,
    ("transfer",): TransferSpec,
    ("compare",): CompareSpec,
    ("keep",): KeepSpec,
    ("replicates",): ReplicatesSpec,
    ("replicates", "claims"): ClaimSpec,
    ("replicates", "claims", "minus"): MinusSpec,
    ("replicates", "claims", "reaches"): ReachesSpec,
}

_WANTED = {  # where pydantic speaks of Python's types
    "model_type": "write keys and values, {key: value}",
    "dict_type": "write keys and values, {key: value}",
    "tuple_type": "write a list, [a, b]",
}


def consequence(error: Any) -> bool:
    """Return True if pydantic reports this only because of another problem that it reports."""
    return error["type"] == "default_factory_not_called" or (error["type"] == "too_short" and bool(error["input"]))


_USUAL = {  # what other programs call it
    **dict.fromkeys(("lr", "learning_rate"), "train.optimizer.lr"),
    **dict.fromkeys(("epochs", "steps", "iterations"), "train.length"),
    **dict.fromkeys(("sparsity", "density"), "prune.fraction with prune.levels, and prune.one_shot"),
}


def _elsewhere(key: str) -> str:
    """Return `; there is train.engine` for a key that another section has, or that is called so elsewhere, else ''."""
    if key in _USUAL:
        return f"; there is {_USUAL[key]}"
    own = [(path, spec) for path, spec in _SECTIONS.items() if path[:1] != ("replicates",)]
    found = [".".join((*map(str, path), key)) for path, spec in own if key in _keys(spec)]
    if not 0 < len(found) <= 3:
        return ""
    return f"; there {'is' if len(found) == 1 else 'are'} {' and '.join(found)}"


def misfit(error: Any) -> Problem:
    """Return pydantic's problem in the words of the catalogues, at the mapping in which a key is missing."""
    path, kind = error["loc"], error["type"]
    if kind == "missing":
        return path[:-1], f"the key {path[-1]!r} is missing"
    if kind == "extra_forbidden":
        section = tuple(step for step in path[:-1] if isinstance(step, str))
        known = _elsewhere(str(path[-1])) or suggest(str(path[-1]), _keys(_SECTIONS[section]))
        return path, f"there is no key {path[-1]!r} here{known}"
    if kind == "too_short":
        return path, "the list is empty; write at least one item"
    one = path in components.CATALOGUES and isinstance(error["input"], list)
    message = ONE_ENTRY if one and kind == "model_type" else _WANTED.get(kind, error["msg"])
    return path, explain({**error, "msg": message})
