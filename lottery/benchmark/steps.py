"""Cases of `lottery bench` that time steps alone, ours and the bare loop's one after the other, without evaluations."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import torch

from lottery.benchmark import baseline
from lottery.benchmark.case import Case, Turn
from lottery.device import prepared
from lottery.network.build import build_model
from lottery.plan.kinds import Kind
from lottery.recipe.load import parse_recipe
from lottery.runner.assemble import training_of
from lottery.runner.events import Request
from lottery.runner.prepare import prepare

SKIPPED, STEPS = 3, 15  # the first ones allocate memory
BATCHES = 10  # of the bare loop, again and again


def step_cases(text: str, fp32: tuple[str, ...], ready: Callable[[Path], object]) -> Iterator[Case]:
    """Yield the cases of ResNet-20, whose recipe on given images is `text` with `fp32`; `ready` reads these."""
    turn = partial(_turn, text, fp32)
    yield Case("resnet20-step", "ResNet-20, a step, fp32", 1.2, turn, ready, unit="ms")
    bf16 = partial(_turn, text, (*fp32, "train.precision=bf16"))
    yield Case("resnet20-step-bf16", "ResNet-20, a step, bf16 against fp32", 1.9, bf16, ready, unit="ms")


def _turn(text: str, overrides: tuple[str, ...], data: Path) -> Turn:
    """Measure milliseconds of a step of the bare loop, in fp32, and of the dense network's training, both medians."""
    length = SKIPPED + STEPS + 1  # the last one, which evaluates, is not made
    recipe = parse_recipe(text, "bench", [*overrides, f"train.length={length}it", f"train.evaluate_every={length}it"])
    with tempfile.TemporaryDirectory() as store:
        context = prepare(Request(recipe, data, Path(store), device="cpu"))
        (job,) = (job for job in context.plan if job.kind is Kind.DENSE)
        training = training_of(context, job)
        examples = context.data(job.seed)
        size = recipe.train.batch_size
        assert isinstance(size, int)
        batches = [(x.contiguous(), y) for x, y in islice(examples.evaluation("train", size), BATCHES)]
        model = build_model(recipe.model, examples.input_shape, examples.classes, init=recipe.init, seed=job.seed)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9)
        bare, ours = list[float](), list[float]()
        with prepared(context.machine, recipe.train.precision):
            steps = training.steps()
            for number in range(SKIPPED + STEPS):
                began = time.perf_counter()
                next(steps)
                between = time.perf_counter()
                baseline.step(model, optimizer, *batches[number % len(batches)]).item()
                ours.append(between - began)
                bare.append(time.perf_counter() - between)
    return 1e3 * statistics.median(bare[SKIPPED:]), 1e3 * statistics.median(ours[SKIPPED:]), None
