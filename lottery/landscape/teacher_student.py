"""Spurious minima of two-layer networks that learn a teacher: ReLU, smooth activations, and the student's width.

A student sum_i phi(w_i . x) of n units learns a teacher sum_j phi(v_j . x) of k units with orthonormal v_j from
standard normal inputs x; the population loss is half the mean squared difference, in closed form (Safran & Shamir 2018
for ReLU, Saad & Solla 1995 for erf). A spurious minimum is a local minimum with a loss above 0. Of ReLU there are some
for k = n from 6 on, and with one or two units more almost none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from lottery.landscape.critical_points import CriticalPoint, Objective, Vector, newton, search
from lottery.landscape.memo import Memo
from lottery.seed import generator

Activation = Literal["relu", "erf", "quadratic"]
GLOBAL = 1e-5  # loss below which a minimum counts as global; spurious ones lie above 1e-2
CURVED = 1e-5  # an eigenvalue below minus this share of the largest one in size is one of a saddle


def relu_kernel(w: Tensor, v: Tensor) -> Tensor:
    """Return E[relu(w_i . x) relu(v_j . x)], (n, k), for standard normal x and rows w_i and v_j (Cho & Saul 2009)."""
    product = w @ v.T
    scale = w.norm(dim=1)[:, None] * v.norm(dim=1)[None]
    cosine = (product / scale).clamp(-1, 1)
    kernel: Tensor = (scale * (1 - cosine.square()).sqrt() + (math.pi - cosine.arccos()) * product) / (2 * math.pi)
    return kernel


def erf_kernel(w: Tensor, v: Tensor) -> Tensor:
    """Return E[erf(w_i . x) erf(v_j . x)], (n, k), for standard normal x (Williams 1997)."""
    scale = (1 + 2 * w.square().sum(1))[:, None] * (1 + 2 * v.square().sum(1))[None]
    return 2 / math.pi * torch.arcsin(2 * (w @ v.T) / scale.sqrt())


def quadratic_kernel(w: Tensor, v: Tensor) -> Tensor:
    """Return E[(w_i . x)^2 (v_j . x)^2], (n, k), for standard normal x (Isserlis 1918)."""
    return w.square().sum(1)[:, None] * v.square().sum(1)[None] + 2 * (w @ v.T).square()


KERNELS: dict[Activation, Callable[[Tensor, Tensor], Tensor]] = {
    "relu": relu_kernel,
    "erf": erf_kernel,
    "quadratic": quadratic_kernel,
}


def population_loss(activation: Activation, w: Tensor, v: Tensor) -> Tensor:
    """Return half the mean squared difference of a student w (n, d) and a teacher v (k, d) over normal inputs."""
    kernel = KERNELS[activation]
    return kernel(w, w).sum() / 2 - kernel(w, v).sum() + kernel(v, v).sum() / 2


def objective(activation: Activation, teacher: int, student: int) -> Objective:
    """Return the population loss in the student's flattened weights (n d,), where the dimension d is the teacher's k.

    For ReLU gradient and Hessian are in closed form, which parallel units do not make infinite.
    """
    v = torch.eye(teacher, dtype=torch.float64)
    if activation != "relu":
        return Objective.of(lambda x: population_loss(activation, x.view(student, teacher), v))
    units = v.numpy()
    return Objective(
        lambda x: float(population_loss("relu", torch.from_numpy(x.reshape(student, teacher)), v)),
        lambda x: _relu_gradient(x.reshape(student, teacher), units).ravel(),
        lambda x: _relu_hessian(x.reshape(student, teacher), units),
    )


def spurious_minima(
    activation: Activation,
    teacher: int,
    student: int,
    starts: int,
    draws: torch.Generator,
    memo: Memo,
) -> dict[str, float | str]:
    """Return a row that counts what descents from random starts end at.

    A start has independent normal weights of variance 1 / k. A descent is L-BFGS and then damped Newton steps, which
    settle a minimum to rounding; how often each minimum is met depends on the descent.

    Args:
        activation: phi.
        teacher: Number of units k of the teacher, and of inputs.
        student: Number of units n of the student.
        starts: Number of descents.
        draws: Generator of the starts.
        memo: Keeps the end of each descent.

    Returns:
        `activation`, `teacher`, `student`, `starts`; numbers of descents that ended at a `global` minimum, at a
        `spurious` one, at a `saddle` and `elsewhere` (not converged); `share`, of spurious ones among the starts;
        `lowest` and `highest` loss of the spurious ones, NaN where there is none.
    """
    function = objective(activation, teacher, student)
    begin = torch.randn(starts, student * teacher, generator=draws, dtype=torch.float64) / math.sqrt(teacher)
    name = f"{activation} {teacher} {student} start"
    ends = search(function, list(begin.numpy()), memo, descend, name)
    counts: dict[str, list[float]] = {"global": [], "spurious": [], "saddle": [], "elsewhere": []}
    for end in ends:
        counts[_kind(end, function)].append(end.loss)
    losses = counts["spurious"]
    return {
        "activation": activation,
        "teacher": teacher,
        "student": student,
        "starts": starts,
        **{kind: len(found) for kind, found in counts.items()},
        "share": len(losses) / starts,
        "lowest": min(losses, default=math.nan),
        "highest": max(losses, default=math.nan),
    }


def spurious_table(
    teachers: Sequence[int],
    *,
    wider: Sequence[int] = (0, 1, 2),
    activations: Sequence[Activation] = ("relu",),
    starts: int = 100,
    seed: int = 0,
    memo: Memo | None = None,
) -> list[dict[str, float | str]]:
    """Return a row of `spurious_minima` for each activation, teacher and width of the student.

    Args:
        teachers: Numbers of units k of the teacher.
        wider: Numbers of units that the student has more than the teacher.
        activations: phi.
        starts: Number of descents in each row.
        seed: Seed of the starts.
        memo: Keeps the end of each descent.
    """
    kept = memo or Memo()
    return [
        spurious_minima(activation, k, k + more, starts, generator(seed, f"analysis teacher_student {k}", more), kept)
        for activation in activations
        for k in teachers
        for more in wider
    ]


def descend(function: Objective, start: Vector) -> Vector:
    """Return the end of a descent by L-BFGS, settled by Newton steps where these find a lower gradient beside it."""
    found = minimize(
        function.value,
        start,
        jac=function.gradient,
        method="L-BFGS-B",
        options={"maxiter": 5000, "maxfun": 10000, "ftol": 0.0, "gtol": 1e-8},
    )
    end = np.asarray(found.x, dtype=np.float64)
    if found.fun < GLOBAL:
        return end
    settled = newton(function, end, 100)
    return settled if abs(function.value(settled) - found.fun) < 1e-4 * found.fun else end


def _kind(end: CriticalPoint, function: Objective) -> str:
    if end.loss < GLOBAL:
        return "global"
    if not end.converged:
        return "elsewhere"
    largest = float(np.abs(np.linalg.eigvalsh(function.hessian(end.vector))).max())
    return "saddle" if end.lowest < -CURVED * largest else "spurious"


@dataclass(frozen=True)
class _Pairs:
    """The geometry of rows w (n, d) and u (k, d); `across` (n, k, d) are the unit vectors from w_i toward u_j.

    Sines are norms of differences, which are 0 for parallel rows but for rounding, so that nothing is divided by 0.
    """

    w: Vector
    u: Vector
    w_norm: Vector
    u_norm: Vector
    sine: Vector
    cosine: Vector
    across: Vector
    back: Vector

    @classmethod
    def of(cls, w: Vector, u: Vector) -> _Pairs:
        w_norm, u_norm = np.linalg.norm(w, axis=1), np.linalg.norm(u, axis=1)
        a, b = w / w_norm[:, None], u / u_norm[:, None]
        cosine = a @ b.T
        toward = b[None] - cosine[..., None] * a[:, None]
        back = a[:, None] - cosine[..., None] * b[None]
        sine = np.linalg.norm(toward, axis=2)
        apart = np.where(sine > 1e-12, sine, np.inf)[..., None]
        return cls(a, b, w_norm, u_norm, sine, cosine, toward / apart, back / apart)

    @property
    def rest(self) -> Vector:
        """Pi less the angles, (n, k)."""
        return np.asarray(math.pi - np.arctan2(self.sine, self.cosine))


def _relu_gradient(w: Vector, v: Vector) -> Vector:
    """Return the gradient (n, d).

    Student unit i gets the sum over all units u of (|u| sin(angle) w_i / |w_i| + (pi - angle) u) / 2 pi, positive for
    students and negative for teachers.
    """
    total = np.zeros_like(w)
    for sign, others in ((1, w), (-1, v)):
        pairs = _Pairs.of(w, others)
        total += sign * ((pairs.sine * pairs.u_norm).sum(1)[:, None] * pairs.w + pairs.rest @ others)
    return np.asarray(total / (2 * math.pi))


def _relu_hessian(w: Vector, v: Vector) -> Vector:
    """Return the Hessian (n d, n d), by the blocks of Safran & Shamir 2018."""
    n, d = w.shape
    blocks = np.zeros((n, d, n, d))
    for sign, others in ((1, w), (-1, v)):
        pairs = _Pairs.of(w, others)
        rank = (np.eye(d) - np.einsum("ip,iq->ipq", pairs.w, pairs.w))[:, None]
        rank = rank + np.einsum("ijp,ijq->ijpq", pairs.across, pairs.across)
        own = np.einsum("ij,ijpq->ipq", pairs.sine * pairs.u_norm[None] / pairs.w_norm[:, None], rank)
        for i in range(n):
            blocks[i, :, i, :] += sign * own[i]
        if others is w:
            mixed = pairs.rest[..., None, None] * np.eye(d)
            mixed = mixed + np.einsum("ijp,iq->ijpq", pairs.across, pairs.w)
            mixed = mixed + np.einsum("ijp,jq->ijpq", pairs.back, pairs.u)
            blocks += mixed.transpose(0, 2, 1, 3)
    return blocks.reshape(n * d, n * d) / (2 * math.pi)
