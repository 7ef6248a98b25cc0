"""What is said of a study after its run: each part is imported only where the recipe has it, since some take long."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lottery.results.study import Study


def study_sentences(study: Study) -> Iterator[str]:
    """Yield in words the rewind step that was found, the verdicts, and what is connected."""
    recipe = study.recipe
    if recipe.search is not None:
        from lottery.analysis import rewind_search

        yield from rewind_search.sentences(study)
    if recipe.prune.auto is not None:
        from lottery.verdicts import frontier

        yield from frontier.sentences(study)
    elif recipe.compare:
        from lottery.verdicts import sentences

        yield from sentences.sentences(study)
    if recipe.analyses:
        from lottery.verdicts import connected

        yield from connected.sentences(study)
