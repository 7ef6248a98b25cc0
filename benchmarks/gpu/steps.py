"""Stages that time training steps: engines by precision and layout, and what single parts of a step cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch

from benchmarks.gpu.clock import tell_time
from benchmarks.gpu.images import random_images
from benchmarks.gpu.networks import BATCH, ENGINES, LENET, RESNET, Kind, Network, dense_engine, network
from benchmarks.gpu.stage import Measurement, NotHere, Setting
from lottery.data.loader import Data
from lottery.device import Machine, prepared
from lottery.pruning.mask import Mask
from lottery.pruning.masking import masked
from lottery.training.engine import Engine
from lottery.training.evaluation import Classes
from lottery.training.objective import Batch

DENSITY = 0.2
EXACT_STEPS = 12
COMPILE_SECONDS = 25.0  # that have to be left for torch.compile


class Place(NamedTuple):
    """A network in one precision and layout."""

    kind: Kind
    precision: str
    channels_last: bool = True

    @property
    def label(self) -> str:
        """The place in words."""
        layout = f", {'NHWC' if self.channels_last else 'NCHW'}" if self.kind is RESNET else ""
        return f"{self.kind.label}, batch {BATCH}, {self.precision}{layout}"

    def network(self, setting: Setting) -> Network:
        """Return the network, with the same weights and batches each time."""
        about = {"precision": self.precision, "channels_last": self.channels_last}
        return network(self.kind, setting.device, dry=setting.dry, **about)  # type: ignore[arg-type]

    def prepared(self, setting: Setting, *, deterministic: bool = False) -> Any:
        """Return the context in which torch computes as a training of this precision does."""
        return prepared(Machine(setting.device, 1, deterministic), self.precision)


PLACES = (  # in the order of worth
    *(Place(RESNET, "bf16"), Place(LENET, "fp32"), Place(RESNET, "fp32")),
    *(Place(RESNET, "fp32", channels_last=False), Place(RESNET, "tf32"), Place(RESNET, "tf32", channels_last=False)),
    *(Place(RESNET, "bf16", channels_last=False), Place(LENET, "bf16")),
)
EXACT = (Place(LENET, "fp32"), Place(RESNET, "fp32"), Place(RESNET, "tf32"), Place(RESNET, "bf16"))


def steps(setting: Setting) -> None:
    """Compare replayed steps with dense ones to the bit, then time the engines; what is compiled comes last."""
    for place in EXACT[: setting.sized(None, 1)]:
        what = f"{place.label}: {EXACT_STEPS} replayed steps against dense ones, to the bit"
        setting.attempt(what, partial(_exact, setting, place, what))
    bare: dict[str, float] = {}
    for place in PLACES[: setting.sized(None, 2)]:
        setting.attempt(place.label, partial(_timed, setting, place, bare))
    for place in setting.sized(PLACES, PLACES[1:2]):
        what = f"{place.label}, bare loop, torch.compile"
        setting.attempt(what, partial(_compiled, setting, place, what, bare.get(place.label)), COMPILE_SECONDS)


def _exact(setting: Setting, place: Place, what: str) -> None:
    """Write down whether replayed steps leave the bits that dense ones do, and the largest difference."""
    states = []
    with place.prepared(setting, deterministic=True):
        for engine in ENGINES.values():
            found = place.network(setting)
            step = found.stepping(engine(found, setting.device))
            for _ in range(EXACT_STEPS):
                step()
            states.append({name: value.double().cpu() for name, value in found.model.state_dict().items()})
    dense, replayed = states
    apart = max(float((dense[name] - replayed[name]).abs().max()) for name in dense)
    same = all(torch.equal(dense[name], replayed[name]) for name in dense)
    setting.tell(Measurement(what, apart, "largest difference", holds=same))


def _timed(setting: Setting, place: Place, bare: dict[str, float]) -> None:
    """Time the bare loop and the engines."""
    with place.prepared(setting):
        bare[place.label] = tell_time(setting, f"{place.label}, bare loop", place.network(setting).bare())
        for label, engine in ENGINES.items():
            found = place.network(setting)
            step = found.stepping(engine(found, setting.device))
            tell_time(setting, f"{place.label}, {label} engine", step, bare[place.label], "the bare loop")


def _compiled(setting: Setting, place: Place, what: str, bare: float | None) -> None:
    """Time the bare loop on a network that torch.compile has compiled.

    Raises:
        NotHere: torch cannot compile it, for want of a compiler, say.
    """
    backend = setting.sized("inductor", "eager")
    with place.prepared(setting):
        found = place.network(setting)
        step = found.bare(cast(torch.nn.Module, torch.compile(found.model, backend=backend)))
        try:
            step()
        except Exception as error:
            first = str(error).strip().partition("\n")[0]
            raise NotHere(f"torch.compile raises {type(error).__name__}: {first}") from error
        tell_time(setting, what, step, bare, "the bare loop")


def ablations(setting: Setting) -> None:
    """Time a step with and without what it could do without, and evaluations in several ways."""
    for label, engine in ENGINES.items():
        setting.attempt(f"{label} engine, new memory", partial(_fills, setting, label, engine))
        setting.attempt(f"{label} engine, masks", partial(_masks, setting, label, engine))
    setting.attempt("evaluations", partial(_evaluations, setting))
    for what in ("masks of all layers in one call", "evaluation by graph", "the order of an epoch made on the device"):
        setting.skip(what, "the code has no switch for it")


def _fills(setting: Setting, label: str, engine: Callable[[Network, torch.device], Engine]) -> None:
    """Time deterministic steps with new memory filled with NaN, as torch does by itself, and without."""
    memory, place, base = cast(Any, torch.utils.deterministic), PLACES[0], None
    for filled in (False, True):
        with place.prepared(setting, deterministic=True):  # puts the switch back as well
            memory.fill_uninitialized_memory = filled
            found = place.network(setting)
            what = f"{place.label}, {label} engine, deterministic, new memory {'' if filled else 'not '}filled"
            step = found.stepping(engine(found, setting.device))
            base = tell_time(setting, what, step, base, "without filling")


def _masks(setting: Setting, label: str, engine: Callable[[Network, torch.device], Engine]) -> None:
    """Time steps under a mask against those without."""
    place, base = PLACES[0], None
    with place.prepared(setting):
        for density in (1.0, DENSITY):
            found = place.network(setting)
            with _held(found, density):
                step = found.stepping(engine(found, setting.device))
                what = f"{place.label}, {label} engine, density {density:g}"
                base = tell_time(setting, what, step, base, "without a mask")


@contextmanager
def _held(found: Network, density: float) -> Iterator[None]:
    """Hold a random mask on the weights of a network; none at a density of 1."""
    draws = torch.Generator().manual_seed(2)
    weights = {name: p for name, p in found.model.named_parameters() if p.dim() > 1}
    mask = Mask({name: torch.rand(p.shape, generator=draws) < density for name, p in weights.items()})
    with masked(found.model, mask, found.optimizer):
        yield


def _evaluations(setting: Setting) -> None:
    """Time passes over a test set: as the framework makes them, in batches of several sizes, and normalized before."""
    splits = random_images(Path(), examples=setting.sized(50_000, 100))
    data, place = Data(splits, seed=0, device=setting.device, channels_last=True), PLACES[0]
    with place.prepared(setting):
        found = place.network(setting)
        found.model.eval()
        through = partial(_tallied, dense_engine(found, setting.device), setting.device)
        usual, base = data.evaluation_batch("test"), None
        label = f"evaluation of {len(splits.test_y):,} images, {place.kind.label}, {place.precision}, batches of"
        for size in dict.fromkeys((usual, 500, 1000, 5000)):
            once = partial(_of_the_test_set, through, data, size)
            taken = tell_time(setting, f"{label} {size}", once, base, "as it is done", "ms")
            base = base or taken
        before = list(data.evaluation("test"))
        what = f"{label} {usual}, normalized before"
        tell_time(setting, what, lambda: through(before), base, "as it is done", "ms")


def _of_the_test_set(through: Callable[[Iterable[Batch]], None], data: Data, size: int) -> None:
    through(data.evaluation("test", size))


def _tallied(engine: Engine, device: torch.device, batches: Iterable[Batch]) -> None:
    tally = Classes(device, 10)
    for x, y in batches:
        tally.add(engine.outputs(x), y)
    tally.result()
