"""Random windows of images whose sizes differ, drawn for each example as torchvision's RandomResizedCrop draws them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from lottery.seed import generator, noisy

Box = tuple[int, int, int, int]  # top, left, height, width, in pixels
Window = Callable[[int, int], Box]  # of an image of this height and width, what is taken of it

TRIES = 10


@dataclass(frozen=True)
class ResizedCrop:
    """Windows with a share of an image's area within `scale` and a width over height within `ratio`.

    The area is uniform, and so is the logarithm of the ratio. Source: Szegedy et al. 2015.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    def box(self, height: int, width: int, draws: torch.Generator) -> Box:
        """Return the box that torchvision draws from the same generator.

        After TRIES boxes that do not fit, it is the largest one at the centre whose ratio is allowed.
        """
        low, high = torch.log(torch.tensor(self.ratio)).tolist()
        for _ in range(TRIES):
            area = height * width * torch.empty(1).uniform_(*self.scale, generator=draws).item()
            ratio = torch.exp(torch.empty(1).uniform_(low, high, generator=draws)).item()
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                top, left = (int(torch.randint(0, room + 1, (1,), generator=draws)) for room in (height - h, width - w))
                return top, left, h, w
        h = max(1, min(height, round(width / self.ratio[0])))
        w = max(1, min(width, round(height * self.ratio[1])))
        return (height - h) // 2, (width - w) // 2, h, w


@dataclass(frozen=True)
class Crops:
    """The windows of one pass over the training set; `noise` is that of `lottery.seed.noisy`."""

    crop: ResizedCrop
    seed: int
    epoch: int
    noise: int = 0

    def window(self, number: int) -> Window:
        """Return the window of one example by its number in the training set, whatever was drawn before."""
        draws = generator(self.seed, f"{noisy('augment', self.noise)}/{self.epoch}", number)
        return lambda height, width: self.crop.box(height, width, draws)
