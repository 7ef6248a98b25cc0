"""One analysis as a command line names it: an entry of the catalogue and `KEY=VALUE`, checked as in a recipe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import ValidationError

from lottery import registry
from lottery.errors import RecipeError
from lottery.recipe import yaml
from lottery.recipe.analyses import OWN_KEYS, AnalysisSpec
from lottery.recipe.analysis_rules import about_keys
from lottery.recipe.components import check_entry
from lottery.registry import Problem, explain

_OF_A_RECIPE = (
    "of",
    "between",
    "through",
    "levels",
    "reading",
    "margin",
    "as",
)  # they name networks and tables of a recipe


def parse_analysis(name: str, arguments: Sequence[str]) -> AnalysisSpec:
    """Return the analysis of this name with `KEY=VALUE` arguments, the very one that a recipe with these keys has.

    Raises:
        RecipeError: With all that is wrong, a line for each problem, which begins with the argument.
    """
    given: dict[str, Any] = {"name": name}
    written: dict[str, str] = {}
    problems: list[str] = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not (key and equals) or key == "name":
            problems.append(f"{argument}: write it as KEY=VALUE (lottery list analyses has the keys)")
        elif key in _OF_A_RECIPE:
            problems.append(
                f"{argument}: {key} is for recipes; here the networks are named by their keys: KEY, and --with KEY"
            )
        elif key in written:
            problems.append(f"{argument}: {key} is there already, as {written[key]}")
        else:
            written[key] = argument
            try:
                given[key] = yaml.parse_value(value, argument, (key,)).value
            except RecipeError as error:
                problems += error.problems
    checked, wrong = check_entry(registry.analyses, given, OWN_KEYS)
    problems += _told(name, written, wrong)
    if problems:
        raise RecipeError(problems)
    try:
        spec = AnalysisSpec.model_validate(checked)
    except ValidationError as error:
        found = [(each["loc"], explain(each)) for each in error.errors()]
        raise RecipeError(list(_told(name, written, found))) from error
    if wrong := list(about_keys((), spec)):
        raise RecipeError(list(_told(name, written, wrong)))
    return spec


def _told(name: str, written: dict[str, str], problems: Sequence[Problem]) -> Iterator[str]:
    """Yield each problem after the argument that it is about, or after the name of the analysis."""
    for path, message in problems:
        yield f"{written.get(str(path[0]), name) if path else name}: {message}"
