"""What a step calls, as step_trace.py finds it: kernels, products, shapes and types of arrays."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from tinygrad_llm.kernels.machine_code import VECTOR, MachineCode

_BYTES = {
    "float64": 8,
    "int64": 8,
    "float32": 4,
    "int32": 4,
    "uint32": 4,
    "float16": 2,
    "bfloat16": 2,
    "int8": 1,
    "uint8": 1,
    "bool": 1,
}


@dataclass(frozen=True)
class Array:
    """What an array looks like. Strides count elements; `block` is set for a tensor descriptor."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str
    alignment: int  # the largest power of two up to 512 that divides the address
    block: tuple[int, ...] | None = None

    @property
    def size(self) -> int:
        """Elements."""
        return functools.reduce(lambda a, b: a * b, self.shape, 1)

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return _BYTES[self.dtype]

    @property
    def nbytes(self) -> int:
        """Bytes of the elements, without what lies between them."""
        return self.size * self.itemsize

    @property
    def columns(self) -> int:
        """Length of the last axis; 1 for a scalar."""
        return self.shape[-1] if self.shape else 1

    @property
    def rows(self) -> int:
        """Product of the other axes."""
        return self.size // max(self.columns, 1)

    @property
    def stride(self) -> int:
        """Elements from one row to the next."""
        return self.strides[-2] if len(self.strides) > 1 else self.columns

    @property
    def aligned(self) -> bool:
        """Whether every row begins at a multiple of 16 bytes and is contiguous."""
        steps = [s for n, s in zip(self.shape[:-1], self.strides[:-1], strict=True) if n > 1]
        return (
            self.alignment % VECTOR == 0
            and (self.strides or (1,))[-1] == 1
            and all(s * self.itemsize % VECTOR == 0 for s in steps)
        )


Arguments = dict[str, object]  # arrays as Array, numbers as they are


def _arrays(arguments: Arguments) -> dict[str, Array]:
    return {name: a for name, a in arguments.items() if isinstance(a, Array)}


@dataclass(frozen=True)
class Call:
    """A public function of kernels/ and what it is given."""

    op: str
    arguments: Arguments
    count: int  # in one step

    @property
    def arrays(self) -> dict[str, Array]:
        """The arrays among the arguments."""
        return _arrays(self.arguments)

    @property
    def integers(self) -> dict[str, int]:
        """The whole numbers among the arguments."""
        return {name: a for name, a in self.arguments.items() if isinstance(a, int)}


@dataclass(frozen=True)
class Launch:
    """A Triton kernel, and what the compiler made of it where it was asked."""

    kernel: str
    grid: tuple[int, ...]
    options: Arguments  # constants, num_warps, num_stages
    arguments: Arguments
    count: int
    code: MachineCode | None

    @property
    def arrays(self) -> dict[str, Array]:
        """The arrays among the arguments."""
        return _arrays(self.arguments)


@dataclass(frozen=True)
class Product:
    """C (m, n) = op(A) op(B) by rows, as kernels.matmul counts, on a stack of `batch` matrices."""

    function: str  # cublasGemmEx, cublasGemmStridedBatchedEx, cublasLtMatmul
    m: int
    n: int
    k: int
    transpose_a: bool
    transpose_b: bool
    dtype: str
    out_dtype: str
    strides: tuple[int, ...]  # of the rows of A, B and C in elements
    accumulate: bool
    batch: int
    epilogue: int  # cublasLtEpilogue_t; 1 is none
    alignment: int  # of the least aligned of the three, in bytes
    count: int

    @property
    def flops(self) -> int:
        """Operations of one such product."""
        return 2 * self.m * self.n * self.k * self.batch


@dataclass(frozen=True)
class Trace:
    """All that one step calls; equal calls are one entry with their count."""

    title: str
    calls: tuple[Call, ...]
    launches: tuple[Launch, ...]
    products: tuple[Product, ...]
