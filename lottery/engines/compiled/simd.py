"""Sums and products of rows of float32 matrices for numba's kernels, whose partial results stay in vector registers.

numba turns a loop over the columns of a row into vectors, but keeps no sum over several rows in them: it would write
and read each partial sum. These two are therefore spelt out in the compiler's own language. What a processor lacks of
the vectors is made up for by the compiler.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils as untyped_cgutils
from numba.extending import intrinsic

cgutils: Any = untyped_cgutils
FLAGS = ("reassoc", "contract", "nsz")
# numbers of a vector; rows are filled up to a multiple of it
LANES = 16 if dict(binding.get_host_cpu_features()).get("avx512f") else 8
REGISTERS = 8  # vectors of partial sums: half of what the smallest processors have

_FLOAT, _INTEGER = ir.FloatType(), ir.IntType(64)
_VECTOR = ir.VectorType(_FLOAT, LANES)


def _add_rows(
    context: Any, out: Any, row: Any, n: Any, weights: Any, places: Any, matrix: Any, rows: Any, first: Any, last: Any
) -> Any:
    """Add to out[row, :n] the sum over first <= j < last of weights[places[j]] * matrix[rows[j], :n].

    Where places is None the weights are weights[j]. n is a multiple of LANES; matrices are C-contiguous.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        at = _Arrays(context, builder, signature.args, arguments)
        _, row, n, _, _, _, _, first, last = arguments

        def sums(vectors: int, column: Any) -> None:
            """Emit `copies` sums for each of the vectors from this column on: a single sum would wait for itself."""
            copies = max(1, REGISTERS // vectors)
            kept = [[cgutils.alloca_once(builder, _VECTOR) for _ in range(vectors)] for _ in range(copies)]
            for k in range(vectors):
                builder.store(at.vector(0, row, at.plus(column, k * LANES)), kept[0][k])
                for copy in kept[1:]:
                    builder.store(_spread(builder, ir.Constant(_FLOAT, 0.0)), copy[k])

            def add(j: Any, copy: list[Any]) -> None:
                weight = _spread(builder, at.number(3, j if isinstance(places, types.NoneType) else at.integer(4, j)))
                source = at.integer(6, j)
                for k, variable in enumerate(copy):
                    product = builder.fmul(weight, at.vector(5, source, at.plus(column, k * LANES)), flags=FLAGS)
                    builder.store(builder.fadd(builder.load(variable), product, flags=FLAGS), variable)

            with at.counted(first, last, copies) as j:
                for i, copy in enumerate(kept):
                    add(at.plus(j, i), copy)
            if copies > 1:
                with at.counted(at.whole(first, last, copies), last, 1) as j:
                    add(j, kept[0])
            for k in range(vectors):
                total = _total(builder, [builder.load(copy[k]) for copy in kept])
                at.put(0, row, at.plus(column, k * LANES), total)

        _blocks(at, n, sums)
        return context.get_dummy_value()

    return types.void(out, types.intp, types.intp, weights, places, matrix, rows, types.intp, types.intp), generate


def _add_products(
    context: Any, out: Any, matrix: Any, rows: Any, first: Any, last: Any, other: Any, row: Any, n: Any
) -> Any:
    """Add to out[j - first] the product of matrix[rows[j], :n] and other[row, :n] for first <= j < last.

    n is a multiple of LANES; matrices are C-contiguous.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        at = _Arrays(context, builder, signature.args, arguments)
        _, _, _, first, last, _, row, n = arguments

        def products(vectors: int, column: Any) -> None:
            columns = [at.plus(column, k * LANES) for k in range(vectors)]
            held = [at.vector(5, row, place) for place in columns]

            def product(j: Any) -> Any:
                source = at.integer(2, j)
                parts: list[Any] = []
                for k, place in enumerate(columns):
                    term = builder.fmul(held[k], at.vector(1, source, place), flags=FLAGS)
                    if k < 2:
                        parts.append(term)
                    else:
                        parts[k % 2] = builder.fadd(parts[k % 2], term, flags=FLAGS)
                return _total(builder, parts)

            with at.counted(first, last, 4) as j:
                one, two, three, four = (_eight(builder, product(at.plus(j, i))) for i in range(4))
                fours = _paired(builder, _paired(builder, one, two), _paired(builder, three, four))
                at.add_four(0, builder.sub(j, first), _halves_added(builder, fours))
            with at.counted(at.whole(first, last, 4), last, 1) as j:
                at.add_one(0, builder.sub(j, first), _summed(builder, product(j)))

        _blocks(at, n, products)
        return context.get_dummy_value()

    return types.void(out, matrix, rows, types.intp, types.intp, other, types.intp, types.intp), generate


add_rows: Any = intrinsic(_add_rows)
add_products: Any = intrinsic(_add_products)


class _Arrays:
    """The array arguments of an intrinsic, and instructions on positions in them."""

    def __init__(self, context: Any, builder: Any, kinds: Any, arguments: Any):
        self._builder = builder
        self._data, self._width = {}, {}
        for number, (kind, argument) in enumerate(zip(kinds, arguments, strict=True)):
            if isinstance(kind, types.Array):
                assert kind.layout == "C" or kind.ndim == 1
                array = context.make_array(kind)(context, builder, argument)
                self._data[number] = array.data
                self._width[number] = cgutils.unpack_tuple(builder, array.shape)[-1]

    def constant(self, value: int) -> Any:
        return ir.Constant(_INTEGER, value)

    def plus(self, place: Any, value: int) -> Any:
        return self._builder.add(place, self.constant(value)) if value else place

    def whole(self, first: Any, last: Any, size: int) -> Any:
        """Return where the last whole stretch of this size from `first` on ends."""
        rest = self._builder.srem(self._builder.sub(last, first), self.constant(size))
        return self._builder.sub(last, rest)

    @contextmanager
    def counted(self, first: Any, last: Any, size: int) -> Iterator[Any]:
        """Emit a loop over the beginnings of the whole stretches of this size between first and last."""
        stop = last if size == 1 else self.whole(first, last, size)
        with cgutils.for_range_slice(self._builder, first, stop, self.constant(size)) as (place, _):
            yield place

    def vector(self, number: int, row: Any, column: Any) -> Any:
        return self._builder.load(self._address(number, row, column), align=4)

    def put(self, number: int, row: Any, column: Any, value: Any) -> None:
        self._builder.store(value, self._address(number, row, column), align=4)

    def integer(self, number: int, place: Any) -> Any:
        value = self._builder.load(self._builder.gep(self._data[number], [place]))
        return value if value.type == _INTEGER else self._builder.sext(value, _INTEGER)

    def number(self, number: int, place: Any) -> Any:
        return self._builder.load(self._builder.gep(self._data[number], [place]))

    def add_one(self, number: int, place: Any, value: Any) -> None:
        address = self._builder.gep(self._data[number], [place])
        self._builder.store(self._builder.fadd(self._builder.load(address), value, flags=FLAGS), address)

    def add_four(self, number: int, place: Any, value: Any) -> None:
        address = self._builder.bitcast(self._builder.gep(self._data[number], [place]), value.type.as_pointer())
        total = self._builder.fadd(self._builder.load(address, align=4), value, flags=FLAGS)
        self._builder.store(total, address, align=4)

    def _address(self, number: int, row: Any, column: Any) -> Any:
        place = self._builder.add(self._builder.mul(row, self._width[number]), column)
        return self._builder.bitcast(self._builder.gep(self._data[number], [place]), _VECTOR.as_pointer())


def _blocks(at: _Arrays, n: Any, each: Callable[[int, Any], None]) -> None:
    """Go over columns 0 to n in blocks of as many vectors as there are registers for, then of half as many etc."""
    start, vectors = at.constant(0), REGISTERS
    while vectors:
        with at.counted(start, n, vectors * LANES) as column:
            each(vectors, column)
        start, vectors = at.whole(start, n, vectors * LANES), vectors // 2


def _picked(lanes: Any) -> Any:
    numbers = list(lanes)
    return ir.Constant(ir.VectorType(ir.IntType(32), len(numbers)), numbers)


def _spread(builder: Any, number: Any) -> Any:
    """Return a vector of one number."""
    undefined = ir.Constant(_VECTOR, ir.Undefined)
    single = builder.insert_element(undefined, number, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(single, undefined, _picked([0] * LANES))


def _halves_added(builder: Any, vector: Any) -> Any:
    half = vector.type.count // 2
    undefined = ir.Constant(vector.type, ir.Undefined)
    low, high = (builder.shuffle_vector(vector, undefined, _picked(range(i, i + half))) for i in (0, half))
    return builder.fadd(low, high, flags=FLAGS)


def _eight(builder: Any, vector: Any) -> Any:
    """Return a vector of eight numbers with the same sum."""
    return vector if LANES == 8 else _halves_added(builder, vector)


def _paired(builder: Any, a: Any, b: Any) -> Any:
    """Return sums of neighbours, of vectors of eight: two of a, two of b, in each half."""
    even = builder.shuffle_vector(a, b, _picked([0, 2, 8, 10, 4, 6, 12, 14]))
    odd = builder.shuffle_vector(a, b, _picked([1, 3, 9, 11, 5, 7, 13, 15]))
    return builder.fadd(even, odd, flags=FLAGS)


def _total(builder: Any, parts: list[Any]) -> Any:
    while len(parts) > 1:
        parts = [builder.fadd(a, b, flags=FLAGS) for a, b in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]


def _summed(builder: Any, vector: Any) -> Any:
    """Return the sum of a vector's numbers."""
    name = f"llvm.vector.reduce.fadd.v{LANES}f32"
    reduce = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_FLOAT, [_FLOAT, _VECTOR]), name)
    return builder.call(reduce, [ir.Constant(_FLOAT, -0.0), vector], fastmath=FLAGS)
