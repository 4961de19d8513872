"""The products of linear layers with what stands next to them, in one launch of cuBLASLt each.

    linear_with_bias     y = x W^T + b
    gelu_with_bias       z = x W^T + b,  a = gelu(z)
    gelu_gradient        dz = (dy W) * gelu'(z),  dbias = sum over rows of dz
    weight_gradient      dweight = dy^T x,  dbias = sum over rows of dy

A pass of its own would read and write such an array once more: 0.8 GB for z of one layer of GPT-2
and 64 Ki tokens. GELU is the form with tanh. All arrays are CuPy's, of one 16-bit type; products
and sums are taken in float32.

Each function returns None where the library does not take the arrays: another type or
layout, no algorithm for the size, a bias at an address that 16 does not divide. The form of a
product is compared with NumPy's, once for each device and type, before its first use. Whatever
goes wrong, from a missing library to a wrong number, ends in ``fallbacks()``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from .._types import Array, DType, memory_of
from ..errors import KernelError
from .cublas_lt import Shape, alignment, plan

HALF = ("float16", "bfloat16")
# An epilogue may access its vector and matrix 16 bytes at a time, whatever their address. The fault
# that follows elsewhere ends the use of the GPU by this process (pytorch/pytorch#194497).
ALIGNMENT = 16
LARGEST_GAP = 0.02  # of a trial, relative to the largest number; bfloat16 rounds by 0.004


class Form(NamedTuple):
    """A kind of product: op(B) op(A)^T in rows is D = op(A) op(B) in columns.

    epilogue: one of cublasLtEpilogue_t of cublasLt.h
    transpose: whether A and B, in columns, are read as transposed
    expected: (op(B) op(A)^T, B, vector, matrix) -> D, vector and matrix after the call, in NumPy
    """

    name: str
    epilogue: int
    transpose: tuple[bool, bool]
    expected: Callable[[Array, Array, Array, Array], tuple[Array, Array, Array]]


def _gelu(z: Array) -> tuple[Array, Array]:
    """gelu(z) by tanh, and its slope."""
    h = 0.5 + 0.5 * np.tanh(0.7978845608028654 * (z + 0.044715 * z**3))
    return z * h, h + 2 * z * h * (1 - h) * 0.7978845608028654 * (1 + 3 * 0.044715 * z * z)


def _gelu_gradient(product: Array, b: Array, vector: Array, z: Array) -> tuple[Array, Array, Array]:
    dz = product * _gelu(z)[1]
    return dz, dz.sum(0), z


BIAS = Form("product with a bias", 4, (True, False), lambda p, b, v, z: (p + v, v, z))
GELU_AUX_BIAS = Form(
    "product with a bias and GELU", 4 | 32 | 128, (True, False),
    lambda p, b, v, z: (_gelu(p + v)[0], v, p + v),
)
DGELU_BGRAD = Form("product with GELU's gradient", 64 | 128 | 16, (False, False), _gelu_gradient)
BGRADB = Form(
    "product with a bias gradient", 512, (False, True), lambda p, b, v, z: (p, b.sum(0), z)
)


def linear_with_bias(x: Array, weight: Array, bias: Array) -> Array | None:
    """y (N, out) of x (N, in), weight (out, in) and bias (out,)."""
    if not _fits(x, weight, bias):
        return None
    y = _empty((len(x), len(weight)), x.dtype)
    return None if _run(BIAS, weight, x, y, [bias]) is None else y


def gelu_with_bias(x: Array, weight: Array, bias: Array) -> tuple[Array, Array] | None:
    """z and a (N, out) of x (N, in), weight (out, in) and bias (out,); out divisible by 8."""
    if not _fits(x, weight, bias) or len(weight) % 8:
        return None
    z, a = (_empty((len(x), len(weight)), x.dtype) for _ in range(2))
    return None if _run(GELU_AUX_BIAS, weight, x, a, [bias], z) is None else (z, a)


def gelu_gradient(dy: Array, weight: Array, z: Array, dbias: Array | None = None,
                  dtype: DType | None = None) -> tuple[Array, Array] | None:
    """dz (N, in) and dbias (in,) of dy (N, out), weight (out, in) and z (N, in); in divisible by 8.

    dbias: where the sums go; without it, or where it is not aligned, into a new array of `dtype`,
        and where the library sums into no such array, into one of the 16-bit type
    """
    if not _fits(dy, weight, z) or z.shape[1] % 8:
        return None
    dz = _empty(z.shape, z.dtype)
    dbias = _run(DGELU_BGRAD, weight, dy, dz, _vectors(z.shape[1], dbias, dtype, dy.dtype), z)
    return None if dbias is None else (dz, dbias)


def weight_gradient(dy: Array, x: Array, out: Array, accumulate: bool = False,
                    dbias: Array | None = None, dtype: DType | None = None) -> Array | None:
    """Write dweight to `out` (out, in), or add it there; returns dbias (out,), never added.

    dy: (N, out); x: (N, in); out: of their type or float32; dbias, dtype: as in gelu_gradient
    """
    takes_out = out.dtype.name in (dy.dtype.name, "float32") and out.flags.c_contiguous
    if not takes_out or not _fits(dy, x):
        return None
    vectors = _vectors(dy.shape[1], dbias, dtype, dy.dtype)
    return _run(BGRADB, x, dy, out, vectors, accumulate=accumulate)


def fallbacks(device: int) -> str | None:
    """What on this device was or would be computed without cuBLASLt, with the reason, or None."""
    if not any(key[0] == device for key in _trials):
        half = np.dtype("float16")
        _trial(device, BIAS, half, half, half)
    return "; ".join(_reasons.get(device, ())) or None


def trials() -> dict[str, str]:
    """Which form was tried with which types, and why it is not used ("" where it is)."""
    return {
        f"device {device}, {form}: {factors} -> {result}, vector {vector}": reason
        for (device, form, factors, result, vector), reason in _trials.items()
    }


_trials: dict[tuple[int, str, str, str, str], str] = {}
_reasons: dict[int, dict[str, None]] = {}  # of each device, in the order in which they came up


def _run(form: Form, a: Array, b: Array, d: Array, vectors: Iterable[Array],
         matrix: Array | None = None, accumulate: bool = False) -> Array | None:
    """Compute D with the first of the vectors that the library takes; returns that one."""
    device, reason = _device(), ""
    for vector in vectors:
        reason = _trial(device, form, a.dtype, d.dtype, vector.dtype) or _attempt(
            form, a, b, d, vector, matrix, accumulate
        )
        if not reason:
            return vector
    _reasons.setdefault(device, {})[reason] = None
    return None


def _attempt(form: Form, a: Array, b: Array, d: Array, vector: Array, matrix: Array | None,
             accumulate: bool) -> str:
    """Launch; or say why not."""
    n, m = d.shape
    k = a.shape[1] if form.transpose[0] else a.shape[0]
    addresses = [0 if x is None else memory_of(x).ptr for x in (a, b, d, vector, matrix)]
    if any(address % ALIGNMENT for address in addresses[3:]):
        return f"linear: {form.name}: its vector begins at no multiple of {ALIGNMENT} bytes"
    types = (a.dtype.name, d.dtype.name, vector.dtype.name)
    shape = Shape(_device(), form.epilogue, form.transpose, (m, n, k), types,
                  tuple(map(alignment, addresses)))
    try:
        plan(shape).run(addresses, accumulate)
    except (KernelError, AttributeError) as error:  # no algorithm; a library without the function
        return f"{error} ({form.name}, {n} x {m} x {k})"
    return ""


def _trial(device: int, form: Form, kind: np.dtype, result: np.dtype, vector: np.dtype) -> str:
    """Why a form does not work with these types on this device, or "": found out once."""
    key = (device, form.name, kind.name, result.name, vector.name)
    if key not in _trials:
        _trials[key] = _compare(form, kind, result, vector)
    return _trials[key]


def _compare(form: Form, kind: np.dtype, result: np.dtype, vector: np.dtype) -> str:
    """Run a small product, added onto what is there where D is a gradient; "" if it is right."""
    import cupy

    m, n, k = 64, 48, 32
    sizes = [(m, k) if form.transpose[0] else (k, m), (k, n) if form.transpose[1] else (n, k)]
    rng = np.random.default_rng(0)
    a, b, d, z = ((0.5 * rng.normal(size=s)).astype(kind) for s in (*sizes, (n, m), (n, m)))
    v = rng.normal(size=n if form is BGRADB else m).astype(vector)
    moved = [cupy.asarray(x) for x in (a, b, d.astype(result), v, z)]
    matrix = moved[4] if form in (GELU_AUX_BIAS, DGELU_BGRAD) else None
    reason = _attempt(form, moved[0], moved[1], moved[2], moved[3], matrix, form is BGRADB)
    if reason:
        return reason
    a, b, d, v, z = (x.astype(np.float32) for x in (a, b, d, v, z))
    product = (b.T if form.transpose[1] else b) @ (a.T if form.transpose[0] else a)  # (n, m)
    expected = form.expected(product + d if form is BGRADB else product, b, v, z)
    gap = max(_gap(found.get(), e) for found, e in zip(moved[2:], expected, strict=True))
    return "" if gap < LARGEST_GAP else f"linear: cuBLASLt's {form.name} is off by {gap:.2g}"


def _gap(found: Array, expected: Array) -> float:
    gap = np.abs(found.astype(np.float32) - expected).max() / np.abs(expected).max()
    return float(gap) if np.isfinite(gap) else np.inf


def _vectors(length: int, given: Array | None, dtype: DType | None,
             half: np.dtype) -> Iterator[Array]:
    """Where a bias gradient may go: the given array, a new one of `dtype`, one of 16 bits."""
    offered = None
    if given is not None:
        dtype = dtype or given.dtype
        if given.flags.c_contiguous and not memory_of(given).ptr % ALIGNMENT:
            yield given
            offered = given.dtype
    for kind in dict.fromkeys((np.dtype(dtype or half), half)):
        if kind != offered:
            yield _empty((length,), kind)


def _fits(*arrays: Array) -> bool:
    """All of one 16-bit type, contiguous, and none empty."""
    kind = arrays[0].dtype
    return kind.name in HALF and all(
        a.dtype == kind and a.flags.c_contiguous and a.size for a in arrays
    )


def _empty(shape: tuple[int, ...], dtype: DType) -> Array:
    import cupy

    return cupy.empty(shape, dtype)


def _device() -> int:
    import cupy

    return int(cupy.cuda.runtime.getDevice())
