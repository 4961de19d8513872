from __future__ import annotations

import ctypes
import itertools
import sys
import types

import numpy as np
import pytest
from tinygrad_llm.kernels.products import cublas as calls
from tinygrad_llm.kernels.products import matmul as matmul_file

from tinygrad_llm import kernels


@pytest.mark.parametrize("batch", [(), (3,), (2, 2)], ids=str)
def test_every_transposition_and_accumulation(device, dtype, batch):
    for transpose_a, transpose_b, accumulate in itertools.product((False, True), repeat=3):
        a = device.normal((*batch, *((5, 7) if transpose_a else (7, 5))), dtype)
        b = device.normal((*batch, *((6, 5) if transpose_b else (5, 6))), dtype)
        start = device.normal((*batch, 7, 6))
        a64, b64 = a.astype(np.float64), b.astype(np.float64)
        product = (a64.swapaxes(-1, -2) if transpose_a else a64) @ (
            b64.swapaxes(-1, -2) if transpose_b else b64
        )
        out = device.put(start.copy())
        kernels.matmul(
            device.put(a),
            device.put(b),
            out,
            transpose_a=transpose_a,
            transpose_b=transpose_b,
            accumulate=accumulate,
        )
        device.check(out, product + accumulate * start.astype(np.float64), "float32")


def test_output_in_the_dtype_of_the_inputs(device, dtype):
    a, b = device.normal((9, 40), dtype), device.normal((40, 11), dtype)
    c = kernels.matmul(device.put(a), device.put(b))
    device.check(c, a.astype(np.float64) @ b.astype(np.float64), dtype)


def test_empty_and_inner_axis_of_length_zero(device):
    a, b = device.put(np.empty((3, 0), np.float32)), device.put(np.empty((0, 4), np.float32))
    assert not device.get(kernels.matmul(a, b)).any()
    assert kernels.matmul(
        device.put(np.empty((0, 3), np.float32)), device.put(np.ones((3, 4), np.float32))
    ).shape == (0, 4)


@pytest.mark.parametrize(
    ("b", "keywords", "words"),
    [
        (np.ones((4, 5), np.float32), {}, "do not fit: 3 columns of op.a. against 4 rows"),
        (np.ones((3, 5), np.float16), {}, "a is float32 and b is float16"),
        (np.ones((1, 3, 5), np.float32), {}, "equal leading axes"),
        (np.ones((3, 5), np.float32), {"accumulate": True}, "out, which is missing"),
        (np.ones((3, 5), np.float32), {"out": np.ones((2, 4), np.float32)}, "out must have shape"),
    ],
)
def test_refusals(b, keywords, words):
    with pytest.raises(kernels.KernelError, match="matmul: .*" + words):
        kernels.matmul(np.ones((2, 3), np.float32), b, **keywords)


class _HostArray:
    """A NumPy array with the address where CuPy has it, so that cuBLAS's part can be played."""

    def __init__(self, array):
        self.array = array if array.dtype == np.float32 else array.astype(np.float32)
        self.data = types.SimpleNamespace(ptr=self.array.ctypes.data)

    def __getattr__(self, name):
        return getattr(self.array, name)


def _column_major(address, rows, columns, leading):
    """The matrix that cuBLAS sees at an address."""
    values = np.ctypeslib.as_array(
        ctypes.cast(address, ctypes.POINTER(ctypes.c_float)), ((columns - 1) * leading + rows,)
    )
    return np.lib.stride_tricks.as_strided(values, (rows, columns), (4, 4 * leading))


def _number(address):
    return ctypes.cast(address, ctypes.POINTER(ctypes.c_float))[0]


def _gemm_ex(
    ta, tb, m, n, k, alpha, a, a_type, lda, b, b_type, ldb, beta, c, c_type, ldc, compute, algorithm
):
    """What the documentation of cublasGemmEx says, in NumPy."""
    left = _column_major(a, *((k, m) if ta else (m, k)), lda)
    right = _column_major(b, *((n, k) if tb else (k, n)), ldb)
    result = _column_major(c, m, n, ldc)
    product = _number(alpha) * (left.T if ta else left) @ (right.T if tb else right)
    result[...] = product + (_number(beta) * result if _number(beta) else 0)


def _gemm_strided(
    ta,
    tb,
    m,
    n,
    k,
    alpha,
    a,
    a_type,
    lda,
    stride_a,
    b,
    b_type,
    ldb,
    stride_b,
    beta,
    c,
    c_type,
    ldc,
    stride_c,
    batch,
    compute,
    algorithm,
):
    for i in range(batch):
        _gemm_ex(
            ta,
            tb,
            m,
            n,
            k,
            alpha,
            a + 4 * stride_a * i,
            a_type,
            lda,
            b + 4 * stride_b * i,
            b_type,
            ldb,
            beta,
            c + 4 * stride_c * i,
            c_type,
            ldc,
            compute,
            algorithm,
        )


@pytest.fixture
def cublas(monkeypatch):
    """cuBLAS played by NumPy."""
    cupy = types.ModuleType("cupy")
    cupy.ascontiguousarray = lambda x: x
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(calls, "gemm_ex", _gemm_ex)
    monkeypatch.setattr(calls, "gemm_strided_batched_ex", _gemm_strided)


def _parts_of_wider_rows():
    rng = np.random.default_rng(0)
    return [rng.standard_normal((9, 16)).astype(np.float32) for _ in range(3)]


def test_rows_that_are_a_part_of_wider_rows_are_not_copied(cublas):
    wide_a, wide_b, wide_out = _parts_of_wider_rows()
    a, b, out = wide_a[:7, :5], wide_b[:6, :5], wide_out[:7, :6]
    beside = wide_out[:, 6:].copy()
    matmul_file._on_gpu(
        _HostArray(a), _HostArray(b), _HostArray(out), False, True, False, tf32=False
    )
    np.testing.assert_allclose(out, a @ b.T, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(wide_out[:, 6:], beside)


def test_parts_of_wider_rows(device):
    wide_a, wide_b, wide_out = _parts_of_wider_rows()
    out = device.put(wide_out)[:7, :6]
    kernels.matmul(device.put(wide_a)[:7, :5], device.put(wide_b)[:6, :5], out, transpose_b=True)
    expected = wide_a[:7, :5].astype(np.float64) @ wide_b[:6, :5].T.astype(np.float64)
    device.check(out, expected, "float32")


@pytest.mark.parametrize("batch", [(), (3,), (2, 2)], ids=str)
def test_what_cublas_is_asked_for(cublas, batch):
    """Rows against columns: leading dimensions, strides and the order of operands."""
    rng = np.random.default_rng(0)
    for transpose_a, transpose_b, accumulate in itertools.product((False, True), repeat=3):
        a = rng.standard_normal((*batch, *((5, 7) if transpose_a else (7, 5))))
        b = rng.standard_normal((*batch, *((6, 5) if transpose_b else (5, 6))))
        out = _HostArray(rng.standard_normal((*batch, 7, 6)))
        expected = (a.swapaxes(-1, -2) if transpose_a else a) @ (
            b.swapaxes(-1, -2) if transpose_b else b
        ) + accumulate * out.array
        matmul_file._on_gpu(
            _HostArray(a), _HostArray(b), out, transpose_a, transpose_b, accumulate, tf32=False
        )
        np.testing.assert_allclose(out.array, expected, rtol=1e-4, atol=1e-5)
