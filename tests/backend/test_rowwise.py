"""rowwise: an array function sees rows, whatever the axes, the dtype and the number of blocks."""

import ml_dtypes
import numpy as np
import pytest

from tinygrad_llm.backend import threads
from tinygrad_llm.backend.compute import rowwise


def shifted(xp, x, means, factor, y, sums):
    """y = factor (x - mean); also sum of x over the rows."""
    xp.subtract(x, means, out=y)
    y *= factor
    sums[...] = x.sum(axis=1)
    return x.sum(axis=0), xp.asarray(len(x))


def run(x, factor=2.0):
    y, sums = np.empty_like(x), np.empty(x.shape[:-1], x.dtype)
    means = x.mean(axis=-1, keepdims=True)
    total, rows = rowwise(np, shifted, (x, means), (factor,), (y, sums))
    return y, sums, total, rows


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4), (4,), (0, 4), (2, 600, 200), (3, 120_000)])
def test_all_leading_axes_are_rows(shape, n_threads):
    before = threads.num_threads()
    threads.set_num_threads(n_threads)
    try:
        x = np.random.default_rng(0).normal(size=shape)
        y, sums, total, rows = run(x)
    finally:
        threads.set_num_threads(before)
    np.testing.assert_array_equal(y, 2.0 * (x - x.mean(axis=-1, keepdims=True)))
    np.testing.assert_allclose(sums, x.sum(axis=-1), rtol=1e-12)
    np.testing.assert_allclose(total, x.reshape(-1, shape[-1]).sum(axis=0), rtol=1e-9, atol=1e-9)
    assert rows == np.prod(shape[:-1])


def test_a_large_array_comes_in_blocks_that_fit_in_the_cache():
    seen = []

    def note(xp, x, y):
        seen.append(x.shape)

    x = np.zeros((3000, 100), np.float32)
    assert rowwise(np, note, (x,), (), (x,)) == ()
    assert sum(rows for rows, _ in seen) == 3000
    assert len(seen) > 1
    assert max(rows * width for rows, width in seen) <= threads.BLOCK_ELEMENTS


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("rows", [3, 900])
def test_16_bits_are_computed_in_float32_and_rounded_once(dtype, rows):
    x = np.random.default_rng(0).normal(size=(rows, 300)).astype(dtype)
    y, exact = np.empty_like(x), np.empty(x.shape, np.float32)

    def cube(xp, x, y, exact):
        assert x.dtype == y.dtype == exact.dtype == np.float32
        exact[...] = x * x * x
        y[...] = exact

    rowwise(np, cube, (x,), (), (y, exact))
    wide = x.astype(np.float32)
    np.testing.assert_array_equal(exact, wide * wide * wide)
    np.testing.assert_array_equal(y, exact.astype(dtype))


def test_integers_stay_integers():
    ids, y = np.arange(4, dtype=np.int16), np.empty((4, 2), np.float16)

    def fill(xp, x, ids, y):
        assert ids.dtype == np.int16
        y[...] = x + ids[:, None]

    rowwise(np, fill, (np.ones((4, 2), np.float16), ids), (), (y,))
    assert y[:, 0].tolist() == [1, 2, 3, 4]


def test_a_scalar_is_a_row_of_one_element():
    x, y = np.array(3.0), np.empty(())
    rowwise(np, lambda xp, x, y: y.__setitem__(..., 2 * x), (x,), (), (y,))
    assert y == 6
