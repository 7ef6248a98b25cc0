"""Compiled steps of a fully connected network whose inputs are mostly background.

An example `x` is `background` but for some inputs: what it gives a unit of the first layer is what the background
gives, the same for all examples, and what those few add. The first layer's weights lie in blocks of BLOCK units: a
block has a row an input, so that each is one pass over neighbours in memory, and what a block needs fits into a cache.
The other layers are those of `lottery.kernels`, whose inputs are the units of the first one, filled up to whole
blocks."""

from __future__ import annotations

from typing import Any

from numba import njit, prange

from lottery.kernels import (
    FAST,
    F,
    added_up,
    backward,
    forward,
    learn,
    loss_and_gradient,
    rectify,
    row_sums,
    transpose,
    update,
)
from lottery.vectors import add_rows

BLOCK = 64  # units: as many as are kept in registers


@njit(fastmath=FAST, error_model="numpy", nogil=True, cache=True)
def _list(x: Any, background: Any, values: Any, places: Any, counts: Any) -> None:
    """Example e differs by `values[e]` from the background at the first `counts[e]` of the inputs `places[e]`."""
    for e in range(len(x)):
        row, v, p, many = x[e], values[e], places[e], 0
        for i in range(len(background)):
            value = row[i] - background[i]
            v[many] = value
            p[many] = i
            many += value != F(0)  # a NaN differs from 0
        counts[e] = many


@njit(fastmath=FAST, error_model="numpy", nogil=True, cache=True)
def _list_by_input(n: int, values: Any, places: Any, counts: Any, v: Any, p: Any, c: Any) -> None:
    """What `_list` says of n examples, by input: `v[i]` in the examples `p[i]`, the first `c[i]` of both.

    One is there already: the background, in all examples together."""
    c[:] = 1
    for e in range(n):
        for j in range(counts[e]):
            i = places[e, j]
            last = c[i]
            v[i, last] = values[e, j]
            p[i, last] = e
            c[i] = last + 1


@njit(fastmath=FAST, error_model="numpy", nogil=True, cache=True)
def _first_layer(x: Any, background: Any, base: Any, weights: Any, lists: Any, out: Any, a: Any) -> None:
    """The first layer's activations, a row a unit of `a`; `base` (blocks, BLOCK) is what the background gives."""
    values, places, counts = lists
    _list(x, background, values, places, counts)
    for b in range(len(weights)):
        for e in range(len(x)):
            out[e] = base[b]
            add_rows(out, e, BLOCK, values[e], None, weights[b], places[e], 0, counts[e])
        transpose(out[: len(x)], a[b * BLOCK : (b + 1) * BLOCK])
    rectify(a[: len(weights) * BLOCK])


@njit(parallel=True, fastmath=FAST, error_model="numpy", nogil=True, cache=True)
def _base(background: Any, weights: Any, bias: Any, every: Any, sums: Any) -> Any:
    """What a background gives the units of the first layer (blocks, BLOCK); `every` are the numbers of the inputs."""
    threads, blocks, inputs = len(sums), weights.shape[0], weights.shape[1]
    for t in prange(threads):
        part = sums[t]
        for b in range(blocks):
            part[b] = F(0)
            first, last = t * inputs // threads, (t + 1) * inputs // threads
            add_rows(part, b, BLOCK, background, None, weights[b], every, first, last)
    base = sums[0]
    for t in range(1, threads):
        base += sums[t]
    return base + bias[: blocks * BLOCK].copy().reshape(blocks, BLOCK)


@njit(parallel=True, fastmath=FAST, error_model="numpy", nogil=True, cache=True)
def step(
    x: Any,
    y: Any,
    background: Any,
    first: Any,
    mask: Any,
    net: Any,
    hidden: Any,
    transposed: Any,
    state: Any,
    work: Any,
    own: Any,
    smoothing: Any,
    rule: int,
    p: Any,
) -> float:
    """A training step on the examples `x` (n, inputs) of classes `y`; the mean loss before it.

    `first` are the first layer's weights (blocks, inputs, BLOCK) and the optimizer's state of them, `mask` what of them
    is kept, empty where all are. For the backward pass, by `hidden` and `transposed`, the first layer's units are those
    of one more hidden layer and there are no inputs. All else is as in `kernels.step`, but that biases are those of the
    first layer, then of the others."""
    weights, m, v = first
    others, bias, wm, wv, bm, bv = state
    acts, grads, gates, sums, begins, chunks, scratch, losses, of_biases = work
    every, bases, values, places, counts, by_input, examples, many, outs, ds, gradients = own
    layers, blocks, inputs = net[0], weights.shape[0], weights.shape[1]
    tiles, threads, units, scale = len(acts), len(bases), blocks * BLOCK, F(1) / F(x.shape[0])
    first_output, rows = units + layers[len(layers) - 2], gradients.shape[1]
    base = _base(background, weights, bias, every, bases)
    for t in prange(tiles):
        a, d, here = acts[t], grads[t], x[begins[t] : begins[t + 1]]
        lists = values[t], places[t], counts[t]
        _first_layer(here, background, base, weights, lists, outs[t], a)
        forward(a, units, gates[t], net, others, bias[units:], False)
        losses[t] = loss_and_gradient(a, d, y[begins[t] : begins[t + 1]], first_output, smoothing, scale)
        backward(a, d, gates[t], 0, hidden, transposed, others, False, sums[t])
        row_sums(d, of_biases[t])
        for b in range(blocks):
            of_block = ds[t, b]
            transpose(d[b * BLOCK : (b + 1) * BLOCK], of_block)
            of_block[len(of_block) - 1] = of_biases[t, b * BLOCK : (b + 1) * BLOCK]
        _list_by_input(len(here), values[t], places[t], counts[t], by_input[t], examples[t], many[t])
    for c in prange(len(chunks) - 1):
        learn(scratch[c], chunks[c], chunks[c + 1], acts, grads, units, net, others, wm, wv, rule, p)
    of_bias = added_up(of_biases)
    pieces = (inputs + rows - 1) // rows
    for t in prange(threads):
        gradient = gradients[t]
        for piece in range(t, blocks * pieces, threads):
            b, begin = piece // pieces, piece % pieces * rows
            end = min(begin + rows, inputs)
            gradient[:] = F(0)
            for i in range(begin, end):
                for tile in range(tiles):
                    d, count = ds[tile, b], many[tile, i]
                    add_rows(gradient, i - begin, BLOCK, by_input[tile, i], None, d, examples[tile, i], 0, count)
            whole = gradient[: end - begin].reshape(-1)
            if len(mask):
                alive = mask[b, begin:end].reshape(-1)
                for k in range(len(whole)):
                    whole[k] *= alive[k]
            w, wm1, wv1 = weights[b, begin:end], m[b, begin:end], v[b, begin:end]
            update(w.reshape(-1), whole, wm1.reshape(-1), wv1.reshape(-1), rule, p)
    update(bias, of_bias, bm, bv, rule, p)
    return float(losses.sum() * scale)


@njit(parallel=True, fastmath=FAST, error_model="numpy", nogil=True, cache=True)
def outputs(x: Any, background: Any, weights: Any, net: Any, others: Any, bias: Any, work: Any, out: Any) -> None:
    """The outputs (n, classes) of the examples `x` (n, inputs)."""
    every, bases, values, places, counts, outs, acts, gates = work
    layers, units, workers, size = net[0], len(weights) * BLOCK, len(acts), acts.shape[2]
    tiles, first_output = (len(x) + size - 1) // size, units + layers[len(layers) - 2]
    base = _base(background, weights, bias, every, bases)
    for t in prange(workers):
        for tile in range(t, tiles, workers):
            here, a = x[tile * size : (tile + 1) * size], acts[t]
            _first_layer(here, background, base, weights, (values[t], places[t], counts[t]), outs[t], a)
            forward(a, units, gates[t], net, others, bias[units:], False)
            for k in range(len(here)):
                for c in range(out.shape[1]):
                    out[tile * size + k, c] = a[first_output + c, k]
