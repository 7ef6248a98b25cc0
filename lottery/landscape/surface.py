"""The loss surface of a network: its mean loss as a function of the weights that survive a mask."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from lottery.errors import UsageError
from lottery.landscape.second_derivatives import SecondDerivatives
from lottery.network.build import evaluating, without_fused_recurrence
from lottery.network.layout import Layout
from lottery.pruning.mask import Mask, whole
from lottery.pruning.scoring import Weights
from lottery.training.evaluation import Classes, Squares
from lottery.training.objective import Batch, without_a_last_one_alone
from lottery.training.running_statistics import batch_statistics, recalibrate
from lottery.values import PARTS, Part

Statistics = Literal["running", "batch"]  # what a normalization divides by: what it has stored, or those of the batch
_STOPS = ("torch::autograd::Error", "torch::autograd::DelayedError")  # what torch puts in place of a missing derivative
Batches = Callable[[Part], Iterator[Batch]]


@dataclass(frozen=True, eq=False)
class Point:
    """A point of a surface.

    Attributes:
        vector: One value for each surviving weight and each other parameter that trains, (n,).
        buffers: The other tensors of the network's state by name, such as running statistics.
    """

    vector: Tensor
    buffers: Mapping[str, Tensor]

    def toward(self, other: Point, share: float) -> Point:
        """Return the point on the straight line to another: this one at share 0, the other at 1, both exactly.

        Running statistics are interpolated as well; counters stay those of this point.
        """
        if share in (0, 1):
            return other if share else self
        buffers = {
            name: value.lerp(other.buffers[name], share) if value.is_floating_point() else value
            for name, value in self.buffers.items()
        }
        return Point((1 - share) * self.vector + share * other.vector, buffers)

    def moved(self, step: Tensor) -> Point:
        """Return the point a step (n,) away, with the buffers of this one."""
        return Point(self.vector + step, self.buffers)


class Surface:
    """The mean training loss of a network over fixed examples, as a function of its surviving weights.

    The network is in evaluation mode: no dropout, no augmentation. It is at one point at a time, the last that was
    given to `load`; gradients and products are those at this point. All passes go batch by batch, so that memory is
    that of one batch. Of the test set there is loss and error by `measure`, and nothing that could be followed.

    Args:
        model: The network, on its device and in the precision to compute in. It is this surface's from now on.
        batches: Makes the batches of a part of the data, in the same order each time.
        mask: The survivors; weights that it does not name, biases and normalizations are coordinates as they are.
        loss: Mean loss of a batch of (outputs, targets), `nn.CrossEntropyLoss` or `nn.MSELoss`.
        statistics: `running` evaluates normalizations with the statistics that a point has; `batch` with those of each
            batch, as in training, without a change of the stored ones.
        parts: The parts of the data that loss and error are measured on, where there are examples.
        check: Called in work that takes long for each batch; raises where the run is told to stop. `batches` does too.

    Attributes:
        size: Number of coordinates n.
        blocks: The coordinates of each parameter by its name, in the order of the network; empty slices are left out.

    Raises:
        UsageError: The mask leaves no weight, or names one that the network lacks or has in another shape.
    """

    def __init__(
        self,
        model: nn.Module,
        batches: Batches,
        mask: Mask | None = None,
        *,
        loss: nn.Module,
        statistics: Statistics = "running",
        parts: Sequence[Part] = PARTS,
        check: Callable[[], None] = lambda: None,
    ):
        self.model, self.batches, self.loss, self.statistics = model, batches, loss, statistics
        self.check = check
        self.parts = tuple(parts)
        self.layout = Layout.of(model)
        self._twice = False  # whether the network was seen to have second derivatives
        self._parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        device = next(model.parameters()).device
        bits = {} if mask is None else {name: alive.to(device) for name, alive in whole(model, mask)}
        self._survivors = {  # places in the flattened parameter; None where all survive
            name: None if name not in bits or bool(bits[name].all()) else bits[name].flatten().nonzero()[:, 0]
            for name in self._parameters
        }
        self.blocks: dict[str, slice] = {}
        end = 0
        for name, parameter in self._parameters.items():
            kept = self._survivors[name]
            begin, end = end, end + (parameter.numel() if kept is None else len(kept))
            if end > begin:
                self.blocks[name] = slice(begin, end)
        self.size = end
        if mask is not None and not any(mask.alive().values()):
            raise UsageError("the mask leaves no weight: there is no surface to look at; look at levels that keep some")

    @property
    def device(self) -> torch.device:
        """Device that the network is on."""
        return next(iter(self._parameters.values())).device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the coordinates."""
        return next(iter(self._parameters.values())).dtype

    def point(self, weights: Weights) -> Point:
        """Return the point of a state in the method's form; values of pruned weights are not read."""
        state = self.layout.join(weights)
        buffers = {name: self._own(state[name]) for name in self.model.state_dict() if name not in self._parameters}
        return Point(self.flat({name: self._own(state[name]) for name in self._parameters}), buffers)

    def flat(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Return the coordinates (n,) of tensors in the shapes of the parameters, by their names."""
        parts = []
        for name in self._parameters:
            kept, values = self._survivors[name], tensors[name].reshape(-1)
            parts.append(values if kept is None else values.index_select(0, kept))
        return torch.cat(parts)

    def spread(self, vector: Tensor) -> dict[str, Tensor]:
        """Return tensors in the shapes of the parameters with these coordinates, and 0 where weights are pruned."""
        tensors, begin = {}, 0
        for name, parameter in self._parameters.items():
            kept = self._survivors[name]
            count = parameter.numel() if kept is None else len(kept)
            values = vector[begin : begin + count]
            begin += count
            if kept is not None:
                values = values.new_zeros(parameter.numel()).index_copy(0, kept, values)
            tensors[name] = values.view_as(parameter)
        return tensors

    @torch.no_grad()
    def load(self, point: Point) -> None:
        """Put the network at a point; its pruned weights are 0."""
        state = self.model.state_dict()
        for name, value in {**point.buffers, **self.spread(point.vector)}.items():
            state[name].copy_(value)

    def reset_statistics(self) -> None:
        """Measure the running statistics at the present point anew, over the training examples; see `recalibrate`."""
        recalibrate(self.model, self.batches("train"))

    def here(self) -> Point:
        """Return the present point, as a copy."""
        tensors = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        buffers = {name: value for name, value in tensors.items() if name not in self._parameters}
        return Point(self.flat(tensors), buffers)

    @torch.no_grad()
    def measure(self, part: Part) -> dict[str, float]:
        """Return `loss` and `error` (a fraction; 1 - r2 for regression) over a part, as trainings are evaluated.

        The loss is cross-entropy in nats or the mean squared error, without label smoothing. Values that are not finite
        are returned as they are.
        """
        regression = isinstance(self.loss, nn.MSELoss)
        tally: Classes | Squares | None = None
        with self._measuring():
            for x, y in self._each(part, measured=True):
                outputs = self.model(x)
                if tally is None:
                    tally = Squares(self.device) if regression else Classes(self.device, outputs.shape[1], ())
                tally.add(outputs, y)
        assert tally is not None
        found = tally.result()
        error = 1 - found["r2" if regression else "accuracy"]
        return {"loss": found["loss"], "error": error}

    @torch.no_grad()
    def mean_loss(self, part: Part = "train") -> float:
        """Return the mean training loss over a part at the present point, of which gradients and products are taken."""
        total, count = torch.zeros((), dtype=torch.float64, device=self.device), 0
        with self._measuring():
            for x, y in self._each(part):
                total, count = total + self.loss(self.model(x), y) * len(y), count + len(y)
        return float(total) / count

    def gradient(self, part: Part = "train") -> tuple[float, Tensor]:
        """Return the mean loss over a part at the present point, and its gradient (n,)."""
        total, count = torch.zeros((), dtype=torch.float64, device=self.device), 0
        gradient = torch.zeros(self.size, dtype=self.dtype, device=self.device)
        with self._measuring():
            for x, y in self._each(part):
                value = self.loss(self.model(x), y) * len(y)
                gradient += self.flat(self._gradients(value))
                total, count = total + value.detach(), count + len(y)
        return float(total) / count, gradient / count

    def hessian_product(self, vector: Tensor, part: Part = "train") -> Tensor:
        """Return the product (n,) of the Hessian of the mean loss at the present point and a vector (n,).

        Raises:
            UsageError: An operation of the network has no second derivative.
        """
        direction = self.spread(vector)

        def product(mode: SecondDerivatives, x: Tensor, y: Tensor) -> Tensor:
            value = self.loss(self.model(x), y)
            with mode.only("graph"):
                gradients = self._gradients(value, create_graph=True)
            if not self._twice:
                self._check_twice(gradients.values())
            found = self._along(gradients, direction, list(self._parameters.values()))
            return self.flat(dict(zip(self._parameters, found, strict=True)))

        return self._mean_over(part, product)

    def gauss_newton_product(self, vector: Tensor, part: Part = "train") -> Tensor:
        """Return the product (n,) of the generalized Gauss-Newton matrix at the present point and a vector (n,).

        It is J^T H J, where J is the Jacobian of the outputs and H the Hessian of the loss in the outputs (Schraudolph
        2002). The product with J is made of two products with J^T, so that no forward-mode derivative is needed.
        """
        direction = self.spread(vector)

        def product(mode: SecondDerivatives, x: Tensor, y: Tensor) -> Tensor:
            outputs = self.model(x)
            probe = torch.zeros_like(outputs, requires_grad=True)
            with mode.only("linear"):
                pulled = self._gradients(outputs, probe, create_graph=True)
                (tangent,) = self._along(pulled, direction, [probe])
            at = outputs.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.loss(at, y), at, create_graph=True)
            (curved,) = torch.autograd.grad(slope, at, tangent)
            return self.flat(self._gradients(outputs, curved))

        return self._mean_over(part, product)

    def examples(self, part: Part) -> Iterator[Batch]:
        """Yield the batches of a part on the network's device, numbers in its precision."""
        yield from self._each(part)

    def outputs(self, x: Tensor) -> Tensor:
        """Return the network's outputs at the present point, which can be differentiated by its parameters."""
        self.check()
        with self._measuring():
            result: Tensor = self.model(x)
        return result

    def value_of(self, point: Point, x: Tensor, y: Tensor) -> Tensor:
        """Return the mean loss of a batch at any point, a 0-d tensor that can be differentiated by the point's vector.

        The present point stays as it is. It is what `torch.func` and the training of curves differentiate.
        """
        self.check()
        with self._measuring():
            state = {**dict(point.buffers), **self.spread(point.vector)}
            result: Tensor = self.loss(functional_call(self.model, state, (x,)), y)
        return result

    def _mean_over(self, part: Part, product: Callable[[SecondDerivatives, Tensor, Tensor], Tensor]) -> Tensor:
        """Return the mean over a part of what a product gives for each batch, weighted by its size."""
        total, count = torch.zeros(self.size, dtype=self.dtype, device=self.device), 0
        with self._measuring(), sdpa_kernel(SDPBackend.MATH):  # fused attention has no second derivative
            for x, y in self._each(part):
                try:
                    with SecondDerivatives() as mode:
                        total += product(mode, x, y) * len(y)
                except RuntimeError as error:
                    if "derivative" not in str(error):
                        raise
                    raise self._once_only(str(error).partition("\n")[0]) from error
                count += len(y)
        return total / count

    def _check_twice(self, gradients: Iterable[Tensor]) -> None:
        """Raise UsageError where a function of the network stops second derivatives, which torch would take for 0."""
        seen, waiting = set(), [gradient.grad_fn for gradient in gradients]
        while waiting:
            node = waiting.pop()
            if node is not None and node not in seen:
                seen.add(node)
                if node.name() in _STOPS:
                    raise self._once_only("a function of it is once differentiable")
                waiting += [following for following, _ in node.next_functions]
        self._twice = True

    def _once_only(self, why: str) -> UsageError:
        name = type(self.model).__name__
        return UsageError(f"{name}: no second derivative of it can be taken ({why}); leave out analyses of curvature")

    def _gradients(self, value: Tensor, weights: Tensor | None = None, *, create_graph: bool = False) -> Weights:
        """Return the derivatives of a value by all parameters, 0 where it does not depend on one."""
        parameters = list(self._parameters.values())
        found = torch.autograd.grad(value, parameters, weights, create_graph=create_graph, materialize_grads=True)
        return dict(zip(self._parameters, found, strict=True))

    def _along(self, gradients: Weights, direction: Weights, by: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return the derivatives by some tensors of the inner product of gradients and a direction."""
        both = [(gradient, direction[name]) for name, gradient in gradients.items() if gradient.requires_grad]
        if not both:  # the gradients are the same everywhere
            return [torch.zeros_like(tensor) for tensor in by]
        return torch.autograd.grad([g for g, _ in both], by, [v for _, v in both], materialize_grads=True)

    def _each(self, part: Part, *, measured: bool = False) -> Iterator[Batch]:
        """Yield the batches of a part in the precision of the network.

        Raises:
            UsageError: It is the test set, and not loss and error are `measured`.
        """
        if part == "test" and not measured:
            raise UsageError(
                "the test set may be measured and nothing else; take gradients and examples of train or validation"
            )
        for x, y in without_a_last_one_alone(self.batches(part)):
            yield self._own(x), self._own(y)

    def _own(self, value: Tensor) -> Tensor:
        """Return a tensor on the network's device, numbers in its precision."""
        return value.to(self.device, self.dtype if value.is_floating_point() else value.dtype)

    @contextmanager
    def _measuring(self) -> Iterator[None]:
        """Put the network in evaluation mode, but for normalizations where statistics are those of the batch.

        Where derivatives are taken recurrent layers do without cuDNN's fused ones, which have none in evaluation mode.
        """
        with ExitStack() as stack:
            stack.enter_context(evaluating(self.model))
            if torch.is_grad_enabled():
                stack.enter_context(without_fused_recurrence(self.model))
            if self.statistics == "batch":
                stack.enter_context(batch_statistics(self.model))
            yield
