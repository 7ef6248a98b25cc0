"""Workers as tasks of Dask."""

from __future__ import annotations

import importlib
import logging
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from lottery.catalogue.executors._child import Child, Order, order
from lottery.catalogue.executors._workers import Ended, last_lines, told_once
from lottery.errors import MachineError
from lottery.registry import executors

if TYPE_CHECKING:
    from lottery.catalogue.executors._workers import Launch, Workers

FAREWELL = 60.0  # seconds for workers to save

_children: dict[str, list[Child]] = {}  # of this process of Dask, by run
_stopped: set[str] = set()  # runs that were told to stop


@executors.register("dask", source="Rocklin 2015; dask.distributed", package="distributed")
def dask(
    launch: Launch,
    *,
    workers: Annotated[int, Field(ge=1)] = 2,
    address: str | None = None,
    cpus: Annotated[int, Field(ge=1)] = 1,
    resources: dict[str, Annotated[float, Field(gt=0)]] | None = None,
) -> Workers:
    """Tasks of a Dask cluster, of which each runs one worker; they are told to leave when the run ends.

    `address` is that of the scheduler, such as `tcp://node1:8786`; without it a LocalCluster is started here that ends
    with the run, and each worker has a GPU as long as there are enough. `cpus` are those that one worker computes on,
    `resources` what it takes of those that the cluster's processes were started with, such as `{GPU: 1}`.
    """
    return _Tasks(launch, address, workers, resources or {}, {"LOKY_MAX_CPU_COUNT": str(cpus)})


def run_child(run: str, asked: Order) -> int:
    """Run one worker in a thread of a process of Dask, and return its exit code."""
    child = Child(*asked)
    _children.setdefault(run, []).append(child)
    if run in _stopped:
        return 0
    try:
        return child.run()
    finally:
        _children[run].remove(child)


def stop_children(run: str) -> None:
    """Tell the workers that this process of Dask runs to save and leave; those of the run that wait never start."""
    _stopped.add(run)
    for child in list(_children.get(run, ())):
        child.stop()


class _Tasks:
    """The tasks that one run has submitted."""

    def __init__(
        self,
        launch: Launch,
        address: str | None,
        workers: int,
        resources: dict[str, float],
        variables: dict[str, str],
    ):
        self._launch, self._resources, self._variables = launch, resources, variables
        self._run = uuid.uuid4().hex
        self._client, self._cluster = _connect(address, workers, resources)
        self._living: dict[Any, tuple[str, int]] = {}  # future -> the worker's log, its place among those that live
        self._gone: list[Ended] = []
        self._started, self._told = 0, False

    def start(self, count: int) -> None:
        """Submit so many more; those that the cluster has no room for wait."""
        if self._client.status == "closed":
            raise MachineError("executor dask: the scheduler is gone; when it is there again, run the same command")
        for _ in range(0 if self._told or self._client.status != "running" else count):
            self._started += 1
            place = min(set(range(len(self._living) + 1)) - {place for _, place in self._living.values()})
            asked = order(self._launch, self._started, {**self._variables, **self._gpu(place)})
            future = self._client.submit(run_child, self._run, asked, pure=False, resources=self._resources)
            self._living[future] = asked[-1], place

    def alive(self) -> int:
        """Return how many run or wait for room."""
        self._reap()
        if self._told and self._living:
            self._tell()  # a process that has joined the cluster since may have taken one over
        return len(self._living)

    def ended(self) -> list[Ended]:
        """Return those that have gone since the last call."""
        self._reap()
        return told_once(self._gone)

    def stop(self) -> None:
        """Tell all that live to save and leave, once."""
        if self._told:
            return
        self._told = True
        self._tell()

    def _tell(self) -> None:
        """Cancel those that wait, then tell the others: also one that has left the queue in between."""
        if self._client.status != "running":
            return
        with suppress(OSError):  # the scheduler has gone in this moment
            placed = {key for keys in self._client.processing().values() for key in keys}
            self._client.cancel([future for future in self._living if future.key not in placed and not future.done()])
            self._client.run(stop_children, self._run, on_error="ignore")

    def close(self) -> None:
        """Tell them, if nobody has, wait until they have left, and end the connection."""
        self.stop()
        end = time.monotonic() + FAREWELL
        while self.alive() and time.monotonic() < end:
            time.sleep(0.05)
        self._client.close()
        if self._cluster is not None:
            self._cluster.close()

    def farewell(self) -> str:
        """Return nothing: none outlives this process."""
        return ""

    def _gpu(self, place: int) -> dict[str, str]:
        """Return the variable that leaves a worker one GPU; elsewhere than here, they are those of Dask's process."""
        if self._cluster is None or "cpu" in self._launch.command:
            return {}
        from lottery.device import GPUS, share_of_gpus

        own = share_of_gpus(place)
        return {} if own is None else {GPUS: own}

    def _reap(self) -> None:
        for future, (log, _) in [each for each in self._living.items() if each[0].done()]:
            del self._living[future]
            if future.status == "finished":
                self._gone.append(Ended(future.result(), log, last_lines(Path(log))))
            else:
                why = future.exception() if future.status == "error" else f"the task is {future.status}"
                self._gone.append(Ended(None, log, str(why)))


def _connect(address: str | None, workers: int, resources: dict[str, float]) -> tuple[Any, Any]:
    """Return a client, and the cluster if one is started here: threads of this process, of which each has one worker.

    Raises:
        MachineError: There is no scheduler at the address.
    """
    library: Any = importlib.import_module("distributed")
    if address is None:
        cluster = library.LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=False,  # a worker is a process anyhow
            dashboard_address=None,
            memory_limit=0,
            resources=resources,
            silence_logs=logging.ERROR,
        )
        return library.Client(cluster), cluster
    try:
        return library.Client(address), None
    except (OSError, ValueError) as error:
        raise MachineError(f"executor dask: address {address}: {str(error).partition(chr(10))[0]}") from error
