"""Several studies side by side: a label for each, and the check that their accuracies can be compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lottery.errors import UsageError
from lottery.values import in_flow
from lottery.words import short_keys

if TYPE_CHECKING:
    from lottery.recipe.schema import Recipe
    from lottery.results.study import Study

# sections that change no training: they tell studies apart only where nothing else does
SAID_LAST = ("compare", "replicates", "report", "analyses", "keep", "question", "name")


def several(studies: Sequence[Study]) -> list[tuple[str, Study]]:
    """Return each study with its label, in the given order.

    The label is the recipe's name; where studies share one, the keys in which their recipes differ stand behind it, as
    few as it takes: `mnist (criterion=snip)`.

    Raises:
        UsageError: Their accuracies are of other data or another reading, or two of them are the same study.
    """
    named = list(zip(_labels(studies), studies, strict=True))
    for label, study in named[1:]:
        _check(named[0], label, study)
    return named


def _check(first: tuple[str, Study], label: str, study: Study) -> None:
    """Refuse a study whose accuracies are not of the data, or not at the reading, of the first one's."""
    name, other = first
    if study.plan.fingerprint != other.plan.fingerprint:
        ours, theirs = (in_flow(each.recipe.canonical()["data"]) for each in (study, other))
        how = f"{ours} here, {theirs} there" if ours != theirs else "two versions of its files"
        raise UsageError(f"{label}: has other data than {name} ({how}), so that no accuracies of them can be compared")
    if study.recipe.report != other.recipe.report:
        raise UsageError(
            f"{label}: is read at {study.recipe.report}, {name} at {other.recipe.report}; read both alike, such as "
            "with --set report=end"
        )


def _labels(studies: Sequence[Study]) -> list[str]:
    labels = [study.recipe.name for study in studies]
    for name in dict.fromkeys(labels):
        places = [place for place, label in enumerate(labels) if label == name]
        if len(places) > 1:
            for place, words in zip(places, _differences(name, [studies[place] for place in places]), strict=True):
                labels[place] = f"{name} ({words})"
    return labels


def _differences(name: str, studies: Sequence[Study]) -> list[str]:
    """Return in words in which keys the recipe of each study differs from those of the others.

    Raises:
        UsageError: Two of them do not differ.
    """
    recipes = [dict(_leaves(_told(study.recipe))) for study in studies]
    keys = dict.fromkeys(key for recipe in recipes for key in recipe)
    differing = [key for key in keys if len({in_flow(recipe.get(key)) for recipe in recipes}) > 1]
    chosen, told = list[str](), [""] * len(recipes)
    for key in sorted(differing, key=lambda key: key.partition(".")[0] in SAID_LAST):
        more = [f"{words} {in_flow(recipe.get(key))}" for words, recipe in zip(told, recipes, strict=True)]
        if len(set(more)) > len(set(told)):
            chosen, told = [*chosen, key], more
    if len(set(told)) < len(studies):
        raise UsageError(f"{name}: is named twice; name studies that differ, or run one of them with another --set")
    short = short_keys(chosen, 1)
    return [
        ", ".join(f"{short[key]}={in_flow(recipe[key])}" if key in recipe else f"no {short[key]}" for key in chosen)
        for recipe in recipes
    ]


def _told(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe in plain values, its rewind points by their labels where none is looked for."""
    if any(rewind.auto is not None for rewind in recipe.rewind):
        return recipe.canonical()
    return recipe.canonical() | {"rewind": [rewind.label for rewind in recipe.rewind]}


def _leaves(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of a recipe under dotted keys; the name of an entry stands under the key of the entry."""
    for key, item in value.items():
        path = prefix.removesuffix(".") if key == "name" and prefix else f"{prefix}{key}"
        only = item[0] if isinstance(item, list) and len(item) == 1 else item
        if isinstance(only, Mapping) and only:
            yield from _leaves(only, f"{path}.")
        else:
            yield path, only
