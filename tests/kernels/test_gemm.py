from __future__ import annotations

import itertools

import numpy as np
import pytest

from tinygrad_llm import kernels


@pytest.mark.parametrize("batch", [(), (3,), (2, 2)], ids=str)
def test_every_transposition_and_accumulation(device, dtype, batch):
    for transpose_a, transpose_b, accumulate in itertools.product((False, True), repeat=3):
        a = device.normal((*batch, *((5, 7) if transpose_a else (7, 5))), dtype)
        b = device.normal((*batch, *((6, 5) if transpose_b else (5, 6))), dtype)
        start = device.normal((*batch, 7, 6))
        a64, b64 = a.astype(np.float64), b.astype(np.float64)
        product = ((a64.swapaxes(-1, -2) if transpose_a else a64)
                   @ (b64.swapaxes(-1, -2) if transpose_b else b64))
        out = device.put(start.copy())
        kernels.matmul(device.put(a), device.put(b), out, transpose_a=transpose_a,
                       transpose_b=transpose_b, accumulate=accumulate)
        device.check(out, product + accumulate * start.astype(np.float64), "float32")


def test_output_in_the_dtype_of_the_inputs(device, dtype):
    a, b = device.normal((9, 40), dtype), device.normal((40, 11), dtype)
    c = kernels.matmul(device.put(a), device.put(b))
    device.check(c, a.astype(np.float64) @ b.astype(np.float64), dtype)


def test_empty_and_inner_axis_of_length_zero(device):
    a, b = device.put(np.empty((3, 0), np.float32)), device.put(np.empty((0, 4), np.float32))
    assert not device.get(kernels.matmul(a, b)).any()
    assert kernels.matmul(device.put(np.empty((0, 3), np.float32)),
                          device.put(np.ones((3, 4), np.float32))).shape == (0, 4)


@pytest.mark.parametrize(("b", "keywords", "words"), [
    (np.ones((4, 5), np.float32), {}, "do not fit: 3 columns of op.a. against 4 rows"),
    (np.ones((3, 5), np.float16), {}, "a is float32 and b is float16"),
    (np.ones((1, 3, 5), np.float32), {}, "equal leading axes"),
    (np.ones((3, 5), np.float32), {"accumulate": True}, "out, which is missing"),
    (np.ones((3, 5), np.float32), {"out": np.ones((2, 4), np.float32)}, "out must have shape"),
])
def test_refusals(b, keywords, words):
    with pytest.raises(kernels.KernelError, match="matmul: .*" + words):
        kernels.matmul(np.ones((2, 3), np.float32), b, **keywords)


