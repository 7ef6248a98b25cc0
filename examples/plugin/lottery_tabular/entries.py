"""A data set, a model and a criterion: importing this module adds them to lottery's catalogues.

torch is imported inside the functions, so that `lottery list` and `lottery check` answer at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lottery.registry import criteria, datasets, models

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lottery.data.splits import Splits
    from lottery.pruning.scoring import Context


@datasets.register("breast_cancer", source="Street, Wolberg & Mangasarian 1993")
def breast_cancer(root: Path, *, test: int = 169) -> Splits:
    """Breast cancer Wisconsin: 569 tumours, 30 measurements of each, benign or malignant.

    The order is drawn once and for all, the last `test` examples are the test set. Each measurement is standardized by
    the mean and standard deviation of the training set.
    """
    import torch
    from sklearn.datasets import load_breast_cancer

    from lottery.data.splits import Splits

    values, labels = load_breast_cancer(return_X_y=True)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    x, y = torch.from_numpy(values)[order], torch.from_numpy(labels).long()[order]
    train_x, test_x = x[:-test], x[-test:]
    mean, std = train_x.mean(0), train_x.std(0)
    return Splits(
        train_x=((train_x - mean) / std).float(),
        train_y=y[:-test],
        test_x=((test_x - mean) / std).float(),
        test_y=y[-test:],
        classes=2,
    )


@models.register("wide_and_deep", source="Cheng et al. 2016")
def wide_and_deep(input_shape: tuple[int, ...], classes: int, *, width: int = 64) -> nn.Module:
    """A linear model and a network with two hidden layers of `width` units, whose outputs are added."""
    from lottery_tabular._networks import WideAndDeep

    return WideAndDeep(input_shape, classes, width)


@criteria.register("lamp", source="Lee et al. 2021", scope="global", draws=False)
def lamp(weights: Mapping[str, Tensor], context: Context) -> dict[str, Tensor]:
    """Layer-adaptive magnitude: w^2 over the sum of w^2 of all weights of the layer that are no smaller.

    The largest weight of a layer scores 1: no layer loses its last weight before the others are down to one.
    """
    scores = {}
    for name, weight in weights.items():
        squares, order = weight.double().square().flatten().sort(descending=True)
        ranked = squares / squares.cumsum(0).clamp_min(1e-300)  # a layer of zeros scores 0
        scores[name] = ranked.new_zeros(ranked.shape).scatter(0, order, ranked).reshape(weight.shape)
    return scores
