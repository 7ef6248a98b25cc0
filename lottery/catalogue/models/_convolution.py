"""The convolutional networks for small images. Shapes: images (n, channels, height, width)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from lottery.catalogue.models._layers import activation as make_activation
from lottery.catalogue.models._layers import conv, weight_normed
from lottery.catalogue.models._layers import norm as make_norm


class Conv(nn.Sequential):
    """Conv-2, -4 and -6: layers conv1, conv2, ..., fc1, fc2, output."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        classes: int,
        channels: Sequence[int],
        norm: str,
        activation: str,
        hidden: int,
    ):
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        n_in, height, width = shape
        for block, n_out in enumerate(channels):
            for i in (2 * block + 1, 2 * block + 2):
                layers[f"conv{i}"] = conv(n_in, n_out, 3, 1, norm)
                layers[f"norm{i}"] = make_norm(norm, n_out, True)
                layers[f"activation{i}"] = make_activation(activation)
                n_in = n_out
            layers[f"pool{block + 1}"] = nn.MaxPool2d(2)
            height, width = height // 2, width // 2
        layers["flatten"] = nn.Flatten()
        layers["fc1"] = nn.Linear(n_in * height * width, hidden)
        layers["fc1_activation"] = make_activation(activation)
        layers["fc2"] = nn.Linear(hidden, hidden)
        layers["fc2_activation"] = make_activation(activation)
        layers["output"] = nn.Linear(hidden, classes)
        super().__init__(layers)
        weight_normed(self, norm)


class LeNet5(nn.Sequential):
    """LeNet-5: layers conv1, conv2, ..., fc1, fc2, ..., output."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        classes: int,
        channels: Sequence[int],
        widths: Sequence[int],
        norm: str,
        activation: str,
    ):
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        n_in, height, width = shape
        for i, n_out in enumerate(channels, start=1):
            layers[f"conv{i}"] = conv(n_in, n_out, 5, 1, norm, padding=0)
            layers[f"norm{i}"] = make_norm(norm, n_out, True)
            layers[f"activation{i}"] = make_activation(activation)
            layers[f"pool{i}"] = nn.MaxPool2d(2)
            n_in, height, width = n_out, (height - 4) // 2, (width - 4) // 2
        layers["flatten"] = nn.Flatten()
        n_in *= height * width
        for i, n_out in enumerate(widths, start=1):
            layers[f"fc{i}"] = nn.Linear(n_in, n_out)
            layers[f"fc{i}_norm"] = make_norm(norm, n_out, False)
            layers[f"fc{i}_activation"] = make_activation(activation)
            n_in = n_out
        layers["output"] = nn.Linear(n_in, classes)
        super().__init__(layers)
        weight_normed(self, norm)


class Vgg(nn.Sequential):
    """VGG with one linear layer: conv1, conv2, ..., output."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        classes: int,
        blocks: Sequence[tuple[int, int]],
        norm: str,
        activation: str,
        dropout: float,
    ):
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        n_in, i = shape[0], 0
        for block, (n_out, count) in enumerate(blocks, start=1):
            for _ in range(count):
                i += 1
                layers[f"conv{i}"] = conv(n_in, n_out, 3, 1, norm)
                layers[f"norm{i}"] = make_norm(norm, n_out, True)
                layers[f"activation{i}"] = make_activation(activation)
                n_in = n_out
            if block < len(blocks):
                layers[f"pool{block}"] = nn.MaxPool2d(2)
        layers["average"] = nn.AdaptiveAvgPool2d(1)
        layers["flatten"] = nn.Flatten()
        if dropout:
            layers["dropout"] = nn.Dropout(dropout)
        layers["output"] = nn.Linear(n_in, classes)
        super().__init__(layers)
        weight_normed(self, norm)


class ResNet(nn.Module):
    """ResNet-(6n+2) for small images: conv, 3 stages of n blocks of two convolutions, average, output."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        classes: int,
        blocks: int,
        norm: str,
        activation: str,
        width: int,
        shortcut: str,
    ):
        super().__init__()
        self.conv = conv(shape[0], width, 3, 1, norm)
        self.norm = make_norm(norm, width, True)
        self.activation = make_activation(activation)
        stages: list[nn.Module] = []
        n_in = width
        for stage in range(3):
            for block in range(blocks):
                n_out, stride = width * 2**stage, 2 if stage and not block else 1
                stages.append(Residual(n_in, n_out, stride, norm, activation, shortcut))
                n_in = n_out
        self.blocks = nn.Sequential(*stages)
        self.output = nn.Linear(n_in, classes)
        weight_normed(self, norm)

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs, (n, classes)."""
        x = self.blocks(self.activation(self.norm(self.conv(x))))
        logits: Tensor = self.output(x.mean((2, 3)))
        return logits


class Residual(nn.Module):
    """Two convolutions beside a shortcut, or without one."""

    def __init__(self, n_in: int, n_out: int, stride: int, norm: str, activation: str, shortcut: str):
        super().__init__()
        self.conv1, self.norm1 = conv(n_in, n_out, 3, stride, norm), make_norm(norm, n_out, True)
        self.conv2, self.norm2 = conv(n_out, n_out, 3, 1, norm), make_norm(norm, n_out, True)
        self.activation = make_activation(activation)
        self.stride, self.padding = stride, n_out - n_in
        changes = stride > 1 or n_in != n_out
        self.plain = shortcut == "none"
        self.shortcut: nn.Module | None = None
        if changes and shortcut == "conv":
            self.shortcut = nn.Sequential(
                OrderedDict(conv=conv(n_in, n_out, 1, stride, norm), norm=make_norm(norm, n_out, True))
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return feature maps of the block, (n, channels, height, width)."""
        y = self.norm2(self.conv2(self.activation(self.norm1(self.conv1(x)))))
        if self.plain:
            out: Tensor = self.activation(y)
            return out
        if self.shortcut is not None:
            x = self.shortcut(x)
        elif self.stride > 1 or self.padding:
            x = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.padding))
        z: Tensor = self.activation(y + x)
        return z
