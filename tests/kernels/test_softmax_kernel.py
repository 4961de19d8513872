from __future__ import annotations

import numpy as np
import pytest

from tests.kernels import kernel_references as reference
from tinygrad_llm import kernels

SHAPES = [(1, 1), (3, 5, 31), (13, 1024), (2, 2500), (2, 17000), (7,)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_forward_and_backward(device, dtype, shape):
    x, dy = device.normal(shape, dtype), device.normal(shape, dtype)
    y = kernels.softmax(device.put(x))
    device.check(y, reference.softmax(x), dtype)
    dx = kernels.softmax_backward(device.put(dy), y)
    device.check(dx, reference.softmax_backward(dy, device.get(y)), dtype, factor=2)


def test_the_whole_vocabulary_in_one_row(device):
    x = device.normal((2, 50257))
    device.check(kernels.softmax(device.put(x)), reference.softmax(x), "float32")


def test_large_inputs_do_not_overflow(device):
    x = device.normal((3, 50)) * 1000
    device.check(kernels.softmax(device.put(x)), reference.softmax(x), "float32", factor=100)


def test_not_contiguous(device):
    base = device.normal((6, 5, 40))
    for view in (base[::2], base[..., ::2], base[:, :, 3:20], base.swapaxes(0, 1)):
        expected = reference.softmax(view)
        device.check(kernels.softmax(_same_view(device, base, view)), expected, "float32")


def _same_view(device, base, view):
    """The same strided view of `base` on the device."""
    moved = device.put(base)
    if isinstance(moved, np.ndarray):
        return view
    import cupy

    offset = (view.ctypes.data - base.ctypes.data) // base.itemsize
    return cupy.lib.stride_tricks.as_strided(moved.ravel()[offset:], view.shape, view.strides)


def test_infinities_and_nan(device):
    x = np.zeros((4, 6), np.float32)
    x[0, 2:] = -np.inf  # a masked row: legal
    x[1] = -np.inf  # nothing left: NaN
    x[2, 3] = np.nan
    y = device.get(kernels.softmax(device.put(x)))
    np.testing.assert_allclose(y[0], [0.5, 0.5, 0, 0, 0, 0])
    assert np.isnan(y[1]).all()
    assert np.isnan(y[2]).all()
    np.testing.assert_allclose(y[3], 1 / 6, rtol=1e-6)


def test_empty_and_out(device):
    empty = device.put(np.empty((0, 8), np.float32))
    assert kernels.softmax(empty).shape == (0, 8)
    x = device.put(device.normal((3, 8)))
    out = device.put(np.full((3, 8), np.nan, np.float32))
    assert kernels.softmax(x, out=out) is out
    assert np.isfinite(device.get(out)).all()


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((2, 3)), "float32, float16 or bfloat16, got an array of float64"),
        (np.zeros((2, 3), np.int32), "int32"),
        (np.zeros((1, 70000), np.float32), "at most 65536"),
        ([1.0, 2.0], "got list"),
    ],
)
def test_refusals_name_the_argument(array, words):
    with pytest.raises(kernels.KernelError, match="softmax: .*" + words):
        kernels.softmax(array)
    assert words in kernels.softmax.supports(array)


def test_out_of_another_shape_is_refused():
    x = np.zeros((2, 3), np.float32)
    with pytest.raises(kernels.KernelError, match="out must be a C-contiguous array"):
        kernels.softmax(x, out=np.zeros((3, 2), np.float32))
    with pytest.raises(kernels.KernelError, match="y must have shape"):
        kernels.softmax_backward(x, np.zeros((3, 2), np.float32))
