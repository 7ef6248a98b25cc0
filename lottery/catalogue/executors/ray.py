"""Workers as actors of Ray."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from lottery.catalogue.executors._child import Child, order
from lottery.catalogue.executors._workers import Ended, last_lines, told_once
from lottery.errors import MachineError, UsageError
from lottery.registry import executors

if TYPE_CHECKING:
    from lottery.catalogue.executors._workers import Launch, Workers

OBJECT_STORE_BYTES = 80 << 20  # the least that Ray takes, else a third of the memory; nothing of ours is there
KEEP_CHILDREN = {"RAY_kill_child_processes_on_worker_exit": "0"}  # an actor's worker, which saves and leaves by itself
PATIENCE = 10.0  # seconds for actors that are told to stop to say that they have heard it
FAREWELL = 60.0  # seconds for workers to save


@executors.register("ray", source="Moritz et al. 2018", package="ray")
def ray(
    launch: Launch,
    *,
    workers: Annotated[int, Field(ge=1)] = 2,
    address: str | None = None,
    cpus: Annotated[int, Field(ge=1)] = 1,
    gpus: Annotated[float, Field(ge=0)] = 0.0,
) -> Workers:
    """Actors of a Ray cluster, of which each runs one worker; they leave when the command that started them does.

    `address` is that of the cluster, such as `auto` on one of its machines; without it, it is the one in the variable
    RAY_ADDRESS, else a cluster is started here that ends with the run. `cpus` and `gpus` are those of one worker; two
    workers of half a GPU share one.
    """
    where = address or os.environ.get("RAY_ADDRESS") or "local"
    hidden = {} if gpus else {"CUDA_VISIBLE_DEVICES": ""}
    return _Actors(launch, where, workers, cpus, gpus, {"LOKY_MAX_CPU_COUNT": str(cpus), **hidden})


class _Actors:
    """The actors that one run has started."""

    def __init__(self, launch: Launch, address: str, workers: int, cpus: int, gpus: float, variables: dict[str, str]):
        self._launch, self._variables = launch, variables
        self._ray = _connect(address, workers * cpus)
        self._head = self._ray.get_runtime_context().gcs_address
        _check_room(self._ray, address, workers, cpus, gpus)
        self._actor = self._ray.remote(
            num_cpus=cpus,
            num_gpus=gpus,
            max_concurrency=2,  # `run` and `stop`
            # processes with an environment of their own are started anew, beside those that a new cluster has ready
            runtime_env=None if address == "local" else {"env_vars": KEEP_CHILDREN},
        )(Child)
        self._living: dict[Any, tuple[Any, str]] = {}  # what `run` will return -> the actor, its log
        self._gone: list[Ended] = []
        self._started, self._stopped = 0, False

    def start(self, count: int) -> None:
        """Start so many more; those that the cluster has no room for wait."""
        if self._stopped:
            return
        _check_address(self._head)  # without it Ray ends this process after a minute
        for _ in range(count):
            self._started += 1
            asked = order(self._launch, self._started, self._variables)
            actor = self._actor.remote(*asked)
            self._living[actor.run.remote()] = (actor, asked[-1])

    def alive(self) -> int:
        """Return how many run or wait for room."""
        self._reap(0.0)
        return len(self._living)

    def ended(self) -> list[Ended]:
        """Return those that have gone since the last call."""
        self._reap(0.0)
        return told_once(self._gone)

    def stop(self) -> None:
        """Tell all that live to save and leave, once."""
        if self._stopped or not self._living:
            self._stopped = True
            return
        self._stopped = True
        told = {actor.stop.remote(): actor for actor, _ in self._living.values()}
        _, deaf = self._ray.wait(list(told), num_returns=len(told), timeout=PATIENCE)
        for call in deaf:  # it waits for room still; one that runs leaves as well, as its worker's stdin ends
            self._ray.kill(told[call])

    def close(self) -> None:
        """Tell them, if nobody has, wait until they have left, and end the connection."""
        self.stop()
        self._reap(FAREWELL)
        self._ray.shutdown()

    def farewell(self) -> str:
        """Return nothing: none outlives this process."""
        return ""

    def _reap(self, timeout: float) -> None:
        """Note who has gone, after this many seconds or when all have."""
        if not self._living:
            return
        over, _ = self._ray.wait(list(self._living), num_returns=len(self._living), timeout=timeout)
        for call in over:
            _, log = self._living.pop(call)
            try:
                code, why = self._ray.get(call), ""
            except self._ray.exceptions.RayError as error:
                code, why = None, str(error).strip().rpartition("\n")[2]
            self._gone.append(Ended(code, log, last_lines(Path(log)) if code is not None else why))


def _connect(address: str, cpus: int) -> Any:
    """Return the module, connected; a cluster that is started here has so many processors, to its mind.

    Raises:
        MachineError: There is no cluster at the address, or none can be started.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a cluster of ours tells nobody
    _check_address(address)
    own: dict[str, Any] = {"num_cpus": cpus, "object_store_memory": OBJECT_STORE_BYTES, "include_dashboard": False}
    with _handlers_kept():
        import ray as library

        try:
            with _variables(KEEP_CHILDREN if address == "local" else {}):
                library.init(
                    address, log_to_driver=False, logging_level=logging.ERROR, **(own if address == "local" else {})
                )
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
            said = str(error).partition("\n")[0]
            if "AuthToken" in f"{error} {error.__cause__}":  # Ray asks for one by itself for `auto` only
                said = "it wants a token: set RAY_AUTH_MODE=token, with the token of the cluster in ~/.ray/auth_token"
            raise MachineError(f"executor ray: address {address}: {said}") from error
    return library


def _check_address(address: str) -> None:
    """Raise MachineError where nothing listens at `host:port`, which Ray itself tries for minutes."""
    host, _, port = address.rpartition("/")[2].rpartition(":")
    if host and port.isdecimal():
        try:
            socket.create_connection((host, int(port)), timeout=PATIENCE).close()
        except OSError as error:
            raise MachineError(f"executor ray: no cluster at {address}: {error.strerror or error}") from error


def _check_room(library: Any, address: str, workers: int, cpus: int, gpus: float) -> None:
    """Say where workers would wait for ever, as nobody hears of those that wait for room.

    Raises:
        UsageError: A cluster that was started here has not as many GPUs as are asked for.
    """
    there = library.cluster_resources().get("GPU", 0)
    if address == "local" and workers * gpus > there:
        library.shutdown()
        raise UsageError(
            f"executor ray: {workers} workers of gpus: {gpus:g} need {workers * gpus:g} GPUs, Ray finds {there:g}; ask "
            "for fewer, or name the address of a cluster"
        )
    rooms = [node["Resources"] for node in library.nodes() if node["Alive"]]
    if not any(room.get("CPU", 0) >= cpus and room.get("GPU", 0) >= gpus for room in rooms):
        said = "executor ray: no machine of the cluster has cpus: %d and gpus: %g; workers wait until one joins"
        logging.getLogger("lottery").warning(said, cpus, gpus)


@contextmanager
def _variables(values: Mapping[str, str]) -> Iterator[None]:
    """Have these in the environment of processes that are started in the `with` block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@contextmanager
def _handlers_kept() -> Iterator[None]:
    """Put the handlers of signals back, one of which Ray takes for itself."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)
