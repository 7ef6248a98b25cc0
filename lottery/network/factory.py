"""The networks of a recipe, each made from its model, its initialization and the shape of its data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lottery import registry
from lottery.network.build import Batch, build_model, effective, initialized, lent, on_device
from lottery.network.layout import Layout
from lottery.values import Component

if TYPE_CHECKING:
    from lottery.recipe.schema import Recipe

QUICK = Component("torch")  # the recipe's init may take its time


class NetworkFactory:
    """Makes the networks of a recipe for inputs of one shape, on the CPU.

    Args:
        recipe: Names the model, the init, and whether embeddings can be pruned.
        shape: Shape of one example, without the batch.
        classes: Number of classes, or of the targets of a regression.
        examples: Training examples of a seed, on the CPU; called only for an init that looks at them.
    """

    def __init__(self, recipe: Recipe, shape: tuple[int, ...], classes: int, examples: Callable[[int], Batch]):
        self._recipe, self._shape, self._classes, self._examples = recipe, shape, classes, examples
        self._embeddings = recipe.prune.embeddings

    def network(self, seed: int) -> nn.Module:
        """Return the seed's network at initialization."""
        return build_model(
            self._recipe.model,
            self._shape,
            self._classes,
            init=self._recipe.init,
            seed=seed,
            batch=self._batch(seed),
            embeddings=self._embeddings,
        )

    def fresh(self, seed: int, model: Component, draws: torch.Generator) -> nn.Module:
        """Return a network of a model whose weights these draws initialize, on the data of this seed."""
        construct = int(torch.randint(2**62, (), generator=draws))
        return initialized(
            model,
            self._shape,
            self._classes,
            self._recipe.init,
            construct,
            draws,
            batch=self._batch(seed),
            embeddings=self._embeddings,
        )

    def blank(self, model: Component | None = None) -> nn.Module:
        """Return a network of a model, the recipe's where none is given, whose weights mean nothing.

        It is for the names and shapes of its layers, and to load a state into.
        """
        return on_device(self._template, "cpu") if model is None else self._built(model)

    def drawn(self) -> nn.Module:
        """Return a network of the recipe's model with weights as its layers draw them and no seed's."""
        return self._built(self._recipe.model)

    def effective(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the weight that each prunable layer of the recipe's model computes with in this state.

        Those of layers without weight normalization share their memory with the state: they are to be looked at only.
        """
        return effective(lent(self._template, Layout.of(self._template).join(weights)))

    @cached_property
    def _template(self) -> nn.Module:
        return on_device(self.drawn(), "meta")  # else it is one more copy of the weights

    def _built(self, model: Component) -> nn.Module:
        return build_model(model, self._shape, self._classes, init=QUICK, seed=0, embeddings=self._embeddings)

    def _batch(self, seed: int) -> Batch | None:
        return self._examples(seed) if registry.inits[self._recipe.init.name].traits.batch else None
