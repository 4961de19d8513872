"""Tensor descriptors in the interpreter: what they read and write, and what has none."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import triton
import triton.language as tl

from tinygrad_llm import kernels


@triton.jit
def blocks_kernel(X, Y, Sum, n, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Copies a head by blocks; the programs add all of them onto the same block of Sum."""
    start = tl.program_id(0) * ROWS - n
    block = X.load([1, 2, start, 0]).reshape(ROWS, COLUMNS)
    Y.store([start, 0], block)
    Sum.atomic_add([0, 0], tl.trans(block).to(tl.float32))


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_descriptors_read_zeros_outside_and_write_nothing_there(dtype):
    x = np.random.default_rng(1).standard_normal((2, 21, 3, 16)).astype(dtype).swapaxes(1, 2)
    y, total = np.full((19, 16), 7, dtype), np.ones((12, 8), np.float32)
    blocks = (
        kernels.Descriptor(x, (1, 1, 8, 16)),
        kernels.Descriptor(y, (8, 16)),
        kernels.Descriptor(total, (16, 8)),
    )
    kernels.launch(blocks_kernel, (4,), *blocks, 3, ROWS=8, COLUMNS=16)
    head = x[1, 2].astype(np.float32)
    np.testing.assert_array_equal(y.astype(np.float32), head[:19])
    padded = np.concatenate([np.zeros((3, 16)), head, np.zeros((8, 16))])
    np.testing.assert_allclose(total, 1 + padded.reshape(4, 8, 16).sum(0).T[:12], rtol=1e-6)


def test_a_descriptor_touches_nothing_but_its_array():
    base, y, total = (
        np.zeros((2, 4, 8, 16), np.float16),
        np.zeros((8, 16), np.float16),
        np.zeros((16, 8), np.float32),
    )
    base[:, 3] = 1  # a neighbour of the view
    blocks = (
        kernels.Descriptor(base[:, :3, :5], (1, 1, 8, 16)),
        kernels.Descriptor(y, (8, 16)),
        kernels.Descriptor(total, (16, 8)),
    )
    base[1, 2] = 2
    kernels.launch(blocks_kernel, (1,), *blocks, 0, ROWS=8, COLUMNS=16)
    np.testing.assert_array_equal(y, np.repeat([2, 0], [5, 3])[:, None] * np.ones(16))


@pytest.mark.parametrize(
    ("array", "block", "words"),
    [
        (np.zeros((4, 12), np.float16), (4, 8), "multiples of 16 bytes"),
        (np.zeros((4, 16), np.float16)[:, 1:], (4, 8), "multiples of 16 bytes"),
        (np.zeros((4, 16), np.float16)[::-1], (4, 8), "positive multiples"),
        (np.broadcast_to(np.zeros(16, np.float16), (4, 16)), (4, 8), "positive multiples"),
        (np.zeros((4, 16), np.float16).T, (4, 8), "the last axis must be contiguous"),
        (np.zeros((0, 16), np.float16), (4, 8), "none empty"),
        (np.zeros((4, 16), np.float16), (4, 6), "power of two for each of the 2 axes"),
        (np.zeros((4, 16), np.float16), (8,), "power of two for each of the 2 axes"),
        (np.zeros((4, 16), np.float16), (4, 4), "at least 16 bytes"),
    ],
)
def test_what_no_descriptor_can_describe(array, block, words):
    with pytest.raises(kernels.KernelError, match=f"Descriptor: .*{words}"):
        kernels.Descriptor(array, block)


def test_chips_without_descriptors_are_refused():
    x = np.zeros((8, 16), np.float32)
    assert "need sm_90, this is sm_80" in kernels.why_no_descriptor(x, 80)
    assert kernels.why_no_descriptor(x, 90) is None
    with kernels.compile_only(80), pytest.raises(kernels.KernelError, match="need sm_90"):
        kernels.launch(
            blocks_kernel, (1,), kernels.Descriptor(x, (8, 16)), x, x, 0, ROWS=8, COLUMNS=16
        )
