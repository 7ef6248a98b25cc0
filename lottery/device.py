"""The machine a job runs on: device, threads, determinism, and the record of them that goes with each result."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any, TypeVar, cast

import torch

from lottery import registry
from lottery._version import __version__
from lottery.environment import PLUGIN, processor, variables, versions
from lottery.errors import UsageError

GPUS = "CUDA_VISIBLE_DEVICES"
ON_CPU = ("mkldnn.conv", "mkldnn.rnn")  # computed in float32 whatever the precision
ALLOW, ERROR = 0, 2  # torch's modes for operations that are not deterministic
UNCOMPILED = ("add_param_group", "load_state_dict", "state_dict", "zero_grad")  # methods of torch's optimizers
UNCOMPILED_ATTRIBUTE = "__dynamo_disable"  # torch/_compile.py
KNOWN_STEP = {  # the names in what torch 2.11 to 2.14 wrap around a step, which `_plain_step` stands for
    *("torch._dynamo", "cast", "Optimizer", "is_grad_enabled", "set_grad_enabled", "defaults", "_dynamo"),
    "graph_break",
}
PRODUCTS = ("cuda.matmul", "cudnn.conv", "cudnn.rnn", "mkldnn.matmul", *ON_CPU)

# cuBLAS reads it once a process, at the first product, and a deterministic run may follow others: eight buffers of
# 4 MiB, as much as it takes by itself on a recent GPU
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


Value = TypeVar("Value")


@dataclass(frozen=True)
class Machine:
    """The machine that jobs run on.

    Attributes:
        device: Where tensors are.
        threads: Threads of one process on the CPU.
        deterministic: Whether equal jobs give equal bytes on one machine, version and device.
        ranks: Number of processes that train each network together.
        ranks_here: Those of them on this machine.
    """

    device: torch.device
    threads: int
    deterministic: bool
    ranks: int = 1
    ranks_here: int = 1

    def environment(self) -> dict[str, Any]:
        """Return what beside the recipe may change a result in its last bits."""
        return {
            "lottery": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "platform": f"{platform.system()} {platform.machine()}",
            "device": _name(self.device),
            "threads": self.threads,
            "deterministic": self.deterministic,
            "ranks": self.ranks,
            **versions(),
            "variables": variables(),
            **{f"{PLUGIN}{module}": code for module, code in sorted(registry.plugins().items())},
        }


def machine(
    device: str = "auto",
    *,
    jobs: int = 1,
    deterministic: bool = False,
    ranks: int = 1,
    ranks_here: int = 1,
    local_rank: int | None = None,
) -> Machine:
    """Return the machine for one of `jobs` processes, or for one of the ranks of a training.

    Threads are shared out among those on this machine; each has one when deterministic. A rank has the GPU of its
    number there.

    Args:
        device: `auto` for a GPU where there is one, `cpu`, `cuda`, or `cuda:1` for the GPU of that number among those
            that CUDA_VISIBLE_DEVICES leaves.
        jobs: Number of processes that this machine is shared with; all of them have a GPU that is numbered.
        deterministic: Equal jobs give equal bytes.
        ranks: Number of processes that train each network together.
        ranks_here: Those of them on this machine.
        local_rank: Number of this one among them; None where it trains alone.

    Raises:
        UsageError: For a device that is not there.
    """
    kind, number = _asked(device)
    if local_rank is not None and number is not None:
        raise UsageError(f"--device {device}: each of the ranks has a GPU of its own; write --device cuda")
    # one thread when deterministic: how a sum is split over threads shows in its last bit
    threads = 1 if deterministic else max(1, cores() // (jobs * ranks_here))
    if kind == "cuda" and local_rank is not None:
        if (count := torch.cuda.device_count()) <= local_rank:
            raise UsageError(
                f"--ranks: {ranks_here} on this machine, which has {count} CUDA devices; one for each rank"
            )
        torch.cuda.set_device(local_rank)
        return Machine(torch.device(kind, local_rank), threads, deterministic, ranks, ranks_here)
    where = torch.device(kind) if number is None else torch.device(kind, number)
    return Machine(where, threads, deterministic, ranks, ranks_here)


def _asked(device: str) -> tuple[str, int | None]:
    """Return the kind of device that is meant, `cpu` or `cuda`, and its number where one is named.

    Raises:
        UsageError: For a device that is not there.
    """
    kind, numbered, digits = device.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (numbered and not (kind == "cuda" and digits.isdecimal())):
        raise UsageError(f"--device {device}: there are auto, cpu, cuda, and cuda:1 for the GPU of that number")
    number = int(digits) if numbered else None
    if kind == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"--device {device}: torch sees no CUDA device here; use --device cpu")
    if number is not None and number >= (count := torch.cuda.device_count()):
        names = ", ".join(f"cuda:{each} ({torch.cuda.get_device_name(each)})" for each in range(count))
        raise UsageError(f"--device {device}: there {'are' if count > 1 else 'is'} {names}")
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    return kind, number


@contextmanager
def prepared(machine: Machine, precision: str) -> Iterator[None]:
    """Set torch's process-wide switches for one job while the `with` block runs, and put them back after it."""
    _hand_back()
    threads = torch.get_num_threads()
    cudnn, memory = torch.backends.cudnn, cast(Any, torch.utils.deterministic)  # of a module in disguise
    deterministic, filled = torch.get_deterministic_debug_mode(), memory.fill_uninitialized_memory
    dtype = torch.get_default_dtype()
    flags = (cudnn.benchmark, cudnn.deterministic)
    rng = torch.get_rng_state()
    gpu = machine.device.index  # None where the first one, or none, is meant
    current = None if gpu is None else torch.cuda.current_device()
    cuda_rng = torch.cuda.get_rng_state_all() if machine.device.type == "cuda" else []
    try:
        if gpu is not None:
            torch.cuda.set_device(gpu)  # streams and graphs are made on the current one
        torch.set_default_dtype(torch.float32)  # whatever a plugin has made of it
        torch.set_num_threads(machine.threads)
        if machine.deterministic and registry.plugins():  # whose code may be compiled: its compiler is told as well
            torch.use_deterministic_algorithms(True)
        else:  # the same switch, but imports no compiler: as long as importing torch, and 150 MB
            torch.set_deterministic_debug_mode(ERROR if machine.deterministic else ALLOW)
        memory.fill_uninitialized_memory = False  # else each new tensor is filled with NaN: 3.5 times the operations
        cudnn.benchmark = not machine.deterministic
        cudnn.deterministic = machine.deterministic
        with _precision(precision), without_compiler():
            yield
    finally:
        if current is not None:
            torch.cuda.set_device(current)
        torch.set_default_dtype(dtype)
        torch.set_num_threads(threads)
        if machine.deterministic and registry.plugins():
            torch.use_deterministic_algorithms(deterministic != ALLOW)
        torch.set_deterministic_debug_mode(deterministic)
        memory.fill_uninitialized_memory = filled
        cudnn.benchmark, cudnn.deterministic = flags
        torch.set_rng_state(rng)
        if cuda_rng:
            torch.cuda.set_rng_state_all(cuda_rng)


@contextmanager
def without_compiler() -> Iterator[None]:
    """Keep torch from importing its compiler, which nothing here uses, for the first optimizer of a process.

    torch has some methods of optimizers left uncompiled. It looks for such a one in an attribute of the method, and
    where that is missing imports the compiler to make it. Without a compiler the method itself is the uncompiled one.
    Around steps it tells the compiler to stop and to go on, which it imports for that: see `_plain_step`.
    """
    known = (getattr(getattr(torch.optim.Optimizer, name, None), "__wrapped__", None) for name in UNCOMPILED)
    marked = [method for method in known if method is not None and not hasattr(method, UNCOMPILED_ATTRIBUTE)]
    steps = {step: step.__code__ for step in _steps_that_import()}
    if "torch._dynamo" in sys.modules:
        marked.clear()
        steps.clear()
    for method in marked:
        setattr(method, UNCOMPILED_ATTRIBUTE, method)
    for step in steps:
        step.__code__ = PLAIN_STEP
    try:
        yield
    finally:
        for method in marked:
            vars(method).pop(UNCOMPILED_ATTRIBUTE, None)  # another thread may have done so
        for step, code in steps.items():
            step.__code__ = code


def _plain_step(func: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap the step of an optimizer as torch's `_use_grad_for_differentiable` does, but tell no compiler of it.

    Only the code of the function in it is used, in place of that of torch's: hooks, subclasses and what holds a step
    stay as they are.
    """

    def step(*args: Any, **kwargs: Any) -> Any:
        with torch.set_grad_enabled(args[0].defaults["differentiable"]):
            return func(*args, **kwargs)

    return step


PLAIN_STEP: CodeType = cast(FunctionType, _plain_step(len)).__code__


def _steps_that_import() -> Iterator[FunctionType]:
    """Yield torch's functions around the steps of all classes of optimizers there are that import its compiler."""
    wrap = getattr(sys.modules[torch.optim.Optimizer.__module__], "_use_grad_for_differentiable", None)
    code = getattr(wrap and wrap(_plain_step), "__code__", None)
    if code is None or (code.co_freevars, set(code.co_names)) != (PLAIN_STEP.co_freevars, KNOWN_STEP):
        return  # another version of torch may do more around a step
    kinds: list[type] = [torch.optim.Optimizer]
    for kind in kinds:
        kinds.extend(kind.__subclasses__())
        step = vars(kind).get("step")
        while step is not None:
            if getattr(step, "__code__", None) is code:
                yield step
            step = getattr(step, "__wrapped__", None)


@contextmanager
def _precision(precision: str) -> Iterator[None]:
    """Have torch compute products of float32 as a training of this precision does, while the `with` block runs.

    torch has a switch for each library and operation, and two older ones that do not reach all of them; they raise on
    reading where they disagree, as when a program sets the newer ones only. Both are set, and put back.
    """
    cudnn, exact = torch.backends.cudnn, precision == "fp32"
    before = {place: _operation(place).fp32_precision for place in PRODUCTS}
    matmul, tf32 = _readable(torch.get_float32_matmul_precision), _readable(lambda: cudnn.allow_tf32)
    inside = {place: "ieee" if exact or place in ON_CPU else "tf32" for place in PRODUCTS}
    try:
        _set_precisions("highest" if exact else "high", not exact, inside)
        yield
    finally:
        _set_precisions("highest" if matmul is None else matmul, True if tf32 is None else tf32, before)


def _set_precisions(matmul: str, tf32: bool, products: Mapping[str, str]) -> None:
    torch.set_float32_matmul_precision(matmul)
    torch.backends.cudnn.allow_tf32 = tf32
    for place, precision in products.items():
        _operation(place).fp32_precision = precision


def _operation(place: str) -> Any:
    library, _, operation = place.partition(".")
    return getattr(getattr(torch.backends, library), operation)


def _readable(switch: Callable[[], Value]) -> Value | None:
    try:
        return switch()
    except RuntimeError:
        return None


def computes_bf16(device: torch.device) -> bool:
    """Return True if the device has instructions for bfloat16, or makes them up at about the speed of float32."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return platform.machine() not in ("x86_64", "AMD64") or "AVX512" in torch.backends.cpu.get_cpu_capability()


def cores() -> int:
    """Return the number of processors this process may use: by its affinity, and by its container's quota (cgroups).

    A quota that is no whole number counts as the next one. LOKY_MAX_CPU_COUNT in the environment lowers the number.
    """
    from joblib import cpu_count

    return int(cpu_count())


def gpus() -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; CUDA is not started by that."""
    count = torch.cuda.device_count()
    listed = os.environ.get(GPUS)
    names = [str(number) for number in range(count)] if listed is None else [name.strip() for name in listed.split(",")]
    return names[:count]


def share_of_gpus(number: int, each: int = 1) -> str | None:
    """Return the value of CUDA_VISIBLE_DEVICES for process `number`, from 0, of several on this machine.

    Each gets `each` GPUs of its own; where there are fewer, they are given out again from the first. None where there
    is nothing to give out.
    """
    names = gpus()
    if not names or not each:
        return None
    return ",".join(dict.fromkeys(names[(number * each + place) % len(names)] for place in range(each)))


def _hand_back() -> None:
    """Give the system what earlier jobs have freed: glibc keeps it, several times the weights of a large network."""
    with suppress(OSError, AttributeError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{processor()} {torch.backends.cpu.get_cpu_capability()}"
