"""Fully connected networks of one shape as one: stacked weights, batched products, torch's optimizer over rows.

No sum goes over two members, so that none sees the others. On one thread of a CPU a member has the same bytes in
whatever company; a GPU's library may take another kernel for another number of members, which rounds otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lottery.catalogue.models._perceptron import Perceptron
from lottery.engines.support import layers, rule
from lottery.pruning.mask import Mask
from lottery.training.objective import Objective, autocast

# Activations of one number each: it does not matter how their inputs lie.
ELEMENTWISE = (
    nn.Identity,
    nn.ReLU,
    nn.LeakyReLU,
    nn.Tanh,
    nn.Sigmoid,
    nn.Softplus,
    nn.ELU,
    nn.SiLU,
    nn.GELU,
)
# Each member's part of a tensor begins at a whole cache line, wherever the member stands: products of matrices that lie
# otherwise are rounded otherwise.
ALIGNED_NUMBERS = 32
ALIGNED_EXAMPLES = 16


@dataclass(frozen=True)
class Member:
    """One of the trainings that are done in lockstep.

    Attributes:
        objective: Its network and loss.
        optimizer: The optimizer of the network's parameters; its learning rate is read before each step.
        mask: The surviving weights, from the first step to the last.
    """

    objective: Objective
    optimizer: torch.optim.Optimizer
    mask: Mask


class Stacked:
    """Several networks of one shape as one network, and their optimizers as one.

    Their parameters lie side by side in one tensor from here on, a row for each member; those of the networks are views
    of it, and so can be read at any time. State of the optimizers is in them after `flush`.

    Args:
        members: The trainings, of which `unsupported` finds nothing wrong.

    Attributes:
        objective: The losses and gradients of all.
        optimizer: The optimizer of all rows.
        losses: The losses of the last step, (K,).
    """

    def __init__(self, members: Sequence[Member]):
        self._members = members
        self.objective = _StackedObjective(members)
        self.optimizer = _optimizer_of(members, self.objective)
        self.losses = self.objective.losses

    def take_rates(self) -> None:
        """Take the learning rates from the members' optimizers."""
        for group, member in zip(self.optimizer.param_groups, self._members, strict=True):
            group["lr"] = member.optimizer.param_groups[0]["lr"]

    @torch.no_grad()
    def load(self, place: int) -> bool:
        """Take the state of one member's optimizer from there, and return True if it lies elsewhere than before."""
        row, kept = self.objective.rows[place], self._members[place].optimizer.state
        parts = self.objective.parameters_of(place)
        names = {name: value for p in parts for name, value in kept.get(p, {}).items() if isinstance(value, Tensor)}
        here = self.optimizer.state[row]
        moved: bool = here.keys() != names.keys()
        if moved:
            here.clear()
            here.update({name: torch.zeros_like(row) if v.ndim else v.clone() for name, v in names.items()})
        for name, value in here.items():
            if value.ndim:
                for part, p in zip(self.objective.parts(value), parts, strict=True):
                    part.copy_(kept[p][name])
            else:
                value.copy_(names[name])
        return moved

    def flush(self, place: int) -> None:
        """Put the state of one member's optimizer there; what is of each weight are views, which go on with it."""
        here, kept = self.optimizer.state[self.objective.rows[place]], self._members[place].optimizer.state
        for name, value in here.items():
            parts = self.objective.parts(value) if value.ndim else None
            for i, parameter in enumerate(self.objective.parameters_of(place)):
                kept[parameter][name] = value.clone() if parts is None else parts[i]


class _StackedObjective(Objective):
    """The mean losses of several networks, each on a batch of its own, and their gradients, masked.

    Attributes:
        rows: All parameters of each network, with gaps of zeros; `grad` is theirs throughout.
        losses: The losses of the last step, (K,).
    """

    def __init__(self, members: Sequence[Member]):
        first = members[0].objective
        super().__init__(first.model, first.loss, lambda: iter(()), steps_per_epoch=1, precision=first.precision)
        assert isinstance(first.model, Perceptron) and isinstance(first.loss, nn.CrossEntropyLoss)
        self._residual, self._smoothing = first.model.residual, first.loss.label_smoothing
        self._after: list[nn.Module] = [getattr(first.model, f"after{i + 1}") for i in range(first.model.depth)]
        self._own = [_parameters(member.objective.model) for member in members]
        self._shapes = [p.shape for p in self._own[0]]
        self._gaps = [-shape.numel() % ALIGNED_NUMBERS for shape in self._shapes]
        width = sum(shape.numel() for shape in self._shapes) + sum(self._gaps)
        zeros = self._own[0][0].detach().new_zeros
        self.values, self._gradients = zeros(len(members), width), zeros(len(members), width)
        self.losses = zeros(len(members))
        self.alive: Tensor | None = None  # 1 where a weight survives; None where nothing is pruned
        if any(member.mask.alive() != member.mask.sizes() for member in members):
            self.alive = torch.ones_like(self.values)
        for place, member in enumerate(members):
            self._take(place, member)
        self._stacks = [stack.requires_grad_() for stack in self.parts(self.values)]
        self._gradient_stacks = self.parts(self._gradients)
        self.rows = [row.requires_grad_() for row in self.values.unbind()]
        self.parameters: list[Any] = self.rows
        for row, gradient in zip(self.rows, self._gradients.unbind(), strict=True):
            row.grad = gradient

    @torch.no_grad()
    def _take(self, place: int, member: Member) -> None:
        """Move the parameters of a network into its row, and its mask beside it."""
        for part, parameter in zip(self.parts(self.values[place]), self._own[place], strict=True):
            parameter.data = part.copy_(parameter)
        if self.alive is not None:
            weights = zip(layers(_perceptron(member.objective)), self.parts(self.alive[place])[::2], strict=True)
            for name, alive in weights:
                if f"{name}.weight" in member.mask:
                    alive.copy_(member.mask[f"{name}.weight"])

    def parameters_of(self, place: int) -> list[Tensor]:
        """Return the parameters of one network, weight and bias of each layer."""
        return self._own[place]

    def parts(self, rows: Tensor) -> list[Tensor]:
        """Return the views of a row (numbers,), or of all (K, numbers), that have the shapes of the parameters."""
        sizes = [size for shape, gap in zip(self._shapes, self._gaps, strict=True) for size in (shape.numel(), gap)]
        found = torch.split(rows, sizes, dim=-1)[::2]
        return [part.view(*rows.shape[:-1], *shape) for part, shape in zip(found, self._shapes, strict=True)]

    @torch.enable_grad()
    def closure(self) -> Tensor:
        """Compute the gradients of all members, masked, and return the sum of their losses, detached."""
        losses = self._losses(self.x, self.y)
        gradients = torch.autograd.grad(losses.sum(), self._stacks)
        with torch.no_grad():
            torch._foreach_copy_(self._gradient_stacks, gradients)
            if self.alive is not None:
                self._gradients.mul_(self.alive)
            self.losses.copy_(losses)
        return self.losses.sum()

    def _losses(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the mean loss of each member, (K,); hidden layers are (K, width, n), as gradients come out so."""
        with autocast(self.precision, x.device):
            n = y.shape[1]
            h = functional.pad(x.flatten(2), (0, 0, 0, -n % ALIGNED_EXAMPLES)).transpose(1, 2)
            weights, biases = self._stacks[::2], self._stacks[1::2]
            for i, after in enumerate(self._after):
                new = after(torch.baddbmm(biases[i][:, :, None], weights[i], h))
                h = h + new if self._residual and i else new
            scores = torch.baddbmm(biases[-1][:, :, None], weights[-1], h)[..., :n].transpose(1, 2)
            each = functional.cross_entropy(
                scores.flatten(0, 1), y.flatten(), reduction="none", label_smoothing=self._smoothing
            )
        return each.view(y.shape).mean(1)


def unsupported(members: Sequence[Member]) -> str | None:
    """Return why these trainings cannot be done in lockstep, in words; None where they can."""
    for member in members:
        objective, model = member.objective, member.objective.model
        if not isinstance(model, Perceptron):
            return "trains fully connected networks only"
        after = [each for name, each in model.named_children() if name.startswith("after")]
        if any(type(each) not in ELEMENTWISE for each in after):
            return "trains networks without normalization and dropout only, with the catalogue's activations"
        plain = layers(model).values()
        if any(type(layer) is not nn.Linear for layer in plain) or len({id(each.weight) for each in plain}) < len(
            plain
        ):
            return "trains plain layers with weights of their own only"
        if not all(p.requires_grad for p in model.parameters()):
            return "trains networks only of which all parameters are trained"
        loss = objective.loss
        if type(loss) is not nn.CrossEntropyLoss or loss.weight is not None or loss.reduction != "mean":
            return "knows no loss but cross-entropy"
        if objective.clip is not None or objective.accumulate > 1 or objective.precision == "bf16":
            return "knows no train.clip, no train.accumulate and no bf16"
        if rule(member.optimizer) is None:
            return "knows the optimizers sgd, momentum, nesterov, adam and adamw only"
    return None if len({kind_of(member) for member in members}) == 1 else "trains networks and optimizers of one kind"


def kind_of(member: Member) -> tuple[Any, ...]:
    """Return what members have to have in common."""
    model, objective = _perceptron(member.objective), member.objective
    weight = objective.parameters[0]
    network = str(model), model.residual, weight.dtype, weight.device
    return *network, str(objective.loss), objective.precision, type(member.optimizer)


def _perceptron(objective: Objective) -> Perceptron:
    assert isinstance(objective.model, Perceptron)
    return objective.model


def _parameters(model: nn.Module) -> list[Tensor]:
    assert isinstance(model, Perceptron)
    return [parameter for layer in layers(model).values() for parameter in (layer.weight, layer.bias)]


def _optimizer_of(members: Sequence[Member], objective: _StackedObjective) -> torch.optim.Optimizer:
    """Return torch's optimizer of the rows, each with the options of its member, that leaves pruned weights at 0."""
    groups = [
        {**member.optimizer.param_groups[0], "params": [row]}
        for member, row in zip(members, objective.rows, strict=True)
    ]
    made: torch.optim.Optimizer = type(members[0].optimizer)(groups)  # type: ignore[call-arg]

    def mask_weights(*_: object) -> None:
        if objective.alive is not None:
            with torch.no_grad():
                objective.values.mul_(objective.alive)

    made.register_step_post_hook(mask_weights)
    return made
