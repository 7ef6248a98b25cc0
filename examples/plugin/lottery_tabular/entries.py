"""Two data sets, a model, a criterion and an optimizer: importing this module adds them to lottery's catalogues.

torch is imported inside the functions, so that `lottery list` and `lottery check` answer at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lottery.registry import criteria, datasets, models, optimizers

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

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


@datasets.register("labelled_files", source="a layout of one's own")
def labelled_files(root: Path, *, folder: str, test: int = 100) -> Splits:
    """Grey images of one size in `folder`, whose names begin with their class: 7_0123.png.

    The order is drawn once and for all, the last `test` images are the test set. Pixels stay bytes: lottery scales them
    to [0, 1] and standardizes them by the mean and the standard deviation of the training images, which are given
    with them.
    """
    import torch
    from PIL import Image
    from torchvision.transforms.v2.functional import pil_to_tensor

    from lottery.data.splits import Splits

    files = sorted((root / folder).glob("*_*.png"))
    x = torch.stack([pil_to_tensor(Image.open(file).convert("L")) for file in files])  # uint8 (n, 1, height, width)
    y = torch.tensor([int(file.name.partition("_")[0]) for file in files])  # int64 (n,)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    x, y = x[order], y[order]
    train_x, test_x = x[:-test], x[-test:]
    scaled = train_x.double() / 255
    return Splits(
        train_x=train_x,
        train_y=y[:-test],
        test_x=test_x,
        test_y=y[-test:],
        classes=int(y.max()) + 1,
        mean=(float(scaled.mean()),),
        std=(float(scaled.std()),),
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


@optimizers.register("signum", source="Bernstein et al. 2018", rates=(1e-5, 1e-2))
def signum(model: nn.Module, *, lr: float = 1e-3, momentum: float = 0.9) -> Optimizer:
    """The sign of an average of gradients: m = momentum m + (1 - momentum) g, w -= lr sign(m)."""
    from lottery_tabular._signum import Signum

    return Signum(model.parameters(), lr, momentum)
