"""Compiled steps of a fully connected network whose inputs are mostly background.

An example `x` is `background` but for some inputs: what it gives a unit of the first layer is what the background
gives, the same for all examples, and what those few add. The first layer's weights lie in blocks of BLOCK units: a
block has a row an input, so that each is one pass over neighbours in memory, and what a block needs fits into a cache.
The other layers are those of `kernels`, whose inputs are the units of the first one, filled up to whole
blocks.
"""

from __future__ import annotations

from typing import Any

from numba import prange

from lottery.engines.compiled.jit import kernel, threaded
from lottery.engines.compiled.kernels import (
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
from lottery.engines.compiled.simd import add_rows

BLOCK = 64  # units: as many as are kept in registers


@kernel()
def _list(x: Any, background: Any, values: Any, places: Any, counts: Any) -> None:
    """List the `counts[e]` inputs `places[e]` at which example e differs from the background by `values[e]`."""
    for e in range(len(x)):
        row, v, p, many = x[e], values[e], places[e], 0
        for i in range(len(background)):
            value = row[i] - background[i]
            v[many] = value
            p[many] = i
            many += value != F(0)  # a NaN differs from 0
        counts[e] = many


@kernel()
def _list_by_input(n: int, values: Any, places: Any, counts: Any, background: Any, last: int, by_input: Any) -> None:
    """List the differences of n examples by input: i differs by `v[j]` in `p[j]`, for starts[i] <= j < starts[i + 1].

    Each input has one more entry: the background, in all examples together, which count as the example `last`.
    """
    v, p, starts = by_input
    starts[:] = 0
    for e in range(n):
        for j in range(counts[e]):
            starts[places[e, j] + 1] += 1
    for i in range(len(background)):
        place = starts[i]
        starts[i + 1] += place + 1
        v[place] = background[i]
        p[place] = last
        starts[i] = place + 1
    for e in range(n):
        for j in range(counts[e]):
            i = places[e, j]
            place = starts[i]
            v[place] = values[e, j]
            p[place] = e
            starts[i] = place + 1
    for i in range(len(background), 0, -1):
        starts[i] = starts[i - 1]
    starts[0] = 0


@kernel()
def _copy(values: Any, out: Any) -> None:
    """Set out = values: assigned to a slice, numba would compile the words that refuse another shape as well."""
    for k in range(len(values)):
        out[k] = values[k]


@kernel()
def _base(background: Any, bias: Any, weights: Any, every: Any, bases: Any, row: int) -> None:
    """Write what the background gives the units of one block into a row of `bases`; `every` are the inputs' numbers."""
    _copy(bias, bases[row])
    add_rows(bases, row, BLOCK, background, None, weights, every, 0, len(every))


@kernel()
def _first_layer(n: int, base: Any, weights: Any, lists: Any, out: Any, a: Any) -> None:
    """Compute the activations of one block of units for n examples, one row of `a` for each unit.

    `base` is what the background gives them.
    """
    values, places, counts = lists
    for e in range(n):
        _copy(base, out[e])
        add_rows(out, e, BLOCK, values[e], None, weights, places[e], 0, counts[e])
    transpose(out[:n], a)
    rectify(a)


@threaded
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
    """Do a training step on the examples `x` (n, inputs) of classes `y`, and return the mean loss before it.

    `first` are the first layer's weights (blocks, inputs, BLOCK) and the optimizer's state of them, `mask` the part of
    them that is kept, empty where all are. For the backward pass, by `hidden` and `transposed`, the first layer's units
    are those of one more hidden layer and there are no inputs. All else is as in `kernels.step`, except that biases are
    those of the first layer, then those of the others. A thread computes the activations of the same blocks of units
    that it updates, so that their weights stay in its core's cache.
    """
    weights, m, v = first
    others, bias, wm, wv, bm, bv = state
    acts, grads, gates, sums, begins, chunks, scratch, losses, of_biases = work
    every, bases, outs, values, places, counts, of_inputs, of_examples, starts, ds, gradients = own
    layers, blocks, inputs = net[0], weights.shape[0], weights.shape[1]
    tiles, threads, units, scale = len(acts), len(outs), blocks * BLOCK, F(1) / F(x.shape[0])
    first_output, rows = units + layers[len(layers) - 2], gradients.shape[1]
    pieces, shares = (inputs + rows - 1) // rows, len(chunks) - 1
    for t in prange(tiles):
        here = x[begins[t] : begins[t + 1]]
        _list(here, background, values[t], places[t], counts[t])
        by_input = of_inputs[t], of_examples[t], starts[t]
        _list_by_input(len(here), values[t], places[t], counts[t], background, acts.shape[2], by_input)
    for t in prange(threads):
        for part in range(t * blocks * tiles // threads, (t + 1) * blocks * tiles // threads):
            b, tile = part // tiles, part % tiles
            lists, n = (values[tile], places[tile], counts[tile]), begins[tile + 1] - begins[tile]
            _base(background, bias[b * BLOCK : (b + 1) * BLOCK], weights[b], every, bases, t * blocks)
            _first_layer(n, bases[t * blocks], weights[b], lists, outs[t], acts[tile, b * BLOCK : (b + 1) * BLOCK])
    for t in prange(tiles):
        a, d = acts[t], grads[t]
        forward(a, units, gates[t], net, others, bias[units:], False)
        losses[t] = loss_and_gradient(a, d, y[begins[t] : begins[t + 1]], first_output, smoothing, scale)
        backward(a, d, gates[t], 0, hidden, transposed, others, False, sums[t])
        row_sums(d, of_biases[t])
        for b in range(blocks):
            of_block = ds[t, b]
            transpose(d[b * BLOCK : (b + 1) * BLOCK], of_block)
            _copy(of_biases[t, b * BLOCK : (b + 1) * BLOCK], of_block[len(of_block) - 1])
    for t in prange(threads):
        for c in range(t * shares // threads, (t + 1) * shares // threads):
            learn(scratch[c], chunks[c], chunks[c + 1], acts, grads, units, net, others, wm, wv, rule, p)
        gradient = gradients[t]
        for part in range(t * blocks * pieces // threads, (t + 1) * blocks * pieces // threads):
            b, begin = part // pieces, part % pieces * rows
            end = min(begin + rows, inputs)
            gradient[:] = F(0)
            for i in range(begin, end):
                for tile in range(tiles):
                    d, first_one, last_one = ds[tile, b], starts[tile, i], starts[tile, i + 1]
                    ofi, ofe = of_inputs[tile], of_examples[tile]
                    add_rows(gradient, i - begin, BLOCK, ofi, None, d, ofe, first_one, last_one)
            whole = gradient[: end - begin].reshape(-1)
            if len(mask):
                alive = mask[b, begin:end].reshape(-1)
                for k in range(len(whole)):
                    whole[k] *= alive[k]
            w, wm1, wv1 = weights[b, begin:end], m[b, begin:end], v[b, begin:end]
            update(w.reshape(-1), whole, wm1.reshape(-1), wv1.reshape(-1), rule, p)
    update(bias, added_up(of_biases), bm, bv, rule, p)
    return float(losses.sum() * scale)


@threaded
def outputs(x: Any, background: Any, weights: Any, net: Any, others: Any, bias: Any, work: Any, out: Any) -> None:
    """Compute the outputs (n, classes) of the examples `x` (n, inputs)."""
    every, bases, outs, values, places, counts, acts, gates = work
    layers, blocks, workers, size = net[0], len(weights), len(acts), acts.shape[2]
    units = blocks * BLOCK
    tiles, first_output = (len(x) + size - 1) // size, units + layers[len(layers) - 2]
    for t in prange(workers):
        a, lists = acts[t], (values[t], places[t], counts[t])
        for b in range(blocks):
            _base(background, bias[b * BLOCK : (b + 1) * BLOCK], weights[b], every, bases, t * blocks + b)
        for tile in range(t, tiles, workers):
            here = x[tile * size : (tile + 1) * size]
            _list(here, background, *lists)
            for b in range(blocks):
                rows = a[b * BLOCK : (b + 1) * BLOCK]
                _first_layer(len(here), bases[t * blocks + b], weights[b], lists, outs[t], rows)
            forward(a, units, gates[t], net, others, bias[units:], False)
            for k in range(len(here)):
                for c in range(out.shape[1]):
                    out[tile * size + k, c] = a[first_output + c, k]
