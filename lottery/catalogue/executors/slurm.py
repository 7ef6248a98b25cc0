"""Workers as jobs of Slurm: `sbatch` starts them, `squeue` counts them, `scancel` ends them."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, Field

from lottery.catalogue.executors._workers import Ended, last_lines, told_once
from lottery.errors import MachineError, UsageError
from lottery.registry import executors
from lottery.values import Form
from lottery.words import seconds_of

if TYPE_CHECKING:
    from lottery.catalogue.executors._workers import Launch, Workers

NOTICE = 90  # seconds before a worker's time is up at which it is told to save; Slurm may tell it a minute earlier
STARTING = 30  # seconds of a worker's time that go by before it counts them
SHORTEST, LONGEST = 1.0, 15.0  # seconds between two looks at the queue, which serves all users of the cluster
PATIENCE = 30.0  # seconds after which a command of Slurm's counts as not answered
_OURS = (  # options of sbatch that would break what is made of the others
    *("array", "chdir", "clusters", "error", "help", "input", "job-name", "output", "parsable", "test-only", "usage"),
    *("uid", "version", "wait", "wrap"),
)
_ENDS = (  # states of a job that is gone
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "LAUNCH_FAILED", "NODE_FAIL", "OUT_OF_MEMORY"),
    *("PREEMPTED", "RECONFIG_FAIL", "REVOKED", "TIMEOUT"),
)
_BUSY = ("unable to contact", "timed out", "connection refused", "temporarily", "try again")


def _option(text: str) -> str:
    """Return an option of sbatch unchanged.

    Raises:
        ValueError: It is none, or one that the executor gives itself.
    """
    name = text.partition("=")[0]
    if not name.startswith("--") or len(name) < 3 or any(letter.isspace() for letter in name):
        raise ValueError(f"{text!r} is no option of sbatch; write '--name' or '--name=value'")
    if own := [each for each in _OURS if each.startswith(name[2:])]:  # sbatch takes the beginning of a name for it
        raise ValueError(f"{text!r}: the executor itself gives --{own[0]} to sbatch; leave it out")
    return text


def _time(text: str) -> str:
    """Return a time unchanged. Raises ValueError where it is none."""
    seconds_of(text)
    return text


Count = Annotated[int, Field(ge=1)]
Word = Annotated[str, Form(r"^[^\s,]+$", "is one word, without spaces and commas")]
Option = Annotated[str, AfterValidator(_option)]
Time = Annotated[str, AfterValidator(_time)]
Memory = Annotated[str, Form(r"^[1-9]\d*[KMGT]?$", "is a whole number with K, M, G or T behind it, such as 8G")]


@executors.register("slurm", source="Yoo, Jette and Grondona 2003; sbatch", detached=True)
def slurm(
    launch: Launch,
    *,
    workers: Count = 2,
    partition: Word | None = None,
    account: Word | None = None,
    qos: Word | None = None,
    time: Time | None = None,
    gpus: Annotated[int, Field(ge=0)] = 0,
    cpus: Count = 1,
    memory: Memory | None = None,
    constraint: Word | None = None,
    options: tuple[Option, ...] = (),
) -> Workers:
    """Jobs of a Slurm cluster, an array with a task for each worker; they live on when the command is gone.

    Before a worker's `time` is up it saves and leaves, and another is started in its place. `gpus`, `cpus` and `memory`
    are those of one worker. `options` are further ones of sbatch, such as `[--exclusive, "--nice=100"]`; they come last
    and win.
    """
    if missing := [name for name in ("sbatch", "squeue", "scancel") if shutil.which(name) is None]:
        raise UsageError(
            f"executor slurm: there is no command {missing[0]} here; start this on a login node of the cluster, or "
            "take --on local"
        )
    wanted = {
        "partition": partition,
        "account": account,
        "qos": qos,
        "time": None if time is None else math.ceil(seconds_of(time) / 60),
        "gpus": gpus or None,
        "cpus-per-task": cpus,
        "mem": memory,
        "constraint": constraint,
        "nodes": 1,
        "ntasks": 1,
        "signal": f"B:USR1@{_notice(time)}",
    }
    asked = [f"--{name}={value}" for name, value in wanted.items() if value is not None]
    shell = {"LOKY_MAX_CPU_COUNT": str(cpus)}  # without cgroups a process sees all cores of the node
    if not gpus and not any(word in option for option in options for word in ("gpu", "gres", "exclusive")):
        shell["CUDA_VISIBLE_DEVICES"] = ""  # and all of its GPUs
    return _Jobs(launch, [*asked, *options], _limit(time), shell)


def _notice(time: str | None) -> int:
    """Return the seconds before its end at which a worker is told: a third of a short time, else all would go there."""
    return NOTICE if time is None else min(NOTICE, math.ceil(seconds_of(time) / 60) * 20)


def _limit(time: str | None) -> list[str]:
    """Return the options that tell a worker its time, which then leaves sooner than told where a save takes longer."""
    return [] if time is None else [f"--time={seconds_of(time) - min(STARTING, seconds_of(time) // 4)}s"]


class _Jobs:
    """The jobs of Slurm that are the workers of one run, known by their name.

    The name follows from the worker's command: a run that is started again finds the workers of the one before.
    """

    def __init__(self, launch: Launch, options: list[str], limit: list[str], shell: dict[str, str]):
        same = json.dumps([launch.command, str(launch.folder)])
        self._name = f"{launch.name}-{hashlib.sha256(same.encode()).hexdigest()[:8]}"
        self._launch, self._options = launch, options
        self._script = "\n".join(
            [
                "#!/bin/sh",
                *(f"export {name}={shlex.quote(value)}" for name, value in {**shell, **launch.environment}.items()),
                f"exec {shlex.join([*launch.command, *limit])}",  # in place of the shell, which Slurm's signals go to
            ]
        )
        self._living: set[str] = set()
        self._gone: list[Ended] = []
        self._told: set[str] | None = None  # whose end was returned; at the first answer those who had gone before
        self._stopped, self._busy_until = False, 0.0
        self._waiting_since: float | None = None
        self._told_waiting = False
        self._next, self._wait = 0.0, SHORTEST
        self._look()
        self._begun = bool(self._living)

    def start(self, count: int) -> None:
        """Put so many into the queue; where Slurm has no time for it, later."""
        if self._stopped or count < 1 or time.monotonic() < self._busy_until:
            return
        try:
            self._submit(count)
        except MachineError as error:
            if not self._begun:
                raise
            self._busy_until = time.monotonic() + PATIENCE
            logging.getLogger("lottery").warning("%s; workers are started later", error)

    def _submit(self, count: int) -> None:
        try:
            done = _command(
                "sbatch",
                "--parsable",
                f"--array=1-{count}",
                f"--job-name={self._name}",
                f"--chdir={self._launch.folder}",
                f"--output={self._log('%A_%a', '%%')}",
                "--open-mode=append",  # a job that Slurm requeues writes on
                *self._options,
                given=self._script,
            )
        except subprocess.TimeoutExpired as error:  # they may have got into the queue: the next look shows it
            raise MachineError(f"executor slurm: sbatch does not answer within {PATIENCE:g} s") from error
        if done.returncode:
            said = " ".join(line.removeprefix("sbatch: ").removeprefix("error: ") for line in done.stderr.splitlines())
            kind = MachineError if any(word in said.lower() for word in _BUSY) else UsageError
            raise kind(f"executor slurm: sbatch: {said or f'exit code {done.returncode}'}")
        job = done.stdout.strip().partition(";")[0]  # a cluster's name may follow
        self._living.update(f"{job}_{task}" for task in range(1, count + 1))
        self._begun = True
        self._hurry()

    def alive(self) -> int:
        """Return how many run or wait in the queue, as Slurm said last."""
        self._look_if_due()
        return len(self._living)

    def ended(self) -> list[Ended]:
        """Return those that have gone since the last call."""
        self._look_if_due()
        return told_once(self._gone)

    def stop(self) -> None:
        """Have Slurm send SIGTERM to those that run, and take the others from the queue."""
        if self._stopped:
            return
        self._stopped = True
        try:
            said = _command("scancel", "--quiet", "--me", f"--name={self._name}").stderr.strip()
        except subprocess.TimeoutExpired:
            said = "no answer"
        if said:  # they leave by themselves when no job is left
            logging.getLogger("lottery").warning("executor slurm: scancel: %s; try again: %s", said, self.farewell())
        self._hurry()

    def close(self) -> None:
        """Do nothing: the queue is Slurm's."""

    def farewell(self) -> str:
        """Return the command that has them save and leave."""
        return f"scancel --me --name={self._name}"

    def _hurry(self) -> None:
        self._next, self._wait = 0.0, SHORTEST

    def _look_if_due(self) -> None:
        """Look at the queue, at once after a change and ever more seldom without one."""
        if time.monotonic() >= self._next:
            before = set(self._living)
            self._look()
            self._wait = SHORTEST if before != self._living else min(LONGEST, 1.5 * self._wait)
            self._next = time.monotonic() + self._wait

    def _look(self) -> None:
        """Take in what Slurm says of our jobs; where it does not answer, what it said last holds."""
        if (answer := self._queue()) is None:
            return
        living = {job for job, state, _ in answer if state not in _ENDS}
        self._tell_waiting({state for job, state, _ in answer if job in living})
        over: dict[str, tuple[str, int | None]] = {
            job: (state, status) for job, state, status in answer if state in _ENDS
        }
        if self._told is None:
            self._told = over.keys() - self._living
        for job in self._living - living - over.keys():  # Slurm forgets them after some minutes
            over[job] = "UNKNOWN", None
        for job in sorted(over.keys() - self._told):
            self._told.add(job)
            self._gone.append(self._end(job, *over[job]))
        self._living = living

    def _tell_waiting(self, states: set[str]) -> None:
        """Say once that no worker runs as all wait in the queue, where that lasts."""
        if states != {"PENDING"}:
            self._waiting_since = None
        elif self._waiting_since is None:
            self._waiting_since = time.monotonic()
        elif not self._told_waiting and time.monotonic() - self._waiting_since > LONGEST:
            self._told_waiting = True
            said = "executor slurm: all workers wait in the queue; squeue --me --name=%s says why"
            logging.getLogger("lottery").warning(said, self._name)

    def _end(self, job: str, state: str, status: int | None) -> Ended:
        log = self._log(job)
        # what Slurm ends for reasons of its own has no exit code that says anything of the worker
        code = None if status is None or state in ("BOOT_FAIL", "NODE_FAIL") else os.waitstatus_to_exitcode(status)
        return Ended(code, log, last_lines(Path(log)) or f"Slurm: {state.replace('_', ' ').lower()}")

    def _queue(self) -> list[tuple[str, str, int | None]] | None:
        """Return number, state and wait status of our jobs, of those that ended lately too; None without an answer."""
        columns = "ArrayJobID:|,ArrayTaskID:|,State:|,exit_code:|"
        try:
            done = _command(
                *("squeue", "--me", f"--name={self._name}", "--states=all", "--array", "--noheader"),
                f"--Format={columns}",
            )
        except subprocess.TimeoutExpired:
            return None
        return list(_rows(done.stdout)) if done.returncode == 0 else None

    def _log(self, job: str, percent: str = "%") -> str:
        """Return where a worker writes; sbatch has every percent sign that is one doubled."""
        return f"{self._launch.logs}".replace("%", percent) + f"/worker-{job}.log"


def _rows(text: str) -> Iterator[tuple[str, str, int | None]]:
    for line in text.splitlines():
        if found := re.fullmatch(r"\s*(\d+)\|(\d+)\|(\w+)\|([^|]*)\|\s*", line):  # none is one of another kind
            yield f"{found[1]}_{found[2]}", found[3], _status(found[4])


def _status(text: str) -> int | None:
    """Return the wait status that Slurm writes as a number, or as exit code and signal; None for anything else."""
    found = re.fullmatch(r"(\d+)(?::(\d+))?", text.strip())
    if found is None:
        return None
    return int(found[1]) if found[2] is None else int(found[2]) or int(found[1]) << 8


def _command(*words: str, given: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command of Slurm's. Raises TimeoutExpired where it does not end within `PATIENCE`."""
    return subprocess.run(words, input=given, capture_output=True, text=True, timeout=PATIENCE)
