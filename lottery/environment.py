"""The environment of a training beside its recipe: what of it is recorded with each job, and where records differ."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import metadata
from typing import Any

MACHINE = ("lottery", "torch", "python", "platform", "device", "threads", "deterministic")  # recorded from the start
PACKAGES = {  # by the name they are imported under: those that compute a part of a training
    "numpy": "numpy",
    "scipy": "scipy",
    "numba": "numba",
    "torchvision": "torchvision",
    "pillow": "pillow",
    "pytorch_optimizer": "pytorch-optimizer",
    "curvlinops": "curvlinops-for-pytorch",
}
VARIABLES = (  # of the environment: what they hold changes instructions or precision, and with them bits
    *("MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "OPENBLAS_CORETYPE"),
    *("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE"),
    *("NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"),
    *("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "NUMBA_OPT", "NUMBA_LOOP_VECTORIZE", "NUMBA_SLP_VECTORIZE"),
    "NUMBA_DISABLE_JIT",
)
PRECISION = (  # those of VARIABLES that change precision; the others change instructions, and with them rounding only
    *("ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE"),
    *("NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"),
)
FIELDS = (*MACHINE, *PACKAGES, "variables")
# docs/fairness.md says why
ROUNDING = ("python", "threads", "deterministic", "ranks", "numpy", "scipy", "numba", "engine")
EARLIER = {"engine": "dense", "ranks": 1}  # of sessions of the time when there was nothing else
DRAWING = "draws of ranks"  # the field of their number where each draws by itself in training, as for dropout
PLUGIN = "plugin "  # before a module's name: the field that holds the hash of its source

NONE_SET = "none set"
ABSENT = "not installed"  # so it took no part: no difference from any version

_PROCESSOR = re.compile(r" (DEFAULT|NO AVX|AVX2|AVX512|VSX|Z VECTOR|SVE\d*)$")  # ends a processor's name in a record

Session = Mapping[str, Any]


@cache
def versions() -> dict[str, str]:
    """Return the version of each package in PACKAGES that is installed, without importing it.

    A package that does not fit torch cannot be imported. The versions are those at the first call: what is installed
    later is not what this process has imported.
    """
    return {name: version(distribution) for name, distribution in PACKAGES.items()}


def version(distribution: str) -> str:
    """Return the version of a package that is installed, without importing it; ABSENT where it is not."""
    try:
        return str(metadata.version(distribution))
    except metadata.PackageNotFoundError:
        return ABSENT


def processor() -> str:
    """Return the processor's name: sums differ in their last bits between vector widths."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass  # no such file outside Linux
    return platform.processor() or platform.machine()


def variables() -> str:
    """Return those of VARIABLES that are set, as `NAME=value`."""
    return " ".join(f"{name}={os.environ[name]}" for name in VARIABLES if os.environ.get(name)) or NONE_SET


def said(value: Any) -> str:
    """Return a recorded value in words; `none` where there is none."""
    return "none" if value is None else value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def described(sessions: Sequence[Session]) -> dict[str, str]:
    """Return what the sessions of one training recorded, by field: `a and b` where they differ.

    Only fields that were recorded from the start are there in any case; a missing other field proves nothing.
    """
    names = dict.fromkeys([*MACHINE, *(name for session in sessions for name in session)])
    return {
        name: " and ".join(sorted({said(s.get(name)) for s in sessions if name in MACHINE or name in s}))
        for name in names
    }


def differing(trainings: Iterable[Sequence[Session]]) -> list[str]:
    """Return the fields in which the sessions of several trainings are known to differ.

    A field that one of them did not record is compared among the others. A package that is not installed where a
    training ran, or a plugin that was not loaded, took no part in it.
    """
    known = [described(sessions) for sessions in _distinct(trainings)]
    names = dict.fromkeys(name for each in known for name in each)
    return [name for name in names if len({each[name] for each in known if name in each} - {ABSENT}) > 1]


def _distinct(trainings: Iterable[Sequence[Session]]) -> list[Sequence[Session]]:
    """Return the trainings without those whose sessions are those of one before: of thousands, few differ."""
    return list({repr(sessions): sessions for sessions in trainings}.values())


def are_alike(one: Session, other: Session) -> bool:
    """Return True if two sessions are not known to differ.

    A session that names no engine is of the time when there was only one, and so with ranks.
    """
    return not differing([[{**EARLIER, **one}], [{**EARLIER, **other}]])


def mixed(trainings: Iterable[Sequence[Session]]) -> list[str]:
    """Return the fields in which the sessions of several trainings differ in more than rounding."""
    return differing([[essence(session) for session in sessions] for sessions in _distinct(trainings)])


def rounding(trainings: Iterable[Sequence[Session]]) -> dict[str, list[str]]:
    """Return the fields in which the sessions of several trainings differ in rounding only, with the values found."""
    known = [[{**EARLIER, **session} for session in sessions] for sessions in _distinct(trainings)]
    apart = mixed(known)
    return {
        name: sorted({said(session[name]) for sessions in known for session in sessions if name in session})
        for name in differing(known)
        if name not in apart
    }


def essence(session: Session) -> dict[str, Any]:
    """Return what a session recorded, without the fields that change rounding only.

    These are the fields of ROUNDING, the kind of processor, and variables that choose instructions.
    """
    kept = {name: value for name, value in session.items() if name not in ROUNDING}
    if _PROCESSOR.search(str(kept.get("device", ""))):
        kept["device"] = "a processor"
    if "variables" in kept:
        names = [each for each in str(kept["variables"]).split() if each.partition("=")[0] in PRECISION]
        kept["variables"] = " ".join(names) or NONE_SET
    return kept
