"""Cases of analyses: what a Hessian product, a barrier, a mask and an eigenvalue cost, and whether a plan knows it."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lottery.benchmark import baseline
from lottery.benchmark.case import Case, Turn
from lottery.data.load import load
from lottery.device import machine
from lottery.landscape.barrier import line
from lottery.landscape.lanczos import extreme_eigenvalues
from lottery.landscape.matrices import curvature
from lottery.landscape.memo import Memo
from lottery.landscape.surface import Surface
from lottery.network.build import build_model
from lottery.pruning.mask import Mask
from lottery.recipe.load import parse_recipe
from lottery.runner.estimate import estimate
from lottery.runner.events import Request
from lottery.runner.prepare import prepare
from lottery.runner.run import work
from lottery.seed import generator
from lottery.values import Component, Part

if TYPE_CHECKING:
    from lottery.recipe.schema import Recipe
    from lottery.runner.context import RunContext

PLANNED = """
name: bench
data: {name: cifar10, validation: 1000}
model: resnet20
init: kaiming_normal
train: {optimizer: {name: momentum, lr: 0.03}, batch_size: 128, length: 4it, evaluate_every: 4it}
prune: {fraction: 0.2, levels: 1}
rewind: init
seeds: 1
analyses:
  - {name: barrier, between: dense-ticket, points: 5, examples: 500}
  - {name: hessian, of: ticket, eigenvalues: 5, steps: 8, probes: 4, tolerance: 0.001, examples: 500}
  - {name: surface, of: ticket, points: 3, times: 0, examples: 500}
"""
EXAMPLES, BATCH = 10_000, 500
TRAINED = 500  # steps of the networks that are looked at
POINTS = 30  # of a barrier
GRADIENTS = 40  # in the time of which the largest eigenvalue is found
IMAGES, IMAGES_AT_ONCE = 256, 128  # that ResNet-20's products are taken over
PRODUCTS = 8  # of a turn that compares masked with dense
DENSITY = 0.2
SAME = 0.95  # ratio of what is no slower, as far as turns of a machine tell


def analysis_cases(images: str, ready: Callable[[Path], object]) -> list[Case]:
    """Return the cases of analyses; ResNet-20 looks at `images`, LeNet at MNIST, which `ready` reads."""
    planned = parse_recipe(PLANNED, "bench", [f"data={images}", "data.validation=1000"])
    return [
        Case("hessian-product", "LeNet, Hessian product against gradient", 1 / 4, _product, ready),
        Case("hessian-product-resnet20", "ResNet-20, Hessian product against gradient", 1 / 4, _product_of_images),
        Case("barrier", f"LeNet, {POINTS} points of a barrier, evaluations", 1 / 1.1, _barrier, ready),
        Case("masked", f"LeNet, Lanczos under a mask of {100 * DENSITY:g} %", SAME, _masked, ready),
        Case("eigenvalue", f"LeNet, largest eigenvalue, {GRADIENTS} gradients", 1.0, _eigenvalue, ready),
        Case(
            "resnet20-plan",
            "ResNet-20, analyses, as planned",
            1 / 1.2,
            partial(_planned, planned),
            partial(load, planned.data.component),
            most=1.2,
        ),
    ]


def _product(data: Path) -> Turn:
    """Measure a gradient by the bare loop, and a Hessian product, over the same examples."""
    surface, batches = _surface(data)
    vector = _direction(surface)
    return _turn(lambda: _bare_gradient(surface.model, batches), lambda: surface.hessian_product(vector), times=7)


def _product_of_images(data: Path) -> Turn:
    """Measure the same for ResNet-20 over random images: the time does not depend on what is on them."""
    torch.set_num_threads(machine("cpu").threads)
    model = build_model(Component("resnet20", {}), (3, 32, 32), 10, init=Component("kaiming_normal", {}), seed=0)
    draws = generator(0, "bench images")
    x, y = torch.randn(IMAGES, 3, 32, 32, generator=draws), torch.randint(10, (IMAGES,), generator=draws)
    batches = list(zip(torch.split(x, IMAGES_AT_ONCE), torch.split(y, IMAGES_AT_ONCE), strict=True))
    surface = Surface(model.eval(), lambda part: iter(batches), loss=nn.CrossEntropyLoss())
    vector = _direction(surface)
    return _turn(lambda: _bare_gradient(model, batches), lambda: surface.hessian_product(vector), times=5)


def _barrier(data: Path) -> Turn:
    """Measure as many evaluations by the bare loop as a barrier has points, and the barrier, over the same examples."""
    surface, batches = _surface(data)
    first = surface.here()
    second = first.moved(0.1 * _direction(surface))
    whole = torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])

    def evaluations() -> None:
        for _ in range(POINTS):
            baseline.evaluate(surface.model, whole)

    return _turn(evaluations, lambda: line(surface, Memo(), (first, second), POINTS, "both"))


def _masked(data: Path) -> Turn:
    """Measure as many steps of Lanczos' method over all weights, and over the survivors of a mask."""
    dense, masked = (_surface(data, density)[0] for density in (1.0, DENSITY))
    return _turn(partial(_largest, dense, PRODUCTS, 0.0), partial(_largest, masked, PRODUCTS, 0.0))


def _eigenvalue(data: Path) -> Turn:
    """Measure gradients by the bare loop, and the search for the largest eigenvalue of a trained network."""
    surface, batches = _surface(data)

    def gradients() -> None:
        for _ in range(GRADIENTS):
            _bare_gradient(surface.model, batches)

    return _turn(gradients, partial(_largest, surface), times=1)


def _planned(recipe: Recipe, data: Path) -> Turn:
    """Return the seconds that a plan states for analyses of ResNet-20 once trainings are done, and those they take."""
    with tempfile.TemporaryDirectory() as store:
        context: RunContext = prepare(Request(recipe, data, Path(store), "cpu"))
        analyses = {job.key for job in context.plan if job.analysis is not None}
        told = estimate(context).by_job
        began, taken = 0.0, 0.0
        for event in work(context):
            if event.key in analyses and event.kind == "start":
                began = time.perf_counter()
            elif event.key in analyses and event.kind == "done":
                taken += time.perf_counter() - began
    return sum(told[key] for key in analyses), taken, None


def _largest(surface: Surface, steps: int = 100, tolerance: float = 0.01) -> float:
    """Return the largest eigenvalue of the Hessian."""
    streams = partial(generator, 0, "bench")
    found = extreme_eigenvalues(curvature(surface), streams, Memo(), "bench", steps=steps, tolerance=tolerance)
    return float(found.values[0])


def _direction(surface: Surface) -> Tensor:
    return torch.randn(surface.size, generator=generator(0, "bench direction"))


def _bare_gradient(model: nn.Module, batches: list[baseline.Split]) -> None:
    """Take the gradient of the mean loss over batches as anybody writes it."""
    model.zero_grad()
    for x, y in batches:
        (nn.functional.cross_entropy(model(x), y, reduction="sum") / EXAMPLES).backward()  # type: ignore[no-untyped-call]


def _surface(data: Path, density: float = 1.0) -> tuple[Surface, list[baseline.Split]]:
    """Return the surface of a trained LeNet over 10,000 examples, and its batches."""
    torch.set_num_threads(machine("cpu").threads)
    batches, state = _trained(data)
    model = baseline.lenet()
    model.load_state_dict(state)

    def of(part: Part) -> Iterator[baseline.Split]:
        return iter(batches if part == "train" else ())

    mask = None
    if density < 1:
        draws = generator(0, "bench mask")
        weights = {name: p for name, p in model.named_parameters() if p.dim() > 1}
        mask = Mask({name: torch.rand(p.shape, generator=draws) < density for name, p in weights.items()})
    surface = Surface(model, of, mask, loss=nn.CrossEntropyLoss())
    surface.load(surface.here())
    return surface, list(batches)


@cache
def _trained(data: Path) -> tuple[tuple[baseline.Split, ...], dict[str, Tensor]]:
    """Return batches of MNIST, and the state of a LeNet that was trained on them by the bare loop."""
    splits = load(Component("mnist", {}), data)
    assert isinstance(splits.train_x, Tensor)
    x = (splits.train_x[:EXAMPLES].float() / 255 - 0.1307) / 0.3081
    y = splits.train_y[:EXAMPLES]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = baseline.lenet()
        baseline.train(model, torch.optim.SGD(model.parameters(), lr=0.1), (x, y), steps=TRAINED, batch_size=128)
    return tuple(zip(torch.split(x, BATCH), torch.split(y, BATCH), strict=True)), model.state_dict()


def _turn(base: Callable[[], object], ours: Callable[[], object], times: int = 3) -> Turn:
    """Return the median seconds of both, so many times in turns."""
    seconds: tuple[list[float], list[float]] = [], []
    for _ in range(times):
        for side, operation in zip(seconds, (base, ours), strict=True):
            began = time.perf_counter()
            operation()
            side.append(time.perf_counter() - began)
    return statistics.median(seconds[0]), statistics.median(seconds[1]), None
