"""Batches of data made on the device: a seed's order, augmentation, evaluation in order."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from lottery.data.holdout import Sizes, places_in_class, sizes, split
from lottery.data.random_crop import Crops, ResizedCrop
from lottery.data.splits import Splits
from lottery.data.streaming import Files, Stream
from lottery.distributed.share import WHOLE, Share
from lottery.errors import UsageError
from lottery.seed import generator, noisy

# Batches are made several at a time, to share the cost of calling an operator. On a CPU more than this falls out of
# the cache, and the memory is handed back to the system and cleared anew for each chunk.
CHUNK_BYTES = {"cpu": 2**21}
DEVICE_CHUNK_BYTES = 2**24
EVALUATION_BATCH = {"cpu": 500}
DEVICE_EVALUATION_BATCH = 2000  # not measured on a GPU; its memory holds as many activations of the networks for 32x32
EVALUATION_BYTES = 2**26  # of one batch, for large images


@dataclass(frozen=True)
class Augment:
    """Random changes of each training image, drawn for each one separately.

    Attributes:
        crop: A random window of the image's size after padding by so many black pixels (He et al. 2016).
        flip: Left and right are exchanged for every second image on average.
        random_resized_crop: A random window of the image as it is in its file, brought to the size of the others.
    """

    crop: int = 0
    flip: bool = False
    random_resized_crop: ResizedCrop | None = None


@dataclass(frozen=True)
class _Resident:
    """Examples (n, values) on the device, with the interface of a `Stream`."""

    values: Tensor

    @property
    def width(self) -> int:
        """Number of values in an example."""
        return self.values.shape[1]

    def rows(self, order: Tensor, begin: int, size: int, crops: Crops | None = None) -> Iterator[Tensor]:
        """Yield the examples `order[begin]` and on, `size` at a time; crops are not for examples in memory."""
        assert crops is None  # there is no more of an image than its values
        for at in range(begin, len(order), size):
            yield self.values.index_select(0, order[at : at + size])


class Data:
    """One seed's training, validation and test examples on a device, handed out in normalized float32 batches.

    Of a permutation drawn by the seed, the first `validation` training examples are held out and the next `limit` (all
    where None) are trained on; with `stratify` the first of each class in its share. Raises UsageError where that, or
    the augmentation, does not fit the data.

    Images stay uint8, on the device or in their files; those are decoded by `workers` processes, to the same batches.
    Order and augmentation derive from (seed, noise, epoch) on the CPU: the same on every device.
    """

    def __init__(
        self,
        splits: Splits,
        *,
        seed: int,
        validation: int = 0,
        limit: int | None = None,
        stratify: bool = False,
        augment: Augment | None = None,
        device: torch.device,
        channels_last: bool = False,
        workers: int = 1,
    ):
        self.sizes: Sizes = sizes(len(splits.train_x), validation, limit)
        self.input_shape = splits.input_shape
        self.classes = splits.classes
        self.regression = splits.regression
        self.seed, self._device = seed, device
        self._augment = fitting(augment, splits.train_x)
        self._channels_last = channels_last and len(self.input_shape) == 3
        self._split = partial(split, splits.train_y, validation=validation, limit=limit, stratify=stratify)
        held_out, kept = self._split(seed)
        train_x, train_y = self._source(splits.train_x, workers), splits.train_y.to(device)
        self._parts = {  # examples, labels, and which of them make up the part
            "train": (train_x, train_y, kept),
            "validation": (train_x, train_y, held_out),
            "test": (self._source(splits.test_x, workers), splits.test_y.to(device), torch.arange(len(splits.test_x))),
        }
        self._scale, self._shift = self._affine(splits)

    def of_seed(self, seed: int) -> Data:
        """Return the same examples as another seed splits and orders them; both share the copy on the device."""
        other = copy.copy(self)
        held_out, kept = self._split(seed)
        (x, y, _), test = self._parts["train"], self._parts["test"]
        other.seed, other._parts = seed, {"train": (x, y, kept), "validation": (x, y, held_out), "test": test}
        return other

    @property
    def train_size(self) -> int:
        """Number of examples that are trained on."""
        return self.sizes.train

    @property
    def validation_size(self) -> int:
        """Number of training examples that are held out."""
        return self.sizes.validation

    @property
    def background(self) -> Tensor | None:
        """A black image as the batches have it, flattened to (values,); None where examples are no images."""
        return None if self._shift is None else self._shaped(self._shift[None]).flatten().cpu()

    def steps_per_epoch(self, batch_size: int) -> int:
        """Return the number of batches in one pass, the last and smaller one included."""
        return self.sizes.steps_per_epoch(batch_size)

    def epoch(
        self, epoch: int, batch_size: int, first: int = 0, noise: int = 0, share: Share = WHOLE
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield batches `first`, `first + 1`, ... of a pass over the training part, whatever `first` the same bytes.

        With another `noise` the same examples come in another order, and are augmented otherwise: see `seed.noisy`.
        With a `share` each batch has the rows of one rank, which are those of one process, augmented alike.
        """
        x, y, chosen = self._parts["train"]
        order = chosen[torch.randperm(len(chosen), generator=generator(self.seed, noisy("order", noise), epoch))]
        crop = self._augment.random_resized_crop if self._augment is not None else None
        crops = Crops(crop, self.seed, epoch, noise) if crop is not None else None
        draws = self._draws(epoch, noise)
        if share.size > 1:
            places = share.places(len(order), batch_size)
            order, batch_size = order[places], sum(share.counts(min(batch_size, len(order))))
            draws = None if draws is None else (draws[0][places], draws[1][places])
        if draws is not None:
            draws = draws[0].to(self._device), draws[1].to(self._device)
        return self._batches(x, y, order, batch_size, first, draws, crops)

    def evaluation(
        self, part: Literal["train", "validation", "test"], batch_size: int | None = None, share: Share = WHOLE
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield all examples of a part in a fixed order, unchanged; with a `share` those of one rank.

        Batches are as large as is fast where no size is given.
        """
        x, y, chosen = self._parts[part]
        return self._batches(x, y, chosen[share.among(len(chosen))], batch_size or self.evaluation_batch(part))

    def first(self, part: Literal["train", "validation", "test"], count: int | None) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield `count` examples of a part as `evaluation` does; all of them where there are no more, or for None.

        They are the first of the part. Those of the test set, whose own order may go class by class, are the first of a
        permutation that all seeds share.
        """
        x, y, chosen = self._parts[part]
        if part == "test" and count is not None and count < len(chosen):
            chosen = chosen[torch.randperm(len(chosen), generator=generator(0, "test examples"))]
        return self._batches(x, y, chosen[:count], self.evaluation_batch(part))

    def evaluation_batch(self, part: Literal["train", "validation", "test"]) -> int:
        """Return the number of examples that `evaluation` puts into a batch where no size is given."""
        most = max(1, EVALUATION_BYTES // (4 * self._parts[part][0].width))
        return min(EVALUATION_BATCH.get(self._device.type, DEVICE_EVALUATION_BATCH), most)

    def balanced(self, per_class: int, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the first so many training examples of each class, in the order of `evaluation`.

        Of a class with fewer, all are yielded.
        """
        x, y, chosen = self._parts["train"]
        first = places_in_class(y[chosen.to(y.device)].cpu()) < per_class
        return self._batches(x, y, chosen[first], batch_size)

    def _batches(
        self,
        x: _Resident | Stream,
        y: Tensor,
        order: Tensor,
        batch_size: int,
        first: int = 0,
        draws: tuple[Tensor, Tensor] | None = None,
        crops: Crops | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        order = order.to(self._device)
        chunk_bytes = CHUNK_BYTES.get(self._device.type, DEVICE_CHUNK_BYTES)
        chunk = max(1, chunk_bytes // (batch_size * x.width * 4))  # batches
        # Chunks are counted from the start of the pass, not from `first`: a batch must lie at the same alignment in
        # memory after a restart, since kernels that are chosen by alignment round differently.
        skip = first % chunk
        begin, size = (first - skip) * batch_size, chunk * batch_size
        for values in x.rows(order, begin, size, crops):
            here = slice(begin, begin + size)
            begin += size
            if draws is not None:
                values = self._augmented(values, draws[0][here], draws[1][here])
            if self._scale is not None and self._shift is not None:
                values = values.to(torch.float32).mul_(self._scale).add_(self._shift)
            labels = y.index_select(0, order[here])
            batches = (torch.split(whole, batch_size) for whole in (self._shaped(values), labels))
            yield from islice(zip(*batches, strict=True), skip, None)
            skip = 0

    def _source(self, x: Tensor | Files, workers: int) -> _Resident | Stream:
        if isinstance(x, Files):
            return Stream(x, self._device, self._channels_last, workers)
        return _Resident(self._flat(x))

    def _flat(self, x: Tensor) -> Tensor:
        """Return (n, values) on the device in the order in memory that batches have; a copy only where it must be."""
        x = x.to(self._device)
        return (x.permute(0, 2, 3, 1) if self._channels_last else x).reshape(len(x), -1).contiguous()

    def _shaped(self, values: Tensor) -> Tensor:
        """Return a view (n, *input_shape): the inverse of `_flat`."""
        if not self._channels_last:
            return values.view(-1, *self.input_shape)
        channels, height, width = self.input_shape
        return values.view(-1, height, width, channels).permute(0, 3, 1, 2)

    def _affine(self, splits: Splits) -> tuple[Tensor | None, Tensor | None]:
        """Return (x/255 - mean)/std as x * scale + shift, one scale and shift for every value of an image."""
        if not splits.mean:
            return None, None
        mean, std = (torch.tensor(v, dtype=torch.float64).view(1, -1, 1, 1) for v in (splits.mean, splits.std))
        shape = (1, *self.input_shape)
        scale, shift = (self._flat(v.float().expand(shape))[0] for v in (1 / (255 * std), -mean / std))
        return scale, shift

    def _draws(self, epoch: int, noise: int) -> tuple[Tensor, Tensor] | None:
        """Return for each image of the pass, on the CPU, where its window begins (row, column), and if flipped."""
        if self._augment is None or not (self._augment.crop or self._augment.flip):
            return None
        source = generator(self.seed, noisy("augment", noise), epoch)
        corners = torch.randint(0, 2 * self._augment.crop + 1, (self.train_size, 2), generator=source)
        flips = torch.randint(0, 2, (self.train_size,), generator=source, dtype=torch.bool)
        return corners, flips & self._augment.flip

    def _augmented(self, values: Tensor, corners: Tensor, flips: Tensor) -> Tensor:
        assert self._augment is not None
        _, height, width = self.input_shape
        padded = functional.pad(self._shaped(values), [self._augment.crop] * 4)
        image = torch.arange(len(values), device=self._device)
        across = torch.arange(width, device=self._device)
        rows = corners[:, :1] + torch.arange(height, device=self._device)  # (n, height)
        columns = corners[:, 1:] + torch.where(flips[:, None], width - 1 - across, across)  # (n, width)
        cropped = padded[image[:, None, None], :, rows[:, :, None], columns[:, None, :]]  # (n, height, width, channels)
        return self._flat(cropped.permute(0, 3, 1, 2))


def fitting(augment: Augment | None, x: Tensor | Files) -> Augment | None:
    """Return the augmentation, None where it changes nothing.

    Raises:
        UsageError: Where it does not suit the examples `x`.
    """
    if augment is None or augment == Augment():
        return None
    shape = tuple(x.shape[1:])
    if len(shape) != 3:
        raise UsageError(f"data.augment: crop and flip are for images, these examples have shape {shape}; leave it out")
    if not 0 <= augment.crop < min(shape[1:]):
        raise UsageError(f"data.augment.crop: {augment.crop} pixels around images of {shape[1]}x{shape[2]}; write less")
    if augment.random_resized_crop is not None and not (isinstance(x, Files) and x.resize):
        raise UsageError(
            f"data.augment.random_resized_crop: of these images {shape[1]}x{shape[2]} pixels are all there is, nothing "
            "is cut from them; take data that stay in their files, image_folder with stream and resize, or write crop"
        )
    return augment
