"""How the ops get memory, multiply matrices and go through rows, on either kind of device.

On the CPU: pooled memory, the products split over the threads, rows in cache-sized blocks on all
threads. With CuPy: its own pool, cuBLAS, and one block with all rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import TypeVar

import numpy as np

from tinygrad_llm.backend import Array, ArrayModule, bf16_products, pool, rounding, threads
from tinygrad_llm.backend.dtypes import DTypeLike, accumulate_dtype, is_float
from tinygrad_llm.backend.kernels import gpu_product
from tinygrad_llm.backend.products import Finish, Product, compute_all
from tinygrad_llm.backend.promotion import Operand

T = TypeVar("T")


def empty(xp: ArrayModule, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """An array with arbitrary values."""
    return pool.empty(shape, dtype) if xp is np else xp.empty(shape, dtype)


def empty_like(xp: ArrayModule, x: Array) -> Array:
    """An array with arbitrary values, of x's shape and dtype."""
    return empty(xp, x.shape, x.dtype)


def matmul(
    xp: ArrayModule, a: Array, b: Array, out: Array | None = None, finish: Finish | None = None
) -> Array:
    """The product of matrices (M, K) and (K, N), into ``out`` where given.

    ``finish(rows, columns)`` is called for each piece of the result as it is done; on the CPU
    that is on all threads, while the piece is in the cache.
    """
    if out is None:
        out = empty(xp, (a.shape[0], b.shape[1]), xp.result_type(a, b))
    matmul_all(xp, [(a, b, out)], finish)
    return out


def matmul_all(
    xp: ArrayModule,
    products: Sequence[tuple[Array, Array, Array]],
    finish: Finish | None = None,
    beside: Sequence[Callable[[], object]] = (),
) -> None:
    """out = a b for each (a, b, out), and the tasks ``beside`` them; on the CPU on all threads."""
    if xp is np:
        _on_the_cpu([Product(*product, finish) for product in products], beside)
        return
    everything = slice(None)
    for a, b, out in products:
        gpu_product(xp, a, b, out)
        if finish is not None:
            finish(everything, everything)
    for task in beside:
        task()


def _on_the_cpu(products: Sequence[Product], beside: Sequence[Callable[[], object]]) -> None:
    """From bfloat16 operands, by BLAS, or by BLAS on wider copies."""
    if all(bf16_products.takes(p.a, p.b) for p in products):
        bf16_products.compute_all(products, beside)
    elif all(min(p.a.itemsize, p.b.itemsize) > 2 for p in products):
        compute_all(products, beside)
    elif len(products) > 1 or beside:  # not all of one kind
        for product in products:
            _on_the_cpu([product], ())
        for task in beside:
            task()
    else:  # NumPy has no fast product of 16-bit numbers
        a, b, out, finish = products[0]
        out[...] = np.matmul(a.astype(np.float32), b.astype(np.float32))
        if finish is not None:
            finish(slice(None), slice(None))


def operand(xp: ArrayModule, x: Array) -> Array:
    """x (N, C) as products read it: itself, or rounded once for the forward and backward pass.

    What an op keeps for its backward pass then takes half the memory; see `precision`.
    """
    if xp is np and x.dtype == np.float32 and bf16_products.takes(x, x.T):
        return rounding.rounded(x)
    return x


def fixed(xp: ArrayModule, *weights: Array) -> AbstractContextManager[None]:
    """A scope in which nobody writes into ``weights``, so that each is rounded only once."""
    return bf16_products.Fixed(*weights) if xp is np else nullcontext()


def matmul_of_block(xp: ArrayModule, a: Array, b: Array, out: Array | None = None) -> Array:
    """`numpy.matmul` of a block, in the thread that asks for it; of all blocks on a GPU."""
    if xp is not np:
        return gpu_product(xp, a, b, out)
    return np.matmul(a, b) if out is None else np.matmul(a, b, out=out)


def product(xp: ArrayModule, a: Array, b: Array) -> Array:
    """The product of arrays of any shapes that `numpy.matmul` takes; in their type if it is one."""
    if xp is np and a.ndim == b.ndim == 2 and is_float(a.dtype) and a.dtype == b.dtype:
        return matmul(xp, a, b)
    kind = a.dtype if a.dtype == b.dtype else None
    if xp is np:
        threads.num_threads()  # the first call leaves BLAS one thread, which does not spin
    y = matmul_of_block(xp, a, b)
    return y if kind in (None, y.dtype) else y.astype(kind)  # NumPy's of bfloat16 is a float32


def add_at(xp: ArrayModule, target: Array, index: object, values: Array) -> None:
    """``target[index] += values`` where the index may repeat; 16 bits are added up in float32."""
    wide = target.astype(accumulate_dtype(target.dtype), copy=False)
    xp.add.at(wide, index, values.astype(wide.dtype, copy=False))
    if wide is not target:
        target[...] = wide


def as_rows(x: Array) -> Array:
    """x (..., C) as (N, C), a view where the layout allows it; scalars as (1, 1)."""
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1]) if x.ndim else x.reshape(1, 1)


def rowwise(
    xp: ArrayModule,
    function: Callable[..., tuple[Array, ...] | None],
    ins: Sequence[Array],
    shared: Sequence[object],
    outs: Sequence[Array],
) -> tuple[Array, ...]:
    """Call ``function(xp, *ins, *shared, *outs)`` on blocks of rows, in the cache, on all threads.

    The leading axes of the first array are the rows of all: the function is given (..., C) as
    (n, C), (..., 1) as (n, 1) and (...) as (n,). Where the first array has 16-bit floats, it is
    given float32, and what it writes is rounded to the dtype of the out. On a GPU there is one
    block, with all rows.

    Args:
        function: fills the outs of some rows, which do not depend on other rows.
        ins: what it reads.
        shared: what all rows have in common, such as weights and settings.
        outs: what it writes, in C order.

    Returns:
        The sums over rows that the function returned, if any; those of several blocks are added
        up in the order of the blocks.
    """
    x = ins[0]
    n = math.prod(x.shape[:-1])
    if x.ndim != 2:
        ins, outs = _by_row(ins, n, x.ndim - 1), _by_row(outs, n, x.ndim - 1)
    if xp is np and n > 1 and x.size > threads.BLOCK_ELEMENTS:

        def block(rows: slice) -> tuple[Array, ...]:
            return rowwise(xp, function, [a[rows] for a in ins], shared, [a[rows] for a in outs])

        parts = threads.parallel_rows(block, n, x.shape[-1])
        return tuple(sum(part[1:], part[0]) for part in zip(*parts, strict=True))
    if accumulate_dtype(x.dtype) != x.dtype:
        return _in_float32(xp, function, ins, shared, outs)
    return function(xp, *ins, *shared, *outs) or ()


def _by_row(arrays: Sequence[Array], n: int, n_axes: int) -> list[Array]:
    return [a.reshape(n, *a.shape[n_axes:]) if n_axes >= 0 else a.reshape(1) for a in arrays]


def _in_float32(
    xp: ArrayModule,
    function: Callable[..., tuple[Array, ...] | None],
    ins: Sequence[Array],
    shared: Sequence[object],
    outs: Sequence[Array],
) -> tuple[Array, ...]:
    """`rowwise` for rows of 16-bit floats, which fit in the cache."""
    wide_ins = [a.astype(accumulate_dtype(a.dtype), copy=False) for a in ins]
    wide_outs = [
        a if accumulate_dtype(a.dtype) == a.dtype else empty(xp, a.shape, accumulate_dtype(a.dtype))
        for a in outs
    ]
    sums = function(xp, *wide_ins, *shared, *wide_outs)
    for out, wide in zip(outs, wide_outs, strict=True):
        if wide is not out:
            out[...] = wide
    return sums or ()


def each(xp: ArrayModule, task: Callable[[int], T], n_tasks: int) -> list[T]:
    """``[task(0), task(1), ...]``; on the CPU by all threads."""
    if xp is not np:
        return [task(i) for i in range(n_tasks)]
    return threads.parallel(task, n_tasks)


def row_mean(xp: ArrayModule, x: Array) -> Array:
    """The mean (N, 1) of each row of x (N, C): on the CPU by BLAS, as a product with ones."""
    if xp is not np:
        return x.mean(axis=-1, keepdims=True)
    n = x.shape[-1]
    return np.matmul(x, _filled(n, x.dtype, 1 / max(n, 1)))[:, None]


@lru_cache(maxsize=256)
def _filled(n: int, dtype: np.dtype, value: float) -> np.ndarray:
    return np.full(n, value, dtype)


def row_dot(xp: ArrayModule, a: Array, b: Array) -> Array:
    """The scalar product (..., 1) of each row of a with the same row of b, both (..., C)."""
    if xp is not np:
        return (a * b).sum(axis=-1, keepdims=True)
    return np.vecdot(a, b)[..., None]


def row_sum(xp: ArrayModule, x: Array) -> Array:
    """The sum (..., 1) of each row of x (..., C): on the CPU by BLAS, as a product with ones."""
    if xp is not np:
        return x.sum(axis=-1, keepdims=True)
    return np.matmul(x, _filled(x.shape[-1], x.dtype, 1.0))[..., None]


def parallel_ufunc(ufunc: Callable[..., Array], a: Operand, b: Operand) -> Array:
    """``ufunc(a, b)``; large NumPy arrays of one shape and type on all threads, pooled."""
    if type(a) is not np.ndarray or a.size < threads.WORTH_SHARING or type(b) is not np.ndarray:
        return ufunc(a, b)
    if a.shape != b.shape or a.dtype != b.dtype or not is_float(a.dtype):
        return ufunc(a, b)
    y = pool.empty(a.shape, a.dtype)
    a2, b2, y2 = as_rows(a), as_rows(b), as_rows(y)
    n_rows, row_size = y2.shape
    block = threads.ONE_PASS_ELEMENTS
    threads.parallel_rows(
        lambda rows: ufunc(a2[rows], b2[rows], out=y2[rows]), n_rows, row_size, block
    )
    return y


def sum_rows(xp: ArrayModule, x: Array, out: Array | None = None) -> Array:
    """The sum (N,) of the rows of x (M, N): on the CPU by BLAS, as a product with ones."""
    if xp is not np or x.dtype.itemsize == 2:
        total = x.sum(axis=0, dtype=np.float32 if x.dtype.itemsize == 2 else None)
        total = total.astype(x.dtype, copy=False)
    else:
        total = np.matmul(_filled(len(x), x.dtype, 1.0), x)
    if out is None:
        return total
    out[...] = total
    return out
