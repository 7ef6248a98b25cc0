"""The network behind `fixup_resnet...`, after the authors' models for CIFAR. Shapes: images (n, channels, ...)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from lottery.catalogue.models._layers import activation as make_activation
from lottery.catalogue.models._layers import norm as make_norm
from lottery.catalogue.models._layers import weight_normed


class FixupResNet(nn.Module):
    """conv, 3 stages of `blocks` residual blocks, average, output."""

    def __init__(self, shape: tuple[int, int, int], classes: int, blocks: int, norm: str, activation: str, width: int):
        super().__init__()
        self.conv, self.norm = _conv(shape[0], width, 1), make_norm(norm, width, True)
        self.bias1, self.activation = _bias(), make_activation(activation)
        stages: list[nn.Module] = []
        n_in = width
        for stage in range(3):
            for block in range(blocks):
                n_out, stride = width * 2**stage, 2 if stage and not block else 1
                stages.append(FixupBlock(n_in, n_out, stride, norm, activation))
                n_in = n_out
        self.blocks = nn.Sequential(*stages)
        self.bias2 = _bias()
        self.output = nn.Linear(n_in, classes)
        weight_normed(self, norm)

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs, (n, classes)."""
        x = self.blocks(self.activation(self.norm(self.conv(x)) + self.bias1))
        logits: Tensor = self.output(x.mean((2, 3)) + self.bias2)
        return logits


class FixupBlock(nn.Module):
    """A branch of two convolutions, its scalars, and a shortcut."""

    def __init__(self, n_in: int, n_out: int, stride: int, norm: str, activation: str):
        super().__init__()
        self.bias1a, self.conv1, self.norm1 = _bias(), _conv(n_in, n_out, stride), make_norm(norm, n_out, True)
        self.bias1b, self.activation = _bias(), make_activation(activation)
        self.bias2a, self.conv2, self.norm2 = _bias(), _conv(n_out, n_out, 1), make_norm(norm, n_out, True)
        self.scale, self.bias2b = nn.Parameter(torch.ones(1)), _bias()
        self.stride, self.padding = stride, n_out - n_in

    @property
    def branch(self) -> list[nn.Module]:
        """Return the layers of the branch in order, as the init `fixup` asks for them."""
        return [self.conv1, self.conv2]

    def forward(self, x: Tensor) -> Tensor:
        """Return feature maps of the block, (n, channels, height, width)."""
        moved = x + self.bias1a
        y = self.activation(self.norm1(self.conv1(moved)) + self.bias1b)
        y = self.norm2(self.conv2(y + self.bias2a)) * self.scale + self.bias2b
        if self.stride > 1:
            x = functional.pad(moved[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.padding))
        z: Tensor = self.activation(y + x)
        return z


def _conv(n_in: int, n_out: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, 3, stride, padding=1, bias=False)


def _bias() -> nn.Parameter:
    return nn.Parameter(torch.zeros(1))
