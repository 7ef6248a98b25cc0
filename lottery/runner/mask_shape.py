"""What the metrics of a training say of its masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from lottery.network.layout import Layout
from lottery.pruning.mask import Mask


def shape_of(model: nn.Module, found: Sequence[Mask]) -> dict[str, Any]:
    """Return what the metrics say of the masks: of one, or the means over those that were drawn.

    A layer that is empty in any of them is collapsed.
    """
    left = Layout.of(model).left
    return {**_counted(found), **({"never_pruned": left} if left else {})}


def _counted(found: Sequence[Mask]) -> dict[str, Any]:
    """Return density, weights alive, sizes and collapsed layers of one mask, or the means over several."""
    if len(found) == 1:
        (mask,) = found
        return {"density": mask.density, "alive": mask.alive(), "sizes": mask.sizes(), "collapsed": mask.collapsed()}
    sizes, count = found[0].sizes(), len(found)
    alive = {name: sum(mask.alive()[name] for mask in found) / count for name in sizes}
    collapsed = [name for name in sizes if any(name in mask.collapsed() for mask in found)]
    return {
        "density": sum(mask.density for mask in found) / count,
        "alive": alive,
        "sizes": sizes,
        "collapsed": collapsed,
    }
