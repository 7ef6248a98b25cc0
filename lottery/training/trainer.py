"""The training loop as a generator of steps; it knows nothing of masks or disk."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from lottery.distributed.group import ALONE, Group
from lottery.distributed.share import WHOLE, Share
from lottery.errors import DamagedFile
from lottery.files.tensors import part
from lottery.recipe.readings import CHOSEN, ChosenSteps
from lottery.seed import noisy, seed_torch, stream
from lottery.training.engine import JointEngine
from lottery.training.evaluation import Classes, Squares
from lottery.training.running_statistics import finite, running_statistics
from lottery.training.state import flatten, load_optimizer, optimizer_state, rng_state, set_rng_state, unflatten

if TYPE_CHECKING:
    from lottery.data.loader import Data
    from lottery.plan.timeline import Timeline
    from lottery.training.engine import Engine

FINITE_EVERY = 50  # steps between looks at loss and statistics: each look waits for the device


class Diverged(Exception):
    """Raised where the loss, a weight or a running statistic is NaN or infinite; `step` is where that was seen."""

    def __init__(self, step: int):
        self.step = step
        super().__init__(f"loss, weights or running statistics are not finite at step {step}")


class Stopped(Exception):
    """Raised where a training is told to stop in an evaluation; its state is that of the step before it."""


class Training:
    """One training of one network.

    Iterate over `steps()`; between two of its steps, `state()` is all that is needed to go on elsewhere.
    Data order, augmentation and dropout derive from (seed, noise, purpose, epoch), so nothing has to be replayed.

    Args:
        model: The network, on its device.
        optimizer: Its optimizer.
        data: Training, validation and test examples.
        engine: Computes the steps.
        timeline: Where it starts, stops and is evaluated, and the size of its batches.
        seed: Seed of data order, augmentation and dropout.
        noise: Number of another draw of these three, see `lottery.seed.noisy`.
        multiplier: Multiplier of the learning rate by step.
        results_from: First step whose network is a result of this training.
        stopped: Says whether the training is told to stop; several ranks ask, and are answered, together.
        before_step: Called before each step with the number of steps done.
        after_step: Called after each step; says whether it has changed the network.
        networks: Makes of the model each of the networks that it is measured as, one after the other.
        before_measuring: Prepares the network for a pass over the validation or test split.
        measures: Names of what is measured beside loss and accuracy.
        group: The ranks that train this network together; each has such a training, at the same step.
        share: The part of each batch that this rank has.
        restrict: To be told which weights are pruned, see `lottery.pruning.masking`.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        data: Data,
        engine: Engine,
        timeline: Timeline,
        *,
        seed: int,
        noise: int = 0,
        multiplier: Callable[[int], float],
        results_from: int = 0,
        stopped: Callable[[], bool] = lambda: False,
        before_step: Callable[[int], None] = lambda step: None,
        after_step: Callable[[int], bool] = lambda step: False,
        networks: Callable[[], Iterator[None]] = lambda: iter((None,)),
        before_measuring: Callable[[], None] = lambda: None,
        measures: Sequence[str] = (),
        group: Group = ALONE,
        share: Share = WHOLE,
        restrict: Callable[[dict[Any, Tensor]], None] = lambda factors: None,
    ):
        self.model, self.optimizer, self.data, self.engine = model, optimizer, data, engine
        self.timeline, self.seed, self.noise = timeline, seed, noise
        self.multiplier, self._stopped, self._before_step = multiplier, stopped, before_step
        self.results_from = results_from  # the first step whose network is a result of this training
        self.after_step = after_step  # says whether it has changed the network
        self.networks = networks  # makes of the model each of those that it is measured as, one after the other
        self.before_measuring = before_measuring  # prepares the network for a pass over the validation or test split
        self.measures = measures  # beside loss and accuracy
        self.group, self._share, self.restrict = group, share, restrict
        self.step = timeline.first
        self.curve: list[dict[str, float | int | None]] = []
        self.chosen = ChosenSteps()
        self.correct: dict[str, Tensor] = {}  # by reading, a bit for each test example; filled by `metrics`
        self._device = next(model.parameters()).device
        self.statistics = running_statistics(model)
        self._loss = self._summed(torch.zeros((), dtype=torch.float64))
        self._losses = 0
        self._rates = [group["lr"] for group in optimizer.param_groups]
        self._rng: dict[str, Tensor] | None = None
        self.draws: bool | None = None  # whether a step draws at random, such as for dropout; known after the first

    def steps(self) -> Iterator[int | None]:
        """Train, and yield the number of the step just done.

        Where the engine does its steps together with those of other trainings, also yield None before each, when the
        batch is handed in: the training goes on when the engine has done the step.

        Raises:
            Diverged: Where loss, weights or running statistics are not finite.
            Stopped: Where the training is told to stop.
        """
        self._seed_dropout()
        if not self.curve or (self._on_grid() and self.curve[-1]["step"] != self.step):
            self._evaluate()
        self.model.train()
        stop, joint = self.timeline.stop, self.engine if isinstance(self.engine, JointEngine) else None
        while self.step < stop:
            epoch, batch = divmod(self.step, self.timeline.steps_per_epoch)
            if batch == 0:
                self._seed_dropout()
            for x, y in self.data.epoch(epoch, self.timeline.batch_size, batch, self.noise, self._share):
                self._before_step(self.step)
                multiplier = self.multiplier(self.step)
                for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
                    group["lr"] = rate * multiplier
                if joint is not None:
                    joint.hand_in(x, y)
                    yield None
                self._loss += self._run(x, y)
                self._losses += 1
                self.step += 1
                if self.after_step(self.step):
                    self.forget_best()
                if self._on_grid():
                    self._evaluate()
                elif self.step % FINITE_EVERY == 0 or self.step == stop:
                    self._check_finite()
                if self.step == stop:
                    self.engine.flush()
                yield self.step
                if self.step == stop:
                    return

    def check_weights(self) -> None:
        """Raise Diverged for NaN weights: they are never pruned from, and no statistics of them are kept."""
        weights_are_finite = all(bool(torch.isfinite(p).all()) for p in self.model.parameters())
        if not (weights_are_finite and finite(self.statistics)):
            raise Diverged(self.step)

    def forget_best(self) -> None:
        """Forget the chosen steps: the network is another one from here on, no earlier weights are its best."""
        self.chosen.forget()

    def metrics(self, *, test: bool = True) -> dict[str, Any]:
        """Return losses and accuracies (fractions) at each reading (`lottery.recipe.readings`), and the curve.

        The steps of `best_accuracy` and `early_stop` are chosen on the evaluation grid by the validation split; each is
        censored where it is the last step. The test set is read here and nowhere else, once for each step that a
        reading has; not where `test` is false. Fills `correct`.
        """
        last, chosen = self.curve[-1], self.chosen
        if not test:
            return {"end": last, **{name: chosen.rows.get(name) for name in CHOSEN}, "curve": self.curve}
        measured = {last["step"]: self.measure("test", keep="end")}
        if not self.data.validation_size and not math.isfinite(measured[last["step"]]["test_loss"]):
            raise Diverged(self.step)  # it is the first evaluation
        trained = {name: value.clone() for name, value in self.model.state_dict().items()}
        found: dict[str, Any] = {"end": {**last, **measured[last["step"]]}}
        try:
            for name in CHOSEN:
                row = chosen.rows.get(name)
                if row is not None and row["step"] not in measured:
                    self._put(chosen.weights[row["step"]])
                    measured[row["step"]] = self.measure("test", keep=name)
                elif row is not None and self.correct:
                    same = next(each for each, other in found.items() if other["step"] == row["step"])
                    self.correct[name] = self.correct[same]
                censored = {} if row is None else {"censored": row["step"] == last["step"]}
                found[name] = None if row is None else {**row, **measured[row["step"]], **censored}
        finally:
            self._put(trained)
        return {**found, "curve": self.curve}

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return all that the rest of the training depends on, as tensors by name and plain JSON values.

        The tensors are those of the training itself: they are to be used up before the next step.
        """
        self.engine.flush()
        if isinstance(self.engine, JointEngine):  # the others have seeded the generators as well
            self._seed_dropout(max(self.step - 1, self.timeline.first))
        tensors = {f"model/{name}": value for name, value in self.model.state_dict().items()}
        tensors |= self.chosen.tensors()
        tensors |= {f"rng/{name}": value for name, value in rng_state(self._device).items()}
        tensors["loss"] = torch.as_tensor(self._loss, dtype=torch.float64)
        optimizer = flatten(optimizer_state(self.optimizer), "optimizer", tensors)
        values = {
            "step": self.step,
            "losses": self._losses,
            "curve": self.curve,
            "chosen": self.chosen.rows,
            "optimizer": optimizer,
        }
        return {name: value.detach() for name, value in tensors.items()}, values

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Go on from a `state()`.

        Raises:
            DamagedFile: Where it is not one of this training.
        """
        try:
            self.model.load_state_dict(part(tensors, "model/"))
            load_optimizer(self.optimizer, unflatten(values["optimizer"], tensors))
            self.chosen.restore(values["chosen"], {k: v.to(self._device) for k, v in tensors.items()})
            self.engine.load()
            self._loss = self._summed(tensors["loss"])
            self.step, self._losses = values["step"], values["losses"]
            self.curve = list(values["curve"])
            # put back last, when the next step is about to draw; several ranks seed each step by itself
            self._rng = part(tensors, "rng/") if self.group.size == 1 else None
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise DamagedFile(f"no state of this training: {error}") from error

    def _put(self, weights: Mapping[str, Tensor]) -> None:
        self.model.load_state_dict(weights)
        self.engine.load()

    def _summed(self, loss: Tensor) -> Tensor | float:
        """Return the sum of the losses so far in the form that the next one is added to.

        That is a number on a CPU, where an operator costs more, else a tensor of the device, for which nobody waits.
        """
        return loss.item() if self._device.type == "cpu" else loss.to(self._device, copy=True)

    def _run(self, x: Tensor, y: Tensor) -> Tensor | float:
        before = rng_state(self._device) if self.draws is None else {}
        try:
            loss = self.engine.step(x, y)
            if self.draws is None:
                after = rng_state(self._device)
                self.draws = any(not torch.equal(value, after[name]) for name, value in before.items())
            return loss.item() if self._device.type == "cpu" else loss
        except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
            raise Diverged(self.step) from error  # a matrix is not finite any more, or as good as

    def _on_grid(self) -> bool:
        every = (
            self.timeline.evaluate_every
        )  # of a fraction of a step: the first step at or after each of its multiples
        return self.step // every > (self.step - 1) // every or self.step == self.timeline.total

    def _seed_dropout(self, step: int | None = None) -> None:
        """Seed torch's process-wide generator, the only one that dropout draws from, with the stream of a step's epoch.

        That is the next step where none is given.
        """
        epoch = (self.step if step is None else step) // self.timeline.steps_per_epoch
        seed_torch(stream(self.seed, noisy("dropout", self.noise), epoch), self._device)
        if self._rng is not None:
            set_rng_state(self._rng, self._device)
            self._rng = None

    def _check_finite(self) -> None:
        if not (math.isfinite(float(self._loss)) and finite(self.statistics)):
            raise Diverged(self.step)

    def _evaluate(self) -> None:
        """Add a row to the curve; keep the weights where it is the best so far by validation accuracy or loss."""
        self._check_finite()
        measured = self.measure("validation") if self.data.validation_size else {}
        row: dict[str, float | int | None] = {"step": self.step}
        row["train_loss"] = float(self._loss) / self._losses if self._losses else None
        self._loss = self._summed(torch.zeros((), dtype=torch.float64))
        self._losses = 0
        if measured:
            row |= measured
            loss = row["validation_loss"]
            assert isinstance(loss, float)
            if not math.isfinite(loss):
                raise Diverged(self.step)
            if self.step >= self.results_from:
                self.chosen.offer(row, self._copied)
        self.curve.append(row)

    def _copied(self) -> dict[str, Tensor]:
        self.engine.flush()
        return {name: value.clone() for name, value in self.model.state_dict().items()}

    @torch.no_grad()
    def measure(self, part: Literal["validation", "test"], keep: str | None = None) -> dict[str, float]:
        """Return the measures over a whole split, in evaluation mode.

        They are mean loss, accuracy and `measures`; for regression r2 in place of accuracy. If the model stands for
        several networks, such as those of masks that are drawn, they are the means over these. Which examples were
        recognized is put into `correct` under the name `keep`, where there is one network.
        """
        self.model.eval()
        tallies = [self._tallied(part) for _ in self.networks()]
        self.model.train()
        if keep is not None and len(tallies) == 1 and isinstance(tallies[0], Classes):
            self.correct[keep] = tallies[0].correct()
        found = [tally.result() for tally in tallies]
        return {f"{part}_{name}": sum(each[name] for each in found) / len(found) for name in found[0]}

    def _tallied(self, part: Literal["validation", "test"]) -> Classes | Squares:
        """Return the measures of the network that the model is now, before they are named."""
        self.before_measuring()
        if not finite(self.statistics):
            raise Diverged(self.step)
        regression, classes = self.data.regression, self.data.classes
        tally = Squares(self._device) if regression else Classes(self._device, classes, self.measures)
        several = self.group.size > 1
        if several and self._stopped():  # ranks may have different numbers of batches
            raise Stopped
        for x, y in self.data.evaluation(part, share=self._share):
            if not several and self._stopped():
                raise Stopped
            tally.add(self.engine.outputs(x), y)
        tally.reduce(self.group)
        return tally
