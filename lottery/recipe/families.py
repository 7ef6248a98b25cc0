"""Number of families of claims that a study makes, and the confidence of each so that all hold together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lottery import registry

if TYPE_CHECKING:
    from lottery.recipe.schema import CompareSpec, Recipe


def families(recipe: Recipe) -> int:
    """Return how many families of claims the recipe makes: one for each optimizer, rewind point, opponent and word.

    A family is all densities of one. The words are matching, losing, better, equivalent and, where it may be said,
    winning, against the dense network; superior and inferior against each control that stands for a claim. With
    `levels: auto` matching and losing alone. Counted by the plan: what diverged or is missing was to be tested too.
    """
    auto, deepest = recipe.prune.auto is not None, recipe.prune.deepest
    controls = 0 if auto else sum(stands_for_a_claim(recipe, branch.name) for branch in recipe.branches)
    words = 0
    for rewind in recipe.rewind:
        winning = rewind.to.value == 0 and rewind.mode == "weights" and bool(recipe.data.validation)
        words += 2 if auto else 4 + winning + 2 * controls
    return len(recipe.train.optimizer) * words if deepest else 0


def stands_for_a_claim(recipe: Recipe, branch: str) -> bool:
    """Return True if a control of this name lacks a part of the gain of tickets, so that it tests a claim.

    If tickets are not pruned step by step there is no gain of iteration to be shown.
    """
    claim = registry.branches[branch].traits.claim
    return claim is not None and not (claim == "iteration" and recipe.prune.alone)


def acting(recipe: Recipe) -> CompareSpec | None:
    """Return the recipe's `compare` as it acts within each family of claims.

    With `families: all` its confidence is the one that leaves each family its equal share of what may be wrong
    (Bonferroni).
    """
    compare = recipe.compare
    if compare is None or compare.families == "each":
        return compare
    return compare.model_copy(update={"confidence": 1 - compare.alpha / max(1, families(recipe))})


def only_by_families(recipe: Recipe, p: float) -> str:
    """Return words on a p-value that shows something but for the correction over families; else nothing."""
    compare, within = recipe.compare, acting(recipe)
    if compare is None or within is None or not within.alpha < p <= compare.alpha:
        return ""
    return f"; shown by itself at {100 * compare.confidence:g} %, but not after the correction over all families"


def counted(recipe: Recipe) -> str:
    """Return a sentence on how many families there are, and how many false claims that lets expect; empty for none."""
    count, compare = families(recipe), recipe.compare
    if compare is None or not count:
        return ""
    told, whole = f"{count} families of claims", f"{100 * compare.alpha:g} %"
    which = "there is one for each optimizer, rewind point, opponent and word"
    if compare.families == "all":
        told += f", each at {100 * compare.alpha / count:.3g} %: the chance of any false claim is {whole} at most"
    else:
        told += (
            f" at {whole}: up to {compare.alpha * count:.2g} false claims expected; compare.families: all corrects that"
        )
    return f"{told} ({which})."
