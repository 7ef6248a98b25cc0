"""Checks of masks by the identities of a chain of prunings: exact counts, nesting, and what a record says of a mask.

Nothing is read here: identities, masks and counts are handed in. Each check yields a sentence for each thing that is
wrong, and nothing where all of it holds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from lottery.audit.chain_counts import pruning_of

if TYPE_CHECKING:
    from lottery.pruning.mask import Mask

Prune = Mapping[str, Any]  # the field `prune` of a ticket's identity
Alive = Mapping[str, float]  # surviving weights by layer; of several drawn masks their mean
Shapes = Mapping[str, tuple[int, ...]]

CLOSE = 1e-12  # relative: of a density that is a mean over drawn masks


def wrong_counts(alive: Alive, above: Mask, prune: Prune) -> Iterator[str]:
    """Compare surviving weights with the numbers that an identity leaves of the mask above.

    The numbers are those of each layer, or one over all where pruning is global; layers that are not pruned keep
    theirs.
    """
    pruning = pruning_of(prune)
    wanted, before, part = pruning.keep(above), above.alive(), pruning.takes_part(above)
    by_layer = {name: count for name, count in before.items() if name not in part}
    if isinstance(wanted, int):
        kept = sum(alive.get(name, 0) for name in part)
        if kept != wanted:
            yield f"{kept:,} weights are kept, its identity keeps {wanted:,} of {sum(before[n] for n in part):,}"
    else:
        by_layer |= wanted
    yield from differing({name: by_layer[name] for name in above if name in by_layer}, alive, "its identity keeps")


def not_nested(mask: Mask, above: Mask) -> Iterator[str]:
    """Yield where a mask keeps weights that the mask above it has pruned, or has other layers."""
    if mask.shapes() != above.shapes():
        yield "it has other layers than the mask above it"
        return
    revived = {name: mask.of([name]) <= above.of([name]) for name in mask}
    if layers := [name for name, within in revived.items() if not within]:
        yield f"it keeps weights that the mask above it has pruned, in {listed(layers)}"


def misdescribed(metrics: Mapping[str, Any], mask: Mask) -> Iterator[str]:
    """Compare what metrics say of a mask (density, surviving weights, sizes, collapsed layers) with the mask itself."""
    true = {"sizes": mask.sizes(), "alive": mask.alive(), "density": mask.density, "collapsed": mask.collapsed()}
    for name, value in true.items():
        if metrics.get(name) != value:
            yield f"{name} in its metrics is {_short(metrics.get(name))}, of its mask {_short(value)}"


def inconsistent(metrics: Mapping[str, Any]) -> Iterator[str]:
    """Compare the figures that metrics have of a mask that is not stored with each other."""
    sizes, alive = metrics.get("sizes") or {}, metrics.get("alive") or {}
    if sizes.keys() != alive.keys() or not all(0 <= alive[name] <= size for name, size in sizes.items()):
        yield "the surviving weights in its metrics do not fit the sizes of its layers"
        return
    density, recorded = sum(alive.values()) / max(1, sum(sizes.values())), metrics.get("density")
    if not isinstance(recorded, (int, float)) or not math.isclose(recorded, density, rel_tol=CLOSE):
        yield f"density in its metrics is {_short(recorded)}, of its surviving weights {density:.6g}"
    empty, collapsed = {name for name, count in alive.items() if count == 0}, set(metrics.get("collapsed") or ())
    if not empty <= collapsed <= sizes.keys():
        yield f"collapsed layers in its metrics are {listed(collapsed)}, of its surviving weights {listed(empty)}"


def differing(wanted: Mapping[str, float], alive: Alive, source: str) -> Iterator[str]:
    """Name the first layer whose surviving weights are not those wanted, and count the others.

    Args:
        wanted: Surviving weights by layer.
        alive: The numbers to check.
        source: Words before the number wanted: who says it.
    """
    wrong = [name for name, count in wanted.items() if alive.get(name) != count]
    if wrong:
        name = wrong[0]
        more = f" (and in {len(wrong) - 1} more layers)" if len(wrong) > 1 else ""
        have = "has no such layer" if name not in alive else f"has {alive[name]:,} weights"
        yield f"{name} {have}, {source} {wanted[name]:,}{more}"


def wrong_sizes(packed: Shapes, mask: Mask, every: Iterable[str] | None = None) -> Iterator[str]:
    """Compare the shapes of kept weights with the mask they were kept by.

    Args:
        packed: The shapes, of weights packed as `lottery.results.artifacts.pack` does.
        mask: The mask.
        every: The names of the whole state, where they are known.
    """
    alive = mask.alive()
    wrong = [name for name, count in alive.items() if packed.get(name) != (count,)]
    if wrong:
        name = wrong[0]
        found = math.prod(packed[name]) if name in packed else 0
        yield f"{name} has {found:,} kept weights, {alive[name]:,} are alive in its mask"
    if every is not None and packed.keys() != set(every):
        yield f"its weights lack or add {listed(packed.keys() ^ set(every))}"


def listed(names: Iterable[str]) -> str:
    """Return at most three names, in order, and the number of others."""
    every = sorted(names)
    more = f" and {len(every) - 3} more" if len(every) > 3 else ""
    return ", ".join(every[:3]) + more if every else "none"


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{sum(value.values()):,} in {len(value)} layers"
    if isinstance(value, float):
        return f"{value:.6g}"
    return listed(value) if isinstance(value, (list, tuple)) else str(value)
