"""out = a b from bfloat16 operands with float32 sums, by the package numkong, on all threads.

numkong multiplies the rows of one matrix with the rows of another, which it first packs into the
order of the processor's tiles. So for out (M, N) = a (M, K) b (K, N)

    left  = a       rounded, (M, K)
    right = b^T     rounded, (N, K), then packed

and an operand that lies the other way in memory is turned while it is rounded. What is cut for the
threads is the longer side of ``out``, in such a way that no one rounds what another has rounded:

    M >= N   right is packed once; each thread rounds some rows of a, a block at a time
    M <  N   left is rounded once; each thread rounds and packs some columns of b

Source of the kernels: Vardanian, NumKong, https://github.com/ashvardanian/NumKong.
"""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from tinygrad_llm.backend import matrix_units, pool, precision
from tinygrad_llm.backend.dtypes import FLOAT32, as_dtype
from tinygrad_llm.backend.products import Product, even_slices
from tinygrad_llm.backend.rounding import is_rounded, round_into, rounding_tasks, tensor
from tinygrad_llm.backend.threads import num_threads, parallel

T = TypeVar("T")
Task = Callable[[], object]
FEW_ROWS = 16  # as decoding has them
BLOCK_ROWS = 256  # rows of a product that are computed at a time
BLOCK_COLUMNS = 2048  # columns that are packed and multiplied at a time, in the cache
SHORTEST_SUM = 32  # below it a row is not worth its conversion


def takes(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether a (M, K) b (K, N) is computed here: by the setting, or for operands in bfloat16.

    For few rows it would cost more to round b than to multiply by it, unless that is kept.
    """
    kinds, few = {a.dtype, b.dtype}, len(a) <= FEW_ROWS
    if kinds == {FLOAT32}:
        wanted = precision.rounds_operands(few) and not (few and _scope_of(b) is None)
    else:  # NumPy would first make float32 of what is bfloat16
        narrow = {kind.name for kind in kinds - {FLOAT32}} == {"bfloat16"}
        wanted = narrow and matrix_units.found().few_rows is not None
    return wanted and len(b) >= SHORTEST_SUM and a.size > 0 and b.size > 0


def compute_all(
    products: Sequence[Product], beside: Sequence[Task] = (), add: bool = False
) -> None:
    """Compute independent products, and small tasks ``beside`` them, on all threads at once.

    Args:
        products: out = a b; of float32 or bfloat16 matrices.
        beside: tasks.
        add: out += a b.
    """
    plans = [_plan(product, add) for product in products]
    _share([task for plan in plans for task in plan.preparation()])
    _share([*(task for plan in plans for task in plan.pieces()), *beside])


def _share(tasks: Sequence[Task]) -> None:
    parallel(lambda i: tasks[i](), len(tasks))


# ---- what is prepared of weights that do not change ------------------------------------------


class Fixed:
    """A scope, entered as often as one likes, in which nobody writes into ``weights``.

    What products prepare of them, or of views of them, is kept from one time to the next.
    """

    def __init__(self, *weights: np.ndarray) -> None:
        self._weights = weights  # nobody else gets their memory meanwhile
        self._ranges = sorted(np.lib.array_utils.byte_bounds(w) for w in weights)
        self._kept: dict[tuple[object, ...], Any] = {}

    def __enter__(self) -> None:
        _scopes.append(self)

    def __exit__(self, *error: object) -> None:
        _scopes.remove(self)

    def forget(self) -> None:
        """Drop what was kept: somebody has written."""
        self._kept.clear()

    def covers(self, address: int) -> bool:
        """Whether an address lies in one of the weights."""
        place = bisect_right(self._ranges, (address, sys.maxsize)) - 1
        return place >= 0 and address < self._ranges[place][1]

    def keep(self, key: tuple[object, ...], make: Callable[[], T]) -> T:
        """``make()``, or what it gave before."""
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]


_scopes: list[Fixed] = []


def _scope_of(x: np.ndarray) -> Fixed | None:
    if not _scopes:
        return None
    address = x.ctypes.data
    return next((scope for scope in _scopes if scope.covers(address)), None)


def _keep(x: np.ndarray, kind: str, make: Callable[[], T]) -> T:
    """``make()``, or what it gave before in a scope where ``x`` is fixed."""
    scope = _scope_of(x)
    return make() if scope is None else scope.keep((x.ctypes.data, x.shape, x.strides, kind), make)


# ---- the three ways to cut a product ------------------------------------------------------------


def _plan(product: Product, add: bool) -> _Plan:
    m, n = product.out.shape
    return _ByRows(product, add) if m >= n else _ByColumns(product, add)


class _Plan:
    """A product, cut into tasks.

    Attributes:
        left: a (M, K).
        right: b^T (N, K).
    """

    def __init__(self, product: Product, add: bool) -> None:
        self.product, self.add = product, add
        self.left, self.right = product.a, product.b.T

    def preparation(self) -> list[Task]:
        """Tasks that must be done before any of `pieces` begins."""
        raise NotImplementedError

    def pieces(self) -> list[Task]:
        """Tasks that write parts of the result."""
        raise NotImplementedError

    def write(self, values: np.ndarray, rows: slice, columns: slice) -> None:
        """Put a piece where it belongs."""
        out = self.product.out[rows, columns]
        if self.add:
            out += values
        elif out is not values:
            out[...] = values


class _ByRows(_Plan):
    """All of b is packed once, and each task goes through some rows of a."""

    packed: Any = None

    def preparation(self) -> list[Task]:
        def pack() -> None:
            self.packed = _keep(self.right, "packed", lambda: _packed(self.right))

        return [pack]

    def pieces(self) -> list[Task]:
        parts = even_slices(len(self.left), num_threads())
        return [lambda rows=rows: self.multiply(rows) for rows in parts]  # type: ignore[misc]

    def multiply(self, part: slice) -> None:
        """Some rows of the result, a block at a time."""
        finish, columns = self.product.finish, slice(None)
        for start in range(part.start, part.stop, BLOCK_ROWS):
            rows = slice(start, min(start + BLOCK_ROWS, part.stop))
            out = self.product.out[rows]
            direct = out.dtype == FLOAT32 and out.flags.c_contiguous and not self.add
            values = _times(_rounded(self.left[rows]), self.packed, out if direct else None)
            if not direct:
                self.write(values, rows, columns)
            if finish is not None:
                finish(rows, columns)


class _ByColumns(_Plan):
    """All of a is rounded first, and each task packs some columns of b."""

    def preparation(self) -> list[Task]:
        if is_rounded(self.left):
            return []
        source, self.left = self.left, pool.empty(self.left.shape, as_dtype("bfloat16"))
        return list(rounding_tasks(source, self.left, num_threads()))

    def pieces(self) -> list[Task]:
        n_parts = max(num_threads(), -(-len(self.right) // BLOCK_COLUMNS))
        parts = even_slices(len(self.right), n_parts)
        return [lambda columns=columns: self.multiply(columns) for columns in parts]  # type: ignore[misc]

    def multiply(self, columns: slice) -> None:
        """Some columns of the result, a block of rows at a time."""
        right = self.right[columns]
        packed = _keep(right, "packed", lambda: _packed(right))
        for start in range(0, len(self.left), BLOCK_ROWS):
            rows = slice(start, min(start + BLOCK_ROWS, len(self.left)))
            self.write(_times(self.left[rows], packed), rows, columns)
            if self.product.finish is not None:
                self.product.finish(rows, columns)


def _rounded(x: np.ndarray) -> np.ndarray:
    """x (R, C) in bfloat16, row by row, in the calling thread."""
    if is_rounded(x):
        return x
    out = pool.empty(x.shape, as_dtype("bfloat16"))
    round_into(x, out)
    return out


def _packed(right: np.ndarray) -> Any:
    """Rows (N, K) in the order of the processor's tiles, opaque."""
    import numkong

    return numkong.dots_pack(tensor(_rounded(right)))


def _times(left: np.ndarray, packed: Any, out: np.ndarray | None = None) -> np.ndarray:
    """left (M, K) times packed rows (N, K): (M, N) in float32."""
    import numkong

    y = pool.empty((len(left), packed.width), FLOAT32) if out is None else out
    numkong.dots_packed(tensor(left), packed, out=tensor(y, "float32"))
    return y
