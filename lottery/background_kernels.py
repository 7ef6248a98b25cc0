"""Compiled first layer of a fully connected network whose inputs are mostly background.

An example `x` is `background` but for some inputs: what it gives a unit is what the background gives, the same for all
examples, and what those few add. Weights have a row an input, so that each is one pass over neighbours in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

from lottery.kernels import FAST, F, loss_and_gradient, update


@njit(fastmath=FAST, error_model="numpy", nogil=True, cache=True)
def _add_rows(out: Any, values: Any, rows: Any, places: Any, count: int) -> None:
    """out += the sum over j < count of values[j] * rows[places[j]]; eight at a time to save reading `out`."""
    j = 0
    while j + 8 <= count:
        v0, v1, v2, v3 = values[j], values[j + 1], values[j + 2], values[j + 3]
        v4, v5, v6, v7 = values[j + 4], values[j + 5], values[j + 6], values[j + 7]
        x0, x1, x2, x3 = rows[places[j]], rows[places[j + 1]], rows[places[j + 2]], rows[places[j + 3]]
        x4, x5, x6, x7 = rows[places[j + 4]], rows[places[j + 5]], rows[places[j + 6]], rows[places[j + 7]]
        for k in range(len(out)):
            low = (v0 * x0[k] + v1 * x1[k]) + (v2 * x2[k] + v3 * x3[k])
            out[k] += low + ((v4 * x4[k] + v5 * x5[k]) + (v6 * x6[k] + v7 * x7[k]))
        j += 8
    if j + 4 <= count:
        v0, v1, v2, v3 = values[j], values[j + 1], values[j + 2], values[j + 3]
        x0, x1, x2, x3 = rows[places[j]], rows[places[j + 1]], rows[places[j + 2]], rows[places[j + 3]]
        for k in range(len(out)):
            out[k] += (v0 * x0[k] + v1 * x1[k]) + (v2 * x2[k] + v3 * x3[k])
        j += 4
    while j < count:
        v, x = values[j], rows[places[j]]
        for k in range(len(out)):
            out[k] += v * x[k]
        j += 1


@njit(parallel=True, fastmath=FAST, error_model="numpy", nogil=True, cache=True)
def forward(x: Any, background: Any, weights: Any, bias: Any, hidden: bool, out: Any, work: Any) -> None:
    """`out` (n, units) of the examples `x` (n, inputs), rectified where the layer is `hidden`.

    A thread takes some of the examples, and notes in `work` which of them differ from the background at each input."""
    values, places, counts, sums, starts, _ = work
    threads, inputs, units = len(starts) - 1, weights.shape[0], weights.shape[1]
    for t in prange(threads):
        of_background = sums[t]
        of_background[:] = F(0)
        for i in range(t * inputs // threads, (t + 1) * inputs // threads):
            level, row = background[i], weights[i]
            for k in range(units):
                of_background[k] += level * row[k]
    base = sums[0]
    for t in range(1, threads):
        for k in range(units):
            base[k] += sums[t, k]
    for k in range(units):
        base[k] += bias[k]
    for t in prange(threads):
        here_values, here_places = np.empty(inputs + 1, np.float32), np.empty(inputs + 1, np.int32)
        v, p, c = values[t], places[t], counts[t]
        c[:] = 0
        for e in range(starts[t], starts[t + 1]):
            row, many = x[e], 0
            for i in range(inputs):
                value = row[i] - background[i]
                here_values[many] = value
                here_places[many] = i
                many += value != F(0)  # a NaN differs from 0
            for j in range(many):
                i = here_places[j]
                v[i, c[i]] = here_values[j]
                p[i, c[i]] = e
                c[i] += 1
            z = out[e]
            z[:] = base
            _add_rows(z, here_values, weights, here_places, many)
            if hidden:
                for k in range(units):
                    z[k] = F(0) if z[k] < 0 else z[k]  # a NaN stays one


@njit(parallel=True, fastmath=FAST, error_model="numpy", nogil=True, cache=True)
def backward(d: Any, background: Any, state: Any, mask: Any, work: Any, of_bias: Any, rule: int, factors: Any) -> None:
    """The optimizer's step on the first layer's weights, for the gradient `d` (n, units) of what enters its rectifiers;
    `of_bias` is the bias's gradient. `mask` is empty where no weight is pruned."""
    values, places, counts, _, starts, scratch = work
    weights, m, second = state
    threads, units = len(starts) - 1, d.shape[1]
    of_bias[:] = F(0)
    for e in range(len(d)):
        for k in range(units):
            of_bias[k] += d[e, k]
    for t in prange(threads):
        gradient = scratch[t]
        here_values, here_places = np.empty(len(d), np.float32), np.empty(len(d), np.int32)
        for i in range(t, len(weights), threads):
            for k in range(units):
                gradient[k] = background[i] * of_bias[k]
            many = 0
            for s in range(threads):
                v, p = values[s, i], places[s, i]
                for j in range(counts[s, i]):
                    here_values[many] = v[j]
                    here_places[many] = p[j]
                    many += 1
            _add_rows(gradient, here_values, d, here_places, many)
            if len(mask):
                alive = mask[i]
                for k in range(units):
                    gradient[k] *= alive[k]
            update(weights[i], gradient, m[i], second[i], rule, factors)


@njit(fastmath=FAST, error_model="numpy", nogil=True, cache=True)
def loss(outputs: Any, d: Any, y: Any, smoothing: Any) -> float:
    """The mean of the examples' cross-entropies; `d` (n, classes) is its gradient with respect to `outputs`."""
    scale = F(1) / F(len(y))
    return float(loss_and_gradient(outputs.T, d.T, y, 0, smoothing, scale) * scale)


@njit(fastmath=FAST, error_model="numpy", nogil=True, cache=True)
def finish(state: Any, of_weights: Any, of_biases: Any, mask: Any, rule: int, p: Any) -> None:
    """The optimizer's step on the other layers' weights and on all biases."""
    w, b, wm, wv, bm, bv = state
    for i in range(len(mask)):
        of_weights[i] *= mask[i]
    update(w, of_weights, wm, wv, rule, p)
    update(b, of_biases, bm, bv, rule, p)
