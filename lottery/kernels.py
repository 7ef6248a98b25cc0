"""Compiled steps of a sparse fully connected network; numba compiles them once and keeps them on disk.

Units are numbered through the network, inputs first; row r is the unit `inputs + r`, and belongs to the layer l with
`layers[l] <= r < layers[l + 1]`. The surviving weights of row r are `weights[indptr[r]:indptr[r + 1]]`, and come from
`units[...]`; `tptr`, `trows` and `tplaces` are the same weights by the unit that they come from. Activations `a` and
gradients `d` have a row a unit and a column an example, so that each weight is one pass over neighbours in memory.

No flag lets the compiler assume that there are no NaN: a training that diverges has to show it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

FAST = {"reassoc", "contract", "nsz"}
F = np.float32
RULES = ("sgd", "momentum", "nesterov", "adam")
SGD, MOMENTUM, NESTEROV, ADAM = range(4)


@njit(fastmath=FAST, error_model="numpy", nogil=True, cache=True)
def _add_weighted(out: Any, n: int, weights: Any, places: Any, units: Any, first: int, last: int, a: Any) -> None:
    """out += the sum over j of weights[places[j]] * a[units[j]]; eight at a time to save reading `out`."""
    j = first
    while j + 8 <= last:
        w0, w1, w2, w3 = weights[places[j]], weights[places[j + 1]], weights[places[j + 2]], weights[places[j + 3]]
        w4, w5, w6, w7 = weights[places[j + 4]], weights[places[j + 5]], weights[places[j + 6]], weights[places[j + 7]]
        x0, x1, x2, x3 = a[units[j]], a[units[j + 1]], a[units[j + 2]], a[units[j + 3]]
        x4, x5, x6, x7 = a[units[j + 4]], a[units[j + 5]], a[units[j + 6]], a[units[j + 7]]
        for k in range(n):
            low = (w0 * x0[k] + w1 * x1[k]) + (w2 * x2[k] + w3 * x3[k])
            out[k] += low + ((w4 * x4[k] + w5 * x5[k]) + (w6 * x6[k] + w7 * x7[k]))
        j += 8
    while j < last:
        w, x = weights[places[j]], a[units[j]]
        for k in range(n):
            out[k] += w * x[k]
        j += 1


@njit(fastmath=FAST, error_model="numpy", nogil=True, cache=True)
def _forward(
    x: Any,
    a: Any,
    gates: Any,
    layers: Any,
    indptr: Any,
    units: Any,
    places: Any,
    weights: Any,
    bias: Any,
    residual: bool,
) -> None:
    """Activations of the examples `x` (n, inputs); with `residual`, hidden layers from the second on add their input.

    `gates` are the outputs of the rectifiers, the activations themselves where nothing is added."""
    n, inputs = x.shape
    for first in range(0, inputs, 16):
        for b in range(n):
            for i in range(first, min(first + 16, inputs)):
                a[i, b] = x[b, i]
    depth = len(layers) - 2
    for layer in range(depth + 1):
        for r in range(layers[layer], layers[layer + 1]):
            out = a[inputs + r]
            for k in range(n):
                out[k] = bias[r]
            _add_weighted(out, n, weights, places, units, indptr[r], indptr[r + 1], a)
            if layer == depth:
                continue
            for k in range(n):
                out[k] = F(0) if out[k] < 0 else out[k]  # a NaN stays one
            if residual and layer:
                gate, above = gates[r], a[inputs + r - (layers[layer] - layers[layer - 1])]
                for k in range(n):
                    gate[k] = out[k]
                    out[k] += above[k]


@njit(fastmath=FAST, error_model="numpy", nogil=True, cache=True)
def loss_and_gradient(a: Any, d: Any, y: Any, first: int, smoothing: Any, scale: Any) -> float:
    """The sum of the examples' cross-entropies with smoothed labels; `d` of the outputs is its gradient times scale."""
    classes, total = a.shape[0] - first, 0.0
    for k in range(len(y)):
        top = a[first, k]
        for c in range(1, classes):
            top = max(top, a[first + c, k])
        summed, mean = F(0), F(0)
        for c in range(classes):
            d[first + c, k] = np.exp(a[first + c, k] - top)
            summed += d[first + c, k]
            mean += a[first + c, k]
        for c in range(classes):
            d[first + c, k] = (d[first + c, k] / summed - smoothing / classes) * scale
        d[first + y[k], k] -= (F(1) - smoothing) * scale
        log_sum = np.log(summed) + top
        total += (F(1) - smoothing) * (log_sum - a[first + y[k], k]) + smoothing * (log_sum - mean / classes)
    return total


@njit(fastmath=FAST, error_model="numpy", nogil=True, cache=True)
def _backward(
    a: Any,
    d: Any,
    gates: Any,
    n: int,
    inputs: int,
    layers: Any,
    tptr: Any,
    trows: Any,
    tplaces: Any,
    weights: Any,
    residual: bool,
    sums: Any,
) -> None:
    """`d` of the hidden units, from the last to the first, with respect to what enters their rectifiers.

    With `residual`, `sums` keeps the gradient with respect to a unit's whole output, which its neighbour below adds."""
    depth = len(layers) - 2
    for layer in range(depth - 1, -1, -1):
        width = layers[layer + 1] - layers[layer]
        for r in range(layers[layer], layers[layer + 1]):
            out = d[inputs + r]
            for k in range(n):
                out[k] = F(0)
            _add_weighted(out, n, weights, tplaces, trows, tptr[r], tptr[r + 1], d)
            gate = a[inputs + r]
            if residual:
                if layer < depth - 1:
                    above = sums[r + width]
                    for k in range(n):
                        out[k] += above[k]
                whole = sums[r]
                for k in range(n):
                    whole[k] = out[k]
                if layer:
                    gate = gates[r]
            for k in range(n):
                out[k] = out[k] if gate[k] > 0 else F(0)


@njit(fastmath=FAST, error_model="numpy", nogil=True, cache=True)
def _add_dots(gradient: Any, units: Any, first: int, last: int, a: Any, d: Any, n: int) -> None:
    """gradient[j - first] += the product of d and a[units[j]] over the examples."""
    j = first
    while j + 8 <= last:
        x0, x1, x2, x3 = a[units[j]], a[units[j + 1]], a[units[j + 2]], a[units[j + 3]]
        x4, x5, x6, x7 = a[units[j + 4]], a[units[j + 5]], a[units[j + 6]], a[units[j + 7]]
        s0, s1, s2, s3, s4, s5, s6, s7 = F(0), F(0), F(0), F(0), F(0), F(0), F(0), F(0)
        for k in range(n):
            t = d[k]
            s0 += t * x0[k]
            s1 += t * x1[k]
            s2 += t * x2[k]
            s3 += t * x3[k]
            s4 += t * x4[k]
            s5 += t * x5[k]
            s6 += t * x6[k]
            s7 += t * x7[k]
        i = j - first
        gradient[i] += s0
        gradient[i + 1] += s1
        gradient[i + 2] += s2
        gradient[i + 3] += s3
        gradient[i + 4] += s4
        gradient[i + 5] += s5
        gradient[i + 6] += s6
        gradient[i + 7] += s7
        j += 8
    while j < last:
        x, s = a[units[j]], F(0)
        for k in range(n):
            s += d[k] * x[k]
        gradient[j - first] += s
        j += 1


@njit(fastmath=FAST, error_model="numpy", nogil=True, cache=True)
def update(w: Any, g: Any, m: Any, v: Any, rule: int, p: Any) -> None:
    """One step of the optimizer, as torch.optim computes it."""
    lr, decay, decoupled, b1, rest1, b2, rest2, eps, size, root = p
    if rule == SGD:
        for i in range(len(w)):
            w[i] -= lr * (g[i] + decay * w[i])
    elif rule == MOMENTUM:
        for i in range(len(w)):
            m[i] = b1 * m[i] + (g[i] + decay * w[i])
            w[i] -= lr * m[i]
    elif rule == NESTEROV:
        for i in range(len(w)):
            h = g[i] + decay * w[i]
            m[i] = b1 * m[i] + h
            w[i] -= lr * (h + b1 * m[i])
    else:
        for i in range(len(w)):
            h = g[i] + decay * w[i]
            w[i] -= decoupled * w[i]
            m[i] += rest1 * (h - m[i])
            v[i] = b2 * v[i] + rest2 * h * h
            w[i] -= size * m[i] / (np.sqrt(v[i]) / root + eps)


@njit(parallel=True, fastmath=FAST, error_model="numpy", nogil=True, cache=True)
def step(
    x: Any,
    y: Any,
    net: Any,
    transposed: Any,
    state: Any,
    work: Any,
    smoothing: Any,
    residual: bool,
    rule: int,
    p: Any,
) -> float:
    """A training step on the examples `x` (n, inputs) of classes `y`; the mean loss before it.

    A thread takes a tile of the examples, from `starts[t]` on, through the network and back; then each takes some of
    the rows, from `chunks[c]` on, sums their gradients over the tiles and updates them. So no two write to one place,
    and no sum depends on how many threads there are beyond the number of tiles."""
    layers, indptr, units, places = net
    tptr, trows, tplaces = transposed
    weights, bias, wm, wv, bm, bv = state
    acts, grads, gates, sums, starts, chunks, scratch, losses = work
    inputs, scale = x.shape[1], F(1) / F(x.shape[0])
    tiles, first_output = len(starts) - 1, inputs + layers[len(layers) - 2]
    for t in prange(tiles):
        here = x[starts[t] : starts[t + 1]]
        _forward(here, acts[t], gates[t], layers, indptr, units, places, weights, bias, residual)
        losses[t] = loss_and_gradient(acts[t], grads[t], y[starts[t] : starts[t + 1]], first_output, smoothing, scale)
        _backward(
            acts[t], grads[t], gates[t], len(here), inputs, layers, tptr, trows, tplaces, weights, residual, sums[t]
        )
    for c in prange(len(chunks) - 1):
        gradient = scratch[c]
        for r in range(chunks[c], chunks[c + 1]):
            first, last = indptr[r], indptr[r + 1]
            gradient[: last - first] = F(0)
            of_bias = F(0)
            for t in range(tiles):
                n, d = starts[t + 1] - starts[t], grads[t, inputs + r]
                _add_dots(gradient, units, first, last, acts[t], d, n)
                for k in range(n):
                    of_bias += d[k]
            update(weights[first:last], gradient, wm[first:last], wv[first:last], rule, p)
            gradient[0] = of_bias
            update(bias[r : r + 1], gradient, bm[r : r + 1], bv[r : r + 1], rule, p)
    total = 0.0
    for t in range(tiles):
        total += losses[t]
    return float(total * scale)


@njit(parallel=True, fastmath=FAST, error_model="numpy", nogil=True, cache=True)
def outputs(x: Any, net: Any, state: Any, work: Any, residual: bool, out: Any) -> None:
    """The outputs (n, classes) of the examples `x` (n, inputs)."""
    layers, indptr, units, places = net
    acts, gates = work[0], work[2]
    workers, size = acts.shape[0], acts.shape[2]
    tiles, first_output = (len(x) + size - 1) // size, x.shape[1] + layers[len(layers) - 2]
    for t in prange(workers):
        for tile in range(t, tiles, workers):
            here = x[tile * size : (tile + 1) * size]
            _forward(here, acts[t], gates[t], layers, indptr, units, places, state[0], state[1], residual)
            for k in range(len(here)):
                for c in range(out.shape[1]):
                    out[tile * size + k, c] = acts[t, first_output + c, k]
