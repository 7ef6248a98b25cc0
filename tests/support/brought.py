"""Models that a user brings: recurrent, with attention, with shared weights, with weights of their own code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lottery.network.build import build_model
from lottery.registry import models
from lottery.values import Component

FEATURES, CLASSES = 8, 10
SHAPE = (1, FEATURES, FEATURES)


def _rows(x: Tensor) -> Tensor:
    return x.flatten(1, -2)


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase], **how: Any):
        super().__init__()
        self.rnn = kind(FEATURES, 6, batch_first=True, **how)  # type: ignore[arg-type]
        self.output = nn.LazyLinear(CLASSES)
        self(torch.zeros(1, *SHAPE))

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.rnn(_rows(x))[0][:, -1])


class Cells(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.LSTMCell(FEATURES, 5), nn.GRUCell(5, 4)
        self.output = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        memory, state = None, None
        for row in _rows(x).unbind(1):
            memory = self.one(row, memory)
            state = self.two(memory[0], state)
        made: Tensor = self.output(state)
        return made


class Attention(nn.Module):
    def __init__(self, **sizes: int):
        super().__init__()
        self.key = nn.Linear(FEATURES, sizes.get("kdim", FEATURES))
        self.attention = nn.MultiheadAttention(FEATURES, 2, batch_first=True, **sizes)
        self.output = nn.Linear(FEATURES, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = _rows(x)
        key = self.key(x)
        value = key if key.shape == x.shape else x
        made: Tensor = self.output(self.attention(x, key, value, need_weights=False)[0].mean(1))
        return made


class Tied(nn.Module):
    """The second and the third layer share a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.a, self.b = nn.Linear(64, 12), nn.Linear(12, 12), nn.Linear(12, 12)
        self.output = nn.Linear(12, CLASSES)
        self.b.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.output(torch.relu(self.b(torch.relu(self.a(torch.relu(self.first(x.flatten(1))))))))
        return made


class Words(nn.Module):
    """Each pixel is one of 17 words; with `tied` the output layer, of 17 classes, has the embedding's weight."""

    def __init__(self, tied: bool):
        super().__init__()
        self.embedding, self.hidden = nn.Embedding(17, 6), nn.Linear(6, 6)
        self.output = nn.Linear(6, 17 if tied else CLASSES)
        if tied:
            self.output.weight = self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        words = self.embedding((x.flatten(1).sigmoid() * 16).long()).mean(1)
        made: Tensor = self.output(torch.relu(self.hidden(words)))[:, :CLASSES]
        return made


class Conv1D(nn.Module):
    """As in transformers: the weight is (inputs, outputs)."""

    def __init__(self, nf: int, nx: int):
        super().__init__()
        self.nf = nf
        self.weight, self.bias = nn.Parameter(torch.randn(nx, nf) / nx**0.5), nn.Parameter(torch.zeros(nf))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x, self.weight)


class Own(nn.Module):
    """Weights of its own code: a matrix, a stack of matrices, one that is standardized first, scales and positions."""

    def __init__(self) -> None:
        super().__init__()
        self.positions, self.scale = nn.Parameter(torch.randn(1, 8, 8)), nn.Parameter(torch.ones(8, 1))
        self.matrix, self.stack = nn.Parameter(torch.randn(8, 8) / 3), nn.Parameter(torch.randn(8, 8, 4) / 3)
        self.standardized = nn.Parameter(torch.randn(5, 4))
        self.gpt, self.bilinear = Conv1D(6, 40), nn.Bilinear(6, 6, 5)
        self.output = nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = (_rows(x) + self.positions) * self.scale @ self.matrix.t()
        x = torch.einsum("brf,rfo->bro", x, self.stack)
        weight = self.standardized - self.standardized.mean(1, keepdim=True)
        x = torch.relu(self.gpt(nn.functional.linear(x, weight).flatten(1)))
        made: Tensor = self.output(torch.relu(self.bilinear(x, x)))
        return made


MODELS: dict[str, Callable[[], nn.Module]] = {
    "lstm": lambda: Recurrent(nn.LSTM, num_layers=2, bidirectional=True, proj_size=3),
    "gru": lambda: Recurrent(nn.GRU),
    "rnn": lambda: Recurrent(nn.RNN),
    "cells": Cells,
    "attention": Attention,
    "separate": lambda: Attention(kdim=5),
    "tied": Tied,
    "words": lambda: Words(tied=False),
    "tied_words": lambda: Words(tied=True),
    "own": Own,
}


def _entry(make: Callable[[], nn.Module]) -> Callable[..., nn.Module]:
    def model(input_shape: tuple[int, ...], classes: int) -> nn.Module:
        return make()

    return model


@contextmanager
def brought(*names: str, **traits: Any) -> Iterator[None]:
    """The catalogue has these models, or all, and all with these traits, while the `with` block runs."""
    known = dict(models._entries) if models["lenet"] else {}
    try:
        for name in names or MODELS:
            models._entries.pop(name, None)
            models.register(name, source="a test", **traits)(_entry(MODELS[name]))
        yield
    finally:
        models._entries = known


def build(name: str, *, embeddings: bool = False, **traits: Any) -> nn.Module:
    """One of these models as a recipe makes it, for images of the digits."""
    with brought(name, **traits):
        return build_model(Component(name), SHAPE, CLASSES, init=Component("torch"), seed=0, embeddings=embeddings)
