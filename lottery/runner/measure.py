"""An analysis is run: the states that it looks at are read, its parts are computed and kept, its result is packed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import reduce
from typing import TYPE_CHECKING

from torch import Tensor

from lottery import registry
from lottery.errors import UsageError
from lottery.files.tensors import decode, encode
from lottery.landscape.evaluate import check_alike, check_distinct
from lottery.landscape.memo import Memo
from lottery.landscape.subject import Measurement, State, Subject
from lottery.plan.kinds import Kind
from lottery.pruning.mask import Mask
from lottery.results.measured_values import written
from lottery.runner.starting_point import starting_point
from lottery.runner.states import LookedAt, read_look
from lottery.runner.stored_level import StoredLevel
from lottery.training.objective import Batch, loss_of
from lottery.training.trainer import Stopped
from lottery.values import PARTS, Component

if TYPE_CHECKING:
    from torch import nn

    from lottery.plan.jobs import Job
    from lottery.pruning.scoring import Weights
    from lottery.runner.context import RunContext
    from lottery.values import Part

PARTS_FILE, SESSIONS_FILE = "parts.safetensors", "sessions.json"  # of a checkpoint
REPORT_SECONDS = 0.5


@dataclass
class Measuring:
    """The measurement of one job as it goes on, with the checkpoint that a killed one is continued from.

    Args:
        context: What all jobs share.
        job: The analysis.
        began: Time at which this session began with it, by `time.monotonic`.

    Attributes:
        memo: The finished parts.
        past: Seconds of earlier sessions.
        parts_read: Parts of the data of which it has been given examples, in earlier sessions as well.
    """

    context: RunContext
    job: Job
    began: float
    memo: Memo = field(init=False)
    past: float = 0.0
    parts_read: set[Part] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Read the newest checkpoint, where there is one."""
        saved = self.context.store.load_checkpoint(self.job.key)
        parts: dict[str, Tensor] = {}
        if saved is not None:
            parts, _ = decode(saved[1][PARTS_FILE])
            session = json.loads(saved[1][SESSIONS_FILE])
            self.past, self.parts_read = float(session["seconds"]), set(session["parts_read"])
        self.memo = Memo(parts, self._after)
        self._saved = time.monotonic()

    def seconds(self) -> float:
        """Return the seconds of this session and of earlier ones."""
        return self.past + time.monotonic() - self.began

    def save(self) -> None:
        """Save the finished parts."""
        before = time.monotonic()
        files = {
            PARTS_FILE: encode(self.memo.parts),
            SESSIONS_FILE: json.dumps({"seconds": self.seconds(), "parts_read": sorted(self.parts_read)}).encode(),
        }
        self.context.store.save_checkpoint(self.job.key, self.memo.done, files)
        self._saved = time.monotonic()
        self.context.stop.saved(self._saved - before)

    def _check(self) -> None:
        """Raise Stopped where the run is told to stop."""
        if self.context.stop.told:
            raise Stopped

    def _after(self, memo: Memo) -> None:
        """Save where that is due. Raises Stopped where the run is told to stop."""
        self._check()
        if time.monotonic() - self._saved >= self.context.checkpoint_seconds:
            self.save()

    def run(self) -> Iterator[int]:
        """Measure, and yield the number of finished parts now and then; `result` has the file afterwards.

        Raises:
            Stopped: Where the run is told to stop; `save` keeps what is finished.
        """
        looks = [read_look(self.context, look, self._start) for look in self.job.looks]
        subject = self._subject(looks)
        entry = registry.analyses[self._component.name]
        # in a thread of its own, so that progress is told while it lasts
        with ThreadPoolExecutor(1) as pool:
            measured = pool.submit(entry.make, subject, self.memo, **self._component.args)
            while True:
                try:
                    found = measured.result(timeout=REPORT_SECONDS)
                    break
                except TimeoutError:
                    if measured.done():
                        raise
                    yield self.memo.done
        assert isinstance(found, Measurement)
        self.result = pack_measurement(found, looks, self.parts_read)

    @property
    def _component(self) -> Component:
        assert self.job.analysis is not None
        return self.job.analysis.component

    def _start(self, training: Job) -> tuple[Weights, Mask, int]:
        pruned_at_once = self.context.plan.recipe.prune.when != "training"
        if training.kind is Kind.TICKET and pruned_at_once:  # finished: its mask need not be found again
            start = StoredLevel(self.context, training).start
        else:
            start = starting_point(self.context, training)
        return start.mask.apply(start.weights), start.mask, start.spec.first

    def _subject(self, looks: list[LookedAt]) -> Subject:
        """Return the subject of these states.

        Raises:
            UsageError: Two of those that are looked at together have different shapes, or the same content.
        """
        context, job = self.context, self.job
        data, device = context.data(job.seed), context.machine.device

        def examples(part: Part, count: int | None) -> Iterator[Batch]:
            self._allow(part)
            for batch in data.first(part, count):
                self._check()  # all that is measured over batches stops here
                yield batch

        def network() -> nn.Module:
            return context.networks.blank().to(device)

        states = [
            State(look.name, look.key, found.weights, found.mask, found.step)
            for look, found in zip(job.looks, looks, strict=True)
        ]
        if registry.analyses[self._component.name].traits.looks_at in ("pair", "three"):
            check_alike(states)
            check_distinct(states)
        masks = [found.mask for found in looks]
        known = [mask for mask in masks if mask is not None]
        return Subject(
            states,
            job.seed,
            network,
            lambda: context.networks.network(job.seed).to(device),
            loss_of(regression=data.regression, label_smoothing=context.plan.recipe.train.label_smoothing),
            examples,
            reduce(_union, known) if len(known) == len(masks) else None,
            self._check,
        )

    def _allow(self, part: Part) -> None:
        """Note that examples of a part are read.

        Raises:
            UsageError: These are of the test set, and the entry does not say what it measures there.
        """
        entry = registry.analyses[self._component.name]
        if part == "test" and not entry.traits.test:
            raise UsageError(
                f"analysis {entry.name!r}: reads the test set, which an entry may measure on only where it says which "
                'of its values depend on it: register it with `test=("test_*",)`, or look at validation examples'
            )
        self.parts_read.add(part)


def _union(one: Mask, two: Mask) -> Mask:
    """Return the mask of the weights that survive in either."""
    if one <= two or two <= one:
        return two if one <= two else one
    if list(one) != list(two):
        raise UsageError("the states have different prunable weights; look at networks of one model")
    return Mask({name: one[name] | two[name] for name in one})


def pack_measurement(found: Measurement, looks: list[LookedAt], parts_read: Iterable[Part]) -> bytes:
    """Return the file of a measurement; numbers that are not finite are the words `nan`, `inf` and `-inf`.

    Beside values and profile it says what was looked at, and of which parts of the data examples were read.
    """
    about = {
        "values": {name: written(value) for name, value in found.values.items()},
        "profile": [{name: written(value) for name, value in row.items()} for row in found.profile],
        "states": [{"step": look.step, "same": look.same} for look in looks],
        "read": [part for part in PARTS if part in set(parts_read)],
    }
    return json.dumps(about, indent=1).encode()
