"""Compiled steps of a sparse fully connected network; numba compiles them once and keeps them on disk.

Units are numbered through the network, inputs first; row r is the unit `inputs + r`, and belongs to the layer l with
`layers[l] <= r < layers[l + 1]`. The surviving weights of a row lie in segments, one for each stretch of the units that
they may come from: stretch by stretch, so that the activations of one are in the first level cache while all rows read
them. Segment s is of row `owners[s]`, of the layer l with `parts[l] <= s < parts[l + 1]`, its weights are
`weights[starts[s]:starts[s + 1]]`, and they come from `units[...]`; `tptr`, `trows` and `tplaces` are the same weights
by the unit that they come from. Activations `a` and gradients `d` have a row a unit and a column an example, so that
each weight is one pass over neighbours in memory; columns without an example have activations that mean nothing, and
gradients of 0.

No flag lets the compiler assume that there are no NaN: a training that diverges has to show it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from lottery.engines.compiled.jit import kernel, threaded
from lottery.engines.compiled.simd import LANES, add_products, add_rows

F = np.float32
RULES = ("sgd", "momentum", "nesterov", "adam")
SGD, MOMENTUM, NESTEROV, ADAM = range(4)


@kernel()
def transpose(x: Any, a: Any) -> None:
    """Set a[i, k] = x[k, i], a vector of rows of x at a time."""
    whole = len(x) - len(x) % LANES
    for first in range(0, whole, LANES):
        for i in range(x.shape[1]):
            row = a[i]
            for k in range(LANES):
                row[first + k] = x[first + k, i]
    for k in range(whole, len(x)):
        for i in range(x.shape[1]):
            a[i, k] = x[k, i]


@kernel()
def rectify(a: Any) -> None:
    """Apply ReLU in place; `a` is C-contiguous."""
    whole = a.reshape(-1)
    for k in range(len(whole)):
        whole[k] = F(0) if whole[k] < 0 else whole[k]  # a NaN stays one


@kernel()
def forward(a: Any, inputs: int, gates: Any, net: Any, weights: Any, bias: Any, residual: bool) -> None:
    """Compute the activations from those of the inputs.

    With `residual`, hidden layers from the second on add their input. `gates` are the outputs of the rectifiers, the
    activations themselves where nothing is added.
    """
    layers, parts, owners, starts, units = net
    depth, n = len(layers) - 2, a.shape[1]
    for layer in range(depth + 1):
        for r in range(layers[layer], layers[layer + 1]):
            a[inputs + r] = bias[r]
        for s in range(parts[layer], parts[layer + 1]):
            add_rows(a, inputs + owners[s], n, weights, None, a, units, starts[s], starts[s + 1])
        if layer == depth:
            return
        rectify(a[inputs + layers[layer] : inputs + layers[layer + 1]])
        if residual and layer:
            for r in range(layers[layer], layers[layer + 1]):
                out, gate, above = a[inputs + r], gates[r], a[inputs + r - (layers[layer] - layers[layer - 1])]
                for k in range(n):
                    gate[k] = out[k]
                    out[k] += above[k]


@kernel()
def loss_and_gradient(a: Any, d: Any, y: Any, first: int, smoothing: Any, scale: Any) -> float:
    """Return the sum of the examples' smoothed cross-entropies; `d` of the outputs becomes its gradient times scale."""
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


@kernel()
def backward(
    a: Any, d: Any, gates: Any, inputs: int, layers: Any, transposed: Any, weights: Any, residual: bool, sums: Any
) -> None:
    """Compute `d` of the hidden units, last layer first, with respect to the inputs of their rectifiers.

    With `residual`, `sums` keeps the gradient with respect to a unit's whole output, which the layer below adds.
    """
    tptr, trows, tplaces = transposed
    depth, n = len(layers) - 2, a.shape[1]
    for layer in range(depth - 1, -1, -1):
        width = layers[layer + 1] - layers[layer]
        for r in range(layers[layer], layers[layer + 1]):
            out = d[inputs + r]
            for k in range(n):
                out[k] = F(0)
            add_rows(d, inputs + r, n, weights, tplaces, d, trows, tptr[r], tptr[r + 1])
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


@kernel()
def update(w: Any, g: Any, m: Any, v: Any, rule: int, p: Any) -> None:
    """Do one step of the optimizer, as torch.optim computes it."""
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


@kernel()
def row_sums(d: Any, sums: Any) -> None:
    """Set sums[r] to the sum of d[r]."""
    for r in range(len(d)):
        total, row = F(0), d[r]
        for k in range(len(row)):
            total += row[k]
        sums[r] = total


@kernel()
def learn(
    gradient: Any,
    first: int,
    last: int,
    acts: Any,
    grads: Any,
    inputs: int,
    net: Any,
    weights: Any,
    m: Any,
    v: Any,
    rule: int,
    p: Any,
) -> None:
    """Do the optimizer's step on segments `first` to `last`, whose gradient is summed over the tiles."""
    _, _, owners, starts, units = net
    begin, end, n = starts[first], starts[last], acts.shape[2]
    gradient[: end - begin] = F(0)
    for t in range(len(acts)):
        for s in range(first, last):
            place = gradient[starts[s] - begin :]
            add_products(place, acts[t], units, starts[s], starts[s + 1], grads[t], inputs + owners[s], n)
    update(weights[begin:end], gradient, m[begin:end], v[begin:end], rule, p)


@kernel()
def added_up(parts: Any) -> Any:
    """Add all rows to the first one, and return it."""
    for t in range(1, len(parts)):
        for k in range(parts.shape[1]):
            parts[0, k] += parts[t, k]
    return parts[0]


@threaded
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
    """Do a training step on the examples `x` (n, inputs) of classes `y`, and return the mean loss before it.

    A thread takes a tile of the examples, from `begins[t]` on, through the network and back; then each takes some of
    the segments, from `chunks[c]` on, sums their gradients over the tiles and updates them. So no two threads write to
    one place, and no sum depends on the number of threads beyond the tiles.
    """
    layers = net[0]
    weights, bias, wm, wv, bm, bv = state
    acts, grads, gates, sums, begins, chunks, scratch, losses, of_biases = work
    inputs, scale, tiles = x.shape[1], F(1) / F(x.shape[0]), len(acts)
    first_output = inputs + layers[len(layers) - 2]
    for t in prange(tiles):
        a, d = acts[t], grads[t]
        transpose(x[begins[t] : begins[t + 1]], a)
        forward(a, inputs, gates[t], net, weights, bias, residual)
        losses[t] = loss_and_gradient(a, d, y[begins[t] : begins[t + 1]], first_output, smoothing, scale)
        backward(a, d, gates[t], inputs, layers, transposed, weights, residual, sums[t])
        row_sums(d[inputs:], of_biases[t])
    for c in prange(len(chunks) - 1):
        learn(scratch[c], chunks[c], chunks[c + 1], acts, grads, inputs, net, weights, wm, wv, rule, p)
    update(bias, added_up(of_biases), bm, bv, rule, p)
    return float(losses.sum() * scale)


@threaded
def outputs(x: Any, net: Any, state: Any, acts: Any, gates: Any, residual: bool, out: Any) -> None:
    """Compute the outputs (n, classes) of the examples `x` (n, inputs); a thread has one of `acts` and `gates`."""
    layers = net[0]
    workers, size = acts.shape[0], acts.shape[2]
    tiles, first_output = (len(x) + size - 1) // size, x.shape[1] + layers[len(layers) - 2]
    for t in prange(workers):
        for tile in range(t, tiles, workers):
            here = x[tile * size : (tile + 1) * size]
            transpose(here, acts[t])
            forward(acts[t], x.shape[1], gates[t], net, state[0], state[1], residual)
            for k in range(len(here)):
                for c in range(out.shape[1]):
                    out[tile * size + k, c] = acts[t, first_output + c, k]
